"""What we send for SageMaker Debugger beside what the debugger classes of SageMaker's SDK v3 write for those rules."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from retraining.container_images import resolve_images
from retraining.recipe.debugger import DEBUGGER_RULES
from tests.contract.test_requests import DIGITS_RECIPE, ENVIRONMENT, every_request, problems

sdk = pytest.importorskip("sagemaker.core.debugger")

SENTINEL = "DEFAULT_RULE_EVALUATOR_IMAGE"
GIVEN: dict[str, dict[str, Any]] = {
    "LossNotDecreasing": {"num_steps": 80, "mode": "TRAIN"},
    "AllZero": {"tensor_regex": ".*weight"},
    "SimilarAcrossRuns": {"other_trials": "s3://bucket/run"},
    "TensorVariance": {"collection_names": "weights", "max_threshold": 10},
}
EVERY_RULE = replace(
    DIGITS_RECIPE,
    debugger=replace(
        DIGITS_RECIPE.debugger,
        mode="managed",
        rules=dict.fromkeys(DEBUGGER_RULES, "warn"),
        rule_parameters=GIVEN,
        stop_training=("LossNotDecreasing", "AllZero"),
    ),
)
REQUEST = every_request(EVERY_RULE)["CreateTrainingJob"]
IMAGE = {"RuleEvaluatorImage": resolve_images(EVERY_RULE, ENVIRONMENT).rules}


def snake_case(rule: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", rule).lower()


@pytest.mark.parametrize("rule", DEBUGGER_RULES)
def test_a_rule_is_written_as_the_sdk_writes_it(rule: str) -> None:
    stops = rule in EVERY_RULE.debugger.stop_training
    built_in = sdk.Rule.sagemaker(
        getattr(sdk.rule_configs, snake_case(rule))(),
        rule_parameters={name: str(value) for name, value in GIVEN.get(rule, {}).items()},
        actions=sdk.rule_configs.StopTraining() if stops else None,
    )
    built_in.prepare_actions(REQUEST["TrainingJobName"])
    (ours,) = (made for made in REQUEST["DebugRuleConfigurations"] if made["RuleConfigurationName"] == rule)
    assert ours == built_in.to_debugger_rule_config_dict() | IMAGE


def test_the_hook_is_written_as_the_sdk_writes_it() -> None:
    ours = REQUEST["DebugHookConfig"]
    collections = [
        sdk.CollectionConfig(one["CollectionName"], one["CollectionParameters"])
        for one in ours["CollectionConfigurations"]
    ]
    hook = sdk.DebuggerHookConfig(s3_output_path=ours["S3OutputPath"], collection_configs=collections)
    assert ours == hook._to_request_dict()


def test_the_profiler_is_written_as_the_sdk_writes_it() -> None:
    ours = REQUEST["ProfilerConfig"]
    config = sdk.ProfilerConfig(s3_output_path=ours["S3OutputPath"], system_monitor_interval_millis=500)
    assert ours == config._to_request_dict()
    report = sdk.ProfilerRule.sagemaker(sdk.rule_configs.ProfilerReport())
    assert REQUEST["ProfilerRuleConfigurations"] == [report.to_profiler_rule_config_dict() | IMAGE]


def test_the_sdks_place_holder_is_never_sent() -> None:
    """Only the estimators of SDK v2 replaced it; the API knows no such image."""
    assert sdk.Rule.sagemaker(sdk.rule_configs.overfit()).image_uri == SENTINEL
    assert SENTINEL not in repr(every_request(EVERY_RULE))
    assert problems("CreateTrainingJob", REQUEST) == []
