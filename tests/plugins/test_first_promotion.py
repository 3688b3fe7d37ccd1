"""Nothing serves that was not compared with what serves now, unless a person says so when triggering the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from retraining.recipe import read_recipe
from retraining.release.artifact import measure
from retraining.release.first import UncomparedPromotion
from retraining.run import Run
from retraining.steps import needs_retraining
from retraining.steps.data import ClassesChanged
from tests.plugins.task_run import IMAGE, ROLE, archive, have_model

Trigger = Callable[..., Run]
FIRST = {"first_promotion": True}


class Facts:
    def __init__(self, known: dict[str, Any]) -> None:
        self.known = known

    def xcom_push(self, key: str, value: Any) -> None:
        self.known[f"needs_retraining.{key}"] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.known.get(f"{task_ids}.{key}")


@pytest.fixture
def trigger(sagemaker: Any, bucket: str, recipe_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Trigger:
    """trigger(**params): a run of a recipe of this test's own, whose data has the classes a and b."""
    for name, value in (("ENVIRONMENT", "local"), ("BUCKET", bucket), ("ROLE_ARN", ROLE)):
        monkeypatch.setenv(f"RETRAINING_{name}", value)
    own = f"r{uuid4().hex[:8]}"
    recipe = read_recipe(recipe_data | {"name": own, "endpoint": own}, where="test")

    def make(**params: Any) -> Run:
        known = {
            "preflight.return_value": {"code": "c1"},
            "sync_dataset.return_value": {"fingerprint": "d1", "classes": ["a", "b"]},
        }
        dag_run = SimpleNamespace(run_after=datetime(2026, 11, 1, tzinfo=UTC), run_id="manual__1")
        fake: Any = {"ti": Facts(known), "params": params, "dag_run": dag_run}
        return Run(recipe, fake)

    return make


def pointer(run: Run, **changes: Any) -> dict[str, Any]:
    """A champion.json as this deployment writes it, but for `changes`."""
    made = {
        "recipe": run.recipe.name,
        "run_name": "run-0",
        "classes": ["a", "b"],
        "ingredients": {"dataset": "d0"},
        "model": "run-0",
        "endpoint_config": "run-0",
        "model_data_url": run.plan.uri("model.tar.gz"),
        "model_package_arn": "arn:aws:sagemaker:us-east-1:000000000000:model-package/group/1",
    }
    return {key: value for key, value in (made | changes).items() if value is not None}


def put_pointer(run: Run, body: bytes | dict[str, Any]) -> None:
    if isinstance(body, dict):
        if "model" in body:
            have_model(run.sagemaker, run.s3, body["model"], run.environment.bucket)
        body = json.dumps(body).encode()
    run.s3.put_object(Bucket=run.environment.bucket, Key=run.plan.champion_key, Body=body)


def serve(run: Run) -> None:
    """An endpoint of the recipe's name, made by hand."""
    name, sagemaker = run.plan.endpoint, run.sagemaker
    run.s3.put_object(Bucket=run.environment.bucket, Key="model.tar.gz", Body=archive(weights="1"))
    container = {"Image": IMAGE, "ModelDataUrl": run.plan.uri("model.tar.gz")}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)


def register(run: Run, status: str) -> None:
    """A version in the recipe's group."""
    run.s3.put_object(Bucket=run.environment.bucket, Key="model.tar.gz", Body=archive(weights="1"))
    group = run.plan.model_package_group
    run.sagemaker.create_model_package_group(ModelPackageGroupName=group)
    container = {"Image": IMAGE, "ModelDataUrl": run.plan.uri("model.tar.gz")}
    run.sagemaker.create_model_package(
        ModelPackageGroupName=group,
        ModelApprovalStatus=status,
        InferenceSpecification={"Containers": [container], "SupportedContentTypes": ["image/png"]},
    )


def uncompared(run: Run) -> list[str]:
    assert needs_retraining(run)
    return list(run.find("needs_retraining", key="need")["uncompared"])


def test_a_first_promotion_needs_no_word(trigger: Trigger) -> None:
    assert uncompared(trigger()) == []


def test_a_champion_is_compared_with(trigger: Trigger) -> None:
    put_pointer(trigger(), pointer(trigger()))
    for run in (trigger(), trigger(**FIRST)):
        assert uncompared(run) == []
        assert run.comparable_champion is not None


def test_a_serving_endpoint_speaks_against_a_first_promotion(trigger: Trigger) -> None:
    serve(trigger())
    with pytest.raises(UncomparedPromotion, match=r"endpoint r\w+ is (Creating|InService) on r\w+.*first_promotion"):
        needs_retraining(trigger())
    (sign,) = uncompared(trigger(**FIRST))
    assert sign.startswith("endpoint ")


def test_an_approved_package_speaks_against_it_too(trigger: Trigger) -> None:
    register(trigger(), "Approved")
    with pytest.raises(UncomparedPromotion, match=r"model package arn:aws:sagemaker:.* is Approved"):
        needs_retraining(trigger())


