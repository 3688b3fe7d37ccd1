"""What watches the final training."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from retraining.recipe.hook_collection import check_collection
from retraining.recipe.hyperparameters import HYPERPARAMETER_LIMIT, Value, as_text
from retraining.recipe.machines import InstanceType
from retraining.recipe.refusal import RecipeError, did_you_mean, require
from retraining.recipe.rule_parameters import check_rule
from retraining.recipe.rules import SECTION, Above, BareOff

DEBUGGER_RULES = (
    "AllZero", "CheckInputImages", "ClassImbalance", "Confusion", "DeadRelu", "ExplodingTensor", "LossNotDecreasing",
    "Overfit", "Overtraining", "PoorWeightInitialization", "SaturatedActivation", "SimilarAcrossRuns",
    "StalledTrainingRule", "TensorVariance", "UnchangedTensor", "VanishingGradient", "WeightUpdateRatio",
)  # fmt: skip
"""SageMaker's built-in rules for such networks."""
OWN_RULES = ("LossSpike",)
"""Rules that SageMaker Debugger does not have, judged in the mode self_hosted only."""
ALL_RULES = tuple(sorted(DEBUGGER_RULES + OWN_RULES))
"""What ml/debugger/rules/catalogue.py judges."""
MAX_COLLECTIONS = MAX_PARAMETERS = 20
SETTING = re.compile(r"[^\n\r\u0085\u2028\u2029]{0,256}")
"""What SageMaker takes as a parameter of a rule or a collection. Source: CollectionConfigurations, CollectionParameters
and ConfigValue of its service model."""

Mode = Literal["managed", "self_hosted", "off"]
"""How one training is really watched; a recipe may also say auto."""


