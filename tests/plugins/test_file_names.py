"""Classes that stand in the names of files are found by a recipe's pattern, and proposed where they look like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retraining.dataset.layouts import name_search
from retraining.dataset.layouts.file_names import NUMBER_FIRST, PROPOSED, proposal, understand_names
from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.source import open_source
from retraining.recipe import RecipeError, read_recipe
from retraining.recipe.layout import Layout

CATS_AND_DOGS = [f"{kind}.{number}.jpg" for kind in ("cat", "dog") for number in range(6)]


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def found(source: Path, pattern: str) -> dict[str, tuple[str | None, str]]:
    with open_source(str(source), s3=None, layout=Layout(class_pattern=pattern)) as files:
        return {file.name: (file.split, file.label) for file in files}


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (CATS_AND_DOGS, {"cat", "dog"}),
        ([f"great_dane_{n}.jpg" for n in range(4)] + [f"Pug_{n:02}.JPEG" for n in range(4)], {"great_dane", "Pug"}),
        ([f"daisy ({n}).png" for n in range(4)] + [f"rose ({n}).png" for n in range(4)], {"daisy", "rose"}),
        ([f"train/a-{n}.png" for n in range(4)] + [f"train/b-{n}.png" for n in range(4)], {"a", "b"}),
        ([f"train/{name}" for name in CATS_AND_DOGS] + [f"test1/{n}.jpg" for n in range(14)], {"cat", "dog"}),
    ],
)
def test_the_proposed_pattern_finds_classes(tmp_path: Path, names: list[str], classes: set[str]) -> None:
    source = write(tmp_path, *names)
    with pytest.raises(SourceError) as refused, open_source(str(source), s3=None):
        pass
    assert f"layout: {{class_pattern: '{PROPOSED}'}}" in str(refused.value)
    assert {label for _, label in found(source, PROPOSED).values()} == classes


@pytest.mark.parametrize(
    "names",
    [
        ["IMG_0001.jpg", "IMG_0002.jpg"],
        ["cat.1.jpg", "dog.1.jpg"],
        ["4f1a.jpg", "99ac.jpg", "beef.jpg"],
        ["holiday.jpg", "cat.1.jpg", "cat.2.jpg", "dog.1.jpg", "dog.2.jpg"],
        ["cat.1.txt", "cat.2.txt", "dog.1.txt", "dog.2.txt"],
        [],
    ],
)
def test_other_names_are_left_alone(names: list[str]) -> None:
    assert proposal(names) == ""


def test_a_number_before_the_class_is_proposed(tmp_path: Path) -> None:
    source = write(tmp_path, *(f"Houses/{n}_{room}.jpg" for n in range(6) for room in ("bathroom", "living room")))
    with pytest.raises(SourceError) as refused, open_source(str(source), s3=None):
        pass
    assert f"layout: {{class_pattern: '{NUMBER_FIRST}'}}" in str(refused.value)
    assert {label for _, label in found(source, NUMBER_FIRST).values()} == {"bathroom", "living room"}
    assert proposal([f"{n}_{word}.jpg" for n in range(6) for word in ("train", "test")]) == ""


def test_masks_are_no_classes_of_names() -> None:
    images = [f"Images/{label}_{n}.png" for label in ("audi", "bmw") for n in range(3)]
    names = [*images, *(name.replace("Images", "Masks") for name in images)]
    assert sorted(understand_names("here", names, PROPOSED).places) == images


def test_splits_around_the_names_are_kept(tmp_path: Path) -> None:
    source = write(tmp_path, *(f"pets/{split}/{name}" for split in ("train", "test") for name in CATS_AND_DOGS))
    assert set(found(source, PROPOSED).values()) == {(s, c) for s in ("train", "test") for c in ("cat", "dog")}


def test_names_without_a_class_are_counted() -> None:
    understood = understand_names("here", [*CATS_AND_DOGS, "x.jpg", "notes.txt", ".hidden/cat.1.jpg"], PROPOSED)
    assert {why: some.files for why, some in understood.left_out.items()} == {
        "without a class in its name": 1,
        "notes": 1,
        "hidden": 1,
    }


def test_a_pattern_that_finds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"layout.class_pattern = '\^\(x\)' finds nothing in any of 12 file names"):
        found(write(tmp_path, *CATS_AND_DOGS), "^(x)")


def test_a_pattern_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_search, "SEARCH_S", 0.5)
    with pytest.raises(SourceError, match=r"layout.class_pattern = .* took more than"):
        understand_names("here", ["a" * 60 + "!"], "(a+)+$")


@pytest.mark.parametrize("pattern", ["no group", "(a", "(a)(b)"])
def test_a_pattern_without_one_group_is_refused(recipe_data: dict[str, Any], pattern: str) -> None:
    with pytest.raises(RecipeError, match=r"layout.class_pattern .* one \(group\)"):
        read_recipe(recipe_data | {"layout": {"class_pattern": pattern}}, where="test")


def test_a_pattern_stands_alone() -> None:
    with pytest.raises(RecipeError):
        Layout(class_pattern="(a)", classes=".")
