"""What watches the final training."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from retraining.hyperparameters import Value
from retraining.sections.refusal import did_you_mean, require

DEBUGGER_RULES = (
    "AllZero", "CheckInputImages", "ClassImbalance", "Confusion", "DeadRelu", "ExplodingTensor", "LossNotDecreasing",
    "Overfit", "Overtraining", "PoorWeightInitialization", "SaturatedActivation", "SimilarAcrossRuns",
    "StalledTrainingRule", "TensorVariance", "UnchangedTensor", "VanishingGradient", "WeightUpdateRatio",
)  # fmt: skip
"""SageMaker's built-in rules for such networks; ml/rules.py judges the same ones."""


@dataclass(frozen=True, kw_only=True)
class Debugger:
    """What watches the final training. `managed` is SageMaker Debugger, closed to new accounts since 2026-07-30."""

    mode: Literal["managed", "off"] = "managed"
    rules: dict[str, Literal["fail", "warn"]] = field(default_factory=lambda: {"LossNotDecreasing": "fail"})
    rule_parameters: dict[str, dict[str, Value]] = field(default_factory=dict)
    """Per rule, what differs from SageMaker's defaults (`num_steps`, `patience`, …); sent as RuleParameters."""
    collections: dict[str, dict[str, Value]] = field(default_factory=dict)
    """More tensors to save: a name, and smdebug's CollectionParameters (`include_regex`, `train.save_interval`, …).

    What the usual rules read is saved anyway; a collection of the same name takes its place.
    """
    profiler: bool = True
    save_interval: int = 10
    """Steps between two saved sets of tensors, where a collection says nothing else."""

    def __post_init__(self) -> None:
        for rule in self.rules:
            require(
                rule in DEBUGGER_RULES, "rules", rule, "is not a rule known here", did_you_mean(rule, DEBUGGER_RULES)
            )
        for rule in self.rule_parameters:
            require(rule in self.rules, "rule_parameters", rule, "is not in rules", did_you_mean(rule, self.rules))
        for name in self.collections:
            require(
                re.fullmatch(r"[\w-]{1,256}", name) is not None, "collections", name, "must be letters, digits, _ and -"
            )
        require(self.save_interval >= 1, "save_interval", self.save_interval, "must be at least 1 step")
