"""Processing jobs: what a container finds, what a client sees, how a job ends."""

from __future__ import annotations

import io
import json
import signal
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from local_sagemaker.sandbox.isolation import Isolation
from tests.local_sagemaker.harness import Server, has_ended
from tests.local_sagemaker.processing import (
    GROUP,
    OUT,
    describe,
    job,
    lines,
    outputs,
    put,
    refusal,
    resources,
    run,
    source,
    target,
    wait,
)
from tests.local_sagemaker.serving import unique
from tests.waiting import wait_until

mounts = pytest.mark.skipif(not Isolation.probe().mounts, reason="jobs cannot be given mounts on this machine")
networks = pytest.mark.skipif(not Isolation.probe().networks, reason="jobs cannot be cut off on this machine")

LOOK_AROUND = """
import json, os, pathlib, subprocess, sys
data, out = (pathlib.Path(path) for path in sys.argv[1:3])
base = data.parents[2]
config = json.loads((base / "config/processingjobconfig.json").read_text())
resources = json.loads((base / "config/resourceconfig.json").read_text())
found = {
    "argv": sys.argv[1:], "config": config, "resources": resources,
    "files": {str(path.relative_to(data)): path.read_text() for path in data.rglob("*") if path.is_file()},
    "environment": dict(os.environ), "base": str(base), "executable": sys.executable,
    "same": subprocess.run(["python", "-c", "import sys; print(sys.executable)"], capture_output=True).stdout.decode(),
}
(out / "deep").mkdir()
(out / "deep/found.json").write_text(json.dumps(found))
(out / ".sagemaker-ignore").mkdir()
(out / ".sagemaker-ignore/scratch").write_text("x")
(base / "output/message").write_text("all ä" + "x" * 2000)
print("looked around")
"""


@pytest.fixture(scope="module")
def finished(server: Server) -> dict[str, Any]:
    """One job that uses most of the contract, run once."""
    data = put(server, unique("data"), {"a/1.txt": b"one", "b.txt": b"two"})
    request = job(
        server, LOOK_AROUND, "/opt/ml/processing/input/data", OUT, "--flag=1",
        inputs=[source("data", data, "/opt/ml/processing/input/data/")],
        Environment={"MY_SETTING": "set", "MY_PATH": "/opt/ml/config"},
        Tags=[{"Key": "team", "Value": "a"}],
        ExperimentConfig={"ExperimentName": "e"},
    )  # fmt: skip
    answer = run(server, request)
    assert answer["ProcessingJobStatus"] == "Completed", answer.get("FailureReason")
    return answer


