"""Splits follow content: stable, complete, without leaks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from retraining.dataset.pictures.verify import VerifiedImage
from retraining.dataset.sources.source import SourceFile
from retraining.dataset.split import SPLITS, SplitError, SplitName, assign_splits
from retraining.dataset.versions.version import make_version
from retraining.recipe import Split

SHARES: dict[SplitName, float] = {"train": 0.7, "validation": 0.15, "test": 0.15}


def digests(count: int, first: int = 0) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(first, first + count)]


def each(images: list[str]) -> dict[str, str]:
    """Every image is a group of its own."""
    return {digest: digest for digest in images}


def test_shares_are_kept_on_average() -> None:
    splits = list(assign_splits("cat", each(digests(5000)), SHARES).values())
    assert [round(splits.count(split) / 5000, 1) for split in SPLITS] == [0.7, 0.1, 0.2] or [
        abs(splits.count(split) / 5000 - SHARES[split]) < 0.02 for split in SPLITS
    ] == [True] * 3


def test_new_images_move_no_old_ones() -> None:
    before, after = (assign_splits("cat", each(digests(count)), SHARES) for count in (500, 900))
    assert before.items() <= after.items()


@pytest.mark.parametrize("count", range(3, 12))
def test_small_classes_have_an_image_in_each_split(count: int) -> None:
    for first in range(0, 400, 20):
        assert set(assign_splits("cat", each(digests(count, first)), SHARES).values()) == set(SPLITS)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(SplitError, match=r"class 'cat' has 2 usable image\(s\) to divide into train, validation, test"):
        assign_splits("cat", each(digests(2)), SHARES)


def judged(*rows: tuple[str, SplitName | None, int]) -> list[tuple[SourceFile, VerifiedImage]]:
    """(class, split, content number) rows as verified files."""
    return [
        (
            SourceFile(path=Path("x"), label=label, split=split, name=f"{split}/{label}/{number}-{index}.png"),
            VerifiedImage(sha256=digests(1, number)[0], extension="png", size_bytes=1),
        )
        for index, (label, split, number) in enumerate(rows)
    ]


def test_splits_of_the_source_are_kept_and_missing_ones_made() -> None:
    rows: list[tuple[str, SplitName | None, int]] = [
        (label, "train", 100 * index + number) for index, label in enumerate("ab") for number in range(20)
    ]
    tests: list[tuple[str, SplitName | None, int]] = [("a", "test", 50), ("b", "test", 150)]
    version = make_version(judged(*rows, *tests), "here", Split())
    assert version.counts["test"] == {"a": 1, "b": 1}
    assert version.counts["validation"]["a"] >= 1
    assert sum(version.counts["train"].values()) + sum(version.counts["validation"].values()) == 40


def test_equal_bytes_never_straddle_splits() -> None:
    rows: list[tuple[str, SplitName | None, int]] = [
        (label, split, 1000 * index + 100 * SPLITS.index(split) + number)
        for index, label in enumerate("ab")
        for split in SPLITS
        for number in range(5)
    ]
    leak: tuple[str, SplitName | None, int] = ("a", "train", 200)  # the bytes of a's first test image
    version = make_version(judged(*rows, leak), "here", Split())
    assert version.duplicates == 1
    assert [image.split for image in version.images if image.sha256 == digests(1, 200)[0]] == ["test"]


def test_the_fingerprint_tells_splits_and_classes_apart() -> None:
    rows: list[tuple[str, SplitName | None, int]] = [
        (label, None, 100 * i + n) for i, label in enumerate("ab") for n in range(9)
    ]
    same = make_version(judged(*reversed(rows)), "elsewhere", Split())
    renamed = make_version(judged(*[("c" if label == "b" else label, s, n) for label, s, n in rows]), "here", Split())
    version = make_version(judged(*rows), "here", Split())
    assert version.fingerprint == same.fingerprint != renamed.fingerprint


def test_images_of_one_group_are_never_divided() -> None:
    images = digests(600)
    groups = {digest: f"person{index // 5}" for index, digest in enumerate(images)}
    splits = assign_splits("pneumonia", groups, SHARES)
    of_group = {group: {splits[digest] for digest in images if groups[digest] == group} for group in groups.values()}
    assert all(len(parts) == 1 for parts in of_group.values())
    assert set(splits.values()) == set(SPLITS)


def test_a_group_in_two_classes_is_in_one_split_even_when_a_class_is_small() -> None:
    shares, divided = Split(group_by=r"(person\d+)_"), 0
    for first in range(0, 2000, 100):
        rows = [("sick", first + number, f"person{first + number % 7}_{number}.png") for number in range(40)]
        rows += [("well", first + 50 + number, f"person{first + number % 4}_{number}.png") for number in range(12)]
        rows += [("well", first + 70 + number, f"person{first + 90 + number}_0.png") for number in range(3)]
        try:
            version = make_version(named(*rows), "here", shares)
        except SplitError:  # every group of the small class is in the other one too
            continue
        parts: dict[str, set[str]] = {}
        for image in version.images:
            parts.setdefault(image.file.name.split("_")[0], set()).add(image.split)
        assert all(len(splits) == 1 for splits in parts.values())
        divided += 1
    assert divided > 5


def test_all_classes_that_cannot_be_divided_are_told() -> None:
    rows: list[tuple[str, SplitName | None, int]] = [("cat", None, number) for number in range(9)]
    small: list[tuple[str, SplitName | None, int]] = [(f"small {number}", None, number) for number in range(20, 30)]
    with pytest.raises(SplitError, match=r"class 'small 20' has 1 .* 9 more classes .*: small 21, small 22,.* others"):
        make_version(judged(*rows, *small), "here", Split())


def test_a_class_of_the_test_set_alone_is_told() -> None:
    """Train calls it adenocarcinoma_left: a set of CT scans that is loaded a lot."""
    rows: list[tuple[str, SplitName | None, int]] = [("normal", "train", number) for number in range(9)]
    rows += [("normal", "test", 10), ("adenocarcinoma", "test", 11)]
    with pytest.raises(SplitError, match=r"'adenocarcinoma' is in the source's own test alone.*Rename its"):
        make_version(judged(*rows), "here", Split())


def named(*rows: tuple[str, int, str]) -> list[tuple[SourceFile, VerifiedImage]]:
    """(class, content number, file name) rows as verified files."""
    return [
        (
            SourceFile(path=Path("x"), label=label, split=None, name=f"{label}/{name}"),
            VerifiedImage(sha256=digests(1, number)[0], extension="png", size_bytes=1),
        )
        for label, number, name in rows
    ]