@dataclass(frozen=True, kw_only=True)
class Debugger:
    """What watches the final training, and who does.

    managed: SageMaker Debugger, closed to accounts that had not used it before 2026-07-30. self_hosted: the same hook,
    profiler and rules by this package, in the training's own output and in a processing job after it. auto: managed
    wherever that is possible, else self_hosted.
    """

    __pydantic_config__ = SECTION

    mode: Annotated[Literal["auto", "managed", "self_hosted", "off"], BareOff("off")] = "auto"
    rules: dict[str, Literal["fail", "warn", "ignore"]] = field(default_factory=lambda: {"LossNotDecreasing": "fail"})
    """What an issue does: fail stops the run, warn is said in the log, ignore only stands in the report."""
    stop_training: tuple[str, ...] = ()
    """Rules that end the training as soon as they find an issue. Only a rule beside the training can: managed."""
    rule_parameters: dict[str, dict[str, Value]] = field(default_factory=dict)
    """Per rule, what differs from SageMaker's defaults (`num_steps`, `patience`, …); sent as RuleParameters."""
    collections: dict[str, dict[str, Value]] = field(default_factory=dict)
    """More tensors to save: a name, and smdebug's CollectionParameters (`include_regex`, `train.save_interval`, …).

    What the usual rules read is saved anyway; a collection of the same name takes its place.
    """
    profiler: bool = True
    save_interval: Annotated[int, Above(0)] = 10
    """Steps between two saved sets of tensors, where a collection says nothing else."""
    instance_type: InstanceType = "ml.t3.medium"
    """Where the rules are evaluated in the mode self_hosted; AWS evaluates managed ones on machines of its own."""

    @property
    def own_rules(self) -> list[str]:
        """Those of the rules that SageMaker Debugger does not have."""
        return [rule for rule in self.rules if rule in OWN_RULES]

    def __post_init__(self) -> None:
        for rule in self.rules:
            require(rule in ALL_RULES, "rules", rule, "is not a rule known here", did_you_mean(rule, ALL_RULES))
        for rule in self.rule_parameters:
            require(rule in self.rules, "rule_parameters", rule, "is not in rules", did_you_mean(rule, self.rules))
        for rule in self.rules:
            given = self.rule_parameters.get(rule, {})
            check_rule(rule, {name: as_text(value) for name, value in given.items()})
        for name in self.collections:
            require(
                re.fullmatch(r"[\w-]{1,256}", name) is not None, "collections", name, "must be letters, digits, _ and -"
            )
        for collection in self.saved_collections():
            check_collection(collection["CollectionName"], collection["CollectionParameters"])
        self._check_stop_training()
        self._check_hook_config()
        self._check_managed()

    def _check_stop_training(self) -> None:
        for rule in self.stop_training:
            require(rule in self.rules, "stop_training", rule, "is not in rules", did_you_mean(rule, self.rules))
            require(
                self.rules[rule] != "ignore",
                "stop_training",
                rule,
                "is ignored by its policy in rules and cannot stop anything",
                "Make its policy fail or warn.",
            )
            require(
                "action_json" not in self.rule_parameters.get(rule, {}),
                "stop_training",
                rule,
                "has an action_json of its own in rule_parameters",
                "Keep one of the two.",
            )
        require(
            not (self.stop_training and self.mode == "self_hosted"),
            "stop_training",
            list(self.stop_training),
            "cannot stop anything in the mode self_hosted, where rules are evaluated after the training",
            "Remove it, or choose the mode managed, or auto, which says so when it has no effect.",
        )

    def _check_hook_config(self) -> None:
        """In the modes that may have to send it as a hyperparameter."""
        if self.mode in ("auto", "self_hosted") and (size := len(self.hook_config())) > HYPERPARAMETER_LIMIT:
            raise RecipeError(
                "collections",
                list(self.collections),
                f"make a hook configuration of {size} characters; SageMaker takes {HYPERPARAMETER_LIMIT}",
                "Describe fewer collections, or choose the mode managed.",
            )

    def _check_managed(self) -> None:
        """In the modes that send it to SageMaker, which would refuse the final training when the search is paid for."""
        if self.mode not in ("auto", "managed"):
            return
        way_out = "{}, or set mode to self_hosted."
        saved = self.saved_collections()
        require(
            len(saved) <= MAX_COLLECTIONS,
            "collections",
            list(self.collections),
            f"make {len(saved)} with those that the rules read; SageMaker Debugger takes {MAX_COLLECTIONS}",
            way_out.format("Leave some out"),
        )
        settings = {f"rule_parameters.{rule}": given for rule, given in self.rule_parameters.items()}
        settings |= {f"collections.{each['CollectionName']}": each["CollectionParameters"] for each in saved}
        for where, given in settings.items():
            require(
                len(given) <= MAX_PARAMETERS or where.startswith("rule"),
                where,
                list(given),
                f"are {len(given)} parameters; SageMaker Debugger takes {MAX_PARAMETERS}",
                way_out.format("Leave some out"),
            )
            for name, value in given.items():
                require(
                    bool(name) and all(SETTING.fullmatch(text) for text in (name, as_text(value))),
                    f"{where}.{name}",
                    value,
                    "SageMaker Debugger takes names and texts of one line and at most 256 characters",
                    way_out.format("Shorten it"),
                )

    def saved_collections(self) -> list[dict[str, Any]]:
        """The CollectionConfigurations: what the rules read, and what the recipe adds."""
        every: dict[str, Value] = {"save_interval": self.save_interval}
        collections: dict[str, Mapping[str, Value]] = {
            # Losses cost next to nothing, and rules compare many of them: every one is saved.
            "losses": {"save_interval": 1},
            # The statistics that the rules read. Whole gradients of a ResNet-18 would be 45 MB a step.
            "gradients": every | {"reductions": "min,max,abs_mean"},
            # What PoorWeightInitialization reads; smdebug knows this collection only when it is described.
            "relu_input": every | {"include_regex": ".*relu_input", "reductions": "variance"},
        }
        # These two are large, and saved only for the rule that reads them.
        if "DeadRelu" in self.rules:
            collections["relu_output"] = every | {"include_regex": ".*relu_output"}
        if "WeightUpdateRatio" in self.rules:
            collections["weights"] = every
        collections |= {name: every | parameters for name, parameters in self.collections.items()}
        return [
            {"CollectionName": name, "CollectionParameters": {key: as_text(value) for key, value in parameters.items()}}
            for name, parameters in collections.items()
        ]

    def hook_config(self) -> str:
        """What SageMaker writes into debughookconfig.json, as short as JSON can be, without its paths."""
        return json.dumps({"CollectionConfigurations": self.saved_collections()}, separators=(",", ":"))
