"""Splits follow content: stable, complete, without leaks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from retraining.dataset.sources import SourceFile
from retraining.dataset.split import SPLITS, SplitError, SplitName, assign_splits
from retraining.dataset.verify import VerifiedImage
from retraining.dataset.version import make_version
from retraining.recipe import Split

SHARES: dict[SplitName, float] = {"train": 0.7, "validation": 0.15, "test": 0.15}


def digests(count: int, first: int = 0) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(first, first + count)]


def test_shares_are_kept_on_average() -> None:
    splits = list(assign_splits("cat", digests(5000), SHARES).values())
    assert [round(splits.count(split) / 5000, 1) for split in SPLITS] == [0.7, 0.1, 0.2] or [
        abs(splits.count(split) / 5000 - SHARES[split]) < 0.02 for split in SPLITS
    ] == [True] * 3


def test_new_images_move_no_old_ones() -> None:
    before, after = assign_splits("cat", digests(500), SHARES), assign_splits("cat", digests(900), SHARES)
    assert before.items() <= after.items()


@pytest.mark.parametrize("count", range(3, 12))
def test_small_classes_have_an_image_in_each_split(count: int) -> None:
    for first in range(0, 400, 20):
        assert set(assign_splits("cat", digests(count, first), SHARES).values()) == set(SPLITS)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(SplitError, match=r"class 'cat' has 2 usable image\(s\) to divide into train, validation, test"):
        assign_splits("cat", digests(2), SHARES)


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
