"""Names of a run: the same for every attempt, legal everywhere, never another recipe's."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from retraining.plan import Plan, name_prefix, run_name

AT = datetime(2026, 11, 21, 3, tzinfo=UTC)


def test_a_run_is_named_after_recipe_time_and_id() -> None:
    assert re.fullmatch(r"digits-261121-030000-[0-9a-f]{5}", run_name("digits", AT, "scheduled__2026", "bucket"))


def test_the_same_run_has_the_same_name_in_any_time_zone() -> None:
    tokyo = AT.astimezone(timezone(timedelta(hours=9)))
    assert run_name("digits", AT, "a", "bucket") == run_name("digits", tokyo, "a", "bucket")


def test_runs_of_one_second_differ() -> None:
    assert run_name("digits", AT, "manual__1", "bucket") != run_name("digits", AT, "manual__2", "bucket")


@pytest.mark.parametrize("name", ["x", "digits", "chest-xray", "a-very-long-name-of-forty-letters-indeed"])
def test_names_fit_a_tuning_job_and_its_second_generation(name: str) -> None:
    named = run_name(name, AT, "manual__1", "bucket")
    assert len(named + "-g2") <= 32
    assert re.fullmatch(r"[a-z0-9](-*[a-z0-9])*", named)


def test_long_names_with_one_beginning_stay_apart() -> None:
    assert name_prefix("chest-xray-adults") != name_prefix("chest-xray-children")


def test_a_plan_owns_only_its_recipes_names(make_plan: Callable[..., Plan]) -> None:
    plan, longer = make_plan(name="dogs"), make_plan(name="dogs-2")
    assert plan.owns(plan.model)
    assert not plan.owns(longer.model)
    assert not plan.owns("dogs-prod")


def test_everything_of_a_run_lies_below_its_recipe(make_plan: Callable[..., Plan]) -> None:
    plan = make_plan("b")
    assert plan.uri(plan.manifest_key("f0", "test")) == "s3://b/shapes/data/versions/f0/test.manifest"
    assert plan.report_key == f"shapes/runs/{plan.run_name}/report.json"


def test_a_tuning_job_has_time_for_all_its_rounds(make_plan: Callable[..., Plan]) -> None:
    assert make_plan().tuning_limit_seconds == 2 * (3600 + 600)


def test_a_search_on_spot_has_time_to_wait(make_plan: Callable[..., Plan]) -> None:
    """As long as SageMaker lets each trial wait for capacity and train."""
    plan = make_plan(training={"spot": True, "max_runtime_seconds": 3600})
    assert plan.spot_wait_seconds == 7200
    assert plan.tuning_limit_seconds == 2 * (7200 + 600)


def test_a_search_has_no_longer_than_sagemaker_gives(
    make_plan: Callable[..., Plan], recipe_data: dict[str, Any]
) -> None:
    tuning = recipe_data["tuning"] | {"max_jobs": 750, "max_parallel_jobs": 1}
    plan = make_plan(training={"max_runtime_seconds": 432_000}, tuning=tuning)
    assert plan.tuning_limit_seconds == 15_768_000
