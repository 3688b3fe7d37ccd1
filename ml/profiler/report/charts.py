"""Charts without a script: the drawing is inline SVG, stretched to the width of the page, its labels are HTML.

So text keeps its size on a phone and on paper. Colours come from the page's style sheet (page.css). Each chart
is a <figure> that says in words what it shows, for those who cannot see it.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from profiler.report.units import number, si_prefix, ticks, time_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Points = Sequence[tuple[float, float]]  # (second, value)
    Labels = Sequence[tuple[float, str]]

SERIES_COLOURS = 8  # the style sheet defines .s0 to .s7
MAX_POINTS = 400  # along the time axis: more than the pixels can show
MAX_COLUMNS, MAX_ROWS, LEVELS = 160, 32, 10  # of a heat map
X, Y = 1000, 100  # the drawing's own coordinates


def line_chart(
    title: str,
    unit: str,
    lines: Mapping[str, Points],
    seconds: float,
    top: float | None = None,
    bands: Sequence[Sequence[tuple[float, float, float]]] = (),
    dots: Sequence[tuple[float, float, str]] = (),
    note: str = "",
    loose: Sequence[str] = (),
) -> str:
    """A figure of `lines` {label: [(second, value)]} over 0 to `seconds`.

    `top` fixes the axis, else it fits the data. `bands` are stretches [(second, low, high)], one for each of the first
    lines; `dots` are single (second, value, text); the points of lines in `loose` are not joined.
    """
    lines = {label: points if label in loose else thin(points) for label, points in lines.items() if points}
    if not lines:
        return ""
    values = [value for points in lines.values() for _, value in points]
    values += [high for band in bands for _, _, high in band] + [value for _, value, _ in dots]
    y_ticks = ticks(top or max(values))
    scale = Scale(seconds, y_ticks[-1])
    parts = [grid(scale, y_ticks)]
    for index, band in enumerate(bands):
        if not band:
            continue
        edge = [(second, low) for second, low, _ in band] + [(second, high) for second, _, high in reversed(band)]
        parts.append(f'<path class="band s{index}" d="M{scale.path(edge)}Z"/>')
    for index, (label, points) in enumerate(lines.items()):
        shape, path = "line", f"M{scale.path(points)}"
        if label in loose:
            shape, path = "line loose", "".join("M{} {}h0".format(*scale.place(*point)) for point in points)
        parts.append(f'<path class="{shape} s{index % SERIES_COLOURS}" d="{path}"/>')
    for second, value, text in dots:
        x, y = scale.place(second, value)
        parts.append(f'<path class="dot" d="M{x} {y}h0"><title>{escape(text)}</title></path>')
    keys = [(f"s{index % SERIES_COLOURS}", label) for index, label in enumerate(lines)]
    if dots:
        keys.append(("dot", f"{len(dots)} outliers"))
    highest = {label: max(value for _, value in points) for label, points in lines.items()}
    words = "; ".join(f"{label}: at most {number(float(f'{value:.3g}'))}" for label, value in highest.items())
    shown, labels = unit_labels(unit, y_ticks)
    return figure(
        title, shown, keys, "".join(parts), labels, time_labels(seconds), f"over time, {shown}. {words}", note
    )


def area_chart(title: str, layers: Sequence[tuple[str, str, Points]], seconds: float, note: str = "") -> str:
    """Shares of a whole, stacked: `layers` [(colour class, label, [(second, share 0 to 1)])], of the same seconds."""
    layers = [layer for layer in layers if any(value > 0 for _, value in layer[2])]
    if not layers:
        return ""
    scale = Scale(seconds, 100)
    base, parts = [(second, 0.0) for second, _ in layers[0][2]], []
    for colour, label, points in layers:
        upper = [(second, low + 100 * value) for (second, value), (_, low) in zip(points, base, strict=True)]
        outline = scale.path(stairs(base, seconds) + stairs(upper, seconds)[::-1])
        parts.append(f'<path class="area {colour}" d="M{outline}Z"><title>{escape(label)}</title></path>')
        base = upper
    y_ticks = [0, 25, 50, 75, 100]
    parts.append(f'<g opacity="0.35">{grid(scale, y_ticks[1:-1])}</g>')
    means = ", ".join(f"{label} {100 * sum(v for _, v in points) / len(points):.0f} %" for _, label, points in layers)
    labels = [(tick, str(tick)) for tick in y_ticks]
    keys = [(colour, label) for colour, label, _ in layers]
    words = f"stacked shares over time in percent; on average {means}"
    return figure(title, "% of the time", keys, "".join(parts), scaled(labels, 100), time_labels(seconds), words, note)


def histogram(
    title: str,
    counts: Sequence[int],
    edges: Sequence[float],
    markers: Sequence[tuple[float, str]] = (),
    note: str = "",
    colour: str = "s0",
) -> str:
    """Bars of `counts` between `edges` (seconds). `markers` are (second, label) upright lines."""
    size, unit = time_unit(edges[-1])
    y_ticks = ticks(max(counts), 4)
    low, high = edges[0], max([edges[-1], *(second for second, _ in markers)])
    spread = (high - low) or high or 1.0
    scale = Scale(spread, y_ticks[-1])
    parts = [grid(scale, y_ticks)]
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            (x, y), (to, bottom) = scale.place(left - low, count), scale.place(right - low, 0)
            text = f"{count} between {number(left / size)} and {number(right / size)} {unit}"
            parts.append(
                f'<path class="bar {colour}" d="M{x} {bottom}V{y}H{to}V{bottom}Z"><title>{text}</title></path>'
            )
    for index, (second, _) in enumerate(markers):
        parts.append(f'<path class="marker m{index}" d="M{scale.place(second - low, 0)[0]} 0V{Y}"/>')
    keys = [
        (f"marker m{index}", f"{label} {number(float(f'{s / size:.3g}'))} {unit}")
        for index, (s, label) in enumerate(markers)
    ]
    x_labels = [(100 * k / 4, f"{number(float(f'{(low + spread * k / 4) / size:.3g}'))} {unit}") for k in range(5)]
    words = f"histogram of {sum(counts)} durations from {x_labels[0][1]} to {x_labels[-1][1]}"
    labels = scaled([(tick, number(tick)) for tick in y_ticks], y_ticks[-1])
    return figure(title, "count", keys, "".join(parts), labels, x_labels, words, note)


def heat_map(title: str, unit: str, rows: Mapping[str, Points], seconds: float, note: str = "") -> str:
    """`rows` {label: [(second, 0 to 100)]}, one stripe each, darker where higher. Many rows are joined to groups."""
    rows = joined({label: points for label, points in rows.items() if points})
    if not rows:
        return ""
    height, parts = Y / len(rows), []
    for index, points in enumerate(rows.values()):
        for start, end, level in runs(points, seconds):
            x, width = round(X * start / seconds, 1), round(X * (end - start) / seconds, 1)
            shape = f'x="{x}" y="{index * height:.2f}" width="{width}" height="{height:.2f}"'
            parts.append(f'<rect class="heat" {shape} fill-opacity="{level / LEVELS:g}"/>')
    means = {label: sum(value for _, value in points) / len(points) for label, points in rows.items()}
    words = "by row over time; means: " + ", ".join(f"{label} {value:.0f}" for label, value in means.items())
    labels = [(100 - 100 * (index + 0.5) / len(rows), label) for index, label in enumerate(rows)]
    steps = "".join(f'<i style="opacity:{level / LEVELS:g}"></i>' for level in range(1, LEVELS + 1))
    legend = f'<span class="scale">0 {steps} 100</span>'
    drawn = figure(title, unit, [], "".join(parts), labels, time_labels(seconds), words, note, legend)
    return drawn.replace("--h:160px", f"--h:{min(420, max(44, 20 * len(rows)))}px")


def share_bar(parts: Sequence[tuple[str, str, float, str]], label: str) -> str:
    """One bar of [(colour class, label, share 0 to 1, text)] with a legend; nothing for parts that are zero."""
    parts = [part for part in parts if part[2] > 0]
    cells = "".join(
        f'<i class="{colour}" style="flex-grow:{max(value, 0.002):.4f}" title="{escape(f"{name}: {text}")}"></i>'
        for colour, name, value, text in parts
    )
    legend = "".join(
        f'<li><i class="{colour}"></i>{escape(name)} <b>{escape(text)}</b></li>' for colour, name, _, text in parts
    )
    words = escape(f"{label}: " + ", ".join(f"{name} {text}" for _, name, _, text in parts))
    return f'<div class="share" role="img" aria-label="{words}">{cells}</div><ul class="legend">{legend}</ul>'


# What the charts are made of.


class Scale:
    """Data -> the drawing's coordinates, x from 0 to `seconds`, y from 0 up to `highest`."""

    def __init__(self, seconds: float, highest: float) -> None:
        self.x, self.y, self.highest = X / (seconds or 1), Y / highest, highest

    def place(self, second: float, value: float) -> tuple[str, str]:
        return f"{min(X, max(0, second * self.x)):.4g}", f"{Y - max(0, min(value, self.highest)) * self.y:.4g}"

    def path(self, points: Points) -> str:
        return "L".join(" ".join(self.place(*point)) for point in points)


