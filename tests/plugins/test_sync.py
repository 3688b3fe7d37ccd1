"""A source becomes a version in S3, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from retraining.dataset.sources.source import SourceError
from retraining.dataset.sync import sync_dataset
from retraining.dataset.versions.version import DatasetError
from retraining.plan import Plan


def picture(shade: int, size: int = 32, kind: str = "PNG") -> bytes:
    """An image no other shade has."""
    image = Image.new("RGB", (size, size), (shade % 256, shade // 256, 7))
    image.putpixel((0, 0), (255, 255, 255))
    body = BytesIO()
    image.save(body, kind)
    return body.getvalue()


def write_classes(root: Path, counts: dict[str, int]) -> Path:
    """A folder of class folders; every image is different from every other."""
    shade = 0
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for number in range(count):
            (root / label / f"{number}.png").write_bytes(picture(shade))
            shade += 1
    return root


def keys(s3: Any, bucket: str) -> set[str]:
    return {entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])}


def read_json(s3: Any, bucket: str, key: str) -> Any:
    return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def test_manifests_name_every_object_once(s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    plan = make_plan(bucket, source=str(write_classes(tmp_path / "in", {"cat": 20, "dog": 20})))
    synced = sync_dataset(plan, s3)
    named = []
    for split in ("train", "validation", "test"):
        prefix, *entries = read_json(s3, bucket, plan.manifest_key(synced.version.fingerprint, split))
        assert prefix == {"prefix": f"s3://{bucket}/shapes/data/images/"}
        named += [f"shapes/data/images/{entry}" for entry in entries]
    stored = {key for key in keys(s3, bucket) if key.startswith("shapes/data/images/")}
    assert sorted(named) == sorted(stored)
    assert len(named) == 40


def test_second_sync_uploads_nothing(s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    plan = make_plan(bucket, source=str(write_classes(tmp_path / "in", {"cat": 9, "dog": 9})))
    first = sync_dataset(plan, s3)
    second = sync_dataset(plan, s3)
    assert first.uploaded == 18 + 5
    assert second.uploaded == 0
    assert second.version.fingerprint == first.version.fingerprint


def test_one_new_image_uploads_one_image(s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    source = write_classes(tmp_path / "in", {"cat": 9, "dog": 9})
    before = sync_dataset(make_plan(bucket, source=str(source)), s3).version
    (source / "cat" / "new.png").write_bytes(picture(999))
    after = sync_dataset(make_plan(bucket, source=str(source)), s3)
    assert after.uploaded == 1 + 5
    moved = {i.sha256: i.split for i in before.images}.items() - {
        i.sha256: i.split for i in after.version.images
    }.items()
    assert not moved


def test_corrupt_files_are_quarantined_with_their_reason(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    source = write_classes(tmp_path / "in", {"cat": 20, "dog": 20})
    (source / "cat" / "cut.png").write_bytes(picture(900)[:-20])
    (source / "dog" / "page.jpg").write_bytes(b"<html>404</html>")
    plan = make_plan(bucket, source=str(source))
    version = sync_dataset(plan, s3).version
    document = read_json(s3, bucket, f"{plan.version_key(version.fingerprint)}/dataset.json")
    assert {(q["name"], q["code"]) for q in document["quarantined"]} == {
        ("cat/cut.png", "TRUNCATED"),
        ("dog/page.jpg", "NOT_IMAGE"),
    }
    assert len([key for key in keys(s3, bucket) if key.startswith("shapes/data/quarantine/")]) == 2


def test_what_was_understood_is_said_before_any_upload(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_classes(
        tmp_path / "pets", {"Training/cat": 9, "Training/dog": 9, "Testing/cat": 3, "Testing/dog": 2}
    )
    write_classes(source, {"extra": 1})
    (source / "Training" / "Thumbs.db").write_bytes(b"x")
    plan = make_plan(bucket, source=str(source))
    with caplog.at_level("INFO"):
        version = sync_dataset(plan, s3).version
    messages = [record.getMessage() for record in caplog.records]
    said = next(number for number, text in enumerate(messages) if "was understood as" in text)
    assert said < next(number for number, text in enumerate(messages) if text.startswith("Uploaded"))
    for line in (
        "| class | train | validation | test |",
        f"| dog | {version.counts['train']['dog']} | {version.counts['validation']['dog']} | 2 |",
        "- Splits of the source are kept: Testing as test, Training as train.",
        "- Ignored, in extra: no split of this source: 1 (extra/0.png).",
        "- Ignored, of a system: 1 (Training/Thumbs.db).",
    ):
        assert line in messages[said]
    document = read_json(s3, bucket, f"{plan.version_key(version.fingerprint)}/dataset.json")
    assert document["layout"]["splits"] == {"Testing": "test", "Training": "train"}


def test_a_linked_file_that_is_no_image_is_named_but_not_copied(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    """It may be anyone's, such as a key."""
    source = write_classes(tmp_path / "in", {"cat": 20, "dog": 20})
    (tmp_path / "id_rsa").write_text("secret")
    (source / "cat" / "a.png").symlink_to(tmp_path / "id_rsa")
    (source / "dog" / "b.png").symlink_to(write_classes(tmp_path / "else", {"x": 99}) / "x" / "98.png")
    version = sync_dataset(make_plan(bucket, source=str(source)), s3).version
    assert [entry.file.name for entry in version.quarantined] == ["cat/a.png"]
    assert len(version.images) == 41
    assert not [key for key in keys(s3, bucket) if "quarantine" in key]


