"""What a person said of a candidate: Airflow's answer to the task `approve`, as it lies in XCom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def rejects(answer: Mapping[str, Any] | None) -> bool:
    """Also where nobody answered in time: the task's default."""
    return "Reject" in (answer or {}).get("chosen_options", ())


def person(answer: Mapping[str, Any] | None) -> str | None:
    """Who answered; None where nobody was asked, or nobody answered in time."""
    who = (answer or {}).get("responded_by_user")
    return str(who.get("name", "a person")) if who else None
