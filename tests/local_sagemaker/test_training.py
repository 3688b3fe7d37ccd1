"""Training jobs: what a script finds, what a client sees, how a job ends."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
from collections.abc import Callable
from typing import Any

import botocore.exceptions
import pytest

from tests.local_sagemaker.harness import BUCKET, Server, error, has_ended, last_line, training_request
from tests.local_sagemaker.tuning import tuning_request

PRINT_EVERYTHING = """
import json, os, pathlib, sys
model = pathlib.Path(os.environ["SM_MODEL_DIR"])
channel = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"])
(model / "seen.json").write_text(json.dumps({
    "argv": sys.argv[1:], "hps": json.loads(os.environ["SM_HPS"]), "cwd": os.getcwd(),
    "files": sorted(str(p.relative_to(channel)) for p in channel.rglob("*") if p.is_file()),
    "threads": os.environ["OMP_NUM_THREADS"], "aws": "AWS_ACCESS_KEY_ID" in os.environ,
}))
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "history.txt").write_text("done")
for epoch in (1, 2):
    print(f"epoch={epoch} validation:accuracy={0.5 + epoch / 10}")
"""


def run(server: Server, request: dict[str, Any]) -> dict[str, Any]:
    server.sagemaker.create_training_job(**request)
    return wait(server, request["TrainingJobName"])


def wait(server: Server, name: str) -> dict[str, Any]:
    return server.wait(lambda: server.sagemaker.describe_training_job(TrainingJobName=name), "TrainingJobStatus")


def archive(server: Server, uri: str) -> tarfile.TarFile:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return tarfile.open(fileobj=io.BytesIO(server.s3.get_object(Bucket=bucket, Key=key)["Body"].read()))


def channel(name: str, uri: str, kind: str = "S3Prefix") -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": uri}}}


@pytest.fixture(scope="module")
def finished(server: Server) -> dict[str, Any]:
    """One job that uses most of the contract, run once."""
    for key in ("data/a/1.txt", "data/b/2.txt", "data/unlisted.txt"):
        server.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    manifest = [{"prefix": f"s3://{BUCKET}/data/"}, "a/1.txt", "b/2.txt"]
    server.s3.put_object(Bucket=BUCKET, Key="train.manifest", Body=json.dumps(manifest).encode())
    request = training_request(server, "Whole-Contract", PRINT_EVERYTHING)
    request["HyperParameters"] |= {"epochs": "2", "lr": "0.01", "name": "some text", "sagemaker_region": "us-east-1"}
    request["InputDataConfig"] = [channel("train", f"s3://{BUCKET}/train.manifest", "ManifestFile")]
    request["AlgorithmSpecification"]["MetricDefinitions"] = [
        {"Name": "validation:accuracy", "Regex": "validation:accuracy=([0-9.]+)"}
    ]
    return run(server, request)


def seen(server: Server, job: dict[str, Any]) -> dict[str, Any]:
    member = archive(server, job["ModelArtifacts"]["S3ModelArtifacts"]).extractfile("seen.json")
    assert member is not None
    return json.loads(member.read())


def test_hyperparameters_reach_the_script_sorted_and_without_sagemakers_own(server: Server, finished: Any) -> None:
    assert seen(server, finished)["argv"] == ["--epochs", "2", "--lr", "0.01", "--name", "some text"]
    assert seen(server, finished)["hps"] == {"epochs": 2, "lr": 0.01, "name": "some text"}


def test_manifest_channel_holds_exactly_the_listed_objects(server: Server, finished: Any) -> None:
    assert seen(server, finished)["files"] == ["a/1.txt", "b/2.txt"]


def test_script_gets_role_credentials_and_its_share_of_threads(server: Server, finished: Any) -> None:
    assert seen(server, finished)["aws"] is True
    assert 1 <= int(seen(server, finished)["threads"]) <= len(os.sched_getaffinity(0))


def test_metrics_are_the_last_values_printed(finished: Any) -> None:
    (metric,) = finished["FinalMetricDataList"]
    assert (metric["MetricName"], round(metric["Value"], 4)) == ("validation:accuracy", 0.7)


def test_output_data_is_archived_beside_the_model(server: Server, finished: Any) -> None:
    uri = finished["ModelArtifacts"]["S3ModelArtifacts"].replace("model.tar.gz", "output.tar.gz")
    assert archive(server, uri).getnames() == ["history.txt"]


def test_transitions_tell_the_story_with_times(finished: Any) -> None:
    story = finished["SecondaryStatusTransitions"]
    assert [entry["Status"] for entry in story] == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all(entry["EndTime"] >= entry["StartTime"] for entry in story)
    assert finished["BillableTimeInSeconds"] >= 1


def test_lines_are_read_back_from_cloudwatch_logs(server: Server, finished: Any) -> None:
    group = "/aws/sagemaker/TrainingJobs"
    streams = server.logs.describe_log_streams(
        logGroupName=group, logStreamNamePrefix="Whole-Contract/", orderBy="LogStreamName", limit=1
    )["logStreams"]
    read = {"logGroupName": group, "logStreamName": streams[0]["logStreamName"], "startFromHead": True}
    answer = server.logs.get_log_events(**read, limit=1)
    rest = server.logs.get_log_events(**read, nextToken=answer["nextForwardToken"])
    end = server.logs.get_log_events(**read, nextToken=rest["nextForwardToken"])
    messages = [event["message"] for event in answer["events"] + rest["events"]]
    assert messages == ["epoch=1 validation:accuracy=0.6", "epoch=2 validation:accuracy=0.7"]
    assert end["events"] == []
    assert end["nextForwardToken"] == rest["nextForwardToken"]


def test_failing_script_is_quoted_in_the_failure_reason(server: Server) -> None:
    job = run(server, training_request(server, "raises", "raise KeyError('no such class: 7')"))
    assert job["TrainingJobStatus"] == "Failed"
    assert "AlgorithmError" in job["FailureReason"]
    assert "KeyError: 'no such class: 7'" in job["FailureReason"]
    assert job["FailureReason"].endswith("exit code: 1")


def test_failure_file_of_the_script_becomes_the_reason(server: Server) -> None:
    script = """
