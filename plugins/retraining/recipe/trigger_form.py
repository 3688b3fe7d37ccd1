"""The trigger form: typed parameters of one run, with the recipe's values and bounds filled in.

What stands without a section is open in the UI; sections are folded. `recipe.TRIGGER_PARAMS` says where each goes.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from retraining.recipe.hyperparameters import HYPERPARAMETERS
from retraining.recipe.recipe import TRIGGER_PARAMS, Recipe
from retraining.recipe.rules import limits
from retraining.web_address import without_secrets

FIELDS: dict[str, tuple[str, str, str]] = {
    # Param: section of the form, title, description
    "max_jobs": ("", "Tuning trials", "Each is one training job."),
    "epochs": ("", "Epochs", "Of each trial and of the final training."),
    "approval": ("", "Ask a person", "Wait for an approval before the model is registered and deployed."),
    "strategy": ("Tuning", "Strategy", ""),
    "max_parallel_jobs": ("Tuning", "Trials at the same time", ""),
    "early_stopping": ("Tuning", "Stop hopeless trials early", ""),
    "training_instance_type": ("Training", "Instance type", ""),
    "max_runtime_seconds": ("Training", "Time limit of one job, in seconds", ""),
    "spot": ("Training", "Use spot capacity", ""),
    "training_instance_count": ("Training", "Instances of one job", "Of each trial and of the final training."),
    "distribution": (
        "Training",
        "Processes that train together",
        "torchrun: one for each GPU of each instance; needed for several instances.",
    ),
    "keep_alive_seconds": (
        "Training",
        "Keep the machine warm, in seconds",
        "Paid for. Of the final training only, and not with spot capacity.",
    ),
    "debugger": (
        "Training",
        "Debugger",
        "managed: SageMaker's, closed to accounts that had not used it before 2026-07-30. self_hosted: the same rules "
        "by this package. auto: managed where that is possible.",
    ),
    "metric": ("Promotion", "Metric that decides", ""),
    "min_improvement": ("Promotion", "Required gain over the champion", ""),
    "evidence": (
        "Promotion",
        "How sure the gain must be",
        "point: as measured. clearly_better: only where chance does not explain it. not_clearly_worse: unless the gain "
        "is clearly missed.",
    ),
    "min_value": ("Promotion", "Worst value that may serve", ""),
    "min_class_recall": ("Promotion", "Least recall of each class", ""),
}


def trigger_form(recipe: Recipe) -> dict[str, Param]:
    """All parameters; `epochs` only where the recipe fixes it and does not search for it."""
    fixed = {name: _field(recipe, name) for name in FIELDS if name != "epochs" or "epochs" in recipe.hyperparameters}
    return _whether() | {"source": _source(recipe)} | fixed | _consents()


def rollback_form() -> dict[str, Param]:
    """What a person says who wants a former champion back."""
    return {
        "reason": Param(
            type="string", minLength=1, maxLength=500, title="Reason", description="Recorded with the champion."
        ),
        "to": Param(
            None,  # the form asks for every value that may not be null
            type=["null", "string"],
            title="Run",
            description="The run whose model is to serve again; empty: the champion before this one.",
        ),
        "drill": Param(
            False,
            type="boolean",
            title="Drill",
            description="Come back to the champion at once, and tell how long each way took; nothing is rejected.",
        ),
    }


def _field(recipe: Recipe, name: str) -> Param:
    """The Param of one field of the recipe: its value, and the bounds of its rule."""
    *above, key = TRIGGER_PARAMS[name]
    section: Any = recipe
    for part in above:
        section = getattr(section, part)
    if isinstance(section, dict):
        value, bounds = section[key], dict(HYPERPARAMETERS[key].schema)
    else:
        value, bounds = getattr(section, key), limits(type(section), key)
    folded, title, description = FIELDS[name]
    words: dict[str, Any] = bounds | ({"section": folded} if folded else {})
    return Param(value, description=description or None, title=title, **words)


def _source(recipe: Recipe) -> Param:
    return Param(
        # Airflow stores and shows it: an address that is a secret (presigned) stays in the recipe.
        recipe.source if without_secrets(recipe.source) == recipe.source else None,
        type=["null", "string"],
        minLength=1,
        title="Images",
        description="A folder, s3://bucket/prefix, an archive, an https address of one, or bundled://digits; "
        "empty: the recipe's.",
    )


def _whether() -> dict[str, Param]:
    return {
        "force": Param(
            False, type="boolean", title="Force", description="Retrain although data, code and recipe are unchanged."
        )
    }


def _consents() -> dict[str, Param]:
    """What no recipe says, since it is meant for one run."""
    return {
        "accept_class_change": Param(
            False,
            type="boolean",
            title="Accept other classes",
            description="The data may have other classes than the model that serves: compared is on those both know.",
            section="Promotion",
        ),
        "first_promotion": Param(
            False,
            type="boolean",
            title="Promote without comparing",
            description="There is no champion that the candidate could be compared with, although an endpoint, an "
            "approved package or other classes say that there was one. The floors alone decide.",
            section="Promotion",
        ),
    }
