"""The record of a training job through its life: limits, queues, updates, deletion, restarts in every phase."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import botocore.exceptions
import pytest

from local_sagemaker.jobs import status as job_status
from tests.local_sagemaker.harness import BUCKET, Server, has_ended, last_line, training_request
from tests.local_sagemaker.test_training import run, wait
from tests.waiting import wait_until

SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


def statuses(job: dict[str, Any]) -> list[str]:
    return [entry["Status"] for entry in job["SecondaryStatusTransitions"]]


# -- pure -------------------------------------------------------------------------------------------------------------


def story(*phases: tuple[str, float], **describe: Any) -> dict[str, Any]:
    """A Describe response whose job entered each phase at a time."""
    made = {
        "TrainingJobStatus": "InProgress",
        "CreationTime": 0.0,
        "StoppingCondition": {},
        "ResourceConfig": {},
    } | describe
    for secondary, at in phases:
        job_status.enter(made, secondary, at)
    return made


def test_runtime_counts_over_all_attempts() -> None:
    job = story(("Starting", 0), ("Training", 10), ("Interrupted", 40), ("Starting", 40), ("Training", 100))
    assert job_status.trained_s(job, 125) == 55
    job["StoppingCondition"] = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 1000}
    assert job_status.limit_exceeded(job, 129) is None
    assert job_status.limit_exceeded(job, 131) == "MaxRuntimeExceeded"


def test_wait_time_counts_from_the_creation() -> None:
    job = story(("Starting", 0), ("Pending", 1), StoppingCondition={"MaxWaitTimeInSeconds": 30})
    assert job_status.limit_exceeded(job, 30) is None
    assert job_status.limit_exceeded(job, 31) == "MaxWaitTimeExceeded"


@pytest.mark.parametrize(("instance_type", "limit"), [("ml.g5.xlarge", "Stopped"), ("ml.m5.xlarge", None)])
def test_pending_time_bounds_accelerated_jobs_only(instance_type: str, limit: str | None) -> None:
    condition = {"MaxPendingTimeInSeconds": 1800}
    resources = {"InstanceType": instance_type}
    job = story(("Starting", 0), ("Pending", 10), StoppingCondition=condition, ResourceConfig=resources)
    assert job_status.limit_exceeded(job, 1809) is None
    assert job_status.limit_exceeded(job, 1811) == limit


def test_spot_job_pays_for_running_only() -> None:
    phases = (("Starting", 0), ("Training", 10), ("Interrupted", 40), ("Training", 100), ("Uploading", 120))
    spot, on_demand = story(*phases, EnableManagedSpotTraining=True), story(*phases)
    for job in (spot, on_demand):
        job_status.finish(job, "Completed", 125)
    assert (spot["TrainingTimeInSeconds"], spot["BillableTimeInSeconds"]) == (115, 55)
    assert (on_demand["TrainingTimeInSeconds"], on_demand["BillableTimeInSeconds"]) == (115, 115)


def test_long_failure_file_keeps_the_exit_code() -> None:
    reason = job_status.failure_reason(3, "x" * 5000, [], [])
    assert len(reason) <= 1024
    assert reason.endswith(", exit code: 3")


# -- records ----------------------------------------------------------------------------------------------------------


def test_uncompressed_output_lies_below_prefixes(server: Server) -> None:
    script = """
