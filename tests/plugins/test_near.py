"""Pictures that are nearly the same are found, whatever was done to them, and nothing else is."""

from __future__ import annotations

import base64
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits, load_sample_images

from retraining.dataset.near import pairs as near
from retraining.dataset.near.pairs import near_duplicates
from retraining.dataset.pictures.thumb import BYTES, thumb_of
from retraining.dataset.pictures.verdict import VerifiedImage
from retraining.dataset.pictures.verify import verify_image
from retraining.dataset.summary import notes_on
from retraining.dataset.sync import sync_dataset
from retraining.dataset.versions.version import DatasetError
from retraining.plan import Plan
from tests.plugins.test_memory import requests
from tests.plugins.test_sync import read_json


def cut_out(photograph: Image.Image, left: bool) -> Image.Image:
    """One half of it; the other is there, and nobody sees it."""
    alpha = np.zeros((photograph.height, photograph.width), np.uint8)
    half = slice(None, photograph.width // 2) if left else slice(photograph.width // 2, None)
    alpha[:, half] = 255
    cut = photograph.convert("RGBA")
    cut.putalpha(Image.fromarray(alpha))
    return cut


PLAIN = {0, 3, 4, 5, 9, 43, 46, 47}
"""Parts of nothing but sky, or out of focus: they are not compared."""


def photographs(side: int = 106) -> list[Image.Image]:
    """Forty parts of two photographs, none of which overlaps another."""
    parts = [
        whole.crop((x, y, x + side, y + side))
        for whole in map(Image.fromarray, load_sample_images().images)
        for y in range(0, whole.height - side + 1, side)
        for x in range(0, whole.width - side + 1, side)
    ]
    return [part for number, part in enumerate(parts) if number not in PLAIN]


def found(images: list[Image.Image]) -> list[list[int]]:
    return near_duplicates(as_thumbs([base64.b64decode(thumb_of(image)) for image in images]))


def as_thumbs(bodies: list[bytes]) -> NDArray[np.uint8]:
    """(N, BYTES of a thumb)."""
    return np.frombuffer(b"".join(bodies), np.uint8).reshape(len(bodies), BYTES)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    body = BytesIO()
    image.save(body, "JPEG", quality=quality)
    return Image.open(body)


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop((round(width * left), round(height * top), round(width * right), round(height * bottom)))


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "halved": lambda image: image.resize((53, 53), Image.Resampling.BICUBIC),
    "enlarged": lambda image: image.resize((200, 200), Image.Resampling.BILINEAR),
    "stretched": lambda image: image.resize((85, 106)),
    "saved at 30": lambda image: jpeg(image, 30),
    "brightened": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darkened": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "cropped all round": lambda image: cropped(image, 0.025, 0.025, 0.975, 0.975),
    "cropped at a corner": lambda image: cropped(image, 0.05, 0.05, 1, 1),
    "cropped at the other": lambda image: cropped(image, 0, 0, 0.95, 0.95),
    "cropped at a side": lambda image: cropped(image, 0.05, 0, 1, 1),
    "cropped, halved, saved": lambda image: jpeg(cropped(image, 0.025, 0.025, 0.975, 0.975).resize((53, 53)), 60),
}


def test_what_is_transparent_is_not_compared() -> None:
    """A program that cuts out may leave the colours of what it took away."""
    one = photographs()[0]
    halves = [cut_out(one, left=True), cut_out(one, left=False)]
    assert found([*halves, halves[0].resize((53, 53))]) == [[0, 2]]


@pytest.mark.parametrize("way", WAYS)
def test_copies_are_found(way: str) -> None:
    """Nine of ten of each kind at least; `bench/near_duplicates.py` counts them all."""
    images = photographs()
    copies = [WAYS[way](image) for image in images]
    clusters = found(images + copies)
    pairs = {number for number in range(len(images)) if [number, number + len(images)] in clusters}
    assert len(pairs) >= 0.9 * len(images)
    assert all(len(cluster) == 2 and cluster[1] - cluster[0] == len(images) for cluster in clusters)