def figure(
    title: str,
    unit: str,
    keys: Sequence[tuple[str, str]],
    drawing: str,
    y_labels: Labels,
    x_labels: Labels,
    words: str,
    note: str = "",
    legend: str = "",
) -> str:
    """`words` tell what the picture shows; labels are (percent of the axis, text)."""
    legend += "".join(f'<span class="key"><i class="{colour}"></i>{escape(label)}</span>' for colour, label in keys)
    y = "".join(f'<span style="bottom:{place:.4g}%">{escape(text)}</span>' for place, text in y_labels)
    x = "".join(f'<span style="left:{place:.4g}%">{escape(text)}</span>' for place, text in x_labels)
    svg = (
        f'<svg viewBox="0 0 {X} {Y}" preserveAspectRatio="none" role="img" aria-label="{escape(f"{title}: {words}")}">'
    )
    plot = f'<div class="y" aria-hidden="true">{y}</div>{svg}{drawing}</svg><div class="x" aria-hidden="true">{x}</div>'
    note = f'<p class="note">{escape(note)}</p>' if note else ""
    caption = f'<figcaption><b>{escape(title)}</b> <span class="unit">{escape(unit)}</span>{legend}</figcaption>'
    return f'<figure>{caption}<div class="plot" style="--h:160px">{plot}</div>{note}</figure>'


