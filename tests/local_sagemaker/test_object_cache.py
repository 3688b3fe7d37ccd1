"""What was fetched before is copied: the very same bytes, files of one's own, and never what S3 no longer says."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_sagemaker import object_cache
from local_sagemaker.object_cache import Fetched, Listed, ObjectCache
from tests.local_sagemaker.harness import BUCKET, Server, training_request
from tests.local_sagemaker.test_training import wait


class Source:
    """An object of S3 that remembers how often it was fetched."""

    def __init__(self, body: bytes, etag: str = "1") -> None:
        self.body, self.etag, self.fetched = body, etag, 0

    def __call__(self, path: Path) -> Fetched:
        self.fetched += 1
        path.write_bytes(self.body)
        return Fetched(len(self.body), self.etag)

    def listed(self, key: str = "k") -> Listed:
        return Listed("b", key, self.etag, len(self.body))


@pytest.fixture
def bring(tmp_path: Path) -> Callable[..., bytes]:
    """bring(source, cache) → what the job gets."""

    def bring(source: Source, cache: ObjectCache, key: str = "k", listed: Listed | None = None) -> bytes:
        path = tmp_path / "given"
        path.unlink(missing_ok=True)
        size_bytes = cache.bring(listed or source.listed(key), path, source)
        assert size_bytes == path.stat().st_size
        return path.read_bytes()

    return bring


def test_the_second_job_gets_a_copy(tmp_path: Path, bring: Callable[..., bytes]) -> None:
    source = Source(b"picture")
    assert [bring(source, ObjectCache(tmp_path / "c")) for _ in range(3)] == [b"picture"] * 3  # also a new server
    assert source.fetched == 1


def test_a_job_that_writes_into_its_input_harms_nobody(tmp_path: Path) -> None:
    source, cache, path = Source(b"picture"), ObjectCache(tmp_path / "c"), tmp_path / "given"
    for _ in range(3):
        cache.bring(source.listed(), path, source)
        assert path.read_bytes() == b"picture"
        with path.open("r+b") as file:
            file.write(b"PAINTED")


def test_a_replaced_object_is_fetched_anew(tmp_path: Path, bring: Callable[..., bytes]) -> None:
    cache, before, after = ObjectCache(tmp_path / "c"), Source(b"before", "1"), Source(b"after!", "2")
    assert bring(before, cache) == b"before"
    # Replaced between its listing and its answer: what came is not kept under the name of what was listed.
    assert bring(after, cache, listed=Listed("b", "other", "1", 6)) == b"after!"
    assert bring(before, cache, key="other") == b"before"
    assert bring(after, cache) == b"after!"


def test_half_a_file_of_a_killed_server_is_not_given(tmp_path: Path, bring: Callable[..., bytes]) -> None:
    source, cache = Source(b"picture"), ObjectCache(tmp_path / "c")
    bring(source, cache)
    (kept,) = (tmp_path / "c").glob("*/*")
    kept.write_bytes(b"pic")
    assert (bring(source, cache), source.fetched) == (b"picture", 2)
    assert kept.read_bytes() == b"picture"


def test_large_and_empty_objects_are_not_kept(
    tmp_path: Path, bring: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_cache, "MAX_OBJECT_BYTES", 5)
    for body in (b"", b"123456"):
        source, cache = Source(body), ObjectCache(tmp_path / "c")
        assert [bring(source, cache) for _ in range(2)] == [body] * 2
        assert source.fetched == 2
    assert list((tmp_path / "c").glob("*/*")) == []


def test_the_longest_unused_goes_first(tmp_path: Path, bring: Callable[..., bytes]) -> None:
    cache = ObjectCache(tmp_path / "c", max_bytes=100)
    for number in range(10):
        bring(Source(b"x" * 10, str(number)), cache)
        for age, kept in enumerate(sorted((tmp_path / "c").glob("*/*"), key=lambda path: -path.stat().st_mtime_ns)):
            os.utime(kept, (1e9 - age, 1e9 - age))
    bring(Source(b"x" * 10, "0"), cache)  # used again
    bring(Source(b"x" * 10, "10"), cache)
    kept_bytes = sum(path.stat().st_size for path in (tmp_path / "c").glob("*/*"))
    first, second = Source(b"x" * 10, "0"), Source(b"x" * 10, "1")
    bring(first, cache), bring(second, cache)
    assert (kept_bytes <= 75, first.fetched, second.fetched) == (True, 0, 1)


def test_a_full_disk_or_a_file_in_the_way_fails_no_job(
    tmp_path: Path, bring: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c").write_text("a file where the folder should be")
    assert bring(Source(b"picture"), ObjectCache(tmp_path / "c")) == b"picture"
    monkeypatch.setattr(object_cache, "SPARE_BYTES", 2**62)
    assert bring(Source(b"picture"), ObjectCache(tmp_path / "d")) == b"picture"
    assert not (tmp_path / "d").exists()


def test_of_many_at_once_one_fetches(tmp_path: Path) -> None:
    source, cache = Source(b"picture"), ObjectCache(tmp_path / "c")
    threads = [
        threading.Thread(target=cache.bring, args=(source.listed(), tmp_path / str(number), source))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.fetched == 1
    assert {(tmp_path / str(number)).read_bytes() for number in range(20)} == {b"picture"}


PAINTS = """
import os, pathlib
(path,) = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]).iterdir()
print("read", path.read_text())
path.write_text("painted over")
"""


def test_jobs_read_what_s3_says_now(server: Server) -> None:
    """Three jobs on one channel, each of which writes into it; then the object is another one."""

    def read(name: str) -> str:
        channel: dict[str, Any] = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/cached/"}
        request = training_request(
            server, name, PAINTS, InputDataConfig=[{"ChannelName": "train", "DataSource": {"S3DataSource": channel}}]
        )
        server.sagemaker.create_training_job(**request)
        assert wait(server, name)["TrainingJobStatus"] == "Completed"
        events = server.logs.filter_log_events(
            logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/", filterPattern="read"
        )["events"]
        return str(events[0]["message"])

    server.s3.put_object(Bucket=BUCKET, Key="cached/1.txt", Body=b"first")
    assert [read(f"cached-{number}") for number in range(3)] == ["read first"] * 3
    server.s3.put_object(Bucket=BUCKET, Key="cached/1.txt", Body=b"other")
    assert read("cached-3") == "read other"
    server.s3.delete_object(Bucket=BUCKET, Key="cached/1.txt")
    server.s3.put_object(Bucket=BUCKET, Key="cached/2.txt", Body=b"first")
    assert read("cached-4") == "read first"
