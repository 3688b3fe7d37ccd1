"""Line charts as inline SVG: real axes, units and a legend, no script. Colours come from the page's style sheet."""

import math
from html import escape

WIDTH, HEIGHT = 860, 220
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 34
SERIES_COLOURS = 8  # the style sheet defines .s0 to .s7
MAX_POINTS = 400  # per line: more than the pixels can show


def line_chart(title, unit, lines, top=None):
    """A figure of `lines`: {label: [(seconds from the start, value)]}. `top` fixes the axis, else it fits the data."""
    lines = {label: thin(points) for label, points in lines.items() if points}
    if not lines:
        return ""
    seconds = max(points[-1][0] for points in lines.values()) or 1.0
    highest = max(value for points in lines.values() for _, value in points)
    y_ticks = ticks(top or highest or 1.0)
    scale, prefix = si_prefix(y_ticks[-1]) if unit.startswith("B") else (1, "")
    clock, clock_unit = time_unit(seconds)
    x_ticks = [tick * clock for tick in ticks(seconds / clock) if tick * clock <= seconds]

    def x(second):
        return LEFT + (WIDTH - LEFT - RIGHT) * second / seconds

    def y(value):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value, y_ticks[-1]) / y_ticks[-1]

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over time">']
    for tick in y_ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick / scale)}</text>')
    for tick in x_ticks:
        parts.append(f'<path class="tick" d="M{x(tick):.1f} {HEIGHT - BOTTOM}v5"/>')
        label = f"{number(tick / clock)} {clock_unit}"
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>')
    for index, points in enumerate(lines.values()):
        path = "L".join(f"{x(second):.1f} {y(value):.1f}" for second, value in points)
        parts.append(f'<path class="line s{index % SERIES_COLOURS}" d="M{path}"/>')
    parts.append("</svg>")
    keys = "".join(
        f'<span class="key"><i class="s{index % SERIES_COLOURS}"></i>{escape(label)}</span>'
        for index, label in enumerate(lines)
    )
    caption = f"<figcaption><b>{escape(title)}</b> <span>{prefix}{escape(unit)}</span>{keys}</figcaption>"
    return f"<figure>{caption}{''.join(parts)}</figure>"


def thin(points):
    """At most MAX_POINTS points, each the highest of its stretch, so that peaks stay visible."""
    if len(points) <= MAX_POINTS:
        return points
    stretch = math.ceil(len(points) / MAX_POINTS)
    return [max(points[i : i + stretch], key=lambda point: point[1]) for i in range(0, len(points), stretch)]


def ticks(highest):
    """Round numbers from 0 to at least `highest`, about five of them."""
    step = 10 ** math.floor(math.log10(highest / 4))
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10) if step * factor >= highest / 5)
    return [step * index for index in range(math.ceil(highest / step - 1e-9) + 1)]


def si_prefix(highest):
    return next(((size, name) for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if highest >= size), (1, ""))


def time_unit(seconds):
    return next(((size, name) for size, name in ((3600, "h"), (60, "min")) if seconds >= 5 * size), (1, "s"))


def number(value):
    return f"{round(value, 6):,.6g}"
