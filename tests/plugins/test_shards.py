"""A version as tar shards: WebDataset's layout, the same bytes each time, whole or not there."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from retraining.dataset.split import SPLITS
from retraining.dataset.sync import sync_dataset
from retraining.dataset.versions.shards import keep_shards
from retraining.dataset.versions.store import Store
from retraining.dataset.versions.version import DatasetError
from retraining.plan import Plan
from tests.plugins.test_sync import keys, picture, read_json, write_classes

# How the library parts a member's name into the key of its sample and what the member is of it.
KEY = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")


@pytest.fixture
def plan(bucket: str, make_plan: Callable[..., Plan], tmp_path: Path) -> Plan:
    source = write_classes(tmp_path / "in", {"cat": 20, "dög": 20})
    return make_plan(bucket, source=str(source), sync={"shards": "FastFile"})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a few images."""
    monkeypatch.setattr("retraining.dataset.versions.shards.SHARD_BYTES", 40 * 1024)


def objects(s3: Any, plan: Plan, fingerprint: str) -> dict[str, bytes]:
    """<split>/<name> → bytes of everything below a version's shards."""
    prefix, bucket = f"{plan.version_key(fingerprint)}/shards/", plan.environment.bucket
    found = sorted(key for key in keys(s3, bucket) if key.startswith(prefix))
    return {key.removeprefix(prefix): s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in found}


def members(body: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def in_every_shard(found: dict[str, bytes], split: str) -> list[tuple[str, bytes]]:
    shards = json.loads(found[f"{split}/index.json"])["shardlist"]
    return [member for shard in shards for member in members(found[f"{split}/{shard['url']}"])]


@contextmanager
def dying(s3: Any, after: int) -> Iterator[None]:
    """A sync that dies when it has put so many objects of shards."""
    puts = 0

    def dies(params: Any, **_: Any) -> None:
        nonlocal puts
        puts += "/shards/" in params["url_path"]
        if puts > after:
            raise ConnectionError("killed")

    s3.meta.events.register("before-call.s3.PutObject", dies, unique_id="dies")
    try:
        with pytest.raises(ConnectionError):
            yield
    finally:
        s3.meta.events.unregister("before-call.s3.PutObject", unique_id="dies")


def test_samples_are_in_webdatasets_layout(s3: Any, plan: Plan) -> None:
    fingerprint = sync_dataset(plan, s3).version.fingerprint
    found, classes = objects(s3, plan, fingerprint), ["cat", "dög"]
    for split in SPLITS:
        index = json.loads(found[f"{split}/index.json"])
        assert (index["__kind__"], index["wids_version"]) == ("wids-shard-index-v1", 1)
        assert index["classes"] == classes
        entries = []
        parted = [(KEY.fullmatch(name), body) for name, body in in_every_shard(found, split)]
        for key, files in groupby(parted, key=lambda item: item[0] and item[0][1]):
            (image, body), (label, number) = list(files)
            assert image and label and key and label[2] == "cls"
            entries.append(f"{classes[int(number)]}/{key.rpartition('/')[2]}.{image[2]}")
            stored = s3.get_object(Bucket=plan.environment.bucket, Key=f"{plan.images_key}{entries[-1]}")
            assert body == stored["Body"].read()
        _, *manifest = read_json(s3, plan.environment.bucket, plan.manifest_key(fingerprint, split))
        assert sorted(entries) == manifest
        assert index["images"] == sum(index["counts"].values()) == len(manifest)


def test_the_classes_are_mixed(s3: Any, plan: Plan) -> None:
    """Who streams a shard from its beginning must not learn one class after the other."""
    found = objects(s3, plan, sync_dataset(plan, s3).version.fingerprint)
    labels = [body for name, body in in_every_shard(found, "train") if name.endswith(".cls")]
    assert len(list(groupby(labels))) > 4


def test_members_are_nobodys_and_of_no_time(s3: Any, plan: Plan) -> None:
    found = objects(s3, plan, sync_dataset(plan, s3).version.fingerprint)
    with tarfile.open(fileobj=io.BytesIO(found["train/train-000000.tar"])) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.type) for m in tar} == {(0, 0, 0, "", "", b"0")}


@pytest.mark.usefixtures("small")
def test_a_shard_is_no_larger_than_it_may_be(s3: Any, plan: Plan) -> None:
    found = objects(s3, plan, sync_dataset(plan, s3).version.fingerprint)
    sizes = [len(body) for name, body in found.items() if name.startswith("train/train-")]
    assert len(sizes) > 1
    assert max(sizes) <= 40 * 1024
    listed = json.loads(found["train/index.json"])["shardlist"]
    assert [shard["filesize"] for shard in listed] == sizes


@pytest.mark.usefixtures("small")
def test_the_same_version_has_the_same_bytes(s3: Any, plan: Plan) -> None:
    fingerprint = sync_dataset(plan, s3).version.fingerprint
    first, bucket = objects(s3, plan, fingerprint), plan.environment.bucket
    for key in keys(s3, bucket):
        s3.delete_object(Bucket=bucket, Key=key)
    sync_dataset(plan, s3)
    assert objects(s3, plan, fingerprint) == first


