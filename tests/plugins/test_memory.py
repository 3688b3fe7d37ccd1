"""A sync reads only what changed since the last one, and believes nothing that it cannot see."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from retraining.dataset.sources.memory import memory_key
from retraining.dataset.sync import Synced, sync_dataset
from retraining.plan import Plan
from tests.plugins.test_sync import keys, picture, read_json, write_classes


@contextmanager
def requests(s3: Any) -> Iterator[Counter[str]]:
    """What is asked of S3 meanwhile, by operation."""
    asked: Counter[str] = Counter()

    def count(model: Any, **_: Any) -> None:
        asked[model.name] += 1

    s3.meta.events.register("before-call.s3", count, unique_id="counted")
    try:
        yield asked
    finally:
        s3.meta.events.unregister("before-call.s3", unique_id="counted")


def rest(*paths: Path) -> None:
    """As if nobody had touched them lately; else they are read again, for they might change within the same tick."""
    for path in paths:
        for each in (path, *path.rglob("*")):
            os.utime(each, (1_700_000_000, 1_700_000_000.5))


class Source:
    """A folder in S3 or here, as a source."""

    def __init__(self, s3: Any, bucket: str, make_plan: Callable[..., Plan], folder: Path) -> None:
        self.s3, self.bucket, self.make_plan, self.folder = s3, bucket, make_plan, folder

    def sync(self, source: str | None = None, **changes: Any) -> Synced:
        return sync_dataset(self.plan(source, **changes), self.s3)

    def plan(self, source: str | None = None, **changes: Any) -> Plan:
        return self.make_plan(self.bucket, source=source or str(self.folder), **changes)

    def memory(self, source: str | None = None) -> list[Any]:
        key = memory_key("shapes", source or str(self.folder))
        body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return [json.loads(line) for line in gzip.decompress(body).splitlines()]

    def rewrite(self, lines: list[Any]) -> None:
        body = gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        self.s3.put_object(Bucket=self.bucket, Key=memory_key("shapes", str(self.folder)), Body=body)


@pytest.fixture
def pets(s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path, still: None) -> Source:
    return Source(s3, bucket, make_plan, write_classes(tmp_path / "pets", {"cat": 12, "dog": 12}))


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of tests are as young as their sync; here the file system's clock ticks more finely."""
    monkeypatch.setattr("retraining.dataset.stamp.FINE_NS", 0)


def test_an_unchanged_folder_costs_no_reading(pets: Source) -> None:
    first = pets.sync()
    with requests(pets.s3) as asked:
        second = pets.sync()
    assert (first.read, second.read, second.uploaded) == (24, 0, 0)
    assert second.version.fingerprint == first.version.fingerprint
    assert asked["PutObject"] == 0
    assert asked["ListObjectsV2"] == 0


def test_touched_files_are_read_but_not_sent(pets: Source) -> None:
    pets.sync()
    os.utime(pets.folder / "cat" / "3.png")
    with requests(pets.s3) as asked:
        second = pets.sync()
    assert (second.read, second.uploaded) == (1, 0)
    assert asked["ListObjectsV2"] == 0


def test_other_bytes_of_the_same_size_and_date_are_seen(pets: Source) -> None:
    """As `rsync -t` and `touch -r` leave them."""
    path, before = pets.folder / "cat" / "3.png", pets.sync().version
    status, body = path.stat(), bytearray(path.read_bytes())
    other = picture(700)
    other += b"\0" * (len(body) - len(other))
    path.write_bytes(other[: len(body)] if len(other) >= len(body) else other)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = pets.sync()
    assert after.read == 1
    assert after.version.fingerprint != before.fingerprint


def test_removed_and_added_files_make_another_version(pets: Source) -> None:
    before = pets.sync().version
    (pets.folder / "dog" / "11.png").unlink()
    (pets.folder / "dog" / "new.png").write_bytes(picture(800))
    after = pets.sync()
    assert after.read == 1
    assert len(after.version.images) == len(before.images)
    assert after.uploaded == 1 + 5
    assert pets.sync().version.fingerprint == after.version.fingerprint


