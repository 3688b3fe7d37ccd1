"""A collection of tensors that the Debugger hook is to save, checked as `ml/debugger/hook_config.py` reads it.

The final training would refuse it, when the search has been paid for. `tests/contract/` holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from retraining.recipe.pattern import are_patterns
from retraining.recipe.refusal import require

BUILT_IN = ("all", "default", "weights", "biases", "gradients", "losses")
"""Collections that know their own tensors."""
SCALARS = ("losses", "metrics", "sm_metrics")
REDUCTIONS = ("min", "max", "mean", "std", "variance", "sum", "prod", "l1_norm", "l2_norm")
LEAST: Mapping[str, int] = {"save_interval": 1, "start_step": 0, "end_step": 0}
FLAGS = ("true", "1", "false", "0")


def check_collection(name: str, parameters: Mapping[str, str]) -> None:
    """RecipeError for what the hook cannot follow."""
    expressions = _words(parameters.get("include_regex", ""))
    require(bool(expressions) or name in BUILT_IN, "collections", name, "names no tensors", "Give it an include_regex.")
    for expression in expressions:
        where = f"collections.{name}.include_regex"
        require(are_patterns([expression]), where, expression, "must be regular expressions with commas between them")
    for key, text in parameters.items():
        least, where = LEAST.get(key.rpartition(".")[2]), f"collections.{name}.{key}"
        if least is not None and text:
            require(_is_whole(text, least), where, text, f"must be a whole number from {least}")
        if key.rpartition(".")[2] == "save_steps":
            require(all(_is_whole(one) for one in _words(text)), where, text, "must be numbers, 1,2,3")
    if name not in SCALARS:
        unknown = [
            word for word in _words(parameters.get("reductions", "")) if word.removeprefix("abs_") not in REDUCTIONS
        ]
        require(not unknown, f"collections.{name}.reductions", unknown, f"must be some of {', '.join(REDUCTIONS)}")
        raw = parameters.get("save_raw_tensor", "false")
        reduced = bool(_words(parameters.get("reductions", "")))
        allowed = not reduced or raw.strip().lower() in FLAGS
        require(allowed, f"collections.{name}.save_raw_tensor", raw, "must be true or false")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _is_whole(text: str, least: int | None = None) -> bool:
    whole = re.fullmatch(r"\s*[-+]?\d{1,18}\s*", text) is not None
    return whole and (least is None or int(text) >= least)
