"""A run begins only where its environment and its recipe say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber

from retraining.environment import ConfigurationError, Environment
from retraining.plan import Plan
from retraining.run import Run
from retraining.steps import data as steps_data
from retraining.steps import list_images, preflight
from retraining.steps.place import require_buckets, require_side
from tests.plugins.release_run import Facts

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


AWS = {"RETRAINING_BUCKET": "b", "RETRAINING_ROLE_ARN": "arn:aws:iam::111122223333:role/r"}
KEYS = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}


@pytest.mark.parametrize("options", [{}, {"use_fips_endpoint": True}, {"use_dualstack_endpoint": True}], ids=str)
@pytest.mark.parametrize("region", ["us-east-1", "cn-north-1", "us-gov-west-1", "eusc-de-east-1", "us-iso-east-1"])
def test_every_partition_is_aws(region: str, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    address = boto3.client("sagemaker", region, config=Config(**options), **KEYS).meta.endpoint_url  # type: ignore[call-overload]
    require_side(Environment.of(AWS | {"AWS_DEFAULT_REGION": region}), address)
    local = Environment.of(AWS | {"AWS_DEFAULT_REGION": region, "RETRAINING_ENVIRONMENT": "local"})
    with pytest.raises(ConfigurationError, match="RETRAINING_ENVIRONMENT is local, but SageMaker's address is api"):
        require_side(local, address)


@pytest.mark.parametrize(
    ("regions", "changes", "complaint"),
    [
        (["eu-west-1"], {}, r"RETRAINING_BUCKET: bucket a-bucket is in eu-west-1, .* run in us-east-1; .* or set"),
        (
            ["us-east-1", "eu-west-1"],
            {"source": "s3://images/x", "sync": {"where": "auto"}},
            r"source: bucket images is in eu-west-1, .* Or let the worker verify: sync\.where: worker\.",
        ),
        (
            ["us-east-1", "eu-west-1"],
            {"pretrained": "s3://weights/a.pth", "hyperparameters": {"weights": "channel"}},
            r"pretrained: bucket weights is in eu-west-1",
        ),
        (["us-east-1"], {"source": "s3://images/x"}, ""),
    ],
)  # fmt: skip
def test_jobs_read_buckets_of_their_region(
    make_plan: Callable[..., Plan], regions: list[str], changes: dict[str, Any], complaint: str
) -> None:
    """The store of the tests has no regions, so the answers are AWS's, as botocore's stubber gives them."""
    plan = make_plan(**changes)
    plan = replace(plan, environment=replace(plan.environment, local=False))
    s3 = boto3.client("s3", "us-east-1", **KEYS)  # type: ignore[call-overload]
    with Stubber(s3) as stubbed:
        for region in regions:
            stubbed.add_response("head_bucket", {"BucketRegion": region})
        if not complaint:
            require_buckets(s3, plan)
        else:
            with pytest.raises(ConfigurationError, match=complaint):
                require_buckets(s3, plan)
        stubbed.assert_no_pending_responses()


def test_a_bucket_that_may_not_be_listed_tells_its_region(make_plan: Callable[..., Plan]) -> None:
    plan = make_plan(source="s3://images/x", sync={"where": "processing"})
    plan = replace(plan, environment=replace(plan.environment, local=False))
    s3 = boto3.client("s3", "us-east-1", **KEYS)  # type: ignore[call-overload]
    headers = {"HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}}
    with Stubber(s3) as stubbed:
        stubbed.add_response("head_bucket", {})
        stubbed.add_client_error("head_bucket", "403", http_status_code=403, response_meta=headers)
        with pytest.raises(ConfigurationError, match="source: bucket images is in eu-west-1"):
            require_buckets(s3, plan)


def test_preflight_refuses_a_container_that_cannot_verify(
    sagemaker: Any, run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `auto` the worker verifies instead, and no job is divided for."""
    monkeypatch.setattr(steps_data, "verification_obstacle", lambda images, environment: "another Pillow")
    with pytest.raises(ConfigurationError, match=r"sync\.where = 'processing': another Pillow"):
        preflight(run_of(source="s3://images/x", sync={"where": "processing"}))
    run = run_of(source="s3://images/x", sync={"where": "auto"})
    facts: Any = Facts(**{"preflight.return_value": preflight(run)})
    run.context["ti"] = facts
    assert list_images(run)["job"] is False