import os, pathlib
model = pathlib.Path(os.environ["SM_MODEL_DIR"], "sub")
model.mkdir()
(model / "weights").write_text("x")
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "history").write_text("x")
"""
    request = training_request(server, "uncompressed", script)
    request["OutputDataConfig"]["CompressionType"] = "NONE"
    job = run(server, request)
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/jobs/uncompressed/output/model/"
    listed = server.s3.list_objects_v2(Bucket=BUCKET, Prefix="jobs/uncompressed/output/")["Contents"]
    names = {item["Key"].removeprefix("jobs/uncompressed/output/") for item in listed}
    assert names == {"model/sub/weights", "data/history"}


def test_bucket_that_is_not_there_fails_before_anything_runs(server: Server) -> None:
    request = training_request(server, "no-bucket", "print(1)")
    request["OutputDataConfig"]["S3OutputPath"] = "s3://no-such-bucket/jobs"
    job = run(server, request)
    assert job["FailureReason"].startswith("ClientError: Data upload failed: s3://no-such-bucket/jobs")
    assert "Training" not in statuses(job)


def test_warm_pool_is_in_use_and_then_gone(server: Server) -> None:
    request = training_request(server, "warm", SLEEP)
    request["ResourceConfig"]["KeepAlivePeriodInSeconds"] = 600
    server.sagemaker.create_training_job(**request)
    last_line(server, "warm")
    assert server.sagemaker.describe_training_job(TrainingJobName="warm")["WarmPoolStatus"] == {"Status": "InUse"}
    server.sagemaker.update_training_job(TrainingJobName="warm", ResourceConfig={"KeepAlivePeriodInSeconds": 60})
    listed = server.sagemaker.list_training_jobs(WarmPoolStatusEquals="InUse")["TrainingJobSummaries"]
    assert [job["TrainingJobName"] for job in listed] == ["warm"]
    server.sagemaker.stop_training_job(TrainingJobName="warm")
    job = wait(server, "warm")
    assert job["WarmPoolStatus"]["Status"] == "Terminated"
    assert job["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 60
    with pytest.raises(botocore.exceptions.ClientError, match="no warm pool"):
        server.sagemaker.update_training_job(TrainingJobName="warm", ResourceConfig={"KeepAlivePeriodInSeconds": 6})


def test_profiler_is_turned_on_while_the_job_runs(server: Server) -> None:
    server.sagemaker.create_training_job(**training_request(server, "profiled", SLEEP))
    last_line(server, "profiled")
    config = {"S3OutputPath": f"s3://{BUCKET}/jobs", "ProfilingIntervalInMilliseconds": 100}
    server.sagemaker.update_training_job(TrainingJobName="profiled", ProfilerConfig=config)
    wait_until(
        lambda: any(server.root.glob("training-job/profiled-*/*/algo-1/opt/ml/output/profiler/system/*/*/*.json"))
    )
    server.sagemaker.stop_training_job(TrainingJobName="profiled")
    job = wait(server, "profiled")
    assert job["ProfilingStatus"] == "Enabled"
    listed = server.s3.list_objects_v2(Bucket=BUCKET, Prefix="jobs/profiled/profiler-output/system/")["Contents"]
    names = {item["Key"].rpartition("/")[2] for item in listed}
    assert "training_job_end.ts" in names
    assert any(name.endswith(".algo-1.json") for name in names)
    with pytest.raises(botocore.exceptions.ClientError, match="only InProgress jobs change"):
        server.sagemaker.update_training_job(TrainingJobName="profiled", ProfilerConfig=config)


def test_deleted_name_is_free_again(server: Server) -> None:
    server.sagemaker.create_training_job(**training_request(server, "deleted", SLEEP))
    last_line(server, "deleted")
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        server.sagemaker.delete_training_job(TrainingJobName="deleted")
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    server.sagemaker.stop_training_job(TrainingJobName="deleted")
    wait(server, "deleted")
    server.sagemaker.delete_training_job(TrainingJobName="deleted")
    with pytest.raises(botocore.exceptions.ClientError, match="Requested resource not found"):
        server.sagemaker.describe_training_job(TrainingJobName="deleted")
    assert run(server, training_request(server, "deleted", "print(1)"))["TrainingJobStatus"] == "Completed"


# -- restarts ---------------------------------------------------------------------------------------------------------


def test_jobs_wait_for_a_place_and_for_the_next_server(make_server: Callable[..., Server]) -> None:
    """One place, taken by a job of two hosts: the second job is Pending, also after a shutdown, and runs at last."""
    server = make_server("--max-concurrent-jobs", "1")
    first = training_request(server, "first", SLEEP)
    first["ResourceConfig"]["InstanceCount"] = 2
    server.sagemaker.create_training_job(**first)
    last_line(server, "first", "algo-2")
    for name in ("second", "third"):
        server.sagemaker.create_training_job(**training_request(server, name, "print(1)"))
        wait_until(lambda name=name: describe(server, name)["SecondaryStatus"] == "Pending")  # type: ignore[misc]
    server.sagemaker.stop_training_job(TrainingJobName="third")
    assert statuses(wait(server, "third")) == ["Starting", "Pending", "Stopping", "Stopped"]
    server.stop()
    server.start()
    assert wait(server, "second")["TrainingJobStatus"] == "Completed"
    assert "shut down" in wait(server, "first")["FailureReason"]


def describe(server: Server, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = server.sagemaker.describe_training_job(TrainingJobName=name)
    return answer


def test_stop_that_was_asked_for_before_kill_9_is_kept(make_server: Callable[..., Server]) -> None:
    server = make_server("--stop-grace", "30")
    script = """