def test_no_written_digit_is_a_copy_of_another() -> None:
    """Any two zeros are alike; that is no copy."""
    assert (
        found([Image.fromarray((pixels * 15).astype(np.uint8)).resize((32, 32)) for pixels in load_digits().images])
        == []
    )


def test_the_same_shapes_in_another_colour_are_no_copies() -> None:
    images = photographs()
    turned = [Image.merge("RGB", (blue, red, green)) for red, green, blue in (image.split() for image in images)]
    colourful = [n for n, image in enumerate(images) if np.ptp(np.asarray(image).mean(axis=(0, 1))) > 60]
    assert colourful
    assert not [c for c in found(images + turned) if any(n in c and n + len(images) in c for n in colourful)]


@pytest.mark.parametrize(("block", "tile"), [(7, 5), (5, 1000), (1000, 13)])
def test_clusters_are_those_of_one_piece(monkeypatch: pytest.MonkeyPatch, block: int, tile: int) -> None:
    """Images are compared a block with a tile at a time."""
    images = photographs()
    images += [way(image) for way, image in zip(WAYS.values(), images, strict=False)]
    whole = found(images)
    assert len(whole) >= 9
    monkeypatch.setattr(near, "BLOCK", block)
    monkeypatch.setattr(near, "TILE", tile)
    assert found(images) == whole


def test_plain_pictures_are_not_compared() -> None:
    assert found([Image.new("RGB", (40, 40), (shade, shade, shade)) for shade in range(0, 200, 10)]) == []
    assert found([]) == []


def folder(root: Path, **classes: list[Image.Image]) -> Path:
    for label, images in classes.items():
        (root / label.replace("__", "/")).mkdir(parents=True)
        for number, image in enumerate(images):
            image.convert("RGB").save(root / label.replace("__", "/") / f"{number}.png")
    return root


Sync = Callable[..., Any]


@pytest.fixture
def sync(s3: Any, bucket: str, make_plan: Callable[..., Plan]) -> Sync:
    return lambda source, **changes: sync_dataset(make_plan(bucket, source=str(source), **changes), s3).version


def test_copies_are_never_divided(sync: Sync, tmp_path: Path) -> None:
    images = photographs()
    copies = [WAYS["cropped all round"](image) for image in images]
    version = sync(folder(tmp_path / "in", street=images[:20] + copies[:20], field=images[20:] + copies[20:]))
    splits = {image.file.name: image.split for image in version.images}
    assert len({splits[f"street/{n}.png"] for n in range(20)}) > 1
    divided = [n for n in range(20) if splits[f"street/{n}.png"] != splits[f"street/{n + 20}.png"]]
    assert len(divided) <= 2  # of those that are not found
    assert version.near.clusters >= 36


def test_a_copy_of_a_test_image_is_not_trained_on(sync: Sync, tmp_path: Path) -> None:
    """Where the source's own folders have put them on both sides."""
    images = photographs()
    source = folder(
        tmp_path / "in",
        train__street=[*images[:16], WAYS["darkened"](images[17])],
        train__field=images[20:36],
        test__street=images[16:19],
        test__field=images[36:40],
    )
    version = sync(source)
    assert version.near.left_out == 1
    assert version.near.left_out_examples == [["train/street/16.png", "test/street/1.png"]]
    assert "train/street/16.png" not in {image.file.name for image in version.images}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "JPEG with XMP", "WEBP"])
