"""Round ticks, units and numbers for charts and tables."""

import math
from datetime import datetime, timezone

SIGNIFICANT = 3


def ticks(highest: float, count: int = 5) -> list[float]:
    """Round numbers from 0 to at least `highest`, about `count` of them."""
    highest = highest if highest > 0 and math.isfinite(highest) else 1.0
    step = 10 ** math.floor(math.log10(highest / count))
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10) if step * factor >= highest / count * 0.999)
    return [step * index for index in range(math.ceil(highest / step - 1e-9) + 1)]


def si_prefix(highest: float) -> tuple[float, str]:
    return next(((size, name) for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if highest >= size), (1, ""))


def time_unit(seconds: float) -> tuple[float, str]:
    """(seconds in the unit, its name) that suits an axis of this length."""
    sizes = ((3 * 3600, 3600, "h"), (3 * 60, 60, "min"), (1, 1, "s"), (1e-3, 1e-3, "ms"), (0, 1e-6, "µs"))
    return next((size, name) for least, size, name in sizes if seconds >= least)


def number(value: float) -> str:
    return f"{round(value, 6):,.6g}"


def duration(seconds: float) -> str:
    """For reading: 0.42 ms, 310 ms, 12.3 s, 4 min 10 s, 2 h 5 min."""
    if seconds < 1:
        return f"{seconds * 1000:.{SIGNIFICANT}g} ms"
    if seconds < 99.95:
        return f"{seconds:.{SIGNIFICANT}g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def share(part: float) -> str:
    """A share (0 to 1) in percent; a little is not called nothing."""
    if 0 < part < 0.001:
        return "under 0.1 %"
    return f"{100 * part:.1f} %" if part < 0.1 else f"{100 * part:.0f} %"


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
