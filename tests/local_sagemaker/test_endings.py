"""What AWS refuses and a local server easily lets pass: stops of what has ended, models of nothing, odd manifests."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.local_sagemaker.harness import BUCKET, IMAGE, ROLE, Server, error, last_line, training_request
from tests.local_sagemaker.tuning import tuning_request


def ended(server: Server, request: dict[str, Any]) -> dict[str, Any]:
    server.sagemaker.create_training_job(**request)
    name = request["TrainingJobName"]
    return server.wait(lambda: server.sagemaker.describe_training_job(TrainingJobName=name), "TrainingJobStatus")


@pytest.fixture(scope="module")
def nothing_saved(server: Server) -> dict[str, Any]:
    return ended(server, training_request(server, "nothing-saved", "print('no model')"))


def test_stop_of_a_training_job_that_has_ended_is_refused(server: Server, nothing_saved: dict[str, Any]) -> None:
    said = error(lambda: server.sagemaker.stop_training_job(TrainingJobName="nothing-saved"))
    assert said["Code"] == "ValidationException"
    assert said["Message"] == "The request was rejected because the training job is in status Completed."


def test_stop_of_a_processing_job_that_has_ended_is_refused(server: Server) -> None:
    server.sagemaker.create_processing_job(
        ProcessingJobName="over",
        RoleArn=ROLE,
        AppSpecification={"ImageUri": IMAGE, "ContainerEntrypoint": ["true"]},
        ProcessingResources={"ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}},
    )
    server.wait(lambda: server.sagemaker.describe_processing_job(ProcessingJobName="over"), "ProcessingJobStatus")
    said = error(lambda: server.sagemaker.stop_processing_job(ProcessingJobName="over"))
    assert (said["Code"], "processing job is in status Completed" in said["Message"]) == ("ValidationException", True)


def test_job_that_is_being_stopped_may_be_stopped_again(server: Server) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    server.sagemaker.create_training_job(**training_request(server, "stop-twice", script))
    last_line(server, "stop-twice")  # before that, a stop ends it at once
    for _ in range(2):
        server.sagemaker.stop_training_job(TrainingJobName="stop-twice")
    job = server.wait(lambda: server.sagemaker.describe_training_job(TrainingJobName="stop-twice"), "TrainingJobStatus")
    assert job["TrainingJobStatus"] == "Stopped"


@pytest.mark.parametrize("compression", ["GZIP", "NONE"])
def test_script_that_saves_nothing_leaves_no_model(server: Server, compression: str) -> None:
    name = f"no-model-{compression.lower()}"
    output = {"S3OutputPath": f"s3://{BUCKET}/empty", "CompressionType": compression}
    job = ended(server, training_request(server, name, "pass", OutputDataConfig=output))
    assert job["TrainingJobStatus"] == "Completed"
    assert server.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"empty/{name}/").get("KeyCount") == 0
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    source = {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
    data = {"ModelDataUrl": uri} if compression == "GZIP" else {"ModelDataSource": {"S3DataSource": source}}
    said = error(
        lambda: server.sagemaker.create_model(
            ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE, **data}
        )
    )
    assert said == {"Code": "ValidationException", "Message": f"Could not find model data at {uri}."}


LISTED = """
import json, os
root = os.environ["SM_CHANNEL_TRAIN"]
found = sorted(os.path.relpath(os.path.join(d, n), root) for d, _, names in os.walk(root) for n in names)
open(os.environ["SM_OUTPUT_DIR"] + "/failure", "w").write(json.dumps(found))
raise SystemExit(1)
"""


@pytest.mark.parametrize(
    ("case", "prefix", "entries"),
    [
        ("markers", "/", ["a/", "a/x 1", "b/", "b/ü+2"]),
        ("twice", "/", ["a/x 1", "b/ü+2", "a/x 1"]),
        ("slashes", "", ["/a/x 1", "/b/ü+2"]),
    ],
)
def test_manifest_names_files_however_it_was_made(server: Server, case: str, prefix: str, entries: list[str]) -> None:
    for key in ("a/", "a/x 1", "b/", "b/ü+2"):
        server.s3.put_object(Bucket=BUCKET, Key=f"named/{key}", Body=b"x")
    head = {"prefix": f"s3://{BUCKET}/named{prefix}"}
    server.s3.put_object(Bucket=BUCKET, Key=f"{case}.manifest", Body=json.dumps([head, *entries]).encode())
    source = {"S3DataType": "ManifestFile", "S3Uri": f"s3://{BUCKET}/{case}.manifest"}
    channel = {"ChannelName": "train", "DataSource": {"S3DataSource": source}}
    job = ended(server, training_request(server, f"manifest-{case}", LISTED, InputDataConfig=[channel]))
    assert json.dumps(["a/x 1", "b/ü+2"]) in job["FailureReason"]


def test_stop_is_heard_while_a_long_manifest_is_fetched(server: Server) -> None:
    for number in range(300):
        server.s3.put_object(Bucket=BUCKET, Key=f"many/{number}", Body=b"x")
    rows = [{"prefix": f"s3://{BUCKET}/many/"}, *map(str, range(300))]
    server.s3.put_object(Bucket=BUCKET, Key="many.manifest", Body=json.dumps(rows).encode())
    source = {"S3DataType": "ManifestFile", "S3Uri": f"s3://{BUCKET}/many.manifest"}
    channels = [{"ChannelName": f"c{number}", "DataSource": {"S3DataSource": source}} for number in range(20)]
    server.sagemaker.create_training_job(**training_request(server, "long-manifest", "pass", InputDataConfig=channels))
    server.sagemaker.stop_training_job(TrainingJobName="long-manifest")
    began = time.monotonic()
    server.wait(lambda: server.sagemaker.describe_training_job(TrainingJobName="long-manifest"), "TrainingJobStatus")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("count", [33, 2**31 - 1])
def test_number_of_instances_is_refused_before_they_are_made(server: Server, count: int) -> None:
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": count, "VolumeSizeInGB": 1}
    request = training_request(server, "many-hosts", "pass", ResourceConfig=resources)
    began = time.monotonic()
    said = error(lambda: server.sagemaker.create_training_job(**request))
    assert (said["Code"], str(count) in said["Message"]) == ("ResourceLimitExceeded", True)
    assert time.monotonic() - began < 5


MANY = 2**31 - 1


@pytest.mark.parametrize(
    "asked",
    [
        {"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": MANY, "VolumeSizeInGB": 1}},
        {
            "ResourceConfig": {
                "InstanceGroups": [
                    {"InstanceGroupName": name, "InstanceType": "ml.m5.large", "InstanceCount": 20} for name in "ab"
                ],
                "VolumeSizeInGB": 1,
            }
        },
        {"ResourceLimits": {"MaxNumberOfTrainingJobs": MANY, "MaxParallelTrainingJobs": 1}},
        {"ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": MANY}},
    ],
    ids=["hosts", "groups", "trials", "at once"],
)
def test_numbers_of_a_search_are_refused_before_they_are_made(server: Server, asked: dict[str, Any]) -> None:
    request = tuning_request(server, "many-of-a-search")
    (member, value), began = next(iter(asked.items())), time.monotonic()
    part = request["TrainingJobDefinition" if member == "ResourceConfig" else "HyperParameterTuningJobConfig"]
    part[member] = value
    said = error(lambda: server.sagemaker.create_hyper_parameter_tuning_job(**request))
    assert said["Code"] == "ResourceLimitExceeded"
    assert time.monotonic() - began < 5


def test_environment_that_cannot_be_is_the_users_fault(server: Server) -> None:
    variables = {f"V{number}": "x" * 512 for number in range(48)}
    request = training_request(server, "large-environment", "pass", Environment=variables)
    request["HyperParameters"] |= {f"h{number:02}": "y" * 2500 for number in range(60)}
    job = ended(server, request)
    assert job["TrainingJobStatus"] == "Completed" or job["FailureReason"].startswith(("ClientError", "AlgorithmError"))


def test_endpoint_names_that_differ_in_capitals_are_one_name(server: Server) -> None:
    server.sagemaker.create_model(ModelName="named", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
    variant = {"VariantName": "v", "ModelName": "named", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    server.sagemaker.create_endpoint_config(EndpointConfigName="named", ProductionVariants=[variant])
    server.sagemaker.create_endpoint(EndpointName="Named", EndpointConfigName="named")
    said = error(lambda: server.sagemaker.create_endpoint(EndpointName="named", EndpointConfigName="named"))
    assert said["Code"] == "ValidationException"
    assert said["Message"].startswith("Cannot create already existing endpoint")
