"""Where a run takes place: read from the process environment when a task runs, never when a DAG is parsed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from retraining.account_rules import NO_RULES, AccountRules

AWS_CONN_ID = "aws_default"
REPOSITORY = Path(__file__).resolve().parents[2]
IN_WHEEL = Path(__file__).resolve().parent / "shipped"
"""Only there where the package was installed as a wheel."""


def shipped(folder: str) -> Path:
    """`ml` or `dags` as this package was shipped with them: beside plugins/ in a clone, within it in a wheel."""
    return (IN_WHEEL if IN_WHEEL.is_dir() else REPOSITORY) / folder


class ConfigurationError(ValueError):
    """The environment cannot be used; the message says which variable to set."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One place to run: AWS, or a SageMaker-compatible server on this machine."""

    local: bool
    bucket: str
    role_arn: str
    region: str
    source_dir: Path
    bucket_owner: str | None = None
    """12-digit account that must own the bucket; not checked when unset."""
    endpoint_url: str | None = None
    """Where the variables say that the SageMaker API is: a local server, or on AWS a VPC endpoint."""
    jobs_url: str | None = None
    """Where a browser finds the pages of that server, if it must not go where Airflow does."""
    shell: str | None = None
    """What a person types before `python -m retraining …` to have it run where Airflow does."""
    training_image: str | None = None
    serving_image: str | None = None
    processing_image: str | None = None
    """Of the jobs that verify images and evaluate rules."""
    training_instance_type: str | None = None
    serving_instance_type: str | None = None
    allow_unpatched_images: bool = False
    """Whether runs on AWS may use container images that AWS no longer patches."""
    poll_seconds: float = 30
    account_rules: AccountRules = NO_RULES

    @property
    def account(self) -> str:
        """The 12-digit account that the role belongs to; preflight checks that the credentials do too."""
        return self.role_arn.split(":")[4]

    @property
    def partition(self) -> str:
        """Of AWS that the role belongs to: aws, aws-cn, aws-us-gov, …"""
        return self.role_arn.split(":")[1]

    @classmethod
    def of(cls, environ: Mapping[str, str], else_region: Callable[[], str | None] = lambda: None) -> Environment:
        """The environment described by RETRAINING_* and AWS_* variables; ConfigurationError names what is missing.

        The region is that of AWS_DEFAULT_REGION, which boto3 goes by too (and not by AWS_REGION), or, where that is not
        set, of `else_region`.
        """

        def need(name: str, example: str) -> str:
            if value := environ.get(name):
                return value
            raise ConfigurationError(f"{name} is not set. Set it on every Airflow process, for example to {example}.")

        def need_region() -> str:
            if region := environ.get("AWS_DEFAULT_REGION") or else_region():
                return region
            other = environ.get("AWS_REGION")
            return need("AWS_DEFAULT_REGION", f"{other}; boto3 does not read AWS_REGION" if other else "us-east-1")

        kind = environ.get("RETRAINING_ENVIRONMENT", "aws")
        if kind not in ("local", "aws"):
            raise ConfigurationError(f"RETRAINING_ENVIRONMENT = {kind!r}: must be 'local' or 'aws'.")
        role_arn = need("RETRAINING_ROLE_ARN", "arn:aws:iam::111122223333:role/sagemaker")
        if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/.+", role_arn):
            raise ConfigurationError(f"RETRAINING_ROLE_ARN = {role_arn!r}: must be the full ARN of an IAM role.")
        try:
            account_rules = AccountRules.of(environ)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        return cls(
            local=kind == "local",
            bucket=need("RETRAINING_BUCKET", "my-retraining-bucket"),
            role_arn=role_arn,
            region=need_region(),
            source_dir=Path(environ.get("RETRAINING_SOURCE_DIR") or shipped("ml")),
            bucket_owner=environ.get("RETRAINING_BUCKET_OWNER") or None,
            endpoint_url=environ.get("AWS_ENDPOINT_URL_SAGEMAKER") or environ.get("AWS_ENDPOINT_URL") or None,
            jobs_url=environ.get("RETRAINING_JOBS_URL") or None,
            shell=environ.get("RETRAINING_SHELL") or None,
            training_image=environ.get("RETRAINING_TRAINING_IMAGE") or None,
            serving_image=environ.get("RETRAINING_SERVING_IMAGE") or None,
            processing_image=environ.get("RETRAINING_PROCESSING_IMAGE") or None,
            training_instance_type=environ.get("RETRAINING_TRAINING_INSTANCE_TYPE") or None,
            serving_instance_type=environ.get("RETRAINING_SERVING_INSTANCE_TYPE") or None,
            allow_unpatched_images=environ.get("RETRAINING_ALLOW_UNPATCHED_IMAGES", "0") not in ("", "0"),
            poll_seconds=poll_seconds(environ),
            account_rules=account_rules,
        )


def poll_seconds(environ: Mapping[str, str]) -> float:
    """Seconds between two looks at a running job; a local server costs nothing to ask."""
    local = environ.get("RETRAINING_ENVIRONMENT") == "local"
    return float(environ.get("RETRAINING_POLL_SECONDS") or (2 if local else 30))


def dags_folder(environ: Mapping[str, str]) -> Path:
    """Airflow's, as far as the environment tells; in a clone dags/."""
    if said := environ.get("AIRFLOW__CORE__DAGS_FOLDER"):
        return Path(said)
    home = Path(environ.get("AIRFLOW_HOME") or Path.home() / "airflow")
    return home / "dags" if IN_WHEEL.is_dir() else shipped("dags")


def recipe_folders(environ: Mapping[str, str], dags_folder: Path) -> list[Path]:
    """The folders that hold recipes: dags/recipes, and those of RETRAINING_RECIPES (separated like PATH)."""
    import os

    extra = environ.get("RETRAINING_RECIPES", "")
    return [dags_folder / "recipes", *(Path(folder) for folder in extra.split(os.pathsep) if folder)]
