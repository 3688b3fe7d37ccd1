"""Bugs planted in our own code, each of which the simulator must see; without them the same weeks are harmless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowSkipException

import retraining.creation
import retraining.operators.durable
import retraining.operators.endpoint
import retraining.release.package
import retraining.release.served
import retraining.retries
import retraining.s3.documents
import retraining.steps.comparison
import retraining.steps.findings
import retraining.steps.release
from retraining.intent import Intent
from retraining.job_kinds import JobKind
from retraining.operators.approval import OptionalApprovalOperator
from retraining.operators.durable import DurableJob
from retraining.operators.endpoint import DeployOperator, RollbackOperator
from retraining.operators.register import RegisterOperator
from retraining.release.drill import Drill
from retraining.release.rollback import Rollback
from retraining.release.shadow import Shadow
from retraining.requests import sagemaker as requests
from retraining.triggers import SageMakerJobTrigger
from tests.faults.airflow import TaskInstance
from tests.faults.faults import (
    Finding,
    Laboratory,
    kill_at_call,
    mark_waiting,
    namesakes,
    pointer_moved,
    throttling,
    undisturbed,
    zombie_at_call,
)
from tests.faults.scenarios import SCENARIOS

Plant = Callable[[pytest.MonkeyPatch], None]
Trial = Callable[[Laboratory], Finding]


def nothing(*_: Any, **__: Any) -> None: ...


def week(name: str) -> Trial:
    return lambda laboratory: undisturbed(laboratory, SCENARIOS[name])


def killed(name: str, call: str) -> Trial:
    return lambda laboratory: kill_at_call(laboratory, SCENARIOS[name], call)


def marked(name: str, task: str, what: str, state: str) -> Trial:
    return lambda laboratory: mark_waiting(laboratory, SCENARIOS[name], task, what, state)


def woken(name: str, call: str, moment: str) -> Trial:
    return lambda laboratory: zombie_at_call(laboratory, SCENARIOS[name], "signing", call, moment)


def first_throttled(laboratory: Laboratory) -> Finding:
    return next(iter(throttling(laboratory, SCENARIOS["update-good"], most=1)))


def worst_namesake(laboratory: Laboratory) -> Finding:
    return max(namesakes(laboratory, SCENARIOS["update-good"]), key=lambda finding: len(finding.harmful))


def moved(laboratory: Laboratory) -> Finding:
    return next(pointer_moved(laboratory, SCENARIOS["update-good"]))


def names_of_the_attempt(patch: pytest.MonkeyPatch) -> None:
    execute, attempts = DurableJob.execute, [0]

    def counted(operator: Any, context: Any) -> Any:
        attempts[0] += 1
        return execute(operator, context)

    patch.setattr(DurableJob, "execute", counted)
    patch.setattr(JobKind, "generation", lambda kind, name, number: f"{name}-{attempts[0]}")


def blind_smoke_test(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retraining.steps.release, "try_endpoint", lambda *_: {})


def no_rollback(patch: pytest.MonkeyPatch) -> None:
    def skip(*_: Any) -> None:
        raise AirflowSkipException

    patch.setattr(RollbackOperator, "execute", skip)


def rollback_unwatched(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RollbackOperator, "wait", lambda operator, **_: {})


def in_service_is_enough(patch: pytest.MonkeyPatch) -> None:
    ensure = DeployOperator.ensure

    def believing(operator: Any, context: Any) -> Any:
        endpoint, intent = operator.look(context), operator.intents.read()
        if intent and endpoint["EndpointStatus"] == "InService":
            return {"name": "", "config": "", "arn": ""}
        return ensure(operator, context)

    patch.setattr(DeployOperator, "ensure", believing)
    patch.setattr(retraining.release.served, "require_served", nothing)
    patch.setattr(retraining.steps.release, "require_served", nothing)


def intent_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Intent, "was_asked", lambda *_: False)


def approved_at_once(patch: pytest.MonkeyPatch) -> None:
    package = requests.model_package
    patch.setattr(requests, "model_package", lambda *args: package(*args) | {"ModelApprovalStatus": "Approved"})
    patch.setattr(retraining.release.package, "reject", nothing)


def never_approved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retraining.steps.release, "approve", nothing)


def every_candidate_promoted(patch: pytest.MonkeyPatch) -> None:
    decide = retraining.steps.comparison.decide
    patch.setattr(retraining.steps.comparison, "decide", lambda *args: replace(decide(*args), promote=True))


def always_green(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retraining.steps.findings, "judge", lambda found: ("promoted", ""))


def job_goes_on(patch: pytest.MonkeyPatch) -> None:
    async def on_kill(trigger: Any) -> None: ...

    patch.setattr(SageMakerJobTrigger, "on_kill", on_kill)


def impatient(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retraining.retries, "is_weather", lambda error: False)


def pays_for_any_failure(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retraining.operators.durable, "is_platform_failure", lambda reason: True)


def own_work_not_known(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retraining.creation, "already_exists", lambda code, message: False)


def registers_again(patch: pytest.MonkeyPatch) -> None:
    package = requests.model_package
    patch.setattr(requests, "model_package", lambda *args: package(*args) | {"ClientToken": uuid4().hex})
    patch.setattr(RegisterOperator, "_registered", lambda *_: None)


def report_breaks(patch: pytest.MonkeyPatch) -> None:
    def broken(found: Any) -> None:
        raise ValueError("a planted bug")

    patch.setattr(retraining.steps.findings, "run_report", broken)


def pointer_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retraining.steps.release, "replace_champion", nothing)


def facts_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TaskInstance, "xcom_push", nothing)


def shadow_unheeded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Shadow, "accepted", True)


def adopted_unseen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retraining.operators.durable, "require_own", nothing)


def pointer_without_etag(patch: pytest.MonkeyPatch) -> None:
    def write(s3: Any, bucket: str, key: str, body: bytes, content_type: str, etag: str | None) -> bool:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)
        return True

    patch.setattr(retraining.s3.documents, "write_body", write)


def alarms_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retraining.operators.endpoint, "end_watch", lambda config: [])


def never_scaled_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retraining.operators.endpoint, "scale", nothing)


def answer_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OptionalApprovalOperator, "execute_complete", ApprovalOperator.execute_complete)


def left_model_stays_approved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Rollback, "_leave", nothing)


def asked_unseen(patch: pytest.MonkeyPatch) -> None:
    def ask(method: str, sagemaker: Any, seen: Any, request: Any) -> None:
        getattr(sagemaker, method)(**request)

    patch.setattr(retraining.operators.endpoint, "ask_as_seen", ask)


def drill_stays_away(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Drill, "_return", lambda *_: {})


BUGS: dict[Plant, Trial] = {
    names_of_the_attempt: killed("update-good", "sagemaker.CreateTrainingJob"),
    blind_smoke_test: week("update-wrong"),
    no_rollback: week("update-wrong"),
    rollback_unwatched: week("update-wrong"),
    in_service_is_enough: week("update-rolled-back"),
    intent_forgotten: killed("update-rolled-back", "sagemaker.UpdateEndpoint"),
    approved_at_once: week("update-wrong"),
    never_approved: week("update-good"),
    every_candidate_promoted: week("kept"),
    always_green: marked("update-good", "train", "run", "failed"),
    job_goes_on: marked("update-good", "train", "run", "failed"),
    impatient: first_throttled,
    pays_for_any_failure: week("train-fails"),
    own_work_not_known: killed("update-good", "sagemaker.CreateModel"),
    registers_again: killed("update-good", "sagemaker.CreateModelPackage"),
    report_breaks: week("update-good"),
    pointer_forgotten: week("update-good"),
    facts_lost: week("update-good"),
    shadow_unheeded: week("shadow-refused"),
    adopted_unseen: worst_namesake,
    pointer_without_etag: moved,
    alarms_stay: week("canary-good"),
    never_scaled_again: week("linear-good"),
    answer_forgotten: week("rejected"),
    left_model_stays_approved: week("taken-back"),
    drill_stays_away: week("drill"),
    asked_unseen: woken("first-wrong", "sagemaker.DeleteEndpoint", "week"),
}


@pytest.mark.parametrize(("plant", "trial"), BUGS.items(), ids=[plant.__name__ for plant in BUGS])
def test_planted_bug_is_seen(
    laboratory: Laboratory, plant: Plant, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = trial(laboratory)
    assert (healthy.harmful, healthy.lost) == ([], [])
    plant(monkeypatch)
    sick = trial(laboratory)
    assert sick.harmful or sick.lost
