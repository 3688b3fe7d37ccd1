"""Processing jobs that fail, cannot start, or are refused before they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.local_sagemaker.harness import BUCKET, IMAGE, ROLE, Server, error
from tests.local_sagemaker.processing import CODE, OUT, job, outputs, refusal, resources, run, source, target


def test_failing_script_is_quoted_and_leaves_no_output(server: Server) -> None:
    script = """
import pathlib, sys
pathlib.Path(sys.argv[1], "half").write_text("x")
pathlib.Path(sys.argv[1]).parents[1].joinpath("output/message").write_text("half done")
raise KeyError("no such class: 7")
"""
    answer = run(server, job(server, script, OUT))
    assert answer["ProcessingJobStatus"] == "Failed"
    assert answer["FailureReason"].startswith("AlgorithmError: See job logs for more information. exit code 1.")
    assert answer["FailureReason"].endswith("KeyError: 'no such class: 7'")
    assert answer["ExitMessage"] == "half done"
    assert outputs(server, answer["ProcessingJobName"]) == {}


def test_exit_message_that_is_no_text_fails_the_job(server: Server) -> None:
    script = "import pathlib, sys; pathlib.Path(sys.argv[1], '../../output/message').write_bytes(bytes([255, 254]))"
    answer = run(server, job(server, script, OUT))
    assert answer["FailureReason"] == "ClientError: /opt/ml/output/message is not UTF-8 encoded text"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": [source("data", f"s3://{BUCKET}/nothing/", f"{CODE}2")]}, "ClientError: No S3 objects found"),
        ({"inputs": [source("data", "s3://no-such-bucket/x", f"{CODE}2")]}, "NoSuchBucket"),
        ({"AppSpecification": {"ImageUri": "x/unknown:1", "ContainerEntrypoint": ["python"]}}, "images.toml"),
        ({"AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["no-such-program"]}}, "no-such-program"),
    ],
)  # fmt: skip
def test_job_that_cannot_start_says_why(server: Server, changes: dict[str, Any], said: str) -> None:
    answer = run(server, job(server, "print(1)", **changes))
    assert answer["ProcessingJobStatus"] == "Failed"
    assert said in answer["FailureReason"]


def test_an_environment_that_no_process_can_have_is_refused(server: Server) -> None:
    """At the call: a job that could only fail is not begun."""
    answer = refusal(server.sagemaker.create_processing_job, **job(server, "print(1)", Environment={"A": "nul\0"}))
    assert answer["Code"] == "ValidationException"
    assert (
        "at 'environment.a' failed to satisfy constraint: Member must not contain the character NUL"
        in answer["Message"]
    )


def test_isolation_that_cannot_be_kept_is_refused(make_server: Callable[..., Server]) -> None:
    server = make_server("--isolation", "off")
    request = job(server, "print(1)", NetworkConfig={"EnableNetworkIsolation": True})
    answer = refusal(server.sagemaker.create_processing_job, **request)
    assert "--relax-network-isolation" in answer["Message"]


def inputs(**changes: Any) -> dict[str, Any]:
    item: dict[str, Any] = source("data", "s3://b/x", CODE)
    item["S3Input"] |= changes.pop("S3Input", {})
    return {"ProcessingInputs": [item | changes]}


REFUSED: list[tuple[dict[str, Any], str]] = [
    (inputs(S3Input={"LocalPath": "/etc"}), "LocalPath '/etc' must be below /opt/ml/processing/"),
    (inputs(S3Input={"LocalPath": "/opt/ml/processing/../../x"}), "must be below /opt/ml/processing/"),
    (inputs(S3Input={"LocalPath": "data"}), "LocalPath 'data' must be below"),
    (inputs(S3Input={"S3InputMode": "Pipe"}), "S3InputMode Pipe does not exist here"),
    (inputs(S3Input={"S3CompressionType": "Gzip"}), "Gzip can only be used with S3InputMode Pipe"),
    (inputs(S3Input={"S3Uri": "https://example.com/x"}), "is not an S3 URI"),
    (inputs(DatasetDefinition={}), "DatasetDefinition asks Athena or Redshift"),
    ({"ProcessingInputs": [{"InputName": "x"}]}, "an S3Input must be given"),
    ({"ProcessingInputs": [source("x", "s3://b/x", CODE)] * 2}, "InputNames must be unique, got x, x"),
    (
        {"ProcessingInputs": [{"InputName": "x", "S3Input": {"S3Uri": "s3://b/x", "S3DataType": "S3Prefix"}}]},
        "LocalPath is required unless AppManaged is true",
    ),
    ({"ProcessingOutputConfig": {"Outputs": [target("x", "/tmp/out")]}}, "LocalPath '/tmp/out' must be below"),
    (
        {"ProcessingOutputConfig": {"Outputs": [{"OutputName": "f", "FeatureStoreOutput": {"FeatureGroupName": "g"}}]}},
        "there is no feature store here",
    ),
    ({"ProcessingOutputConfig": {"Outputs": [target("x"), target("x")]}}, "OutputNames must be unique"),
    (resources(), "either InstanceType or InstancePreferences"),
    (resources(InstanceType="ml.m5.large", InstanceCount=17), "at most 16 hosts"),
    (resources(InstanceType="ml.m5.large", SelectedInstanceCount=1), "cannot be requested"),
    ({"AppSpecification": {"ImageUri": IMAGE}}, "ContainerEntrypoint is required"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_cannot_be_done_is_refused_before_it_starts(server: Server, changes: dict[str, Any], said: str) -> None:
    answer = refusal(server.sagemaker.create_processing_job, **job(server, "print(1)") | changes)
    assert answer["Code"] == "ValidationException"
    assert said in answer["Message"]


@pytest.mark.parametrize(
    ("member", "words"), [("ContainerArguments", ["--name", ""]), ("ContainerEntrypoint", ["python3", ""])]
)
def test_empty_word_of_a_command_is_refused_in_awss_words(server: Server, member: str, words: list[str]) -> None:
    program = {"ImageUri": IMAGE, "ContainerEntrypoint": ["true"], member: words}
    said = error(lambda: server.sagemaker.create_processing_job(**plain("empty-word", AppSpecification=program)))
    assert said["Code"] == "ValidationException"
    assert said["Message"] == (
        f"Found null or empty string in {member} at index 1. ContainerArguments and ContainerEntrypoint may not "
        "contain null or empty strings."
    )


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (["/opt/ml/processing/a"], ["/opt/ml/processing/a"]),
        (["/opt/ml/processing/a"], ["/opt/ml/processing//a/"]),
        (["/opt/ml/processing/a", "/opt/ml/processing/./a"], []),
        ([], ["/opt/ml/processing/a", "/opt/ml/processing/a"]),
    ],
)
def test_local_path_is_used_once(server: Server, inputs: list[str], outputs: list[str]) -> None:
    uri = "s3://bucket/place"
    given = [
        {"InputName": f"i{n}", "S3Input": {"S3Uri": uri, "S3DataType": "S3Prefix", "LocalPath": path}}
        for n, path in enumerate(inputs)
    ]
    made = [
        {"OutputName": f"o{n}", "S3Output": {"S3Uri": uri, "S3UploadMode": "EndOfJob", "LocalPath": path}}
        for n, path in enumerate(outputs)
    ]
    request = plain("one-path", ProcessingInputs=given, ProcessingOutputConfig={"Outputs": made})
    said = error(lambda: server.sagemaker.create_processing_job(**request))
    assert said["Code"] == "ValidationException"
    assert "LocalPath '/opt/ml/processing/a' is used by Processing" in said["Message"]


def plain(name: str, **changes: Any) -> dict[str, Any]:
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    return {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["true"]},
        "ProcessingResources": {"ClusterConfig": cluster},
    } | changes
