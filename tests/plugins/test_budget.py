"""What a run may cost is known, and refused if it is too much, before the first job is created."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from retraining.container_images import resolve_images
from retraining.cost.ceiling import BudgetExceeded, Ceiling, ceiling, require_within_budget
from retraining.debugger.mode import in_mode
from retraining.plan import Plan
from retraining.recipe import RecipeError
from retraining.run import Run
from retraining.steps import preflight

PRICES = {"ml.m5.xlarge": 0.23, "ml.m5.large": 0.115, "ml.t3.medium": 0.05}
TRAINING = 3600 + 120  # its time limit, and what SageMaker gives it to stop
SCORING = 6 * 3600  # our own limit, and what a machine may take to be found

MakePlan = Callable[..., Plan]


def most(plan: Plan) -> Ceiling:
    return ceiling(plan, resolve_images(plan.recipe, plan.environment))


def rows(found: Ceiling) -> dict[str, tuple[int, int, str, int]]:
    return {item.task: (item.jobs, item.instances, item.instance_type, item.seconds) for item in found.items}


def test_every_job_counts_with_all_its_time(make_plan: MakePlan) -> None:
    found = most(make_plan(budget={"usd_per_hour": PRICES}))
    assert rows(found) == {
        "tune": (4, 1, "ml.m5.xlarge", TRAINING),
        "train": (1, 1, "ml.m5.xlarge", TRAINING),
        "evaluate_rules": (1, 1, "ml.t3.medium", 1800 + 120),
        "score_candidate": (1, 1, "ml.m5.large", SCORING),
        "score_champion": (1, 1, "ml.m5.large", SCORING),
    }
    assert found.hours == pytest.approx((5 * TRAINING + 1920 + 2 * SCORING) / 3600)
    assert found.usd == pytest.approx((5 * TRAINING * 0.23 + 1920 * 0.05 + 2 * SCORING * 0.115) / 3600)
    assert found.endpoint_usd_per_day == pytest.approx(24 * 0.115)


def test_all_instances_and_a_warm_pool_count(make_plan: MakePlan) -> None:
    training = {"instance_count": 3, "distribution": "torchrun", "keep_alive_seconds": 600, "max_runtime_seconds": 60}
    found = most(make_plan(training=training))
    assert rows(found)["tune"] == (4, 3, "ml.m5.xlarge", 180)
    assert rows(found)["train"] == (1, 3, "ml.m5.xlarge", 180)
    assert rows(found)["train (kept warm)"] == (1, 3, "ml.m5.xlarge", 600)
    assert found.hours * 3600 == pytest.approx(5 * 3 * 180 + 3 * 600 + 1920 + 2 * SCORING)


def test_spot_capacity_counts_at_full_price(make_plan: MakePlan) -> None:
    priced = {"budget": {"usd_per_hour": PRICES}}
    assert most(make_plan(training={"spot": True}, **priced)).usd == most(make_plan(**priced)).usd


@pytest.mark.parametrize(
    ("debugger", "counted"),
    [
        ({"mode": "auto"}, True),
        ({"mode": "self_hosted"}, True),
        ({"mode": "self_hosted", "rules": {}}, True),  # the profiler is judged as well
        ({"mode": "managed"}, False),
        ({"mode": "off"}, False),
        ({"mode": "auto", "rules": {}, "profiler": False}, False),
    ],
)
def test_rules_count_where_a_job_of_ours_may_judge_them(
    make_plan: MakePlan, debugger: dict[str, Any], counted: bool
) -> None:
    assert ("evaluate_rules" in rows(most(make_plan(debugger=debugger)))) is counted


def test_a_mode_that_was_decided_needs_no_other_ceiling(make_plan: MakePlan) -> None:
    plan = make_plan()
    images = resolve_images(in_mode(plan.recipe, "self_hosted"), plan.environment)
    assert ceiling(plan, images) == most(plan)


@pytest.mark.parametrize(
    ("param", "value", "said"),
    [
        ("max_jobs", 40, "tune 40 jobs of 1 x ml.m5.xlarge for 1.03 h"),
        ("max_runtime_seconds", 432_000, "tune 4 jobs of 1 x ml.m5.xlarge for 120.03 h"),
        ("training_instance_type", "ml.g5.xlarge", "tune 4 jobs of 1 x ml.g5.xlarge for 1.03 h"),
    ],
)
def test_what_the_trigger_form_changes_is_counted(make_plan: MakePlan, param: str, value: Any, said: str) -> None:
    plan = make_plan(budget={"max_usd": 5, "usd_per_hour": PRICES | {"ml.g5.xlarge": 1.41}})
    require_within_budget(most(plan))
    with pytest.raises(BudgetExceeded, match=said):
        require_within_budget(most(replace(plan, recipe=plan.recipe.with_params({param: value}))))


def test_a_job_that_verifies_counts_where_there_may_be_one(make_plan: MakePlan) -> None:
    sync = {"where": "auto", "instances": 3, "instance_type": "ml.c5.xlarge", "max_runtime_seconds": 600}
    assert rows(most(make_plan(source="s3://b/in", sync=sync)))["verify_images"] == (1, 3, "ml.c5.xlarge", 600 + 120)
    assert "verify_images" not in rows(most(make_plan(source="s3://b/in.zip", sync=sync)))
    with pytest.raises(RecipeError, match=r"has no price for ml\.c5\.xlarge, the instance_type of sync"):
        make_plan(source="s3://b/in", sync=sync, budget={"max_usd": 5, "usd_per_hour": PRICES})


def test_a_machine_of_the_trigger_form_needs_a_price(make_plan: MakePlan) -> None:
    recipe = make_plan(budget={"max_usd": 5, "usd_per_hour": PRICES}).recipe
    with pytest.raises(RecipeError, match=r"trigger form of retrain_shapes: .* has no price for ml\.g5\.xlarge"):
        recipe.with_params({"training_instance_type": "ml.g5.xlarge"})


def test_the_refusal_names_ceiling_budget_largest_items_and_the_way_out(make_plan: MakePlan) -> None:
    with pytest.raises(BudgetExceeded) as refused:
        require_within_budget(most(make_plan(budget={"max_usd": 2, "usd_per_hour": PRICES})))
    assert str(refused.value) == (
        "If every job took all its time, this run would cost 2.60 USD; budget.max_usd = 2 allows less. The largest "
        "items: tune 4 jobs of 1 x ml.m5.xlarge for 1.03 h; score_candidate 1 x ml.m5.large for 6.00 h; "
        "score_champion 1 x ml.m5.large for 6.00 h. Lower tuning.max_jobs, training.max_runtime_seconds or "
        "training.instance_count, choose smaller instances, or raise budget.max_usd. No job has been started."
    )


def test_instance_hours_are_limited_without_any_price(make_plan: MakePlan) -> None:
    found = most(make_plan(budget={"max_instance_hours": 17}))
    assert found.usd is None
    with pytest.raises(BudgetExceeded, match=r"would cost 17\.70 instance-hours; budget\.max_instance_hours = 17 allo"):
        require_within_budget(found)
    require_within_budget(most(make_plan(budget={"max_instance_hours": 17.7001})))


def test_a_budget_that_is_just_kept_is_kept(make_plan: MakePlan) -> None:
    exactly = most(make_plan(budget={"usd_per_hour": PRICES})).usd
    require_within_budget(most(make_plan(budget={"max_usd": exactly, "usd_per_hour": PRICES})))


def test_without_a_budget_nothing_is_refused(make_plan: MakePlan) -> None:
    found = most(make_plan(tuning={"max_jobs": 750, "ranges": {"lr": {"type": "continuous", "min": 0.1, "max": 0.2}}}))
    require_within_budget(found)
    assert found.as_dict()["instance_hours"] > 750
    assert (found.as_dict()["usd"], found.endpoint_usd_per_day) == (None, None)


def test_the_stored_form_is_json(make_plan: MakePlan) -> None:
    stored = json.loads(json.dumps(most(make_plan(budget={"max_usd": 9, "usd_per_hour": PRICES})).as_dict()))
    assert stored["items"][0] == {
        "task": "tune",
        "jobs": 4,
        "instances": 1,
        "instance_type": "ml.m5.xlarge",
        "seconds": TRAINING,
        "instance_hours": 4.1333,
    }
    assert (stored["usd"], stored["max_usd"]) == (2.595, 9)


# --- where it is asked ------------------------------------------------------------------------------------------------


def test_preflight_refuses_before_any_job_is_created(sagemaker: Any, run_of: Callable[..., Run]) -> None:
    def jobs() -> int:
        return sum(
            len(listed)
            for listed in (
                sagemaker.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"],
                sagemaker.list_training_jobs()["TrainingJobSummaries"],
                sagemaker.list_processing_jobs()["ProcessingJobSummaries"],
                sagemaker.list_transform_jobs()["TransformJobSummaries"],
            )
        )

    before = jobs()
    run = run_of({"max_jobs": 9}, budget={"max_usd": 3, "usd_per_hour": PRICES})
    with pytest.raises(BudgetExceeded, match=r"would cost 3\.78 USD; budget\.max_usd = 3 allows less"):
        preflight(run)
    assert jobs() == before
    pushed: Any = run.context["ti"]
    assert pushed.pushed["ceiling"]["usd"] == 3.7833  # for the report


def test_preflight_records_the_ceiling_of_a_run_without_a_budget(sagemaker: Any, run_of: Callable[..., Run]) -> None:
    record = preflight(run_of())
    assert record["ceiling"]["instance_hours"] == 17.7
    assert [item["task"] for item in record["ceiling"]["items"]][:2] == ["tune", "train"]


def test_a_machine_of_the_environment_needs_a_price_too(
    sagemaker: Any, run_of: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRAINING_TRAINING_INSTANCE_TYPE", "ml.p4d.24xlarge")
    with pytest.raises(BudgetExceeded, match=r"no price for ml\.p4d\.24xlarge\. Add what an hour of it costs"):
        preflight(run_of(budget={"max_usd": 100, "usd_per_hour": PRICES}))