import os, sys
open(os.path.join(os.environ["SM_OUTPUT_DIR"], "failure"), "w").write("lr=-1: must be positive")
sys.exit(3)
"""
    job = run(server, training_request(server, "failure-file", script))
    assert job["FailureReason"] == "AlgorithmError: lr=-1: must be positive, exit code: 3"


def test_stop_ends_the_whole_process_group_and_keeps_the_model(server: Server) -> None:
    script = """
import os, pathlib, signal, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
model = pathlib.Path(os.environ["SM_MODEL_DIR"])
def stop(*_):
    (model / "saved").write_text("at stop")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("child", child.pid, flush=True)
time.sleep(600)
"""
    server.sagemaker.create_training_job(**training_request(server, "stopped", script))
    pid = int(last_line(server, "stopped").split()[1])
    server.sagemaker.stop_training_job(TrainingJobName="stopped")
    job = wait(server, "stopped")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert archive(server, job["ModelArtifacts"]["S3ModelArtifacts"]).getnames() == ["saved"]
    assert has_ended(pid)


def test_script_that_ignores_sigterm_is_killed_after_the_grace(server: Server) -> None:
    script = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\ntime.sleep(600)"
    )
    server.sagemaker.create_training_job(**training_request(server, "deaf", script))
    last_line(server, "deaf")
    server.sagemaker.stop_training_job(TrainingJobName="deaf")
    assert wait(server, "deaf")["TrainingJobStatus"] == "Stopped"


def test_job_over_its_runtime_is_stopped_as_that(server: Server) -> None:
    request = training_request(server, "slow", "import time; time.sleep(600)")
    request["StoppingCondition"] = {"MaxRuntimeInSeconds": 1}
    job = run(server, request)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


@pytest.mark.parametrize(
    ("uri", "kind", "said"),
    [
        (f"s3://{BUCKET}/nothing/", "S3Prefix", f'permissions on bucket "{BUCKET}".'),
        (f"s3://{BUCKET}/nothing.manifest", "ManifestFile", f'permissions on bucket "{BUCKET}".'),
        ("s3://no-such-bucket/x/", "S3Prefix", "Error message from S3: "),
    ],
)
def test_missing_data_is_refused_at_creation(server: Server, uri: str, kind: str, said: str) -> None:
    """As on AWS, in its words: no job is there afterwards that somebody would wait for."""
    given = [channel("train", uri, kind)]
    tuning = tuning_request(server, "no-data")
    tuning["TrainingJobDefinition"]["InputDataConfig"] = given
    for create, request in (
        (server.sagemaker.create_training_job, training_request(server, "no-data", "", InputDataConfig=given)),
        (server.sagemaker.create_hyper_parameter_tuning_job, tuning),
    ):
        problem = error(lambda create=create, request=request: create(**request))  # type: ignore[misc]
        assert problem["Code"] == "ValidationException"
        assert problem["Message"].startswith(f'No S3 objects found under S3 URL "{uri}" given in input data source. ')
        assert said in problem["Message"]
    assert server.sagemaker.list_training_jobs(NameContains="no-data")["TrainingJobSummaries"] == []


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("InputDataConfig", [channel("train", f"s3://{BUCKET}/marked/")], "No S3 objects found"),
        ("AlgorithmSpecification", {"TrainingImage": "x/unknown:1", "TrainingInputMode": "File"}, "images.toml"),
        ("HyperParameters", {"sagemaker_program": "train.py"}, "not in the source archive"),
    ],
)
def test_job_that_cannot_start_says_why(server: Server, member: str, value: Any, said: str) -> None:
    server.s3.put_object(Bucket=BUCKET, Key="marked/")  # what a console makes of a folder: listed, and no file
    request = training_request(server, f"cannot-{abs(hash((member, said)))}", "print(1)", **{member: value})
    job = run(server, request)
    assert job["TrainingJobStatus"] == "Failed"
    assert said in job["FailureReason"]


def test_files_that_a_running_job_renames_do_not_disturb_it(server: Server) -> None:
    """smdebug writes each event file under a temporary name; the copy to S3 runs beside it."""
    script = """