def test_a_copy_that_lies_on_its_side_is_found(tmp_path: Path, kind: str) -> None:
    """As a camera stores it, and says so; an editor has turned the other for good."""
    exif = Image.Exif()
    exif[0x0112] = 6
    note = {"xmp": b'<rdf:Description tiff:Orientation="6"/>'} if "XMP" in kind else {"exif": exif}
    images = photographs()
    images[3].transpose(Image.Transpose.ROTATE_90).save(tmp_path / "copy", kind.partition(" ")[0], **note)
    verdict = verify_image(tmp_path / "copy", tmp_path)
    assert isinstance(verdict, VerifiedImage)
    thumbs = [*map(thumb_of, images), verdict.thumb]
    assert near_duplicates(as_thumbs([base64.b64decode(thumb) for thumb in thumbs])) == [[3, len(images)]]


def test_a_picture_of_two_classes_is_in_neither(sync: Sync, tmp_path: Path) -> None:
    images = photographs()
    source = folder(tmp_path / "in", street=images[:20], field=[*images[20:], WAYS["saved at 30"](images[3])])
    version = sync(source)
    assert [(q.file.name, q.code) for q in version.quarantined] == [
        ("field/20.png", "NEAR_LABEL_CONFLICT"),
        ("street/3.png", "NEAR_LABEL_CONFLICT"),
    ]
    assert "field/20.png, street/3.png" in version.quarantined[0].detail


def test_classes_that_look_alike_are_left_alone(sync: Sync, tmp_path: Path) -> None:
    """A scratch on the same board: what makes the class is finer than what copies are told by."""
    images = photographs()
    scratched = [image.copy() for image in images]
    for image in scratched:
        image.putpixel((50, 50), (255, 0, 0))
    version = sync(folder(tmp_path / "in", good=images, scratched=scratched))
    assert len(version.images) == 2 * len(images)
    assert version.near.confusing > len(images)
    assert "copies" not in version.near.as_dict()


def test_a_copy_of_a_class_is_told_as_such(sync: Sync, tmp_path: Path) -> None:
    """Batman and Batman_raw, as a project keeps its pictures before and after they were made alike."""
    images = photographs()
    again = [WAYS["saved at 30"](image) for image in images]
    source = folder(tmp_path / "in", bat=images[:20], bat_raw=again[:20], cat=images[20:], cat_raw=again[20:])
    near = sync(source).near
    assert near.copies == [["bat_raw", "bat"], ["cat_raw", "cat"]]
    told = [note for note in notes_on({"near_duplicates": near.as_dict()}) if "copies of others" in note]
    assert "bat_raw of bat, cat_raw of cat. Leave one of each two out" in told[0]


def test_what_is_known_is_not_compared_again(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    images = photographs()
    source = folder(tmp_path / "in", street=images[:20], field=[*images[20:], WAYS["halved"](images[26])])
    plan = make_plan(bucket, source=str(source))
    first = sync_dataset(plan, s3).version
    with requests(s3) as asked:
        second = sync_dataset(plan, s3).version
    assert second.near == first.near
    assert first.near is not None
    assert first.near.clusters == 1
    assert asked["PutObject"] == 0
    document = read_json(s3, bucket, f"{plan.version_key(first.fingerprint)}/dataset.json")
    assert document["near_duplicates"]["examples"] == [["field/20.png", "field/6.png"]]


def test_lost_thumbs_are_made_again(s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    images = photographs()
    source = folder(tmp_path / "in", street=images[:20], field=images[20:])
    plan = make_plan(bucket, source=str(source))
    sync_dataset(plan, s3)
    for entry in s3.list_objects_v2(Bucket=bucket, Prefix="shapes/data/seen/")["Contents"]:
        if entry["Key"].endswith(".npy"):
            s3.put_object(Bucket=bucket, Key=entry["Key"], Body=b"broken")
    WAYS["halved"](images[26]).save(source / "field" / "copy.png")
    again = sync_dataset(plan, s3).version
    assert again.near is not None
    assert again.near.clusters == 1


def test_many_bad_files_still_stop_a_sync(sync: Sync, tmp_path: Path) -> None:
    source = folder(tmp_path / "in", street=photographs()[:20], field=photographs()[20:])
    for number in range(6):
        (source / "street" / f"bad{number}.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match="6 of 46 files"):
        sync(source)
