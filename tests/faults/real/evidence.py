"""What a run of the real stack left in the world, read through the same APIs that a person would ask."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import IN_PROGRESS, KINDS, is_missing
from stack.settings import BUCKET

RECIPE = "tiny"
TRIALS = 1
"""Of its search, as many as the recipe's max_jobs."""


@dataclass(frozen=True, kw_only=True)
class Job:
    kind: str
    name: str
    status: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Package:
    run: str
    """The name of the run that registered it."""
    status: str


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """As DescribeEndpoint tells it, with what its configuration needs to be there."""

    status: str
    config: str
    model: str | None
    """None where the configuration or its model was deleted."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """`before` and `champion`: champion.json as it was when the run began and is now; empty where there is none."""

    run: str
    state: str
    before: Mapping[str, Any]
    champion: Mapping[str, Any]
    report: Mapping[str, Any] | None
    endpoint: Endpoint | None
    jobs: Sequence[Job]
    """Of this run, with every trial; and of any other run what has not ended."""
    packages: Sequence[Package]
    golden: Sequence[tuple[str, str]] = ()
    """For each image that the champion is known to tell: its class, and what the endpoint answered."""
    missing: Sequence[str] = ()
    """Keys that something in the bucket names, and that are not there or have other bytes."""
    processes: Sequence[str] = ()
    """What runs on the machine for a job that has ended, or for no job."""
    served: Sequence[str] = ()
    """The configurations in the order in which the endpoint was seen on them since the run began."""


def champion(s3: Any) -> dict[str, Any]:
    return _document(s3, f"{RECIPE}/champion.json") or {}


def jobs(sagemaker: Any, run: str) -> Iterator[Job]:
    """Those of a run, and those of others that have not ended."""
    for kind, noun, listing, status in (
        ("tuning", "HyperParameterTuningJob", "list_hyper_parameter_tuning_jobs", "HyperParameterTuningJobStatus"),
        ("training", "TrainingJob", "list_training_jobs", "TrainingJobStatus"),
        ("processing", "ProcessingJob", "list_processing_jobs", "ProcessingJobStatus"),
        ("transform", "TransformJob", "list_transform_jobs", "TransformJobStatus"),
    ):
        for page in sagemaker.get_paginator(listing).paginate():
            for found in page[f"{noun}Summaries"]:
                name = found[f"{noun}Name"]
                if name.startswith(run) or found[status] in IN_PROGRESS:
                    told = getattr(sagemaker, KINDS[kind].describe)(**{KINDS[kind].name_key: name})
                    reason = str(told.get("FailureReason", ""))[:300]
                    yield Job(kind=kind, name=name, status=told[status], reason=reason)


def packages(sagemaker: Any) -> Iterator[Package]:
    try:
        pages = sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=f"retraining-{RECIPE}")
        for summary in (summary for page in pages for summary in page["ModelPackageSummaryList"]):
            told = sagemaker.describe_model_package(ModelPackageName=summary["ModelPackageArn"])
            yield Package(run=told["CustomerMetadataProperties"]["run_name"], status=told["ModelApprovalStatus"])
    except ClientError as error:
        if not (is_missing(error) or "does not exist" in str(error)):
            raise


def endpoint(sagemaker: Any, name: str) -> Endpoint | None:
    try:
        told = sagemaker.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    model = None
    try:
        config = sagemaker.describe_endpoint_config(EndpointConfigName=told["EndpointConfigName"])
        model = str(config["ProductionVariants"][0]["ModelName"])
        sagemaker.describe_model(ModelName=model)
    except ClientError as error:
        if not is_missing(error):
            raise
        model = None
    return Endpoint(status=told["EndpointStatus"], config=told["EndpointConfigName"], model=model)


def report(s3: Any, run: str) -> dict[str, Any] | None:
    return _document(s3, f"{RECIPE}/runs/{run}/report.json")


def golden(s3: Any, runtime: Any, endpoint: str, named: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The champion's golden images, asked of the endpoint."""
    for entry, label in dict(named.get("golden") or {}).items():
        body = s3.get_object(Bucket=BUCKET, Key=f"{RECIPE}/data/images/{entry}")["Body"].read()
        answer = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="image/png", Body=body)
        yield str(label), str(json.loads(answer["Body"].read())["label"])


def missing(s3: Any, named: Mapping[str, Any]) -> Iterator[str]:
    """What the champion, and every version of the data, name and the bucket has not, or has with other bytes."""
    there = {
        item["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{RECIPE}/")
        for item in page.get("Contents", [])
    }
    if named:
        artifact = str(named["model_data_url"]).removeprefix(f"s3://{BUCKET}/")
        if artifact not in there:
            yield artifact
        elif digest := (named.get("artifact") or {}).get("sha256"):
            body = s3.get_object(Bucket=BUCKET, Key=artifact)["Body"].read()
            if hashlib.sha256(body).hexdigest() != digest:
                yield f"{artifact} (its digest is another)"
    for key in sorted(there):
        if key.endswith(".manifest") and "/data/versions/" in key:
            prefix, *entries = json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
            root = prefix["prefix"].removeprefix(f"s3://{BUCKET}/")
            yield from (f"{root}{entry}, named in {key}" for entry in entries if f"{root}{entry}" not in there)
        if "/data/images/" in key and not _digest_fits(s3, key):
            yield f"{key} (its bytes are not those of its name)"


def _digest_fits(s3: Any, key: str) -> bool:
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return hashlib.sha256(body).hexdigest().startswith(key.rpartition("/")[2].partition(".")[0])


def settled(sagemaker: Any, run: str, within_s: float) -> list[Job]:
    """The jobs once none runs any more, or as they are after that time."""
    deadline = time.monotonic() + within_s
    while True:
        found = list(jobs(sagemaker, run))
        if time.monotonic() > deadline or not any(job.status in IN_PROGRESS for job in found):
            return found
        time.sleep(1)


def patiently(ask: Callable[[], Any], within_s: float = 120) -> Any:
    """The answer; asked again while a service that was killed is on its way back."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return ask()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _document(s3: Any, key: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()))
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise
