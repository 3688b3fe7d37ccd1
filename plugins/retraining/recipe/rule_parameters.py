"""What each Debugger rule can be told, and which texts it takes.

The rules themselves (`ml/debugger/rules/`) are the judge, and SageMaker's have the same names for the same things; this
table lets a typo fail before anything is paid for. `tests/contract/` holds the two together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from retraining.recipe.hyperparameters import HYPERPARAMETER_LIMIT
from retraining.recipe.pattern import are_patterns
from retraining.recipe.refusal import RecipeError, did_you_mean

ENGINE = ("rule_to_invoke", "action_json")
"""Read by what runs a rule, and not by the rule."""


@dataclass(frozen=True)
class Kind:
    """How a rule reads a parameter, in words and as a check of its text."""

    says: str
    accepts: Callable[[str], bool]


def _whole(least: int) -> Kind:
    def accepts(text: str) -> bool:
        return re.fullmatch(r"\s*[+-]?\d{1,18}(?:_\d{1,3}){0,6}\s*", text) is not None and int(text) >= least

    return Kind(f"a whole number of at least {least}", accepts)


def _number(least: float = -math.inf, most: float = math.inf) -> Kind:
    def accepts(text: str) -> bool:
        try:
            return least <= float(text) <= most and not math.isinf(float(text))
        except ValueError:
            return False

    if least == -math.inf:
        return Kind("a number", accepts)
    return Kind(
        f"a number from {least:g} to {most:g}" if most < math.inf else f"a number of at least {least:g}", accepts
    )


def _are_regexes(text: str) -> bool:
    """Commas separate expressions, except within brackets or braces."""
    return len(text) <= HYPERPARAMETER_LIMIT and are_patterns(
        [part.strip() for part in re.split(r",(?![^{}\[\]()]*[}\])])", text)]
    )


FLAG = Kind("True or False", lambda text: text.lower() in ("true", "false"))
TEXT = Kind("a text", lambda _: True)
REGEX = Kind("a regular expression", lambda text: are_patterns([text]))
REGEXES = Kind("one or several regular expressions with commas between them", _are_regexes)
NAMES = Kind("one or several names with commas between them", lambda _: True)
MODE = Kind("one of EVAL, TRAIN, GLOBAL", lambda text: text.upper() in ("EVAL", "TRAIN", "GLOBAL"))

_TENSORS = {"collection_names": NAMES, "tensor_regex": REGEXES}
_INACTIVITY = {"threshold_inactivity": _number(0.001, 100), "threshold_layer": _number(0, 100)}

RULE_PARAMETERS: Mapping[str, Mapping[str, Kind]] = {
    "AllZero": _TENSORS | {"threshold": _number(0, 100)},
    "CheckInputImages": {
        "threshold_mean": _number(0), "threshold_samples": _whole(1), "regex": REGEX, "channel": _whole(0),
    },
    "ClassImbalance": {
        "threshold_imbalance": _number(1), "threshold_misprediction": _number(0, 1), "samples": _whole(1),
        "argmax": FLAG, "labels_regex": REGEX, "predictions_regex": REGEX,
    },
    "Confusion": {
        "category_no": _whole(2), "labels": TEXT, "predictions": TEXT, "labels_collection": TEXT,
        "predictions_collection": TEXT, "min_diag": _number(0, 1), "max_off_diag": _number(0, 1),
    },
    "DeadRelu": _TENSORS | _INACTIVITY,
    "ExplodingTensor": _TENSORS | {"only_nan": FLAG},
    "LossNotDecreasing": _TENSORS | {
        "use_losses_collection": FLAG, "num_steps": _whole(1), "diff_percent": _number(0, 100),
        "increase_threshold_percent": _number(0), "mode": MODE,
    },
    "LossSpike": {"num_steps": _whole(1), "factor": _number(1)},
    "Overfit": {"tensor_regex": REGEXES, "start_step": _whole(0), "patience": _whole(0), "ratio_threshold": _number()},
    "Overtraining": {"patience_train": _whole(0), "patience_validation": _whole(0), "delta": _number(0)},
    "PoorWeightInitialization": {
        "activation_inputs_regex": REGEXES, "threshold": _number(0), "distribution_range": _number(0),
        "patience": _whole(1), "steps": _number(1),
    },
    "SaturatedActivation": _TENSORS | _INACTIVITY | {
        f"threshold_{kind}_{end}": _number() for kind in ("tanh", "sigmoid") for end in ("min", "max")
    },
    "SimilarAcrossRuns": _TENSORS | {"other_trials": NAMES, "other_trial": TEXT},
    "StalledTrainingRule": {"threshold": _number(0), "stop_training_on_fire": FLAG, "training_job_name_prefix": TEXT},
    "TensorVariance": _TENSORS | {"max_threshold": _number(0), "min_threshold": _number(0)},
    "UnchangedTensor": _TENSORS | {"num_steps": _whole(2), "rtol": _number(0), "atol": _number(0), "equal_nan": FLAG},
    "VanishingGradient": {"threshold": _number(0)},
    "WeightUpdateRatio": {
        "num_steps": _whole(1), "large_threshold": _number(0), "small_threshold": _number(0), "epsilon": _number(0),
    },
}  # fmt: skip
NEEDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "AllZero": (("collection_names", "tensor_regex"),),
    "SimilarAcrossRuns": (("other_trials", "other_trial"),),
    "TensorVariance": (("collection_names", "tensor_regex"), ("max_threshold", "min_threshold")),
}
"""Rule → of each of these it needs one."""


def check_rule(rule: str, given: Mapping[str, str]) -> None:
    """RecipeError for what the rule could not be evaluated with; `given` as texts."""
    known = RULE_PARAMETERS[rule]
    for name, text in given.items():
        if name not in known and name not in ENGINE:
            way_out = did_you_mean(name, known) or f"It takes {', '.join(known)}."
            raise RecipeError(f"rule_parameters.{rule}", name, f"is no parameter of {rule}", way_out)
        if name in known and text.strip() not in ("", "None") and not known[name].accepts(text.strip()):
            raise RecipeError(f"rule_parameters.{rule}.{name}", text, f"must be {known[name].says}")
    for some in NEEDS.get(rule, ()):
        if not any(given.get(name, "None").strip() not in ("", "None") for name in some):
            raise RecipeError("rules", rule, f"needs {' or '.join(some)}", f"Set it in rule_parameters.{rule}.")