import json, os, pathlib, time
config = json.loads(pathlib.Path(os.environ["SMDEBUG_CONFIG_FILE_PATH"]).read_text())
folder = pathlib.Path(config["LocalPath"], "events")
folder.mkdir(parents=True)
end = time.monotonic() + 7
count = 0
while time.monotonic() < end:
    temporary = folder / f"{count}.tmp"
    temporary.write_text("x")
    temporary.rename(folder / str(count))
    count += 1
    time.sleep(0.002)
pathlib.Path(os.environ["SM_MODEL_DIR"], "count").write_text(str(count))
"""
    request = training_request(server, "renames", script)
    request["DebugHookConfig"] = {"S3OutputPath": f"s3://{BUCKET}/jobs"}
    job = run(server, request)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    member = archive(server, job["ModelArtifacts"]["S3ModelArtifacts"]).extractfile("count")
    assert member is not None
    pages = server.s3.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Prefix="jobs/renames/debug-output/events/"
    )
    names = {item["Key"].rpartition("/")[2] for page in pages for item in page["Contents"]}
    assert names == {str(number) for number in range(int(member.read()))}


def test_name_is_taken_once_and_for_ever(server: Server, finished: Any) -> None:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        server.sagemaker.create_training_job(**training_request(server, "Whole-Contract", "print(1)"))
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"


def test_unknown_job_is_a_validation_exception(server: Server) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="Requested resource not found") as caught:
        server.sagemaker.describe_training_job(TrainingJobName="nobody")
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_list_pages_through_all_jobs_newest_first(server: Server, finished: Any) -> None:
    pages = server.sagemaker.get_paginator("list_training_jobs").paginate(PaginationConfig={"PageSize": 2})
    jobs = [job for page in pages for job in page["TrainingJobSummaries"]]
    times = [job["CreationTime"] for job in jobs]
    assert len(jobs) > 2
    assert times == sorted(times, reverse=True)


def test_jobs_survive_a_restart_and_a_running_one_is_adopted_after_kill_9(make_server: Callable[..., Server]) -> None:
    server = make_server()
    script = """
import os, pathlib, time
print("validation:accuracy=0.25", flush=True)
time.sleep(4)
pathlib.Path(os.environ["SM_MODEL_DIR"], "m").write_text("x")
print("validation:accuracy=0.75", flush=True)
"""
    request = training_request(server, "adopted", script)
    request["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "a", "Regex": "validation:accuracy=([0-9.]+)"}]
    run(server, training_request(server, "before", "print(1)"))
    server.sagemaker.create_training_job(**request)
    last_line(server, "adopted")
    server.stop(signal.SIGKILL)
    server.start()
    assert server.sagemaker.describe_training_job(TrainingJobName="before")["TrainingJobStatus"] == "Completed"
    job = wait(server, "adopted")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["FinalMetricDataList"][0]["Value"] == 0.75
    assert archive(server, job["ModelArtifacts"]["S3ModelArtifacts"]).getnames() == ["m"]


def test_shutdown_ends_jobs_and_says_so(make_server: Callable[..., Server]) -> None:
    server = make_server()
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    server.sagemaker.create_training_job(**training_request(server, "cut-off", script))
    pid = int(last_line(server, "cut-off"))
    server.stop()
    assert has_ended(pid)
    server.start()
    assert "shut down" in wait(server, "cut-off")["FailureReason"]


def test_second_server_on_one_folder_is_refused(make_server: Callable[..., Server]) -> None:
    server = make_server()
    second = Server(server.root, server.port + 1, server.s3_endpoint, server.images)
    with pytest.raises(AssertionError, match="held by another local_sagemaker"):
        second.start()
