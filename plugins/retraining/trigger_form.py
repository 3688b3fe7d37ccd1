"""The trigger form: typed parameters of one run, with the recipe's values filled in.

What stands without a section is open in the UI; sections are folded. `recipe.TRIGGER_PARAMS` says where each goes.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from retraining.recipe import Recipe
from retraining.web_address import without_secrets


def trigger_form(recipe: Recipe) -> dict[str, Param]:
    """All parameters; `epochs` only where the recipe fixes it and does not search for it."""
    epochs = recipe.hyperparameters.get("epochs")
    return _open(recipe, epochs) | _tuning(recipe) | _training(recipe) | _promotion(recipe)


def _open(recipe: Recipe, epochs: Any) -> dict[str, Param]:
    form = {
        "force": Param(
            False, type="boolean", title="Force", description="Retrain although data, code and recipe are unchanged."
        ),
        "source": Param(
            # Airflow stores and shows it: an address that is a secret (presigned) stays in the recipe.
            recipe.source if without_secrets(recipe.source) == recipe.source else None,
            type=["null", "string"],
            minLength=1,
            title="Images",
            description="A folder, s3://bucket/prefix, an archive, an https address of one, or bundled://digits; "
            "empty: the recipe's.",
        ),
        "max_jobs": Param(
            recipe.tuning.max_jobs,
            type="integer",
            minimum=1,
            maximum=750,
            title="Tuning trials",
            description="Each is one training job.",
        ),
        "epochs": Param(
            epochs,
            type="integer",
            minimum=1,
            maximum=1000,
            title="Epochs",
            description="Of each trial and of the final training.",
        ),
        "approval": Param(
            recipe.approval,
            type="boolean",
            title="Ask a person",
            description="Wait for an approval before the model is registered and deployed.",
        ),
    }
    if epochs is None:
        del form["epochs"]
    return form


def _tuning(recipe: Recipe) -> dict[str, Param]:
    tuning, section = recipe.tuning, "Tuning"
    return {
        "strategy": Param(
            tuning.strategy, type="string", enum=["Bayesian", "Random"], title="Strategy", section=section
        ),
        "max_parallel_jobs": Param(
            tuning.max_parallel_jobs,
            type="integer",
            minimum=1,
            maximum=10,
            title="Trials at the same time",
            section=section,
        ),
        "early_stopping": Param(
            tuning.early_stopping,
            type="string",
            enum=["Off", "Auto"],
            title="Stop hopeless trials early",
            section=section,
        ),
    }


def _training(recipe: Recipe) -> dict[str, Param]:
    training, section = recipe.training, "Training"
    return {
        "training_instance_type": Param(
            training.instance_type, type="string", pattern=r"^ml\.", title="Instance type", section=section
        ),
        "max_runtime_seconds": Param(
            training.max_runtime_seconds,
            type="integer",
            minimum=60,
            maximum=432_000,
            title="Time limit of one job, in seconds",
            section=section,
        ),
        "spot": Param(training.spot, type="boolean", title="Use spot capacity", section=section),
        "training_instance_count": Param(
            training.instance_count,
            type="integer",
            minimum=1,
            maximum=64,
            title="Instances of one job",
            section=section,
        ),
        "distribution": Param(
            training.distribution,
            type="string",
            enum=["none", "torchrun"],
            title="Processes that train together",
            description="torchrun: one for each GPU of each instance; needed for several instances.",
            section=section,
        ),
        "keep_alive_seconds": Param(
            training.keep_alive_seconds,
            type="integer",
            minimum=0,
            maximum=21_600,
            title="Keep the machine warm, in seconds",
            description="Paid for. Of the final training only, and not with spot capacity.",
            section=section,
        ),
        "debugger": Param(
            recipe.debugger.mode,
            type="string",
            enum=["auto", "managed", "self_hosted", "off"],
            title="Debugger",
            description="managed: SageMaker's, closed to accounts that had not used it before 2026-07-30. self_hosted: "
            "the same rules by this package. auto: managed where that is possible.",
            section=section,
        ),
    }


def _promotion(recipe: Recipe) -> dict[str, Param]:
    promotion, section = recipe.promotion, "Promotion"
    return {
        "metric": Param(
            promotion.metric,
            type="string",
            enum=["accuracy", "macro_f1", "log_loss"],
            title="Metric that decides",
            section=section,
        ),
        "min_improvement": Param(
            promotion.min_improvement, type="number", title="Required gain over the champion", section=section
        ),
        "evidence": Param(
            promotion.evidence,
            type="string",
            enum=["point", "clearly_better", "not_clearly_worse"],
            title="How sure the gain must be",
            description="point: as measured. clearly_better: only where chance does not explain it. not_clearly_worse: "
            "unless the gain is clearly missed.",
            section=section,
        ),
        "min_value": Param(
            promotion.min_value, type=["number", "null"], title="Worst value that may serve", section=section
        ),
        "min_class_recall": Param(
            promotion.min_class_recall,
            type=["number", "null"],
            minimum=0,
            maximum=1,
            title="Least recall of each class",
            section=section,
        ),
        "accept_class_change": Param(
            False,
            type="boolean",
            title="Accept other classes",
            description="The data may have other classes than the model that serves.",
            section=section,
        ),
        "first_promotion": Param(
            False,
            type="boolean",
            title="Promote without comparing",
            description="There is no champion that the candidate could be compared with, although an endpoint, an "
            "approved package or other classes say that there was one. The floors alone decide.",
            section=section,
        ),
    }
