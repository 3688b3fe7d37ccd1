"""No class and no slice in which the candidate is clearly worse than the champion is averaged away."""

from __future__ import annotations

import random

import pytest

from retraining.promotion.decision import decide
from retraining.promotion.parts import Part, clearly_worse, parts, too_small
from retraining.promotion.scores import Evaluation
from retraining.recipe import Promotion
from tests.plugins.scored import scored

TRUTHS = "a" * 60 + "b" * 20 + "c" * 4
CHAMPION = scored(TRUTHS, "a" * 40 + "b" * 20 + "b" * 20 + "c" * 4)  # right in two thirds of a, in all of b and c
BETTER_BUT = scored(TRUTHS, "a" * 60 + "b" * 14 + "a" * 6 + "c" * 4)  # all of a, but six of b are lost


def part(name: str, won: int, lost: int, n: int = 30) -> Part:
    return Part(name=name, n=n, known=n, won=won, lost=tuple(f"{name}/{i}" for i in range(lost)))


def check(candidate: Evaluation, champion: Evaluation, **rule: object) -> dict[str, str]:
    """What the gate's table says of classes and slices."""
    gate = decide(candidate, champion, Promotion(**rule)).as_dict()["gate"]  # type: ignore[arg-type]
    (found,) = [row for row in gate if row["rule"] == "worse_classes"]
    return dict(found)


def test_a_lost_class_keeps_the_champion() -> None:
    decision = decide(BETTER_BUT, CHAMPION, Promotion())
    assert BETTER_BUT.accuracy > CHAMPION.accuracy
    assert not decision.promote
    assert decision.reason == (
        "it is clearly worse in class 'b' (of 20 test images 6 are now wrong that were right, 0 the other way; "
        "p = 0.031); now wrong: b/00074, b/00075, b/00076, b/00077, b/00078 and 1 more"
    )


def test_a_recipe_may_only_warn() -> None:
    decision = decide(BETTER_BUT, CHAMPION, Promotion(worse_classes="warn"))
    assert decision.promote
    assert "a gain of +0.1667 reaches the required +0.0000" in decision.reason
    assert "; but it is clearly worse in class 'b'" in decision.reason
    assert check(BETTER_BUT, CHAMPION, worse_classes="warn")["verdict"] == "warned"


def test_a_recipe_may_ignore_it() -> None:
    decision = decide(BETTER_BUT, CHAMPION, Promotion(worse_classes="ignore"))
    assert decision.promote
    assert [row.rule for row in decision.checks] == ["min_improvement"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    rule = Promotion(min_value=0.99, min_class_recall=0.9, min_improvement=0.5)
    decision = decide(BETTER_BUT, CHAMPION, rule)
    assert [(row.rule, row.verdict) for row in decision.checks] == [
        ("min_value", "failed"),
        ("min_class_recall", "failed"),
        ("min_improvement", "failed"),
        ("worse_classes", "failed"),
    ]
    assert decision.reason.count("; and ") == 3


def test_classes_too_small_to_judge_are_named() -> None:
    assert check(CHAMPION, CHAMPION) == {
        "rule": "worse_classes",
        "value": "none; too few test images to tell in class 'c'",
        "bound": "none clearly, by a test at 5 %",
        "verdict": "passed",
        "reason": "",
    }
    tiny = scored("aabb", "aabb")
    assert check(tiny, tiny)["verdict"] == "not judged"
    assert [small.name for small in too_small(parts(tiny, tiny, {}), 0.05)] == ["class 'a'", "class 'b'"]


def test_a_slice_without_images_is_told_as_such() -> None:
    """Its pattern may be the mistake: files are called NIGHT-… by now."""
    value = check(CHAMPION, CHAMPION, slices={"night": "*/night_*"})["value"]
    assert value == "none; no test image is in slice 'night'; too few test images to tell in class 'c'"


def test_a_slice_is_judged_like_a_class() -> None:
    """The first ten images of `a` were taken at night, say: their names begin with 0000."""
    candidate = scored(TRUTHS, "b" * 10 + "a" * 50 + "b" * 20 + "c" * 4)
    assert decide(candidate, CHAMPION, Promotion()).promote
    decision = decide(candidate, CHAMPION, Promotion(slices={"night": "*/0000*"}))
    assert not decision.promote
    assert "clearly worse in slice 'night' (of 10 test images 10 are now wrong" in decision.reason


def test_a_slice_without_images_is_said() -> None:
    assert "slice 'dusk'" in check(CHAMPION, CHAMPION, slices={"dusk": "*dusk*"})["value"]


@pytest.mark.parametrize(("won", "lost", "p"), [(0, 5, 1 / 32), (0, 0, 1.0), (1, 5, 7 / 64), (5, 0, 1.0), (0, 1, 0.5)])
def test_p_is_the_upper_tail_of_a_fair_coin(won: int, lost: int, p: float) -> None:
    assert part("x", won, lost).p == p


def test_every_suspect_makes_the_others_harder() -> None:
    lone, crowd = [part("x", 0, 6)], [part(str(number), 3, 3) for number in range(5)]
    assert [one.name for one, _ in clearly_worse(lone, 0.05)] == ["x"]
    assert clearly_worse(lone + crowd, 0.05) == []
    assert [one.name for one, p in clearly_worse([part("x", 0, 9), *crowd], 0.05) if p == 6 / 2**9] == ["x"]


def test_classes_that_cannot_err_hide_nothing() -> None:
    """132 classes with some images that differ, too few for any of them to be called worse."""
    others = [part(str(number), 2, 2) for number in range(132)]
    assert [one.name for one, _ in clearly_worse([part("x", 0, 5), *others], 0.05)] == ["x"]


@pytest.mark.slow
def test_an_equal_model_is_rarely_called_worse() -> None:
    """In 1,000 weeks of 133 classes with 30 images each, at most 5 % may be, and a wide margin less is."""
    chance, refused = random.Random(9), 0
    for _ in range(1000):
        judged = []
        for label in range(133):
            differ = _heads(chance, 30, 0.25)
            lost = _heads(chance, differ, 0.5)
            judged.append(part(str(label), differ - lost, lost))
        refused += bool(clearly_worse(judged, 0.05))
    assert refused <= 50


@pytest.mark.parametrize(("points", "least", "most"), [(0.1, 0.0, 0.02), (0.3, 0.05, 0.6), (0.6, 0.8, 1.0)])
def test_how_often_a_loss_in_one_class_is_found(points: float, least: float, most: float) -> None:
    """One class of 133, with 30 images; docs/operating.md says so. No exact test can tell three images from chance."""
    chance, found, plainly = random.Random(11), 0, 0
    for _ in range(300):
        judged = [part(str(label), _heads(chance, 30, 0.05), _heads(chance, 30, 0.05)) for label in range(132)]
        hit = part("hit", _heads(chance, 30, 0.02), _heads(chance, 30, points))
        found += any(one.name == "hit" for one, _ in clearly_worse([hit, *judged], 0.05))
        plainly += hit.p <= 0.05 / 133
    assert least <= found / 300 <= most, found / 300
    assert found >= plainly  # by the same exact test, corrected by Bonferroni


def _heads(chance: random.Random, n: int, share: float) -> int:
    return sum(chance.random() < share for _ in range(n))