def test_another_deployment_s_package_does_not(
    trigger: Trigger, bucket: str, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group has the recipe's name, and is the account's."""
    register(trigger(), "Approved")
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other)
    monkeypatch.setenv("RETRAINING_BUCKET", other)
    assert uncompared(trigger()) == []


@pytest.mark.parametrize(("then", "problem"), [(b"another", "was replaced: its 7 bytes"), (None, "does not exist")])
def test_a_champion_without_its_artifact_is_no_champion(trigger: Trigger, then: bytes | None, problem: str) -> None:
    run, key = trigger(), "model.tar.gz"
    run.s3.put_object(Bucket=run.environment.bucket, Key=key, Body=b"weights")
    put_pointer(run, pointer(run, artifact=measure(run.s3, run.plan.uri(key))))
    assert uncompared(trigger()) == []
    run.s3.delete_object(Bucket=run.environment.bucket, Key=key)
    if then:
        run.s3.put_object(Bucket=run.environment.bucket, Key=key, Body=then)
    with pytest.raises(UncomparedPromotion, match=problem):
        needs_retraining(trigger())
    assert problem in uncompared(trigger(**FIRST))[0]


@pytest.mark.parametrize("status", ["Rejected", "PendingManualApproval"])
def test_a_release_that_failed_does_not(trigger: Trigger, status: str) -> None:
    register(trigger(), status)
    assert uncompared(trigger()) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"recipe": "cats"}, "is about recipe 'cats'"),
        ({"model_data_url": "s3://their-bucket/m.tar.gz"}, "outside this deployment's bucket: s3://their-bucket/m"),
        (
            {"model_package_arn": "arn:aws:sagemaker:eu-west-1:000000000000:model-package/g/1"},
            "of account 000000000000 in eu-west-1; this is 000000000000 in us-east-1",
        ),
        (
            {"model_package_arn": "arn:aws:sagemaker:us-east-1:111122223333:model-package/g/1"},
            "of account 111122223333 in us-east-1",
        ),
        ({"model": None, "classes": []}, "lacks classes, model"),
        ({"artifact": "abc"}, "says of its artifact 'abc'"),
    ],
)
def test_a_foreign_pointer_is_no_missing_one(trigger: Trigger, changes: dict[str, Any], problem: str) -> None:
    put_pointer(trigger(), pointer(trigger(), **changes))
    with pytest.raises(UncomparedPromotion, match=problem) as refusal:
        needs_retraining(trigger())
    assert f"s3://{trigger().environment.bucket}/" in str(refusal.value)


@pytest.mark.parametrize("body", [b"", b"{broken", b"[]", b"\xff\xfe", b"null"])
def test_a_pointer_that_cannot_be_read_is_refused_by_name(trigger: Trigger, body: bytes) -> None:
    put_pointer(trigger(), body)
    with pytest.raises(UncomparedPromotion, match=r"champion.json (is not valid|holds no)"):
        needs_retraining(trigger())


def test_a_pointer_that_is_given_up_is_replaced_by_its_tag(trigger: Trigger) -> None:
    """The compare-and-swap of the promotion still holds: nobody else may have repaired it in the meantime."""
    put_pointer(trigger(), b"{broken")
    run = trigger(**FIRST)
    (sign,) = uncompared(run)
    assert "not valid JSON" in sign
    assert run.champion is None
    assert run.find("needs_retraining", key="champion")["etag"]


def test_other_classes_are_refused(trigger: Trigger) -> None:
    put_pointer(trigger(), pointer(trigger(), classes=["a", "c"]))
    for params in ({}, FIRST):
        with pytest.raises(ClassesChanged, match=r"added \['b'\], removed \['c'\].*accept_class_change.*know \(1\)"):
            needs_retraining(trigger(**params))


def test_other_classes_are_compared_on_those_both_know(trigger: Trigger) -> None:
    put_pointer(trigger(), pointer(trigger(), classes=["c", "a"]))
    run = trigger(accept_class_change=True)
    assert uncompared(run) == []
    assert run.shared_classes == ["a"]
    assert run.comparable_champion is not None


def test_quite_other_classes_promote_nothing_uncompared(trigger: Trigger) -> None:
    put_pointer(trigger(), pointer(trigger(), classes=["c", "d"]))
    with pytest.raises(UncomparedPromotion, match=r"champion run-0: added \['a', 'b'\].* shares no class"):
        needs_retraining(trigger(accept_class_change=True))


def test_other_classes_and_a_first_promotion_are_recorded(trigger: Trigger) -> None:
    put_pointer(trigger(), pointer(trigger(), classes=["a"]))
    run = trigger(accept_class_change=True, **FIRST)
    assert uncompared(run) == ["the classes changed since champion run-0: added ['b'], removed []"]
    assert run.comparable_champion is None