import os, pathlib, signal, sys, time
def stop(*_):
    pathlib.Path(os.environ["SM_MODEL_DIR"], "saved").write_text("x")
    time.sleep(1)
    sys.exit(5)
signal.signal(signal.SIGTERM, stop)
print(os.getpid(), flush=True)
time.sleep(600)
"""
    server.sagemaker.create_training_job(**training_request(server, "stopping", script))
    pid = int(last_line(server, "stopping"))
    server.sagemaker.stop_training_job(TrainingJobName="stopping")
    server.stop(signal.SIGKILL)
    server.start()
    job = wait(server, "stopping")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert has_ended(pid)


def test_job_that_ended_while_no_server_ran_is_told_truly(make_server: Callable[..., Server]) -> None:
    server = make_server()
    script = """
import os, pathlib, sys, time
print("on", flush=True)
gate = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"]) / "go"
while not gate.exists():
    time.sleep(0.02)
sys.exit(int(gate.read_text()))
"""
    for name in ("ends-well", "ends-badly"):
        server.sagemaker.create_training_job(**training_request(server, name, script))
        last_line(server, name)
    server.stop(signal.SIGKILL)
    for name, code in (("ends-well", "0"), ("ends-badly", "9")):
        (folder,) = server.root.glob(f"training-job/{name}-*/*/algo-1")
        (folder / "opt/ml/going").write_text(code)
        (folder / "opt/ml/going").rename(folder / "opt/ml/go")  # whole from its first moment
        wait_until(lambda folder=folder: (folder / "process/exit_code").exists())  # type: ignore[misc]
    server.start()
    assert wait(server, "ends-well")["TrainingJobStatus"] == "Completed"
    assert wait(server, "ends-badly")["FailureReason"].endswith("exit code: 9")


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace is sure only for root")
def test_isolated_job_has_no_network_and_no_credentials(server: Server) -> None:
    script = f"""
import os, socket
assert "AWS_ACCESS_KEY_ID" not in os.environ
try:
    socket.create_connection(("127.0.0.1", {server.port}), timeout=2)
except OSError as error:
    print("no way out:", error)
else:
    raise SystemExit("it has a network")
"""
    job = run(server, training_request(server, "isolated", script, EnableNetworkIsolation=True))
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    assert last_line(server, "isolated").startswith("no way out")


def test_job_that_fills_the_log_is_ended_whichever_host_it_is(make_server: Callable[..., Server]) -> None:
    """The limit is that of all hosts together; reaching it takes a moment, so the lines are long."""
    server = make_server()
    script = """
import os, time
line = "x" * 60_000
while os.environ["SM_CURRENT_HOST"] == "algo-2":
    print(line)
time.sleep(600)
"""
    request = training_request(server, "chatty", script)
    request["ResourceConfig"]["InstanceCount"] = 2
    assert "printed more than" in run(server, request)["FailureReason"]
