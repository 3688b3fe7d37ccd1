"""What is other in this week's data is told image by image."""

from __future__ import annotations

import pytest

from retraining.dataset.summary import notes_on
from retraining.dataset.versions.changes import Manifests, changes, shrunk

BEFORE: Manifests = {
    "train": ["cat/1.png", "cat/2.png", "dog/3.png"],
    "validation": ["cat/4.png"],
    "test": ["dog/5.png"],
}


def test_equal_versions_have_no_changes() -> None:
    found = changes("f", BEFORE, BEFORE)
    assert (found.added, found.removed, found.relabelled, found.moved) == ({}, {}, {}, 0)
    assert notes_on({"changes": found.as_dict()}) == ["Since the champion's data `f`: no image is other."]


def test_every_kind_of_change_is_counted() -> None:
    now: Manifests = {
        "train": ["cat/1.png", "dog/2.png", "dog/6.png", "eel/7.png"],
        "validation": ["dog/5.png"],
        "test": ["cat/4.png"],
    }
    found = changes("f", BEFORE, now)
    assert found.added == {"dog": 1, "eel": 1}
    assert found.removed == {"dog": 1}
    assert found.relabelled == {"cat → dog": 1}
    assert found.examples == ["dog/2.png"]
    assert found.moved == 2
    (told,) = notes_on({"changes": found.as_dict()})
    assert told == (
        "Since the champion's data `f`: 2 added (dog 1, eel 1), 1 removed (dog 1), 1 relabelled (cat → dog 1), "
        "2 in another split."
    )


def of(counts: dict[str, int], first: int = 0) -> Manifests:
    return {"train": [f"{label}/{first + n}.png" for label, count in counts.items() for n in range(count)]}


@pytest.mark.parametrize(
    ("now", "lost"),
    [
        ({"cat": 3, "dog": 3}, [f"{now} images {of}, where there were {was}" for now, of, was in (
            (6, "in all", 400), (3, "of class 'cat'", 200), (3, "of class 'dog'", 200))]),
        ({"cat": 200, "dog": 99}, ["99 images of class 'dog', where there were 200"]),
        ({"cat": 100, "dog": 100}, []),
        ({"cat": 300, "dog": 300}, []),
        ({"cat": 200}, []),  # a class that is gone is told elsewhere
        ({"cat": 199}, ["199 images in all, where there were 400"]),
    ],
)  # fmt: skip
def test_data_that_is_gone_is_told(now: dict[str, int], lost: list[str]) -> None:
    assert shrunk(of({"cat": 200, "dog": 200}), of(now, 9000), 0.5) == lost
    assert shrunk(of({"cat": 200, "dog": 200}), of(now, 9000), 0) == []


def test_a_few_images_say_nothing() -> None:
    assert shrunk(of({"cat": 21}), of({"cat": 2}), 0.5) == []


def test_a_hundred_classes_are_summed_up() -> None:
    now: Manifests = {
        "train": [f"c{label:03}/{label}-{n}.png" for label in range(100) for n in range(2)],
        "validation": [],
        "test": [],
    }
    (told,) = notes_on({"changes": changes("f", {"train": [], "validation": [], "test": []}, now).as_dict()})
    assert "200 added" in told
    assert "others 184" in told
