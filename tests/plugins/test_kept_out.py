"""What a sync kept out can be looked at: bounded, made once, and by none that a file could bring down."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from retraining.dataset.pictures.pool import look_at
from retraining.dataset.pictures.worker import Limits
from retraining.dataset.sources.source import SourceFile
from retraining.dataset.sync import sync_dataset
from retraining.dataset.versions import kept_out as room
from retraining.dataset.versions.kept_out import SHOWN, first
from retraining.dataset.versions.version import Quarantined, Version
from retraining.plan import Plan
from tests.plugins.test_memory import requests, rest, still
from tests.plugins.test_sync import picture, read_json, write_classes

__all__ = ["still"]

HOSTILE = '"><script>alert(1)<\u200f.png'


class Source:
    """A folder with bad files in it, and what a sync left of it."""

    def __init__(self, s3: Any, bucket: str, make_plan: Callable[..., Plan], folder: Path) -> None:
        self.s3, self.bucket, self.make_plan, self.folder = s3, bucket, make_plan, folder

    def document(self, source: str | None = None) -> dict[str, Any]:
        plan = self.make_plan(self.bucket, source=source or str(self.folder))
        version: Version = sync_dataset(plan, self.s3).version
        return dict(read_json(self.s3, self.bucket, f"{plan.version_key(version.fingerprint)}/kept-out.json"))

    def files(self, source: str | None = None) -> dict[str, Any]:
        return {file["name"]: file for file in self.document(source)["files"]}


@pytest.fixture
def source(s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path, still: None) -> Source:
    folder = write_classes(tmp_path / "in", {"cat": 100, "dog": 100})
    (folder / "cat" / HOSTILE.replace("/", "")).write_bytes(picture(900, 8))
    (folder / "dog" / "page.jpg").write_bytes(b"<html>404</html>")
    shutil.copy(folder / "cat" / "0.png", folder / "dog" / "a-cat.png")
    rest(folder)
    return Source(s3, bucket, make_plan, folder)


def size(file: dict[str, Any]) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(file["picture"].partition(",")[2]))).size


def test_each_file_has_its_reason_and_a_picture_if_it_is_one(source: Source) -> None:
    document = source.document()
    assert document["codes"] == {"LABEL_CONFLICT": 2, "NOT_IMAGE": 1, "TOO_SMALL": 1}
    assert [(file["class"], file["code"]) for file in document["files"]] == [
        ("cat", "LABEL_CONFLICT"), ("dog", "LABEL_CONFLICT"), ("dog", "NOT_IMAGE"), ("cat", "TOO_SMALL"),
    ]  # fmt: skip
    assert [file["picture"] and size(file) for file in document["files"]] == [(32, 32), (32, 32), None, (8, 8)]


def test_pictures_are_made_once(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    before = source.document()
    with requests(source.s3) as asked:
        monkeypatch.setattr(room, "look_at", lambda paths, _: iter([None for _ in paths]))
        assert source.document() == before
    assert asked["PutObject"] == 0


def test_an_archive_that_is_not_opened_again_is_looked_at_in_s3(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = shutil.make_archive(str(tmp_path / "pets"), "zip", source.folder)
    rest(Path(packed))
    before = source.document(packed)
    monkeypatch.setattr(room, "RULES", "glimpse-0")  # as if other pictures had been made then
    after = source.document(packed)
    assert after["rules"] == "glimpse-0" and after["files"] == before["files"]


def test_a_file_over_a_link_is_not_shown(source: Source, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.png").write_bytes(picture(901, 8))
    (source.folder / "dog" / "page.jpg").unlink()
    (source.folder / "dog" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    assert source.files()["dog/link.png"]["picture"] is None


def test_no_more_is_read_than_the_bound(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_READ_BYTES", (source.folder / "cat" / "0.png").stat().st_size)
    shown = [file["code"] for file in source.document()["files"] if file["picture"]]
    assert shown == ["LABEL_CONFLICT"] * 2


def test_pictures_that_cannot_be_made_decide_nothing(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "look_at", lambda *_: 1 / 0)
    assert [file["picture"] for file in source.document()["files"]] == [None] * 4


def test_a_version_without_bad_files_has_no_document(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = make_plan(bucket, source=str(write_classes(tmp_path / "in", {"cat": 9, "dog": 9})))
    sync_dataset(plan, s3)
    assert not [
        key["Key"] for key in s3.list_objects_v2(Bucket=bucket)["Contents"] if key["Key"].endswith("kept-out.json")
    ]


def test_every_reason_has_its_share_of_what_is_shown() -> None:
    def entry(number: int, code: str) -> Quarantined:
        name = f"{number:03}.png"
        return Quarantined(file=SourceFile(path=Path(name), label="a", split=None, name=name), code=code, detail="")

    many = [entry(number, "TRUNCATED") for number in range(200)]
    shown = [one.code for one in first([*many, entry(0, "TOO_SMALL"), *(entry(n, "LABEL_CONFLICT") for n in "01")])]
    assert len(shown) == SHOWN
    assert shown[:3] == ["LABEL_CONFLICT", "LABEL_CONFLICT", "TOO_SMALL"]


@pytest.mark.slow
def test_a_file_that_ends_its_decoder_costs_its_picture_alone(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(picture(1))
    Image.effect_noise((300, 300), 90).resize((10_000, 12_000), 0).save(tmp_path / "slow.png")
    paths = [tmp_path / name for name in ("good.png", "slow.png", "good.png", "absent.png")]
    found = list(look_at(paths, tmp_path, Limits(memory_bytes=3 * 2**30, cpu_s=0.4)))
    assert [bool(one) for one in found] == [True, False, True, False]
