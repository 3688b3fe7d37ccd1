"""Numbers as people read them. Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from statistics import NormalDist

MINUS = "\u2212"


def score(value: float | None) -> str:
    """Four digits of an accuracy: one image of ten thousand."""
    return "" if value is None else f"{value:.4f}"


def number(value: object) -> float | None:
    """A number of somebody else's document; None for all else, also for what is not finite."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if known else None  # type: ignore[return-value]


def signed(value: float, digits: int = 4) -> str:
    text = f"{abs(value):.{digits}f}"
    return f"+{text}" if value > 0 else f"{MINUS}{text}" if value < 0 else f"\u00b1{text}"


def signed_count(value: int) -> str:
    return f"+{value:,}" if value > 0 else f"{MINUS}{abs(value):,}" if value < 0 else "0"


def count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def percent(share: float) -> str:
    """A tenth of a percent; what is nearly all or nearly nothing is not rounded to it."""
    shown = f"{100 * share:.1f}"
    if shown == "100.0" and share < 1:
        return "over 99.9 %"
    return "under 0.1 %" if shown == "0.0" and share > 0 else f"{shown.removesuffix('.0')} %"


def duration(seconds: float | None) -> str:
    """Two units at most: 8 s, 4 min 11 s, 2 h 5 min, 3 d 4 h."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    left = round(seconds)
    for size, unit, below, below_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if left >= size:
            rest = left % size // below
            return f"{left // size} {unit}" + (f" {rest} {below_unit}" if rest else "")
    return f"{left} s"


def money(usd: float | None) -> str:
    """Cents; less than one is said to be so."""
    if usd is None:
        return ""
    return "under 0.01 USD" if 0 < usd < 0.005 else f"{usd:,.2f} USD"


def moment(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def day(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d}"


def short(text: str) -> str:
    """Four digits of a number that a search found; what is none stays as it is."""
    try:
        return f"{float(text):.4g}" if len(text) > 6 else text
    except ValueError:
        return text


def images(number: int) -> str:
    return f"{number:,} image" + ("" if number == 1 else "s")


def wilson(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a share that was seen as right of n (Wilson, 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), right / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    text = text.strip()
    return "" if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


CONDITION_MET = re.compile(
    r"RuleEvaluationConditionMet: Evaluation of the rule \S{1,200}(?: at step (\d+))? resulted in the condition "
    r"being met\s+(?=\S)"
)


def without_condition(text: str) -> str:
    """What a rule found, without SageMaker's sentence before it, of which only the step is news."""
    return CONDITION_MET.sub(lambda found: f"at step {found[1]}, " if found[1] else "", text)


STATES = {
    None: "not begun",
    "awaiting_input": "waits for a person",
    "deferred": "waits for what it has begun",
    "failed": "failed",
    "queued": "waits for room",
    "removed": "no longer in the DAG",
    "restarting": "begins anew",
    "running": "goes on",
    "scheduled": "about to begin",
    "skipped": "skipped",
    "success": "done",
    "up_for_reschedule": "waits, to look again",
    "up_for_retry": "failed, tries again soon",
    "upstream_failed": "could not begin",
}
"""A task's state in Airflow, in words; None is one that it has not come to."""


def task_state(state: str | None) -> str:
    return STATES.get(state) or str(state)
