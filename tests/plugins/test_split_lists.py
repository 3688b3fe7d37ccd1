"""Lists of names beside class folders, which say what known sets train on and what they test with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retraining.dataset.sync import sync_dataset
from retraining.plan import Plan
from tests.plugins.tabled import found, placed

CLASSES = ("apple pie", "sushi")
IMAGES = [f"{label}/{number}" for label in CLASSES for number in range(6)]
TRAIN, TEST = [name for name in IMAGES if name[-1] < "4"], [name for name in IMAGES if name[-1] >= "4"]


def laid_out(root: Path, lists: dict[str, str], around: str = "images/") -> Path:
    pictures: dict[str, str | None] = {f"{around}{name}.jpg": None for name in IMAGES}
    return placed(root, pictures | lists)


def text(names: list[str], before: str = "", after: str = ".jpg") -> str:
    return "".join(f"{before}{name}{after}\n" for name in names)


@pytest.mark.parametrize(
    "lists",
    [
        {"meta/train.txt": text(TRAIN, after=""), "meta/test.txt": text(TEST, after=""), "meta/classes.txt": "sushi\n"},
        {"TrainImages.txt": text(TRAIN), "TestImages.txt": text(TEST)},
        {"train.txt": text(TRAIN, "images/", ".jpg\t1"), "test.txt": text(TEST, "images/", ".jpg\t0")},
        {"train_list.csv": text(["file", *TRAIN], after=",1"), "test_list.csv": text(["file", *TEST], after=",1")},
        {"a/train.txt": "epochs\n", "a/test.txt": "loss\n", "b/trainval.txt": text(TRAIN), "b/test.txt": text(TEST)},
    ],
    ids=["Food-101", "MIT Indoor", "with classes", "tables", "beside other texts"],
)  # fmt: skip
def test_lists_of_names_divide_class_folders(tmp_path: Path, lists: dict[str, str]) -> None:
    places = found(laid_out(tmp_path, lists))
    assert {name for name, (split, _) in places.items() if split == "train"} == {f"images/{one}.jpg" for one in TRAIN}
    assert {name for name, (split, _) in places.items() if split == "test"} == {f"images/{one}.jpg" for one in TEST}
    assert {label for _, label in places.values()} == set(CLASSES)


@pytest.mark.parametrize(
    "lists",
    [
        {"train.txt": text(TRAIN[:4]), "test.txt": text(TEST[:2])},
        {"train.txt": text(IMAGES)},
        {"train1.txt": text(TRAIN), "train2.txt": text(TEST), "test1.txt": text(TEST)},
        {"train.txt": text(TRAIN), "test.txt": "1.jpg\n2.jpg\n"},
    ],
    ids=["of few images", "of one split", "of several divisions", "of images that are not there"],
)
def test_other_lists_divide_nothing(tmp_path: Path, lists: dict[str, str]) -> None:
    assert {split for split, _ in found(laid_out(tmp_path, lists)).values()} == {None}


def test_an_image_of_two_lists_is_left_out(
    tmp_path: Path, s3: Any, bucket: str, make_plan: Callable[..., Plan]
) -> None:
    laid_out(tmp_path, {"train.txt": text(TRAIN), "test.txt": text([*TEST, TRAIN[0]])})
    layout = sync_dataset(make_plan(bucket, source=str(tmp_path)), s3).version.layout
    assert layout["ignored"]["in several of test.txt, train.txt"]["examples"] == [f"images/{TRAIN[0]}.jpg"]
    assert layout["splits"] == {"train.txt": "train", "test.txt": "test"}


def test_folders_of_the_recipe_go_before_lists(tmp_path: Path) -> None:
    laid_out(tmp_path, {"train.txt": text(TRAIN), "test.txt": text(TEST)})
    assert {split for split, _ in found(tmp_path, classes="images").values()} == {None}


def test_splits_of_folders_go_before_lists(tmp_path: Path) -> None:
    laid_out(tmp_path, {"meta/train.txt": text(TEST), "meta/test.txt": text(TRAIN)}, around="train/")
    laid_out(tmp_path, {}, around="test/")
    assert {name.partition("/")[0]: split for name, (split, _) in found(tmp_path).items()} == {
        "train": "train", "test": "test",
    }  # fmt: skip


def test_a_list_that_changes_divides_anew(tmp_path: Path, s3: Any, bucket: str, make_plan: Callable[..., Plan]) -> None:
    laid_out(tmp_path, {"train.txt": text(TRAIN), "test.txt": text(TEST)})
    plan = make_plan(bucket, source=str(tmp_path))
    before, again = sync_dataset(plan, s3), sync_dataset(plan, s3)
    assert again.version.fingerprint == before.version.fingerprint
    laid_out(tmp_path, {"train.txt": text(TRAIN[1:]), "test.txt": text([*TEST, TRAIN[0]])})
    after = sync_dataset(plan, s3)
    assert after.version.fingerprint != before.version.fingerprint