def test_quarantined_files_are_remembered_with_their_reason(pets: Source) -> None:
    (pets.folder / "dog" / "page.jpg").write_bytes(b"<html>404</html>")
    (first, second) = (pets.sync() for _ in range(2))
    assert (second.read, second.uploaded) == (0, 0)
    assert [(q.file.name, q.code, q.detail) for q in second.version.quarantined] == [
        (q.file.name, q.code, q.detail) for q in first.version.quarantined
    ]


def test_a_file_written_in_the_same_tick_is_read_again(pets: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been written once more after it was read, and no time would tell."""
    monkeypatch.setattr("retraining.dataset.stamp.FINE_NS", 3600 * 10**9)
    pets.sync()
    with requests(pets.s3) as asked:
        second = pets.sync()
    assert second.read == 24
    assert asked["PutObject"] == 0


def test_objects_lost_from_the_bucket_are_put_back(pets: Source) -> None:
    first = pets.sync()
    stored = {key for key in keys(pets.s3, pets.bucket) if "/images/" in key}
    for key in stored:
        pets.s3.delete_object(Bucket=pets.bucket, Key=key)
    second = pets.sync()
    assert second.uploaded == 24
    assert second.version.fingerprint == first.version.fingerprint
    assert {key for key in keys(pets.s3, pets.bucket) if "/images/" in key} == stored


@pytest.mark.parametrize("text", [None, "", "[" * 100_000, '{"format": 1}\n[]\n', '{"format": 1, "rules": 7}'])
def test_a_broken_memory_costs_time_only(pets: Source, text: str | None) -> None:
    first = pets.sync()
    body = b"no gzip" if text is None else gzip.compress(text.encode())
    pets.s3.put_object(Bucket=pets.bucket, Key=memory_key("shapes", str(pets.folder)), Body=body)
    second = pets.sync()
    assert (second.read, second.uploaded) == (24, 0)
    assert second.version.fingerprint == first.version.fingerprint
    assert pets.sync().read == 0


def test_a_memory_of_other_rules_is_not_believed(pets: Source) -> None:
    pets.sync()
    head, *lines = pets.memory()
    pets.rewrite([head | {"rules": "of another release"}, *lines])
    assert pets.sync().read == 24


def test_classes_read_otherwise_need_no_new_files(pets: Source) -> None:
    """A recipe that folds two classes into others' names: the bytes are known, their objects have other names."""
    pets.sync()
    (pets.folder / "cat").rename(pets.folder / "lynx")
    after = pets.sync()
    assert after.version.classes == ["dog", "lynx"]
    assert {i.label for i in after.version.images} == {"dog", "lynx"}


def test_unchanged_objects_are_not_fetched(pets: Source) -> None:
    for path in pets.folder.rglob("*.png"):
        key = f"in/{path.relative_to(pets.folder)}"
        pets.s3.put_object(Bucket=pets.bucket, Key=key, Body=path.read_bytes())
    source = f"s3://{pets.bucket}/in"
    first = pets.sync(source)
    pets.s3.put_object(Bucket=pets.bucket, Key="in/cat/0.png", Body=picture(900))
    with requests(pets.s3) as asked:
        second = pets.sync(source)
    assert (first.read, second.read) == (24, 1)
    beside = 11  # in the strip of its class
    assert asked["GetObject"] == 1 + beside + 4 + 5  # memory, thumbs, decisions and strips; the documents
    with requests(pets.s3) as asked:
        third = pets.sync(source)
    assert (third.read, asked["PutObject"]) == (0, 0)


def test_objects_that_are_of_no_class_are_not_fetched(pets: Source) -> None:
    for path in pets.folder.rglob("*.png"):
        key = f"in/all/{path.relative_to(pets.folder)}"
        pets.s3.put_object(Bucket=pets.bucket, Key=key, Body=path.read_bytes())
    for number in range(5):
        pets.s3.put_object(Bucket=pets.bucket, Key=f"in/all/loose{number}.png", Body=picture(900 + number))
    source = f"s3://{pets.bucket}/in"
    pets.sync(source)
    with requests(pets.s3) as asked:
        assert pets.sync(source).read == 0
    assert asked["GetObject"] == 3 + 5  # memory, decisions and strips; the documents


def test_unfetched_objects_are_fetched_when_the_bucket_lost_them(pets: Source) -> None:
    for path in pets.folder.rglob("*.png"):
        key = f"in/{path.relative_to(pets.folder)}"
        pets.s3.put_object(Bucket=pets.bucket, Key=key, Body=path.read_bytes())
    source = f"s3://{pets.bucket}/in"
    pets.sync(source)
    for key in keys(pets.s3, pets.bucket):
        if "/images/" in key:
            pets.s3.delete_object(Bucket=pets.bucket, Key=key)
    assert pets.sync(source).uploaded == 24


@pytest.mark.parametrize("where", ["here", "s3"])
def test_an_unchanged_archive_is_not_opened(pets: Source, where: str) -> None:
    (pets.folder / "notes.txt").write_text("of no class")
    archive = pets.folder.parent / "pets.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(pets.folder, "pets")
    source = str(archive)
    if where == "s3":
        source = f"s3://{pets.bucket}/pets.tar"
        pets.s3.upload_file(str(archive), pets.bucket, "pets.tar")
    first = pets.sync(source)
    with requests(pets.s3) as asked:
        second = pets.sync(source)
    assert (first.read, second.read, second.uploaded) == (24, 0, 0)
    assert second.version.document() == first.version.document()
    assert asked["GetObject"] == 3 + 5  # memory, decisions and strips; the documents
    assert asked["PutObject"] == 0


def test_a_changed_archive_sends_only_what_is_new(pets: Source) -> None:
    archive = pets.folder.parent / "pets.tar"
    for extra in (0, 1):
        if extra:
            (pets.folder / "cat" / "new.png").write_bytes(picture(950))
        with tarfile.open(archive, "w") as tar:
            tar.add(pets.folder, "pets")
        found = pets.sync(str(archive))
    assert found.uploaded == 1 + 5


def test_the_digits_are_not_written_out_twice(pets: Source) -> None:
    first = pets.sync("bundled://digits")
    second = pets.sync("bundled://digits")
    assert (first.read, second.read, second.uploaded) == (1797, 0, 0)
    assert second.version.fingerprint == first.version.fingerprint


def test_converted_pictures_are_not_converted_twice(pets: Source) -> None:
    from PIL import Image

    for number in range(6):
        Image.effect_noise((32, 32), 80 + number).save(pets.folder / "dog" / f"scan{number}.tiff")
    first = pets.sync()
    second = pets.sync()
    assert first.version.converted == {"TIFF": 6}
    assert (second.read, second.uploaded) == (0, 0)
    folder = pets.plan().version_key(first.version.fingerprint)
    originals = read_json(pets.s3, pets.bucket, f"{folder}/originals.json")
    assert sorted(original["name"] for original in originals.values()) == [f"dog/scan{n}.tiff" for n in range(6)]


def test_a_sync_that_dies_is_finished_by_the_next(pets: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    put, puts = pets.s3.put_object, []

    def die(**arguments: Any) -> Any:
        if len(puts) == 9:
            raise KeyboardInterrupt
        puts.append(arguments["Key"])
        return put(**arguments)

    monkeypatch.setattr(pets.s3, "put_object", die)
    with pytest.raises(KeyboardInterrupt):
        pets.sync()
    monkeypatch.undo()
    again = pets.sync()
    shutil.rmtree(pets.folder)
    assert again.uploaded == 24 + 5 - len({key for key in puts if "/images/" in key})
