"""Checkpoints: copied in, copied out as they change, removed there when removed here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from local_sagemaker.jobs.checkpoints import Checkpoints
from local_sagemaker.s3 import ObjectStore
from local_sagemaker.settings import Settings
from tests.local_sagemaker.harness import BUCKET, Server, training_request
from tests.local_sagemaker.test_training import run
from tests.object_store import KEY_ID, SECRET


@pytest.fixture
def store(tmp_path: Path, s3_endpoint: str) -> ObjectStore:
    return ObjectStore(Settings(root=tmp_path, access_key_id=KEY_ID, secret_access_key=SECRET, s3_endpoint=s3_endpoint))


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/{request.node.name}"


def put(store: ObjectStore, uri: str, *names: str) -> None:
    for name in names:
        store.write(f"{uri}/{name}", name.encode())


def held(store: ObjectStore, uri: str) -> list[str]:
    return sorted(item.relative for item in store.below(uri))


def of(store: ObjectStore, uri: str, folder: Path, hosts: int = 1) -> Checkpoints:
    return Checkpoints(store, uri, [folder / f"host{index}" for index in range(hosts)], folder / "memory.json")


def test_file_removed_here_is_removed_there(store: ObjectStore, prefix: str, tmp_path: Path) -> None:
    put(store, prefix, "epoch-1.pt", "epoch-2.pt")
    checkpoints = of(store, prefix, tmp_path)
    checkpoints.restore()
    (tmp_path / "host0/epoch-1.pt").unlink()
    (tmp_path / "host0/epoch-3.pt").write_text("3")
    checkpoints.sync()
    assert held(store, prefix) == ["epoch-2.pt", "epoch-3.pt"]


def test_removal_is_seen_by_the_next_server_too(store: ObjectStore, prefix: str, tmp_path: Path) -> None:
    put(store, prefix, "epoch-1.pt", "epoch-2.pt")
    of(store, prefix, tmp_path).restore()
    (tmp_path / "host0/epoch-1.pt").unlink()
    of(store, prefix, tmp_path).sync()
    assert held(store, prefix) == ["epoch-2.pt"]


def test_what_is_no_file_any_more_is_left_out(store: ObjectStore, prefix: str, tmp_path: Path) -> None:
    """A job may put a pipe, whose opening would wait for a writer, or a link where a file was just seen."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "file").write_text("x")
    assert store.upload_files(tmp_path, ["pipe", "link", "gone", "file"], prefix) == ["file"]
    assert held(store, prefix) == ["file"]


def test_stop_cuts_off_the_restoring_and_forgets_nothing(store: ObjectStore, prefix: str, tmp_path: Path) -> None:
    put(store, prefix, *(f"epoch-{number}.pt" for number in range(70)))
    of(store, prefix, tmp_path).restore(lambda: True)
    assert list((tmp_path / "host0").iterdir()) == []
    of(store, prefix, tmp_path).sync()
    assert len(held(store, prefix)) == 70


def test_what_others_put_there_is_left_alone(store: ObjectStore, prefix: str, tmp_path: Path) -> None:
    checkpoints = of(store, prefix, tmp_path)
    checkpoints.restore()
    put(store, prefix, "of another job.pt")
    checkpoints.sync()
    assert held(store, prefix) == ["of another job.pt"]
    assert not any((tmp_path / "host0").iterdir())


def test_folder_taken_away_whole_costs_no_checkpoint(store: ObjectStore, prefix: str, tmp_path: Path) -> None:
    put(store, prefix, "epoch-1.pt")
    checkpoints = of(store, prefix, tmp_path)
    checkpoints.restore()
    (tmp_path / "host0/epoch-1.pt").unlink()
    (tmp_path / "host0").rmdir()
    checkpoints.sync()
    assert held(store, prefix) == ["epoch-1.pt"]


def test_prefix_is_a_folder_and_not_the_start_of_a_name(store: ObjectStore, prefix: str, tmp_path: Path) -> None:
    put(store, prefix, "epoch-1.pt")
    put(store, f"{prefix}-2", "of another run.pt")
    of(store, prefix, tmp_path).restore()
    assert [path.name for path in (tmp_path / "host0").iterdir()] == ["epoch-1.pt"]


def test_hosts_share_the_prefix_and_each_gets_all_of_it(store: ObjectStore, prefix: str, tmp_path: Path) -> None:
    checkpoints = of(store, prefix, tmp_path, hosts=2)
    checkpoints.restore()
    for host in ("host0", "host1"):
        (tmp_path / host / f"{host}.pt").write_text("x")
        (tmp_path / host / "both.pt").write_text(host)
    checkpoints.sync()
    again = of(store, prefix, tmp_path / "again", hosts=2)
    again.restore()
    for host in ("host0", "host1"):
        files = {path.name: path.read_text() for path in (tmp_path / "again" / host).iterdir()}
        assert files == {"host0.pt": "x", "host1.pt": "x", "both.pt": "host0"}


def test_second_sync_uploads_nothing_anew(store: ObjectStore, prefix: str, tmp_path: Path) -> None:
    checkpoints = of(store, prefix, tmp_path)
    checkpoints.restore()
    (tmp_path / "host0/epoch-1.pt").write_text("1")
    checkpoints.sync()
    store.write(f"{prefix}/epoch-1.pt", b"changed by somebody else")
    checkpoints.sync()
    assert store.read(f"{prefix}/epoch-1.pt", 2**20) == b"changed by somebody else"


def checkpointed(server: Server, name: str, script: str, **config: Any) -> dict[str, Any]:
    request = training_request(server, name, script)
    request["CheckpointConfig"] = {"S3Uri": f"s3://{BUCKET}/ckpt/{name}"} | config
    return request


RESUME = """
import json, os, pathlib
folder = pathlib.Path(json.loads(pathlib.Path(os.environ["CHECKPOINT_CONFIG_FILE_PATH"]).read_text())["LocalPath"])
done = sorted(path.name for path in folder.iterdir())
(folder / f"epoch-{len(done)}").write_text("x")
print(folder, done, flush=True)
"""


def test_new_job_resumes_from_what_the_last_one_left(server: Server) -> None:
    """Nothing is waited for in between: the last copy is made before the first job is Completed."""
    first = run(server, checkpointed(server, "resume", RESUME))
    assert first["TrainingJobStatus"] == "Completed", first["FailureReason"]
    second = training_request(server, "resume-2", RESUME)
    second["CheckpointConfig"] = first["CheckpointConfig"]
    assert run(server, second)["TrainingJobStatus"] == "Completed"
    listed = server.s3.list_objects_v2(Bucket=BUCKET, Prefix="ckpt/resume/")["Contents"]
    assert {item["Key"] for item in listed} == {"ckpt/resume/epoch-0", "ckpt/resume/epoch-1"}


def test_local_path_is_where_the_script_finds_it(server: Server) -> None:
    script = (
        RESUME + '\nassert str(folder) == "/checkpoints/here" or not os.environ["SM_MODEL_DIR"].startswith("/opt/ml")'
    )
    job = run(server, checkpointed(server, "local-path", script, LocalPath="/checkpoints/here"))
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    listed = server.s3.list_objects_v2(Bucket=BUCKET, Prefix="ckpt/local-path/")["Contents"]
    assert [item["Key"] for item in listed] == ["ckpt/local-path/epoch-0"]
    assert not Path("/checkpoints").exists()
