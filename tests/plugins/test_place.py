"""A run begins only where its environment and its recipe say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from retraining.environment import ConfigurationError
from retraining.run import Run
from retraining.steps import preflight

RunOf = Callable[..., Run]


@pytest.mark.parametrize(
    ("variable", "instance_type", "complaint"),
    [
        ("TRAINING", "ml.t2.medium", r"no such machine for training and tuning jobs, only for endpoints\."),
        (
            "SERVING",
            "ml.m5.larg",
            r"no such machine for endpoints\. Did you mean ml\.m5\.\w*large\?.*Or unset",
        ),
        ("SERVING", "ml.c7g.large", r"batch transform, .* has no machine like it\. Name one as scoring\.instance_type"),
    ],
)
def test_machines_of_the_environment_exist(
    sagemaker: Any, run_of: RunOf, monkeypatch: pytest.MonkeyPatch, variable: str, instance_type: str, complaint: str
) -> None:
    monkeypatch.setenv(f"RETRAINING_{variable}_INSTANCE_TYPE", instance_type)
    with pytest.raises(
        ConfigurationError, match=f"RETRAINING_{variable}_INSTANCE_TYPE = '{instance_type}': .*{complaint}"
    ):
        preflight(run_of())


def test_the_connection_alone_may_name_the_region(
    sagemaker: Any, run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://?region_name=eu-west-1")
    run = run_of()
    assert (run.environment.region, run.sagemaker.meta.region_name) == ("eu-west-1", "eu-west-1")


def test_requests_go_where_names_say(sagemaker: Any, run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a platform sets as AWS_REGION nobody goes by; a connection of another region is refused by both names."""
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    run = run_of()
    assert run.environment.region == run.sagemaker.meta.region_name == "us-east-1"
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://?region_name=eu-west-1")
    with pytest.raises(ConfigurationError, match=r"AWS_DEFAULT_REGION is us-east-1, .* aws_default .* go to eu-west-1"):
        preflight(run_of())
