"""Experiment tracking: where the training script reports its epochs to, beside SageMaker.

Becomes environment variables that W&B and MLflow know themselves; `ml/training/tracking.py` reads them. Keys are
never part of it: a recipe lies in a repository, and whoever may describe a job sees its environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from retraining.recipe.refusal import NO_SECRETS, RecipeError, require
from retraining.recipe.rules import SECTION, Matching

MAX_VALUE = 512
"""Characters of one environment variable of a job, SageMaker's limit."""


@dataclass(frozen=True, kw_only=True)
class Wandb:
    """Weights & Biases. Offline runs need no key; they come with the job's output, and `wandb sync` uploads them."""

    __pydantic_config__ = SECTION

    # What W&B itself refuses in a project's name, hours later.
    project: Annotated[
        str, Matching(r"[^/\\#?%:\s][^/\\#?%:\n]{0,127}", r"must be 1 to 128 characters without / \ # ? % :")
    ]
    entity: Annotated[str, Matching(r"[\w-]{1,128}", "must be a user's or a team's name")] | None = None
    mode: Literal["offline", "online"] = "offline"


@dataclass(frozen=True, kw_only=True)
class Mlflow:
    """An MLflow server, a SageMaker one (its ARN), or a folder of the job (file:…)."""

    __pydantic_config__ = SECTION

    tracking_uri: str
    experiment: str = ""
    """The recipe's name when it is left out."""

    def __post_init__(self) -> None:
        given = urlsplit(self.tracking_uri)
        if given.password or (given.username and given.scheme.startswith("http")):
            raise RecipeError("tracking_uri", "…", "holds a user or a password", NO_SECRETS)
        require(
            given.scheme in ("https", "http", "file", "arn") and len(self.tracking_uri) <= MAX_VALUE,
            "tracking_uri",
            self.tracking_uri,
            "must begin with https:, http:, file: or arn:, and have at most 512 characters",
        )
        require(len(self.experiment) <= 250, "experiment", self.experiment, "must have at most 250 characters")


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Neither, one or both; what is left out costs a job nothing."""

    __pydantic_config__ = SECTION

    wandb: Wandb | None = None
    mlflow: Mlflow | None = None

    def environment(self, recipe_name: str, run_name: str | None) -> dict[str, str]:
        """The variables of a job. Jobs of one run are a group in W&B.

        Without `run_name` for the trials of a search: their environment has to be the same every week for one search
        to begin from another. They are told by their names which group they belong to.
        """
        variables: dict[str, str] = {}
        if self.wandb is not None:
            variables |= {"WANDB_PROJECT": self.wandb.project, "WANDB_MODE": self.wandb.mode}
            variables |= {"WANDB_RUN_GROUP": run_name} if run_name else {}
            variables |= {"WANDB_ENTITY": self.wandb.entity} if self.wandb.entity else {}
        if self.mlflow is not None:
            variables["MLFLOW_TRACKING_URI"] = self.mlflow.tracking_uri
            variables["MLFLOW_EXPERIMENT_NAME"] = self.mlflow.experiment or recipe_name
        return variables
