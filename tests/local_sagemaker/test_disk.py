"""Room on the disk: a job that takes too much of it fails for itself, before the server does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_sagemaker.failures import JobFailedError
from local_sagemaker.sandbox import disk
from local_sagemaker.sandbox.disk import Quota
from tests.local_sagemaker.harness import Server, training_request
from tests.object_store import free_ports


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(b"x" * 100_000)
    return tmp_path


def now(quota: Quota) -> str | None:
    """What it says when its next walk is due."""
    quota._next_walk = 0.0
    return quota.problem()


def test_space_is_counted_as_the_disk_counts_it(folder: Path) -> None:
    (folder / "link").symlink_to("/usr")
    with (folder / "sparse").open("wb") as file:
        file.truncate(10**9)
    assert 100_000 <= disk.used_bytes(folder) < 200_000


def test_job_within_its_volume_goes_on(folder: Path) -> None:
    assert now(Quota(folder, 2**30)) is None
    assert now(Quota(folder)) is None


def test_job_over_its_volume_is_told_so(folder: Path) -> None:
    problem = now(Quota(folder, 50_000))
    assert problem is not None
    assert problem.startswith("ClientError: the job has written 1") and "VolumeSizeInGB" in problem


def test_job_that_did_not_fill_the_disk_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 0)
    assert now(Quota(folder)) is None
    monkeypatch.setattr(disk, "used_bytes", lambda folder: 2**30)
    assert "the disk is full: the job has written 1073741824 bytes, and 0 are left" in str(now(Quota(folder)))


def test_what_would_not_fit_is_refused_before_it_is_fetched(folder: Path) -> None:
    disk.require(folder, 1, "s3://b/model.tar.gz")
    with pytest.raises(JobFailedError, match=r"ClientError: s3://b/model.tar.gz needs \d+ bytes, and the disk of"):
        disk.require(folder, disk.free_bytes(folder), "s3://b/model.tar.gz")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 MB, in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"this machine allows no mounts: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
def test_job_that_fills_the_disk_fails_and_the_server_goes_on(small_disk: Path, s3_endpoint: str, images: Path) -> None:
    server = Server(small_disk / "root", free_ports(1)[0], s3_endpoint, images)
    server.start()
    try:
        script = (
            "import os, time\n"
            "with open(os.environ['SM_MODEL_DIR'] + '/weights', 'wb') as file:\n"
            "    while True:\n        file.write(os.urandom(2**20))\n        time.sleep(0.01)"
        )
        server.sagemaker.create_training_job(**training_request(server, "filler", script))

        def describe() -> dict[str, str]:
            answer: dict[str, str] = server.sagemaker.describe_training_job(TrainingJobName="filler")
            return answer

        answer = server.wait(describe, "TrainingJobStatus")
        assert answer["TrainingJobStatus"] == "Failed"
        assert answer["FailureReason"].startswith("ClientError: the disk is full: the job has written ")
        server.sagemaker.create_training_job(**training_request(server, "after", "print('fine')"))
        again = server.wait(
            lambda: server.sagemaker.describe_training_job(TrainingJobName="after"), "TrainingJobStatus"
        )
        assert again["TrainingJobStatus"] == "Completed"
    finally:
        server.stop()
