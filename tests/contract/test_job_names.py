"""The stack looks for a recipe's jobs by what the plan calls them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from retraining.plan import run_name
from stack.jobs import JobWatch

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Asked:
    """A SageMaker that has no jobs, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def list_hyper_parameter_tuning_jobs(self, **request: Any) -> dict[str, Any]:
        self.names.append(request["NameContains"])
        return {"HyperParameterTuningJobSummaries": []}


@pytest.mark.parametrize("recipe", ["digits", "chest9-xr", "cifar100-frozen", "dogs-of-the-world"])
def test_a_terminal_asks_for_its_own_recipes_jobs(recipe: str) -> None:
    asked = Asked()
    assert JobWatch(asked, None, NOON, recipe).detail("tuning.tune") is None
    assert run_name(recipe, NOON, "manual__x", "bucket").startswith(asked.names[0])
