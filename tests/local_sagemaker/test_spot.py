"""Jobs that take several attempts: interrupted spot jobs, and internal errors with a RetryStrategy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil
import pytest

import local_sagemaker.interrupt
from tests.local_sagemaker.harness import BUCKET, REPOSITORY, Server, has_ended, last_line, training_request
from tests.local_sagemaker.test_training import run, wait
from tests.object_store import KEY_ID, SECRET
from tests.waiting import wait_until

#: Counts its attempts in the checkpoint folder; the first one waits to be ended.
COUNTS = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(json.loads(pathlib.Path(os.environ["CHECKPOINT_CONFIG_FILE_PATH"]).read_text())["LocalPath"])
attempt = len(list(folder.iterdir())) + 1
print(f"attempt={attempt}", os.getpid(), flush=True)
def stop(*_):
    print("saving", flush=True)
    time.sleep(float(os.environ.get("SLOWLY", "0")))
    (folder / f"attempt-{attempt}").write_text("saved at SIGTERM")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
if attempt == 1:
    if "NO_SIGNAL" in os.environ:
        (folder / "attempt-1").write_text("saved in time")
        print("saved", os.getpid(), flush=True)
    time.sleep(600)
time.sleep(0.5)
"""


def request_for(server: Server, name: str, **changes: Any) -> dict[str, Any]:
    request = training_request(server, name, COUNTS)
    request["CheckpointConfig"] = {"S3Uri": f"s3://{BUCKET}/ckpt/{name}"}
    request["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "attempt", "Regex": "attempt=([0-9]+)"}]
    return request | changes


def spot(server: Server, name: str, *, max_wait_s: int = 120) -> dict[str, Any]:
    condition = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": max_wait_s}
    return request_for(server, name, EnableManagedSpotTraining=True, StoppingCondition=condition)


def interrupt(server: Server, name: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    command = [sys.executable, "-m", "local_sagemaker", "interrupt", name, "--url", server.url]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


def statuses(job: dict[str, Any]) -> list[str]:
    return [entry["Status"] for entry in job["SecondaryStatusTransitions"]]


@pytest.fixture(scope="module")
def resumed(server: Server) -> dict[str, Any]:
    """A spot job that was interrupted once."""
    server.sagemaker.create_training_job(**spot(server, "resumed"))
    last_line(server, "resumed")
    answer = interrupt(server, "resumed")
    assert answer.returncode == 0, answer.stderr
    return wait(server, "resumed")


def test_interrupted_job_starts_again_from_its_checkpoints(resumed: dict[str, Any]) -> None:
    assert resumed["TrainingJobStatus"] == "Completed", resumed["FailureReason"]
    assert resumed["FinalMetricDataList"][0]["Value"] == 2


def test_interruption_is_told_by_the_transitions(resumed: dict[str, Any]) -> None:
    attempt = ["Starting", "Downloading", "Training"]
    assert statuses(resumed) == [*attempt, "Interrupted", *attempt, "Uploading", "Completed"]
    (interrupted,) = (one for one in resumed["SecondaryStatusTransitions"] if one["Status"] == "Interrupted")
    assert "interrupted" in interrupted["StatusMessage"]


def test_time_without_instances_is_not_billed(resumed: dict[str, Any]) -> None:
    elapsed = (resumed["TrainingEndTime"] - resumed["TrainingStartTime"]).total_seconds()
    assert resumed["TrainingTimeInSeconds"] == max(1, round(elapsed))
    assert 1 <= resumed["BillableTimeInSeconds"] <= resumed["TrainingTimeInSeconds"]


def test_each_attempt_has_a_log_stream(server: Server, resumed: dict[str, Any]) -> None:
    streams = server.logs.describe_log_streams(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix="resumed/algo-1-"
    )["logStreams"]
    assert len(streams) == 2


def test_only_running_spot_jobs_are_interrupted(server: Server, resumed: dict[str, Any]) -> None:
    run(server, training_request(server, "on-demand", "print(1)"))
    for name, said in (
        ("on-demand", "no EnableManagedSpotTraining"),
        ("resumed", "is Completed"),
        ("nobody", "Requested resource not found"),
    ):
        answer = interrupt(server, name)
        assert answer.returncode == 1
        assert said in answer.stderr


def test_spot_job_that_waits_too_long_is_stopped_as_that(make_server: Callable[..., Server]) -> None:
    """The one place is taken, so the job waits for capacity."""
    server = make_server("--max-concurrent-jobs", "1")
    server.sagemaker.create_training_job(**training_request(server, "holder", "import time; time.sleep(600)"))
    waits = spot(server, "waits", max_wait_s=1)
    waits["StoppingCondition"]["MaxRuntimeInSeconds"] = 1
    server.sagemaker.create_training_job(**waits)
    job = wait(server, "waits")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")
    assert statuses(job) == ["Starting", "Pending", "MaxWaitTimeExceeded"]


def test_interruption_outlives_a_kill_9_of_the_server(make_server: Callable[..., Server]) -> None:
    """The server is killed before it has done anything, and, in another job, while the script saves its checkpoint."""
    server = make_server("--stop-grace", "30")
    pids = {}
    for name in ("saving", "asked"):
        server.sagemaker.create_training_job(**spot(server, name), Environment={"SLOWLY": "2"})
        pids[name] = int(last_line(server, name).split()[1])
        assert interrupt(server, name).returncode == 0
        if name == "saving":
            wait_until(lambda: last_line(server, "saving") == "saving")
    server.stop(signal.SIGKILL)
    assert has_ended(pids["saving"])  # it exits with 0 while no server runs
    server.start()
    for name in ("saving", "asked"):
        job = wait(server, name)
        assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
        assert statuses(job).count("Interrupted") == 1
        assert job["FinalMetricDataList"][0]["Value"] == 2


def retried(server: Server, name: str, attempts: int = 1) -> dict[str, Any]:
    return request_for(server, name, RetryStrategy={"MaximumRetryAttempts": attempts}, Environment={"NO_SIGNAL": "1"})


def test_job_that_died_with_the_server_is_retried(make_server: Callable[..., Server]) -> None:
    server = make_server()
    server.sagemaker.create_training_job(**retried(server, "died"))
    processes = worker(server, "died")
    server.stop(signal.SIGKILL)
    for process in processes:
        process.kill()
    server.start()
    job = wait(server, "died")
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    assert "Restarting" in statuses(job)
    assert job["FinalMetricDataList"][0]["Value"] == 2  # it found the checkpoint that nobody had copied yet


def worker(server: Server, name: str) -> list[psutil.Process]:
    """A job's script and the program around it that would tell its exit code, once its checkpoint is written."""
    wait_until(lambda: last_line(server, name).startswith("saved"))
    script = psutil.Process(int(last_line(server, name).split()[1]))
    return [*(one for one in script.parents() if "keeper.py" in " ".join(one.cmdline())), script]


def test_worker_that_vanished_is_an_internal_error_and_retried(server: Server) -> None:
    server.sagemaker.create_training_job(**retried(server, "vanished"))
    for process in worker(server, "vanished"):
        process.kill()
    job = wait(server, "vanished")
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    assert statuses(job).count("Restarting") == 1


def test_without_a_retry_strategy_the_internal_error_is_the_end(server: Server) -> None:
    request = retried(server, "not-retried")
    del request["RetryStrategy"]
    server.sagemaker.create_training_job(**request)
    for process in worker(server, "not-retried"):
        process.kill()
    job = wait(server, "not-retried")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("InternalServerError: ")


def test_error_of_the_script_is_not_retried(server: Server) -> None:
    request = training_request(server, "own-fault", "raise SystemExit(3)")
    job = run(server, request | {"RetryStrategy": {"MaximumRetryAttempts": 5}})
    assert job["TrainingJobStatus"] == "Failed"
    assert "Restarting" not in statuses(job)


def test_job_cut_off_by_a_shutdown_is_retried_by_the_next_server(make_server: Callable[..., Server]) -> None:
    server = make_server()
    server.sagemaker.create_training_job(**request_for(server, "shut", RetryStrategy={"MaximumRetryAttempts": 1}))
    last_line(server, "shut")
    server.stop()
    server.start()
    job = wait(server, "shut")
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    assert statuses(job).count("Restarting") == 1


def test_admin_operation_is_signed_like_every_other(server: Server) -> None:
    environment = os.environ | {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": "wrong"}
    answer = subprocess.run(
        [sys.executable, "-m", "local_sagemaker", "interrupt", "resumed", "--url", server.url],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 1
    assert "signature" in answer.stderr


def test_interruption_while_data_is_fetched_starts_nothing_by_halves(server: Server) -> None:
    """Whenever the interruption comes, the script only ever runs with all of its data."""
    script = """
import json, os, pathlib, time
for name in json.loads(os.environ["SM_CHANNELS"]):
    files = list(pathlib.Path(os.environ[f"SM_CHANNEL_{name.upper()}"]).iterdir())
    assert len(files) == 40, (name, len(files))
time.sleep(3)  # it is still there when the interruption comes late
"""
    for number in range(40):
        server.s3.put_object(Bucket=BUCKET, Key=f"fetched/{number}.txt", Body=b"x")
    request = spot(server, "fetched") | training_request(server, "fetched", script)
    request |= {"StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}}
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/fetched/"}
    request["InputDataConfig"] = [
        {"ChannelName": f"c{number}", "DataSource": {"S3DataSource": source}} for number in range(20)
    ]
    server.sagemaker.create_training_job(**request)
    with pytest.MonkeyPatch.context() as patch:  # a process of its own would come when all is fetched
        patch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        assert local_sagemaker.interrupt.main(["fetched", "--url", server.url]) == 0
    job = wait(server, "fetched")
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    assert statuses(job).count("Interrupted") == 1
