"""Images of one thing stay on one side; a pattern that finds nothing, or never ends, is refused in words."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from retraining.dataset.layouts import name_search
from retraining.dataset.layouts.groups import GroupError, find_groups
from retraining.dataset.pictures.verify import VerifiedImage
from retraining.dataset.sources.source import SourceFile
from retraining.dataset.split import SplitName
from retraining.dataset.summary import summary
from retraining.dataset.sync import as_fact
from retraining.dataset.versions.version import Version, make_version
from retraining.recipe import Split
from tests.plugins.test_split import digests


def version(pattern: str, *rows: tuple[str, SplitName | None, str]) -> Version:
    """Of (class, split of the source, file name) rows, each file of other bytes."""
    judged = [
        (
            SourceFile(path=Path("x"), label=label, split=split, name=f"{split or ''}/{label}/{name}".lstrip("/")),
            VerifiedImage(sha256=digest, extension="png", size_bytes=1),
        )
        for digest, (label, split, name) in zip(digests(len(rows)), rows, strict=True)
    ]
    return make_version(judged, "here", Split(group_by=pattern))


def patients(
    split: SplitName | None = None, first: int = 0, count: int = 20
) -> list[tuple[str, SplitName | None, str]]:
    return [
        (label, split, f"{label[0]}person{first + person}_shot{shot}.png")
        for label in ("well", "sick")
        for person in range(count)
        for shot in range(4)
    ]


@pytest.mark.parametrize("pattern", [r"person(\d+)_", r"^([ws]person\d+)_", r"^(\w+)_shot", r"^(.+)_shot\d\.png$"])
def test_anchored_patterns_search_the_files_own_name(pattern: str) -> None:
    made = version(pattern, *patients())
    sides: dict[str, set[str]] = {}
    for image in made.images:
        sides.setdefault(image.file.name.split("/")[-1].split("_")[0], set()).add(image.split)
    assert all(len(its) == 1 for its in sides.values())
    assert made.groups is not None
    assert (made.groups.ungrouped, made.groups.divided_by_source) == (0, 0)


def test_the_report_tells_groups_and_sizes() -> None:
    lines = summary(as_fact(version(r"^([ws]person\d+)_", *patients(), ("well", None, "scan.png"))))
    assert "- Groups by `^([ws]person\\d+)_`: 40 of 4 to 4 images (median 4); none is divided here." in lines
    assert "- In no group: 1 images, each divided by itself (well/scan.png)." in lines


def test_groups_too_large_to_divide_are_told() -> None:
    one = [("well", None, f"wperson90_shot{shot}.png") for shot in range(40)]
    lines = summary(as_fact(version(r"^([ws]person\d+)_", *patients(count=4), *one)))
    assert [line for line in lines if line.startswith("- The groups are too large to divide as the recipe asks: of 72")]
    small = summary(as_fact(version(r"^([ws]person\d+)_", *patients())))
    assert not [line for line in small if "too large" in line]


@pytest.mark.parametrize("pattern", [r"patient(\d+)", r"well/(wperson\d+)", r"(x)?person"])
def test_a_pattern_that_finds_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(
        GroupError, match=r"finds nothing in any of 160 file names, for example \w+_shot\d\.png, .*own name"
    ):
        version(pattern, *patients())


def test_a_pattern_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_search, "SEARCH_S", 1.0)
    begun = time.monotonic()
    with pytest.raises(GroupError, match=r"took more than 1 s. A repetition within a repetition"):
        version(r"^((?:a+)+)$", ("a", None, "a" * 60 + "!"), *patients())
    assert time.monotonic() - begun < 120


def test_equal_bytes_under_two_names_join_their_groups() -> None:
    found = find_groups({"d1": ["cat/p1_a.png", "cat/p2_a.png"], "d2": ["cat/p2_b.png"], "d3": ["p1_c.png"]}, r"(p\d)_")
    assert set(found.values()) == {"group:p1"}


def test_groups_that_the_source_itself_divides_are_said() -> None:
    """Its own test folder stays what it is: the one who made it decided."""
    made = version(r"(person\d+)_", *patients("train"), *patients("test", first=18, count=4))
    assert made.groups is not None
    assert (made.groups.divided_by_source, made.groups.divided_examples) == (2, ["person18", "person19"])
    assert any("split folders divide 2 groups (person18, person19)" in line for line in summary(as_fact(made)))


def test_names_of_any_bytes_can_be_searched() -> None:
    assert find_groups({"d": ["cat/caf\udce9_1.png"], "e": ["cat/猫_2.png"]}, r"^(.+)_\d") == {
        "d": "group:caf\udce9",
        "e": "group:猫",
    }
