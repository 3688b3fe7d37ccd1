"""Jobs with several instances: each host is processes of this machine with a tree, a stream and a rank of its own."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.local_sagemaker.harness import BUCKET, REPOSITORY, Server, has_ended, last_line, training_request
from tests.local_sagemaker.test_training import archive, run, wait

ML_PYTHON = REPOSITORY / ".venv/ml/bin/python"

SEE = """
import json, os, pathlib
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
model = pathlib.Path(os.environ["SM_MODEL_DIR"])
host = os.environ["SM_CURRENT_HOST"]
seen = {
    "resources": json.loads((base / "input/config/resourceconfig.json").read_text()),
    "environment": {key: value for key, value in os.environ.items() if key.startswith(("SM_", "MASTER_", "OMP_"))},
}
(model / f"{host}.json").write_text(json.dumps(seen))
(model / "shared.txt").write_text(host)
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], f"{host}.txt").write_text("x")
print("this is", host)
"""


def two_hosts(server: Server, name: str, script: str, **resources: Any) -> dict[str, Any]:
    request = training_request(server, name, script)
    request["ResourceConfig"] |= {"InstanceCount": 2} | resources
    return request


@pytest.fixture(scope="module")
def finished(server: Server) -> dict[str, Any]:
    job = run(server, two_hosts(server, "two-hosts", SEE))
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    return job


@pytest.fixture(scope="module")
def seen(server: Server, finished: dict[str, Any]) -> dict[str, dict[str, Any]]:
    with archive(server, finished["ModelArtifacts"]["S3ModelArtifacts"]) as tar:
        return {name: json.load(tar.extractfile(f"{name}.json")) for name in ("algo-1", "algo-2")}  # type: ignore[arg-type]


def test_each_host_is_told_who_it_is(seen: dict[str, dict[str, Any]]) -> None:
    for host, found in seen.items():
        assert found["resources"]["current_host"] == found["environment"]["SM_CURRENT_HOST"] == host
        assert found["resources"]["hosts"] == json.loads(found["environment"]["SM_HOSTS"]) == ["algo-1", "algo-2"]


def test_hosts_meet_at_one_port_of_the_loopback(seen: dict[str, dict[str, Any]]) -> None:
    meeting = {(one["environment"]["MASTER_ADDR"], one["environment"]["MASTER_PORT"]) for one in seen.values()}
    assert len(meeting) == 1
    assert meeting.pop()[0] == "127.0.0.1"


def test_hosts_share_the_threads_of_the_job(seen: dict[str, dict[str, Any]]) -> None:
    assert {one["environment"]["OMP_NUM_THREADS"] for one in seen.values()} == {"1"}  # two vCPUs, two hosts


def test_models_of_all_hosts_are_one_and_the_first_wins(server: Server, finished: dict[str, Any]) -> None:
    tar = archive(server, finished["ModelArtifacts"]["S3ModelArtifacts"])
    assert sorted(tar.getnames()) == ["algo-1.json", "algo-2.json", "shared.txt"]
    assert tar.extractfile("shared.txt").read() == b"algo-1"  # type: ignore[union-attr]
    output = finished["ModelArtifacts"]["S3ModelArtifacts"].replace("model.tar.gz", "output.tar.gz")
    assert sorted(archive(server, output).getnames()) == ["algo-1.txt", "algo-2.txt"]


def test_each_host_has_a_log_stream(server: Server, finished: dict[str, Any]) -> None:
    group = "/aws/sagemaker/TrainingJobs"
    streams = server.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="two-hosts/algo-")["logStreams"]
    epoch = int(finished["CreationTime"].timestamp())
    assert [stream["logStreamName"] for stream in streams] == [f"two-hosts/algo-{one}-{epoch}" for one in (1, 2)]
    for stream, host in zip(streams, ("algo-1", "algo-2"), strict=True):
        events = server.logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
        assert [event["message"] for event in events] == [f"this is {host}"]


def test_host_that_fails_stops_the_others_and_is_named(server: Server) -> None:
    script = """
import os, sys, time
if os.environ["SM_CURRENT_HOST"] == "algo-2":
    time.sleep(0.5)
    sys.exit("no such class: 7")
print(os.getpid(), flush=True)
time.sleep(600)
"""
    server.sagemaker.create_training_job(**two_hosts(server, "one-fails", script))
    pid = int(last_line(server, "one-fails"))
    job = wait(server, "one-fails")
    assert job["FailureReason"].startswith("AlgorithmError: algo-2: ")
    assert "no such class: 7" in job["FailureReason"]
    assert job["FailureReason"].endswith("exit code: 1")
    assert has_ended(pid)


def test_stop_ends_every_host(server: Server) -> None:
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    server.sagemaker.create_training_job(**two_hosts(server, "stop-both", script))
    pids = [int(last_line(server, "stop-both", host)) for host in ("algo-1", "algo-2")]
    server.sagemaker.stop_training_job(TrainingJobName="stop-both")
    assert wait(server, "stop-both")["TrainingJobStatus"] == "Stopped"
    assert all(has_ended(pid) for pid in pids)


def test_instance_groups_have_their_own_hosts_and_channels(server: Server) -> None:
    script = """
