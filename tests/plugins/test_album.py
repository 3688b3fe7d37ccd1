"""The images that tell two models apart, as a page shows them."""

from __future__ import annotations

import base64
import io
import struct
import tracemalloc
from collections.abc import Callable

import pytest
from PIL import Image

from retraining.dataset.pictures.small import SIDE, Thumbnails, small
from retraining.promotion import album as room
from retraining.promotion.album import SHOWN, album
from retraining.run import Run
from retraining.steps import compare
from tests.plugins.scored import scored
from tests.plugins.test_compare import scored_run

__all__ = ["scored_run"]


def picture(kind: str = "PNG", size: tuple[int, int] = (400, 200), **saved: object) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(body, kind, **saved)
    return body.getvalue()


def test_images_are_won_lost_or_wrong() -> None:
    found = album(scored("aabbcc", "aabaca"), scored("aabbcc", "acbbca", sure=0.6), lambda name: None)
    assert {kind: one["count"] for kind, one in found.items()} == {"won": 1, "lost": 1, "wrong": 1, "some": 6}
    assert found["won"]["images"] == [
        {"image": "a/00001", "class": "a", "answer": "a", "sure": 0.9, "was": "c", "was_sure": 0.2, "picture": None}
    ]
    (lost,), (wrong,) = found["lost"]["images"], found["wrong"]["images"]
    assert (lost["answer"], lost["was"], wrong["answer"], wrong["was"]) == ("a", "b", "a", "a")


def test_without_a_champion_all_that_is_wrong_is_shown() -> None:
    found = album(scored("ab" * 40, "b" * 80), None, lambda name: None)
    assert (found["won"]["count"], found["lost"]["count"], found["wrong"]["count"]) == (0, 0, 40)
    assert len(found["wrong"]["images"]) == SHOWN
    assert found["wrong"]["images"][0]["was"] is None


def test_some_of_all_images_are_of_every_class() -> None:
    found = album(scored("a" * 90 + "bc", "a" * 90 + "bc"), None, lambda name: None)["some"]
    assert (found["count"], len(found["images"])) == (92, SHOWN)
    assert [line["class"] for line in found["images"][:4]] == ["a", "b", "c", "a"]


def test_a_picture_is_small_and_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    with Image.open(io.BytesIO(small(picture("JPEG", (4000, 2000), exif=exif)))) as made:
        assert (made.format, made.size) == ("JPEG", (SIDE // 2, SIDE))


def test_exif_that_names_gigabytes_turns_a_picture_all_the_same() -> None:
    turn = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    entries = b"".join(struct.pack("<HHII", 1000 + number, 1, 2**18 - 20, 0) for number in range(20_000))
    bomb = (b"II*\0" + struct.pack("<IH", 8, 20_001) + turn + entries).ljust(2**18, b"\0")
    body = picture(size=(400, 200), exif=b"Exif\0\0" + bomb)
    tracemalloc.start()
    try:
        with Image.open(io.BytesIO(small(body))) as made:
            assert made.size == (SIDE // 2, SIDE)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_what_cannot_be_shown_is_named_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"a": picture(), "b": b"no picture", "c": picture()}
    monkeypatch.setattr("retraining.dataset.pictures.small.MAX_READ_BYTES", len(files["a"]) + len(files["b"]))
    thumbnails = Thumbnails(lambda name, most: files[name] if len(files[name]) <= most else None)
    first, broken, beyond = map(thumbnails, files)
    assert first is not None and Image.open(io.BytesIO(base64.b64decode(first.partition(",")[2]))).size == (128, 64)
    assert (broken, beyond) == (None, None)


def test_a_run_keeps_its_images(scored_run: Callable[..., Run]) -> None:
    run = scored_run()
    key = f"{run.plan.images_key}cat/1.png"
    run.s3.put_object(Bucket=run.environment.bucket, Key=key, Body=picture(size=(16, 16)))
    assert compare(run) is True
    kept = run.read_json(run.plan.album_key)
    pictures = {line["image"]: line["picture"] for line in kept["won"]["images"]}
    assert pictures["cat/1.png"].startswith("data:image/jpeg;base64,") and pictures["dog/0.png"] is None
    assert [line["image"] for line in kept["lost"]["images"]] == ["dog/1.png"]


def test_a_broken_album_decides_nothing(scored_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_lines", lambda *_: 1 / 0)
    assert compare(scored_run()) is True


def test_an_x_ray_of_sixteen_bits_has_its_greys() -> None:
    body = io.BytesIO()
    Image.new("I;16", (40, 40), 12_850).save(body, "PNG")
    assert Image.open(io.BytesIO(small(body.getvalue()))).convert("L").getpixel((20, 20)) == 50
