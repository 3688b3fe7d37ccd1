"""What changed between two models is told in classes, confusions and images that a person can look up."""

from __future__ import annotations

from retraining.promotion.differences import changed_classes, changed_images, confused_pairs
from tests.plugins.scored import scored

TRUTHS = "aaaabbbbcccc"
CANDIDATE = scored(TRUTHS, "aaaabbbbcbbb")
CHAMPION = scored(TRUTHS, "abbbbbbacccc")


def test_the_class_that_changed_most_comes_first() -> None:
    first, second, third = changed_classes(CANDIDATE, CHAMPION)
    assert first == {"class": "a", "n": 4, "images": 3, "candidate": 1.0, "champion": 0.25}
    assert (second["class"], second["images"]) == ("c", -3)
    assert (third["class"], third["images"]) == ("b", 1)


def test_a_class_that_did_not_change_is_not_listed() -> None:
    assert changed_classes(CANDIDATE, CANDIDATE) == []


def test_what_is_taken_for_what_most_often() -> None:
    assert confused_pairs(CANDIDATE, CHAMPION) == [{"class": "c", "taken_for": "b", "candidate": 3, "champion": 0}]
    first, second = confused_pairs(CHAMPION, None)
    assert first == {"class": "a", "taken_for": "b", "candidate": 3, "champion": None}
    assert (second["class"], second["taken_for"], second["candidate"]) == ("b", "a", 1)


def test_the_images_behind_the_counts_are_named() -> None:
    assert changed_images(CANDIDATE, CHAMPION) == {
        "won": ["a/00001", "a/00002", "a/00003", "b/00007"],
        "lost": ["c/00009", "c/00010", "c/00011"],
    }


def test_a_thousand_changes_stay_a_short_list() -> None:
    many = "".join(chr(ord("A") + i % 50) for i in range(1000))
    found = scored(many, many), scored(many, many[1:] + many[0])
    assert len(changed_classes(*found)) == len(confused_pairs(found[1], found[0])) == 5
    assert len(changed_images(*found)["won"]) == 20