def grid(scale: Scale, y_ticks: Sequence[float]) -> str:
    return "".join(f'<path class="grid" d="M0 {scale.place(0, tick)[1]}H{X}"/>' for tick in y_ticks)


def scaled(labels: Labels, highest: float) -> list[tuple[float, str]]:
    return [(100 * value / highest, text) for value, text in labels]


def unit_labels(unit: str, y_ticks: Sequence[float]) -> tuple[str, list[tuple[float, str]]]:
    """(the unit with its prefix, labels of the axis)."""
    if unit == "seconds":
        size, name = time_unit(y_ticks[-1])
    else:
        size, name = si_prefix(y_ticks[-1]) if unit.startswith("B") else (1, "")
        name += unit
    return name, scaled([(tick, number(tick / size)) for tick in y_ticks], y_ticks[-1])


def time_labels(seconds: float) -> list[tuple[float, str]]:
    size, name = time_unit(seconds)
    found = [tick for tick in ticks(seconds / size, 5) if tick * size <= seconds * 1.0001]
    return [(100 * tick * size / (seconds or 1), f"{number(tick)} {name}") for tick in found]


def thin(points: Points) -> Points:
    """At most MAX_POINTS points, each the highest of its stretch, so that peaks stay visible."""
    if len(points) <= MAX_POINTS:
        return points
    stretch = math.ceil(len(points) / MAX_POINTS)
    return [max(points[i : i + stretch], key=lambda point: point[1]) for i in range(0, len(points), stretch)]


def stairs(points: Points, seconds: float) -> list[tuple[float, float]]:
    """Each value up to where the next begins, the last to the end."""
    ends = [second for second, _ in points[1:]] + [seconds]
    return [
        corner for (start, value), end in zip(points, ends, strict=True) for corner in ((start, value), (end, value))
    ]


def joined(rows: Mapping[str, Points]) -> Mapping[str, Points]:
    """At most MAX_ROWS rows: neighbours become their mean, named by the first and the last of them."""
    size = math.ceil(len(rows) / MAX_ROWS)
    if size <= 1:
        return rows
    names, groups = list(rows), {}
    for first in range(0, len(names), size):
        members = names[first : first + size]
        together = zip(*(rows[name] for name in members), strict=False)
        label = members[0] if len(members) == 1 else f"{members[0]}-{members[-1].lstrip('cpu')}"
        groups[label] = [(points[0][0], sum(value for _, value in points) / len(points)) for points in together]
    return groups


def runs(points: Points, seconds: float) -> list[tuple[float, float, int]]:
    """(start, end, level) of a heat map's row: means of columns, equal neighbours joined, the lowest level left out."""
    sums: dict[int, tuple[float, int]] = {}
    width = seconds / MAX_COLUMNS
    for second, value in points:
        column = max(0, min(MAX_COLUMNS - 1, int(second / width)))
        total, count = sums.get(column, (0.0, 0))
        sums[column] = total + value, count + 1
    columns = sorted(sums)
    found: list[tuple[int, int, int]] = []
    for column, following in zip(columns, [*columns[1:], min(MAX_COLUMNS, columns[-1] + 1)], strict=True):
        level = max(0, min(LEVELS, round(LEVELS * sums[column][0] / sums[column][1] / 100)))
        end = min(following, column + 8)  # a longer gap was not measured
        if found and found[-1][2] == level and found[-1][1] == column:
            found[-1] = found[-1][0], end, level
        else:
            found.append((column, end, level))
    return [(start * width, end * width, level) for start, end, level in found if level]
