"""What is other in this week's data is told image by image."""

from __future__ import annotations

from retraining.dataset.changes import Manifests, changes
from retraining.dataset.summary import notes_on

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


def test_a_hundred_classes_are_summed_up() -> None:
    now: Manifests = {
        "train": [f"c{label:03}/{label}-{n}.png" for label in range(100) for n in range(2)],
        "validation": [],
        "test": [],
    }
    (told,) = notes_on({"changes": changes("f", {"train": [], "validation": [], "test": []}, now).as_dict()})
    assert "200 added" in told
    assert "others 184" in told
