"""Who watches a training, what SageMaker's refusals look like, and what a recipe must not ask for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from retraining.debugger.memory import KEY, recall_refusal, remember_refusal
from retraining.debugger.mode import DebuggerUnavailable, Refusal, decide_mode, in_mode, is_refusal, mode_of
from retraining.fingerprint import recipe_fingerprint
from retraining.recipe import Recipe, RecipeError, read_recipe

ACCOUNT = "000000000000"
CLOSED = "Amazon SageMaker Debugger is not available to this account. Remove DebugHookConfig."
TRIPLE = {"training": {"spot": True, "distribution": "torchrun", "instance_count": 2}}
KNOWN = Refusal(account=ACCOUNT, reason=CLOSED, noticed="2026-11-20T03:00:00+00:00", uri="s3://b/debugger-mode.json")


def recipe_in(recipe_data: dict[str, Any], mode: str | None = None, **changes: Any) -> Recipe:
    debugger = {"mode": mode} if mode else {}
    return read_recipe(recipe_data | {"debugger": debugger | changes.pop("debugger", {})} | changes, where="test")


def decided(recipe: Recipe, rule_image: str | None = "rules:1", refusal: Refusal | None = None) -> tuple[str, str]:
    decision = decide_mode(recipe, "eu-north-1", rule_image=rule_image, refusal=refusal)
    return decision.mode, decision.reason


def test_auto_is_managed_until_something_speaks_against_it(recipe_data: dict[str, Any]) -> None:
    auto = recipe_in(recipe_data)
    assert auto.debugger.mode == "auto"
    assert decided(auto)[0] == "managed"
    assert decided(auto, rule_image=None) == (
        "self_hosted",
        "SageMaker Debugger has no rules in region eu-north-1",
    )
    mode, reason = decided(auto, refusal=KNOWN)
    assert (mode, "aws s3 rm s3://b/debugger-mode.json" in reason, CLOSED in reason) == ("self_hosted", True, True)
    mode, reason = decided(recipe_in(recipe_data, **TRIPLE))
    assert mode == "self_hosted"
    assert "training.distribution: torchrun, instance_count: 2) that keeps checkpoints (training.spot: true)" in reason


def test_a_rule_of_our_own_is_judged_self_hosted(recipe_data: dict[str, Any]) -> None:
    own = recipe_in(recipe_data, debugger={"rules": {"LossSpike": "warn", "Overfit": "warn"}})
    assert decided(own) == ("self_hosted", "SageMaker Debugger has no rule LossSpike")


@pytest.mark.parametrize("mode", ["off", "self_hosted"])
def test_what_needs_no_debugger_of_sagemaker_is_not_questioned(recipe_data: dict[str, Any], mode: str) -> None:
    assert decided(recipe_in(recipe_data, mode, **TRIPLE), rule_image=None, refusal=KNOWN)[0] == mode


@pytest.mark.parametrize("obstacle", [{"rule_image": None}, {"refusal": KNOWN}])
def test_insisting_on_what_cannot_be_had_names_the_way_out(recipe_data: dict[str, Any], obstacle: Any) -> None:
    with pytest.raises(DebuggerUnavailable, match=r"debugger\.mode = 'managed': .*Set debugger\.mode to self_hosted"):
        decided(recipe_in(recipe_data, "managed"), **obstacle)


def test_processes_checkpoints_and_managed_debugger_are_refused(recipe_data: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"test: debugger\.mode = 'managed': .*torchrun.*training\.spot to false"):
        recipe_in(recipe_data, "managed", **TRIPLE)
    for two in ({"spot": True}, {"distribution": "torchrun", "instance_count": 2}):
        assert decided(recipe_in(recipe_data, "managed", training=two))[0] == "managed"
    nobody_watches = {"rules": {}, "profiler": False}
    assert decided(recipe_in(recipe_data, "managed", debugger=nobody_watches, **TRIPLE))[0] == "managed"


def test_the_trigger_form_cannot_make_the_illegal_triple(recipe_data: dict[str, Any]) -> None:
    recipe = recipe_in(recipe_data, "managed", training={"distribution": "torchrun"})
    with pytest.raises(RecipeError, match=r"trigger form of retrain_shapes: debugger\.mode"):
        recipe.with_params({"spot": True})
    assert recipe.with_params({"spot": True, "debugger": "auto"}).debugger.mode == "auto"


def test_the_mode_alone_makes_no_other_model(recipe_data: dict[str, Any]) -> None:
    """Next week's run must not retrain because Debugger was refused this week."""
    prints = {recipe_fingerprint(recipe_in(recipe_data, mode)) for mode in ("auto", "managed", "self_hosted", "off")}
    assert len(prints) == 1