def test_a_second_sync_packs_nothing(s3: Any, plan: Plan) -> None:
    assert sync_dataset(plan, s3).uploaded == 40 + 5 + 3 * 2
    assert sync_dataset(plan, s3).uploaded == 0


def test_shards_are_no_other_version(s3: Any, bucket: str, plan: Plan, make_plan: Callable[..., Plan]) -> None:
    """A recipe that begins to ask for them gets them of the data that is there, which stay what they are."""
    without = make_plan(bucket, source=plan.recipe.source)
    before = sync_dataset(without, s3).version
    stored = {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys(s3, bucket)}
    after = sync_dataset(plan, s3)
    assert (after.version.fingerprint, after.uploaded) == (before.fingerprint, 6)
    assert {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in stored} == stored


def test_a_file_that_changed_meanwhile_is_taken_from_the_bucket(
    s3: Any, bucket: str, plan: Plan, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    version = sync_dataset(make_plan(bucket, source=plan.recipe.source), s3).version
    image = next(image for image in version.images if image.split == "train")
    right = image.file.path.read_bytes()
    image.file.path.write_bytes(b"something else")
    store = Store(s3, bucket, plan.data_key, frozenset())
    keep_shards(version, store, {f"images/{image.entry}": image.file.path for image in version.images}, tmp_path)
    bodies = [body for _, body in in_every_shard(objects(s3, plan, version.fingerprint), "train")]
    assert right in bodies
    assert b"something else" not in bodies


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_what_was_half_packed_is_finished(s3: Any, plan: Plan, after: int) -> None:
    """No index and no version before all shards are there."""
    whole = sync_dataset(plan, s3).version.fingerprint
    expected, bucket = objects(s3, plan, whole), plan.environment.bucket
    for key in keys(s3, bucket):
        s3.delete_object(Bucket=bucket, Key=key)
    with dying(s3, after):
        sync_dataset(plan, s3)
    assert f"{plan.version_key(whole)}/dataset.json" not in keys(s3, bucket)
    for name, body in objects(s3, plan, whole).items():
        assert expected[name] == body
    sync_dataset(plan, s3)
    assert objects(s3, plan, whole) == expected


@pytest.mark.parametrize("damage", ["gone", "shorter", "foreign", "no index", "other index"])
def test_what_is_not_whole_is_packed_again(s3: Any, plan: Plan, damage: str) -> None:
    fingerprint = sync_dataset(plan, s3).version.fingerprint
    expected, bucket = objects(s3, plan, fingerprint), plan.environment.bucket
    folder = plan.shards_key(fingerprint, "train")
    if damage == "gone":
        s3.delete_object(Bucket=bucket, Key=f"{folder}train-000000.tar")
    elif damage == "no index":
        s3.delete_object(Bucket=bucket, Key=f"{folder}index.json")
    else:
        name = {"shorter": "train-000000.tar", "foreign": "train-000007.tar", "other index": "index.json"}[damage]
        s3.put_object(Bucket=bucket, Key=f"{folder}{name}", Body=b'{"shardlist": 7}')
    assert sync_dataset(plan, s3).uploaded == 2
    assert objects(s3, plan, fingerprint) == expected


def test_other_pictures_of_the_same_version_are_packed_anew(s3: Any, plan: Plan) -> None:
    """A conversion by another library gives other bytes to the same images, so that the fingerprint stays."""
    fingerprint = sync_dataset(plan, s3).version.fingerprint
    bucket, key = plan.environment.bucket, f"{plan.shards_key(fingerprint, 'test')}index.json"
    index = read_json(s3, bucket, key)
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(index | {"names_sha256": "of others"}).encode())
    with dying(s3, 1):
        sync_dataset(plan, s3)
    assert key not in keys(s3, bucket)  # else the new shards would be taken for those that it lists
    sync_dataset(plan, s3)
    assert read_json(s3, bucket, key) == index


@pytest.fixture
def in_s3(s3: Any, bucket: str, plan: Plan, make_plan: Callable[..., Plan]) -> Plan:
    """The same images from S3, where a second sync fetches none of them."""
    for path in Path(plan.recipe.source).rglob("*.png"):
        s3.upload_file(str(path), bucket, f"in/{path.parent.name}/{path.name}")
    sync_dataset(make_plan(bucket, source=f"s3://{bucket}/in"), s3)
    return make_plan(bucket, source=f"s3://{bucket}/in", sync={"shards": "File"})


def test_an_image_that_is_not_its_name_is_refused(s3: Any, bucket: str, in_s3: Plan) -> None:
    image = next(key for key in sorted(keys(s3, bucket)) if key.startswith(in_s3.images_key))
    s3.put_object(Bucket=bucket, Key=image, Body=picture(4000))
    with pytest.raises(DatasetError, match=rf"s3://{bucket}/{image} has other bytes than its name says.*Delete it"):
        sync_dataset(in_s3, s3)
    assert len([key for key in keys(s3, bucket) if key.endswith("index.json")]) < len(SPLITS)
    s3.delete_object(Bucket=bucket, Key=image)
    fingerprint = sync_dataset(in_s3, s3).version.fingerprint
    assert {f"{split}/index.json" for split in SPLITS} <= objects(s3, in_s3, fingerprint).keys()