import json, os, pathlib
seen = {name: os.environ.get(name) for name in (
    "SM_CURRENT_INSTANCE_GROUP", "SM_CURRENT_INSTANCE_TYPE", "SM_CURRENT_INSTANCE_GROUP_HOSTS", "SM_IS_HETERO",
    "SM_CHANNELS")}
pathlib.Path(os.environ["SM_MODEL_DIR"], os.environ["SM_CURRENT_HOST"]).write_text(json.dumps(seen))
"""
    server.s3.put_object(Bucket=BUCKET, Key="groups/data.txt", Body=b"x")
    request = training_request(server, "groups", script)
    groups = [("loaders", "ml.c5.xlarge", 1), ("trainers", "ml.g5.xlarge", 2)]
    request["ResourceConfig"] = {
        "VolumeSizeInGB": 1,
        "InstanceGroups": [
            {"InstanceGroupName": name, "InstanceType": kind, "InstanceCount": count} for name, kind, count in groups
        ],
    }
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/groups/", "InstanceGroupNames": ["loaders"]}
    request["InputDataConfig"] = [{"ChannelName": "raw", "DataSource": {"S3DataSource": source}}]
    job = run(server, request)
    tar = archive(server, job["ModelArtifacts"]["S3ModelArtifacts"])
    found = {name: json.load(tar.extractfile(name)) for name in sorted(tar.getnames())}  # type: ignore[arg-type]
    assert [one["SM_CURRENT_INSTANCE_GROUP"] for one in found.values()] == ["loaders", "trainers", "trainers"]
    assert found["algo-3"]["SM_CURRENT_INSTANCE_GROUP_HOSTS"] == '["algo-2","algo-3"]'
    assert found["algo-1"]["SM_IS_HETERO"] == "true"
    assert [one["SM_CHANNELS"] for one in found.values()] == ['["raw"]', "[]", "[]"]


def test_both_hosts_are_adopted_after_kill_9_of_the_server(make_server: Callable[..., Server]) -> None:
    server = make_server()
    script = """
import os, pathlib, time
print("begin", os.getpid(), flush=True)
gate = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"]) / "go"
while not gate.exists():
    time.sleep(0.05)
pathlib.Path(os.environ["SM_MODEL_DIR"], os.environ["SM_CURRENT_HOST"]).write_text("x")
print("end", flush=True)
"""
    server.sagemaker.create_training_job(**two_hosts(server, "adopted", script))
    for host in ("algo-1", "algo-2"):
        last_line(server, "adopted", host)
    server.stop(signal.SIGKILL)
    server.start()
    for base in server.root.glob("training-job/*/*/algo-*/opt/ml"):
        (base / "go").touch()
    job = wait(server, "adopted")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert sorted(archive(server, job["ModelArtifacts"]["S3ModelArtifacts"]).getnames()) == ["algo-1", "algo-2"]
    for host in ("algo-1", "algo-2"):
        events = server.logs.filter_log_events(
            logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"adopted/{host}"
        )["events"]
        assert [event["message"].split()[0] for event in events] == ["begin", "end"]


TORCH = """
import os, pathlib, sys, time
import torch, torch.distributed
torch.distributed.init_process_group("gloo")
rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
total = torch.tensor([rank + 1.0])
torch.distributed.all_reduce(total)
pathlib.Path(os.environ["SM_MODEL_DIR"], f"rank{rank}").write_text(f"{total.item()} of {size} {sys.argv[1:]}")
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_torch_distributed_jobs_at_once_do_not_meet(make_server: Callable[..., Server], tmp_path: Path) -> None:
    if not ML_PYTHON.exists():
        pytest.skip("the ml environment is not made")
    images = tmp_path / "images.toml"
    images.write_text(f'[[image]]\nmatch = ["*"]\ninterpreter = "{ML_PYTHON}"\n')
    server = make_server("--images", str(images))
    for name in ("torch-a", "torch-b"):
        request = two_hosts(server, name, TORCH)
        request["HyperParameters"] |= {"sagemaker_torch_distributed_enabled": "true", "epochs": "1"}
        server.sagemaker.create_training_job(**request)
    for name in ("torch-a", "torch-b"):
        job = server.wait(
            lambda name=name: server.sagemaker.describe_training_job(TrainingJobName=name),  # type: ignore[misc]
            "TrainingJobStatus",
        )
        assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
        tar = archive(server, job["ModelArtifacts"]["S3ModelArtifacts"])
        told = [tar.extractfile(one).read().decode() for one in sorted(tar.getnames())]  # type: ignore[union-attr]
        assert told == ["3.0 of 2 ['--epochs', '1']"] * 2