def found(server: Server, answer: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(outputs(server, answer["ProcessingJobName"])["deep/found.json"])
    return content


def test_inputs_lie_where_the_request_says(server: Server, finished: dict[str, Any]) -> None:
    assert found(server, finished)["files"] == {"a/1.txt": "one", "b.txt": "two"}


def test_outputs_are_uploaded_without_the_ignored_folder(server: Server, finished: dict[str, Any]) -> None:
    assert set(outputs(server, finished["ProcessingJobName"])) == {"deep/found.json"}


def test_container_is_told_its_job_and_its_hosts(server: Server, finished: dict[str, Any]) -> None:
    seen = found(server, finished)
    assert seen["config"]["ProcessingJobName"] == finished["ProcessingJobName"]
    assert seen["config"]["ProcessingJobArn"] == finished["ProcessingJobArn"]
    assert seen["config"]["ProcessingInputs"][1]["S3Input"]["S3InputMode"] == "File"
    assert seen["config"]["AppSpecification"]["ContainerArguments"][-1] == "--flag=1"
    assert seen["resources"] == {"current_host": "algo-1", "hosts": ["algo-1"]}


def test_container_has_its_environment_and_one_interpreter(server: Server, finished: dict[str, Any]) -> None:
    seen = found(server, finished)
    assert seen["environment"].items() >= {"MY_SETTING": "set", "AWS_REGION": "us-east-1"}.items()
    assert "AWS_ACCESS_KEY_ID" in seen["environment"]
    assert Path(seen["executable"]).parent == Path(seen["same"].strip()).parent


@mounts
def test_container_sees_its_folder_as_opt_ml(server: Server, finished: dict[str, Any]) -> None:
    seen = found(server, finished)
    assert seen["argv"] == ["/opt/ml/processing/input/data", OUT, "--flag=1"]
    assert seen["environment"]["MY_PATH"] == "/opt/ml/config"


def test_description_tells_the_request_its_times_and_the_message(server: Server, finished: dict[str, Any]) -> None:
    assert finished["CreationTime"] <= finished["ProcessingStartTime"] <= finished["ProcessingEndTime"]
    assert finished["ExitMessage"].startswith("all äxxx")
    assert len(finished["ExitMessage"].encode()) == 1024
    assert finished["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    assert finished["ExperimentConfig"] == {"ExperimentName": "e"}
    assert server.sagemaker.list_tags(ResourceArn=finished["ProcessingJobArn"])["Tags"] == [
        {"Key": "team", "Value": "a"}
    ]
    listed = server.sagemaker.list_processing_jobs(NameContains=finished["ProcessingJobName"].lower())
    (summary,) = listed["ProcessingJobSummaries"]
    assert (summary["ProcessingJobStatus"], summary["ExitMessage"]) == ("Completed", finished["ExitMessage"])


def test_ended_job_leaves_only_its_output_on_the_disk(server: Server, finished: dict[str, Any]) -> None:
    (folder,) = (server.root / "processing-job").glob(f"{finished['ProcessingJobName'].lower()}-*")
    assert {path.name for path in folder.glob("*/*")} == {"process"}


def test_lines_are_in_the_hosts_log_stream(server: Server, finished: dict[str, Any]) -> None:
    assert lines(server, finished["ProcessingJobName"]) == ["looked around"]


def test_without_isolation_words_are_rewritten_to_the_folder(make_server: Callable[..., Server]) -> None:
    server = make_server("--isolation", "off", "--relax-network-isolation")
    data = put(server, unique("data"), {"b.txt": b"two"})
    request = job(
        server, LOOK_AROUND, "/opt/ml/processing/input/data", OUT,
        inputs=[source("data", data, "/opt/ml/processing/input/data")], Environment={"MY_PATH": "/opt/ml/config"},
        NetworkConfig={"EnableNetworkIsolation": True},
    )  # fmt: skip
    answer = run(server, request)
    assert answer["ProcessingJobStatus"] == "Completed", answer.get("FailureReason")
    seen = found(server, answer)
    assert seen["environment"]["MY_PATH"] == f"{seen['base']}/config"
    assert seen["environment"]["SAGEMAKER_BASE_DIR"] == seen["base"]
    assert seen["config"]["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["LocalPath"] == seen["argv"][1]
    assert answer["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["LocalPath"] == OUT
    stream = {"logGroupName": GROUP, "logStreamName": f"{answer['ProcessingJobName']}/platform"}
    assert "EnableNetworkIsolation has no effect" in server.logs.get_log_events(**stream)["events"][0]["message"]


# What SDK 2.257's FrameworkProcessor uploads as runproc.sh.
RUNPROC = """#!/bin/bash

cd /opt/ml/processing/input/code/
tar -xzf sourcedir.tar.gz

# Exit on any error. SageMaker uses error code to mark failed job.
set -e

if [[ -f 'requirements.txt' ]]; then
    # Optionally log into CodeArtifact
    if ! hash aws 2>/dev/null; then
        echo "AWS CLI is not installed. Skipping CodeArtifact login."
    else
        echo 'CodeArtifact repository not specified. Skipping login.'
    fi

    # Some py3 containers has typing, which may breaks pip install
    pip uninstall --yes typing

    python -m pip install -r requirements.txt
fi

python process.py "$@"
"""


def wheel(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}.py", "WHERE = __file__\n")
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return buffer.getvalue()


@mounts
def test_framework_processor_installs_into_the_job_alone(server: Server) -> None:
    name = unique("framework")
    files = {
        "requirements.txt": b"botocore\n/opt/ml/processing/input/code/tinything-1.0-py3-none-any.whl\n",
        "tinything-1.0-py3-none-any.whl": wheel("tinything"),
        "process.py": b"import botocore, pathlib, sys, tinything\n"
        b"pathlib.Path('/opt/ml/processing/output/seen').write_text(f'{tinything.WHERE} {sys.argv[1:]}')\n",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for key, content in files.items():
            info = tarfile.TarInfo(key)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    uri = put(server, f"code/{name}", {"sourcedir.tar.gz": buffer.getvalue(), "runproc.sh": RUNPROC.encode()})
    request = job(server, "unused", "--epochs", "2", Environment={"PIP_NO_INDEX": "1"})
    request["AppSpecification"]["ContainerEntrypoint"] = ["/bin/bash", "/opt/ml/processing/input/entrypoint/runproc.sh"]
    request["ProcessingInputs"] = [
        source("code", f"{uri}/sourcedir.tar.gz", "/opt/ml/processing/input/code/"),
        source("entrypoint", f"{uri}/runproc.sh", "/opt/ml/processing/input/entrypoint"),
    ]
    answer = run(server, request)
    assert answer["ProcessingJobStatus"] == "Completed", lines(server, answer["ProcessingJobName"])
    where, _, arguments = outputs(server, answer["ProcessingJobName"])["seen"].decode().partition(" ")
    assert (arguments, where.startswith(str(server.root))) == ("['--epochs', '2']", True)
    with pytest.raises(ImportError):
        __import__("tinything")


WAITING = """
import pathlib, signal, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
def stop(*_):
    pathlib.Path(sys.argv[1], "saved").write_text("at stop")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("child", child.pid, flush=True)
time.sleep(600)
"""


def test_stop_asks_the_script_ends_all_and_keeps_the_output(server: Server) -> None:
    request = job(server, WAITING, OUT)
    server.sagemaker.create_processing_job(**request)
    name = request["ProcessingJobName"]
    pid = int(wait_until(lambda: lines(server, name))[0].split()[1])
    server.sagemaker.stop_processing_job(ProcessingJobName=name)
    assert wait(server, name)["ProcessingJobStatus"] == "Stopped"
    assert outputs(server, name) == {"saved": b"at stop"}
    assert has_ended(pid)
    said = refusal(server.sagemaker.stop_processing_job, ProcessingJobName=name)
    assert said["Message"] == "The request was rejected because the processing job is in status Stopped."


def test_job_over_its_runtime_is_stopped(server: Server) -> None:
    answer = run(server, job(server, WAITING, OUT, StoppingCondition={"MaxRuntimeInSeconds": 1}))
    assert answer["ProcessingJobStatus"] == "Stopped"


def test_hosts_get_their_shard_and_know_each_other(server: Server) -> None:
    data = put(server, unique("shards"), {f"{number}.txt": b"x" for number in range(5)})
    script = """
import json, pathlib, socket, sys
data, out = (pathlib.Path(path) for path in sys.argv[1:3])
resources = json.loads((data.parents[2] / "config/resourceconfig.json").read_text())
files = sorted(path.name for path in data.iterdir())
(out / f"{resources['current_host']}.json").write_text(json.dumps([resources["hosts"], files]))
print("host", resources["current_host"])
"""
    inputs = [source("data", data, "/opt/ml/processing/input/data", S3DataDistributionType="ShardedByS3Key")]
    request = job(server, script, "/opt/ml/processing/input/data", OUT, inputs=inputs)
    request["ProcessingResources"]["ClusterConfig"]["InstanceCount"] = 2
    answer = run(server, request)
    assert answer["ProcessingJobStatus"] == "Completed", answer.get("FailureReason")
    written = {key: json.loads(body) for key, body in outputs(server, answer["ProcessingJobName"]).items()}
    assert [hosts for hosts, _ in written.values()] == [["algo-1", "algo-2"]] * 2
    assert sorted(file for _, files in written.values() for file in files) == [f"{number}.txt" for number in range(5)]
    assert lines(server, answer["ProcessingJobName"], "algo-2") == ["host algo-2"]


def test_preferred_instance_is_the_selected_one(server: Server) -> None:
    preferences = [{"InstanceType": "ml.m5.xlarge", "InstanceCount": 2}, {"InstanceType": "ml.m5.large"}]
    request = job(server, "print(1)", **resources(InstancePreferences=preferences))
    cluster = run(server, request)["ProcessingResources"]["ClusterConfig"]
    assert (cluster["SelectedInstanceType"], cluster["SelectedInstanceCount"]) == ("ml.m5.xlarge", 2)
    assert lines(server, request["ProcessingJobName"], "algo-2") == ["1"]


def test_failing_host_ends_the_others(server: Server) -> None:
    script = """
import json, pathlib, sys, time
config = pathlib.Path(sys.argv[1]).parents[1] / "config/resourceconfig.json"
host = json.loads(config.read_text())["current_host"]
if host == "algo-2":
    sys.exit(f"{host} is lost")
time.sleep(600)
"""
    request = job(server, script, OUT)
    request["ProcessingResources"]["ClusterConfig"]["InstanceCount"] = 2
    answer = run(server, request)
    assert "algo-2: exit code 1. Last output: algo-2 is lost" in answer["FailureReason"]


def test_continuous_output_is_uploaded_while_the_job_runs(server: Server) -> None:
    script = """
import pathlib, sys, time
out = pathlib.Path(sys.argv[1])
(out / "first").write_text("1")
while not (out / "go").exists():
    time.sleep(0.05)
"""
    request = job(server, script, OUT)
    name = request["ProcessingJobName"]
    request["ProcessingOutputConfig"] = {"Outputs": [target(name, mode="Continuous")]}
    server.sagemaker.create_processing_job(**request)
    wait_until(lambda: outputs(server, name))
    assert describe(server, name)["ProcessingJobStatus"] == "InProgress"
    server.sagemaker.stop_processing_job(ProcessingJobName=name)
    assert wait(server, name)["ProcessingJobStatus"] == "Stopped"


@networks
def test_isolated_job_reaches_no_network_and_has_no_role(server: Server) -> None:
    script = f"""
import os, socket, sys
try:
    socket.create_connection(("127.0.0.1", {server.port}), timeout=3)
except OSError as error:
    sys.exit(0 if "AWS_ACCESS_KEY_ID" not in os.environ else "has a role")
sys.exit("has a network")
"""
    answer = run(server, job(server, script, NetworkConfig={"EnableNetworkIsolation": True}))
    assert answer["ProcessingJobStatus"] == "Completed", answer["FailureReason"]


def test_running_job_is_adopted_after_kill_9(make_server: Callable[..., Server]) -> None:
    server = make_server()
    script = """
import os, pathlib, sys, time
print(os.getpid(), flush=True)
time.sleep(4)
pathlib.Path(sys.argv[1], "result").write_text(str(os.getpid()))
print("done", flush=True)
"""
    request = job(server, script, OUT)
    name = request["ProcessingJobName"]
    server.sagemaker.create_processing_job(**request)
    (pid,) = wait_until(lambda: lines(server, name))
    server.stop(signal.SIGKILL)
    server.start()
    answer = wait(server, name)
    assert answer["ProcessingJobStatus"] == "Completed", answer.get("FailureReason")
    assert outputs(server, name) == {"result": pid.encode()}
    assert lines(server, name) == [pid, "done"]


def test_shutdown_ends_jobs_and_says_so(make_server: Callable[..., Server]) -> None:
    server = make_server()
    request = job(server, WAITING, OUT)
    name = request["ProcessingJobName"]
    server.sagemaker.create_processing_job(**request)
    pid = int(wait_until(lambda: lines(server, name))[0].split()[1])
    server.stop()
    assert has_ended(pid)
    server.start()
    assert "shut down" in wait(server, name)["FailureReason"]


def test_jobs_wait_for_a_place_and_can_be_stopped_there(make_server: Callable[..., Server]) -> None:
    server = make_server("--max-concurrent-jobs", "1")
    first, second, third = (job(server, WAITING, OUT) for _ in range(3))
    for request in (first, second, third):
        server.sagemaker.create_processing_job(**request)
        if request is first:
            wait_until(lambda: lines(server, first["ProcessingJobName"]))
    server.sagemaker.stop_processing_job(ProcessingJobName=third["ProcessingJobName"])
    stopped = wait(server, third["ProcessingJobName"])
    assert (stopped["ProcessingJobStatus"], "ProcessingStartTime" in stopped) == ("Stopped", False)
    assert "ProcessingStartTime" not in describe(server, second["ProcessingJobName"])
    server.sagemaker.stop_processing_job(ProcessingJobName=first["ProcessingJobName"])
    wait_until(lambda: lines(server, second["ProcessingJobName"]))
    server.sagemaker.stop_processing_job(ProcessingJobName=second["ProcessingJobName"])


def test_ended_job_is_deleted_and_its_name_free_again(server: Server) -> None:
    request = job(server, "print(1)")
    name = request["ProcessingJobName"]
    server.sagemaker.create_processing_job(**request)
    assert refusal(server.sagemaker.create_processing_job, **request)["Code"] == "ResourceInUse"
    assert wait(server, name)["ProcessingJobStatus"] == "Completed"
    wait_until(lambda: deleted(server, name))
    assert refusal(server.sagemaker.delete_processing_job, ProcessingJobName=name)["Code"] == "ResourceNotFound"
    for call in (server.sagemaker.describe_processing_job, server.sagemaker.stop_processing_job):
        answer = refusal(call, ProcessingJobName=name)
        assert (answer["Code"], answer["Message"][:34]) == ("ValidationException", "Could not find requested job with ")
    running = job(server, WAITING, OUT, ProcessingJobName=name)
    server.sagemaker.create_processing_job(**running)
    assert refusal(server.sagemaker.delete_processing_job, ProcessingJobName=name)["Code"] == "ResourceInUse"
    server.sagemaker.stop_processing_job(ProcessingJobName=name)


def deleted(server: Server, name: str) -> bool:
    try:
        server.sagemaker.delete_processing_job(ProcessingJobName=name)
    except botocore.exceptions.ClientError:  # its thread is about to end
        return False
    return True