def test_rules_that_cannot_stop_anything_are_refused(recipe_data: dict[str, Any]) -> None:
    rules = {"Overfit": "ignore", "DeadRelu": "warn"}
    for stopping, mode, complaint in (
        (["AllZero"], "auto", r"stop_training = 'AllZero': is not in rules"),
        (["Overfit"], "auto", r"is ignored by its policy in rules"),
        (["DeadRelu"], "self_hosted", r"after the training\. Remove it, or choose the mode managed, or auto"),
    ):
        with pytest.raises(RecipeError, match=complaint):
            recipe_in(recipe_data, mode, debugger={"rules": rules, "stop_training": stopping})
    able = recipe_in(recipe_data, debugger={"rules": rules, "stop_training": ["DeadRelu"]})
    assert in_mode(able, "managed").debugger.stop_training == ("DeadRelu",)
    assert in_mode(able, "self_hosted").debugger.stop_training == ()


def test_more_tensors_than_a_hyperparameter_can_name_are_refused(recipe_data: dict[str, Any]) -> None:
    many = {f"collection_{n}": {"include_regex": "x" * 150} for n in range(15)}
    with pytest.raises(RecipeError, match=r"hook configuration of \d+ characters; SageMaker takes 2500"):
        recipe_in(recipe_data, debugger={"collections": many})
    assert recipe_in(recipe_data, "managed", debugger={"collections": many}).debugger.collections.keys() == many.keys()


@pytest.mark.parametrize(
    ("code", "message", "refusal"),
    [
        ("ValidationException", CLOSED, True),
        ("AccessDeniedException", "SageMaker Debugger is closed to new customers.", True),
        ("UnsupportedOperation", "DebugRuleConfigurations are not supported for this account", True),
        ("ValidationException", "ProfilerRuleConfigurations is no longer available.", True),
        ("ThrottlingException", "Debugger: rate exceeded", False),
        ("ResourceLimitExceeded", "Debugger rule jobs on ml.t3.medium: limit is 0 Instances", False),
        ("ValidationException", "Value at 'debugHookConfig.s3OutputPath' failed to satisfy constraint", False),
        ("ValidationException", "DebugHookConfig.S3OutputPath failed to satisfy constraint: pattern", False),
        ("AccessDeniedException", "arn:aws:iam::0:role/Debugger may not sagemaker:CreateTrainingJob", False),
        ("ValidationException", "Could not find s3://Debugger/x", False),
    ],
)
def test_only_an_answer_about_debugger_is_its_refusal(code: str, message: str, refusal: bool) -> None:
    assert is_refusal(code, message) is refusal


def test_a_job_tells_how_it_is_watched() -> None:
    assert mode_of({"DebugHookConfig": {"S3OutputPath": "s3://b"}, "HyperParameters": {}}) == "managed"
    assert mode_of({"HyperParameters": {"lr": "1", "profile": "true"}}) == "self_hosted"
    assert mode_of({"HyperParameters": {"lr": "1"}}) == mode_of({}) == "off"


def test_a_refusal_is_remembered_until_its_object_is_deleted(s3: Any, bucket: str) -> None:
    assert recall_refusal(s3, bucket, ACCOUNT) is None
    remember_refusal(s3, bucket, ACCOUNT, CLOSED)
    remembered = recall_refusal(s3, bucket, ACCOUNT)
    assert remembered is not None
    assert (remembered.reason, remembered.uri) == (CLOSED, f"s3://{bucket}/debugger-mode.json")
    assert recall_refusal(s3, bucket, "999999999999") is None  # the bucket may serve several accounts
    s3.delete_object(Bucket=bucket, Key=KEY)
    assert recall_refusal(s3, bucket, ACCOUNT) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"format": 2}', b"\xff", json.dumps({"format": 1}).encode()])
def test_a_broken_memory_is_no_memory(s3: Any, bucket: str, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    s3.put_object(Bucket=bucket, Key=KEY, Body=body)
    assert recall_refusal(s3, bucket, ACCOUNT) is None
    assert "is passed over" in caplog.text


def test_a_memory_that_cannot_be_written_or_read_fails_nothing(s3: Any, caplog: pytest.LogCaptureFixture) -> None:
    remember_refusal(s3, "no-such-bucket-here", ACCOUNT, CLOSED)
    assert recall_refusal(s3, "no-such-bucket-here", ACCOUNT) is None
    assert "cannot be remembered" in caplog.text
    assert "cannot be read" in caplog.text


def test_an_unset_mode_is_auto_and_a_bare_off_is_off(recipe_data: dict[str, Any]) -> None:
    """YAML reads off as False."""
    assert read_recipe(recipe_data | {"debugger": {"mode": False}}, where="test").debugger.mode == "off"
    assert replace(recipe_in(recipe_data)).debugger.mode == "auto"