def test_many_corrupt_files_stop_the_sync_before_any_upload(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    source = write_classes(tmp_path / "in", {"cat": 20, "dog": 20})
    for number in range(4):
        (source / "cat" / f"bad{number}.png").write_bytes(b"not an image")
    with pytest.raises(DatasetError, match=r"4 of 44 files of the source .*NOT_IMAGE 4.*at most 2%"):
        sync_dataset(make_plan(bucket, source=str(source)), s3)
    assert keys(s3, bucket) == set()


def test_same_bytes_in_two_classes_are_in_neither(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    source = write_classes(tmp_path / "in", {"cat": 20, "dog": 20})
    (source / "dog" / "a-cat.png").write_bytes((source / "cat" / "0.png").read_bytes())
    version = sync_dataset(make_plan(bucket, source=str(source)), s3).version
    assert {(q.file.name, q.code) for q in version.quarantined} == {
        ("cat/0.png", "LABEL_CONFLICT"),
        ("dog/a-cat.png", "LABEL_CONFLICT"),
    }
    assert len(version.images) == 39


def test_a_source_in_s3_gives_the_same_version_as_the_folder(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    source = write_classes(tmp_path / "in", {"cat": 9, "dog": 9})
    for path in source.rglob("*.png"):
        s3.upload_file(str(path), bucket, f"incoming/{path.relative_to(source).as_posix()}")
    there = sync_dataset(make_plan(bucket, source=f"s3://{bucket}/incoming/"), s3).version
    here = sync_dataset(make_plan(bucket, source=str(source)), s3).version
    assert there.fingerprint == here.fingerprint


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("s3://no-such-bucket/a", r"s3://no-such-bucket/a/: there is no bucket 'no-such-bucket'; correct the name"),
        ("S3://bucket/a", r"must be s3://bucket/prefix, with s3 in lower case"),
        ("s3://", r"must be s3://bucket/prefix"),
        ("s3://a b/c.zip", r"the bucket's own name, of letters"),
        ("s3://arn:aws:s3:us-east-1:000000000000:accesspoint/a/b", r"for an access point that is its alias"),
    ],
)
def test_an_address_of_no_bucket_is_refused(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], source: str, complaint: str
) -> None:
    with pytest.raises(SourceError, match=complaint):
        sync_dataset(make_plan(bucket, source=source), s3)


def test_one_class_is_refused(s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    source = write_classes(tmp_path / "in", {"cat": 9})
    with pytest.raises(SourceError, match=r"one class only, 'cat'.*at least two"):
        sync_dataset(make_plan(bucket, source=str(source)), s3)


def test_an_empty_folder_is_refused(s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no images in class folders. Expected <class>/<image>"):
        sync_dataset(make_plan(bucket, source=str(tmp_path)), s3)


def test_a_missing_folder_is_refused(s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist on this machine"):
        sync_dataset(make_plan(bucket, source=str(tmp_path / "nowhere")), s3)


def test_the_bundled_digits_are_all_there(s3: Any, bucket: str, make_plan: Callable[..., Plan]) -> None:
    plan = make_plan(bucket, source="bundled://digits")
    version = sync_dataset(plan, s3).version
    total = {split: sum(counts.values()) for split, counts in version.counts.items()}
    assert version.classes == [str(digit) for digit in range(10)]
    assert sum(total.values()) + version.duplicates == 1797
    assert 200 < total["test"] < 340
    assert version.quarantined == []
