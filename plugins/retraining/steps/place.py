"""Is a run where its environment and its recipe say? Asked before anything is paid for."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlparse

from botocore.exceptions import ClientError
from botocore.loaders import Loader

from retraining.dataset.sources.bucket import ObjectSource
from retraining.environment import AWS_CONN_ID, ConfigurationError, Environment
from retraining.plan import Plan
from retraining.recipe.instance_types import Kind, problem


def require_side(environment: Environment, address: str) -> None:
    """ConfigurationError where a run that is meant for this machine would reach AWS, or one for AWS would not.

    `address`: the URL that SageMaker's client calls. AWS's partitions are those that botocore knows.
    """
    host = urlparse(address).hostname or ""
    outputs = [partition["outputs"] for partition in Loader().load_data("partitions")["partitions"]]
    suffixes = tuple(f".{each[name]}" for each in outputs for name in ("dnsSuffix", "dualStackDnsSuffix"))
    if environment.local == host.endswith(suffixes):
        where = "local" if environment.local else "aws"
        raise ConfigurationError(
            f"RETRAINING_ENVIRONMENT is {where}, but SageMaker's address is {host}. "
            "Set or unset AWS_ENDPOINT_URL (or the endpoint of the Airflow connection aws_default) accordingly."
        )


def require_region(environment: Environment, requests: str) -> None:
    """ConfigurationError where requests go to another region than jobs, images and links are named for."""
    if environment.region != requests:
        raise ConfigurationError(
            f"AWS_DEFAULT_REGION is {environment.region}, but by the Airflow connection {AWS_CONN_ID} requests go to "
            f"{requests}. Set both to one region, or unset one of them; `python -m retraining` reads the variable."
        )


def require_buckets(s3: Any, plan: Plan) -> None:
    """ConfigurationError where the bucket cannot be used, or a job would be given objects of another region.

    SageMaker refuses those, when the data has been uploaded ("must be in the same AWS region as your training job").
    """
    environment, recipe = plan.environment, plan.recipe
    owner = {"ExpectedBucketOwner": environment.bucket_owner} if environment.bucket_owner else {}
    try:
        answer = s3.head_bucket(Bucket=environment.bucket, **owner)
    except ClientError as error:
        raise ConfigurationError(
            f"Bucket {environment.bucket} cannot be used ({error.response['Error']['Code']}). Create it, grant "
            "s3:ListBucket on it, or correct RETRAINING_BUCKET and RETRAINING_BUCKET_OWNER."
        ) from error
    if environment.local:  # whose store has no regions
        return
    _require_home(environment, environment.bucket, "RETRAINING_BUCKET", answer)
    inputs = {"source": recipe.source if recipe.may_verify_in_a_job else None, "pretrained": recipe.pretrained}
    for key, address in inputs.items():
        if address and (bucket := ObjectSource.of(address).bucket) != environment.bucket:
            try:
                answer = s3.head_bucket(Bucket=bucket)
            except ClientError as error:  # which tells the region too; whether it can be read is asked elsewhere
                answer = error.response
            _require_home(environment, bucket, key, answer)


def _require_home(environment: Environment, bucket: str, key: str, answer: Any) -> None:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = answer.get("BucketRegion") or headers.get("x-amz-bucket-region")
    if region and region != environment.region:
        raise ConfigurationError(
            f"{key}: bucket {bucket} is in {region}, and the jobs run in {environment.region}; SageMaker reads only "
            "buckets of its own region. Name a bucket there"
            + (", or set AWS_DEFAULT_REGION to the bucket's region." if key == "RETRAINING_BUCKET" else ".")
            + (" Or let the worker verify: sync.where: worker." if key == "source" else "")
        )


def require_machines(plan: Plan) -> None:
    """ConfigurationError for machines that the environment has put in the place of the recipe's, and AWS has not."""
    environment, also = plan.environment, plan.recipe.new_instance_types
    given: tuple[tuple[str, str | None, Kind], ...] = (
        ("TRAINING", environment.training_instance_type, "training"),
        ("SERVING", environment.serving_instance_type, "hosting"),
    )
    for job, instance_type, kind in given:
        if instance_type and (found := problem(instance_type, kind, also)):
            rule, way_out = found
            raise ConfigurationError(
                f"RETRAINING_{job}_INSTANCE_TYPE = {instance_type!r}: {rule}. {way_out} Or unset the variable, and the "
                "recipe's is taken."
            )
    if problem(plan.scoring_instance_type, "transform", also):
        raise ConfigurationError(
            f"RETRAINING_SERVING_INSTANCE_TYPE = {plan.serving_instance_type!r}: batch transform, which scores the "
            "test set, has no machine like it. Name one as scoring.instance_type in the recipe, or take another type."
        )
