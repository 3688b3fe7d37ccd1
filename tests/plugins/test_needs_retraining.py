"""A candidate that did not replace the champion is not paid for again, until something that matters is another."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from retraining.recipe import read_recipe
from retraining.run import Run
from retraining.steps import needs_retraining, report
from tests.plugins.task_run import have_model

KEPT = {"decision": {"promote": False, "reason": "accuracy 0.90 < 0.95"}}
PROMOTED = {"decision": {"promote": True, "reason": "better"}}
ADA = {"id": "1", "name": "ada"}

Trigger = Callable[..., Run]


class Facts:
    """The XComs of one run, and the states of its tasks."""

    def __init__(self, states: dict[str, str], **known: Any) -> None:
        self.task_id, self.states, self.known = "needs_retraining", states, known

    def xcom_push(self, key: str, value: Any) -> None:
        self.known[f"{self.task_id}.{key}"] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.known.get(f"{task_ids}.{key}")

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
        return {run_ids[0]: self.states}


@pytest.fixture
def trigger(sagemaker: Any, bucket: str, recipe_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Trigger:
    """trigger(number, data=…, states=…, **params): a run that has synced its data."""
    monkeypatch.setenv("RETRAINING_ENVIRONMENT", "local")
    monkeypatch.setenv("RETRAINING_BUCKET", bucket)
    monkeypatch.setenv("RETRAINING_ROLE_ARN", "arn:aws:iam::000000000000:role/local-sagemaker")

    def make(number: int, data: str = "d1", states: dict[str, str] | None = None, **params: Any) -> Run:
        known = {
            "preflight.return_value": {"code": "c1"},
            "sync_dataset.return_value": {"fingerprint": data, "classes": ["a"], "counts": {}, "quarantined": 0},
        }
        states = states or {}
        tasks = [SimpleNamespace(task_id=task) for task in states]
        dag = SimpleNamespace(dag_id="retrain_shapes", topological_sort=lambda: tasks)
        dag_run = SimpleNamespace(run_after=datetime(2026, 11, number, tzinfo=UTC), run_id=f"manual__{number}")
        context: Any = {"ti": Facts(states, **known), "params": params, "dag_run": dag_run, "dag": dag}
        return Run(read_recipe(recipe_data, where="test"), context)

    return make


def asked(run: Run) -> tuple[bool, str]:
    needed = needs_retraining(run)
    reason: str = run.find("needs_retraining", key="need")["reason"]
    return needed, reason.partition("; nothing serves ")[0]


def finish(run: Run, comparison: dict[str, Any], approval: dict[str, Any] | None = None) -> Run:
    """Everything after needs_retraining, up to its report."""
    assert needs_retraining(run)
    facts: Any = run.context["ti"]
    facts.known |= {"compare.comparison": comparison, "approve.return_value": approval}
    facts.task_id = "report"
    report(run)
    return run


def serve(run: Run, name: str = "run-0", **ingredients: str) -> None:
    document = {"run_name": name, "classes": ["a"], "model": name, "endpoint_config": name}
    document["ingredients"] = {"dataset": "d0"} | ingredients
    run.write_json(run.plan.champion_key, document)
    have_model(run.sagemaker, run.s3, name, run.environment.bucket)
    # There is no endpoint here, and that is meant.
    run.write_json(run.plan.lifetime_key, {"extended": "2026-11-01", "told": None, "deleted": "2026-11-01"})


def test_what_the_gate_refused_is_not_tried_again(trigger: Trigger) -> None:
    serve(trigger(1))
    first = finish(trigger(1), KEPT)
    needed, reason = asked(trigger(2))
    assert not needed
    assert reason == (
        f"run {first.plan.run_name} already tried this data, code and recipe, and champion run-0 stayed "
        "(accuracy 0.90 < 0.95); trigger with force to try again"
    )


def test_what_a_person_rejected_is_not_tried_again(trigger: Trigger) -> None:
    serve(trigger(1))
    finish(trigger(1), PROMOTED, {"chosen_options": ["Reject"], "responded_by_user": ADA})
    needed, reason = asked(trigger(2))
    assert (needed, "(rejected by ada)" in reason) == (False, True)


def test_without_a_champion_a_bad_candidate_is_not_tried_again(trigger: Trigger) -> None:
    finish(trigger(1), KEPT)
    needed, reason = asked(trigger(2))
    assert (needed, "it was not good enough to serve (accuracy 0.90 < 0.95)" in reason) == (False, True)


def test_force_tries_again_and_remembers_the_newest_run(trigger: Trigger) -> None:
    finish(trigger(1), KEPT)
    again = finish(trigger(2, force=True), KEPT)
    assert "retraining was forced" in again.find("needs_retraining", key="need")["reason"]
    assert asked(trigger(3))[1].startswith(f"run {again.plan.run_name} already tried")


def test_what_was_never_decided_is_tried_again(trigger: Trigger) -> None:
    serve(trigger(1))
    finish(trigger(1, states={"train": "failed"}), KEPT)
    # Nobody answered in time, and the default was taken.
    finish(trigger(2), PROMOTED, {"chosen_options": ["Reject"], "responded_by_user": None})
    finish(trigger(3, states={"update_champion": "success"}), PROMOTED)
    assert asked(trigger(4)) == (True, "changed since champion run-0: dataset, code, recipe")


@pytest.mark.parametrize("change", [{"data": "d2"}, {"epochs": 5}, {"min_value": 0.1}], ids=["data", "recipe", "gate"])
def test_another_case_is_tried(trigger: Trigger, change: dict[str, Any]) -> None:
    serve(trigger(1))
    finish(trigger(1), KEPT)
    assert asked(trigger(2, **change))[0]
    assert not asked(trigger(3))[0]


def test_another_champion_is_challenged_and_the_old_one_not_again(trigger: Trigger) -> None:
    serve(trigger(1))
    finish(trigger(1), KEPT)
    serve(trigger(2), "run-9")
    assert asked(trigger(2))[0]
    serve(trigger(3))  # put back by hand
    assert not asked(trigger(3))[0]


def test_data_that_comes_back_is_known(trigger: Trigger) -> None:
    serve(trigger(1))
    finish(trigger(1, data="d1"), KEPT)
    finish(trigger(2, data="d2"), KEPT)
    assert not asked(trigger(3, data="d1"))[0]


def test_a_broken_memory_stops_nothing(trigger: Trigger, s3: Any, bucket: str) -> None:
    serve(trigger(1))
    s3.put_object(Bucket=bucket, Key="shapes/rejected-candidates.json", Body=b"\x00")
    assert asked(trigger(1))[0]


def test_the_champions_own_ingredients_need_no_memory(trigger: Trigger) -> None:
    run = trigger(1)
    serve(run, **run.ingredients.as_dict())
    assert asked(trigger(2)) == (
        False,
        "data, code and recipe are those of champion run-0 (rules, gates and machines make no other model); "
        "trigger with force to retrain anyway",
    )
