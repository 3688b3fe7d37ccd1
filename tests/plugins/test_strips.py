"""What each class looks like is kept for people: some images of each, drawn once, whoever has their files."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from retraining.dataset.sync import sync_dataset
from retraining.dataset.versions import strips as room
from retraining.plan import Plan
from tests.plugins.test_memory import requests, still
from tests.plugins.test_sync import keys, picture, read_json, write_classes

__all__ = ["still"]

WIDE = 12 * 96 + 11 * 6


class Pets:
    """A folder of two classes, and what syncs of it left to look at."""

    def __init__(self, s3: Any, bucket: str, make_plan: Callable[..., Plan], folder: Path) -> None:
        self.s3, self.bucket, self.folder = s3, bucket, folder
        self.plan = make_plan(bucket, source=str(folder))

    def sync(self) -> list[dict[str, Any]]:
        fingerprint = sync_dataset(self.plan, self.s3).version.fingerprint
        return list(read_json(self.s3, self.bucket, f"{self.plan.version_key(fingerprint)}/strips.json")["classes"])

    def drawn(self) -> set[str]:
        return {key for key in keys(self.s3, self.bucket) if "/data/strips/" in key}

    def strip(self, told: dict[str, Any]) -> Any:
        key = f"{self.plan.data_key}{room.key_of(told['strip'])}"
        body = self.s3.get_object(Bucket=self.bucket, Key=key)
        assert body["ContentType"] == "image/webp"
        return Image.open(io.BytesIO(body["Body"].read()))


@pytest.fixture
def pets(s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path, still: None) -> Pets:
    return Pets(s3, bucket, make_plan, write_classes(tmp_path / "in", {"cat": 40, "dog": 5}))


def test_each_class_shows_some_of_its_images(pets: Pets) -> None:
    cat, dog = pets.sync()
    assert (cat["label"], cat["count"], cat["shown"]) == ("cat", 40, 12)
    assert (dog["label"], dog["count"], dog["shown"]) == ("dog", 5, 5)
    assert pets.strip(cat).size == (WIDE, 96) and pets.strip(dog).size == (5 * 96 + 4 * 6, 96)


def test_an_unchanged_class_is_not_drawn_again(pets: Pets, monkeypatch: pytest.MonkeyPatch) -> None:
    cat, _ = pets.sync()
    for number in range(5):
        (pets.folder / "dog" / f"new {number}.png").write_bytes(picture(1000 + number))
    asked: list[int] = []
    monkeypatch.setattr(room, "drawn", lambda bodies, drawn=room.drawn: asked.append(len(bodies)) or drawn(bodies))
    assert pets.sync()[0] == cat
    assert asked == [10] and len(pets.drawn()) == 3


def test_an_unchanged_source_draws_nothing(pets: Pets) -> None:
    pets.sync()
    with requests(pets.s3) as made:
        pets.sync()
    assert made["PutObject"] == 0


def test_images_that_are_not_here_come_from_the_bucket(pets: Pets, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pets.sync()
    monkeypatch.setattr(room, "RULES", "strip-of-tomorrow")
    where, here = room.bytes_of, list[bool]()

    def gone(image: Any, store: Any, places: Any) -> bytes:
        key = f"images/{image.entry}"
        here.append(key in places)
        return where(image, store, {key: Path("gone")})

    monkeypatch.setattr(room, "bytes_of", gone)
    after = pets.sync()
    assert len(here) == 17 and [one["strip"] for one in after] != [one["strip"] for one in before]
    assert pets.strip(after[0]).tobytes() == pets.strip(before[0]).tobytes()


def test_what_is_small_is_shown_as_squares() -> None:
    tiny = Image.new("L", (8, 8), 90)
    tiny.putpixel((0, 0), 255)
    strip = drawn_of(tiny)
    assert [strip.getpixel(at)[0] > 200 for at in ((2, 2), (9, 9), (20, 20))] == [True, True, False]


def test_what_is_tall_is_shown_whole() -> None:
    strip = drawn_of(Image.new("RGB", (40, 400), (0, 0, 200)))
    assert (strip.getpixel((48, 2))[3], strip.getpixel((48, 93))[3], strip.getpixel((20, 48))[3]) == (255, 255, 0)


def drawn_of(image: Any) -> Any:
    body = io.BytesIO()
    image.save(body, "PNG")
    return Image.open(io.BytesIO(room.drawn([body.getvalue]))).convert("RGBA")


def test_a_class_that_cannot_be_drawn_is_drawn_next_time(pets: Pets, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as today:
        today.setattr(room, "SECONDS", -1.0)
        assert [one["strip"] for one in pets.sync()] == [None, None]
    assert all(one["strip"] for one in pets.sync())


def test_an_image_that_cannot_be_read_leaves_its_place() -> None:
    def good() -> bytes:
        return picture(7, 96)

    strip = Image.open(io.BytesIO(room.drawn([good, lambda: None, lambda: b"\x89PNG\r\n\x1a\n", good])))
    filled = [strip.convert("RGBA").getpixel((place * 102 + 48, 48))[3] for place in range(4)]
    assert filled == [255, 0, 0, 255]


def test_many_classes_show_fewer_images_each(pets: Pets) -> None:
    version = sync_dataset(pets.plan, pets.s3).version
    (one, *_), many = version.images, 133
    spread = [replace(one, label=f"{n % many:03d}", sha256=f"{n:064x}") for n in range(many * 20)]
    made = room.strips(replace(version, images=spread))
    assert len(made) == many and sum(len(strip.images) for strip in made) <= room.MOST
    assert {len(strip.images) for strip in made} == {9}
    spread = [replace(one, label=f"{n:04d}", sha256=f"{n:064x}") for n in range(2000)]
    assert len(room.strips(replace(version, images=spread))) == room.MOST_CLASSES
