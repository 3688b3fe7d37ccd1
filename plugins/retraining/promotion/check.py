"""One rule of the gate, what it found and what it asked for; and all of them as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from retraining.dataset.summary import cell

Verdict = Literal["passed", "failed", "warned", "not judged"]


@dataclass(frozen=True, kw_only=True)
class Check:
    rule: str
    """The key of the recipe that asks for it."""
    value: str
    bound: str
    verdict: Verdict
    reason: str
    """The sentence a person can check."""

    @classmethod
    def judged(cls, rule: str, value: str, bound: str, problem: str) -> Check:
        """Failed where there is a problem, which is then the reason."""
        return cls(rule=rule, value=value, bound=bound, verdict="failed" if problem else "passed", reason=problem)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def table(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown lines of checks as they are stored; none for none."""
    if not checks:
        return []
    rows = [f"| `{c['rule']}` | {cell(c['value'])} | {cell(c['bound'])} | **{c['verdict']}** |" for c in checks]
    return ["| gate | found | asked for | verdict |", "|---|---|---|---|", *rows]
