"""Promote only what is measurably good enough, on the same images; and never on evidence that is none."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from retraining.promotion import bounds, evidence
from retraining.promotion.decision import decide
from retraining.promotion.scores import Evaluation, Outcomes, ScoreError, calibration_error, evaluate
from retraining.recipe import Promotion
from tests.plugins.scored import scored

TRUTHS = "ab" * 50
PERFECT = scored(TRUTHS, TRUTHS)


def wrong(count: int, *, truths: str = TRUTHS, begin: int = 0, **how: Any) -> Evaluation:
    """A model that gets `count` images wrong, from the `begin`-th on."""
    other = {"a": "b", "b": "a"}
    answers = "".join(other[t] if begin <= i < begin + count else t for i, t in enumerate(truths))
    return scored(truths, answers, **how)


@pytest.mark.parametrize(
    ("candidate", "champion", "rule", "promote", "reason"),
    [
        (wrong(5), None, {"min_value": 0.9}, True, "there is no champion yet, and accuracy 0.9500 is good enough"),
        (wrong(15), None, {"min_value": 0.9}, False, "0.8500 is below the smallest value that may serve, 0.9000"),
        (wrong(5), wrong(5), {}, True, r"a gain of \+0.0000 reaches the required \+0.0000"),
        (wrong(6), wrong(5), {"evidence": "point"}, False, r"a gain of -0.0100 misses the required \+0.0000"),
        (wrong(6), wrong(5), {}, True, r"a gain of -0.0100 does not clearly miss the required \+0.0000"),
        (wrong(4), wrong(5), {"min_improvement": 0.02}, False, r"\+0.0100 misses the required \+0.0200"),
        (wrong(6), wrong(5), {"min_improvement": -0.02}, True, r"-0.0100 reaches the required -0.0200"),
        (wrong(0), wrong(5), {"metric": "log_loss"}, True, r"log_loss 0.1054 against the champion's 0.2152"),
        (wrong(5), wrong(0), {"metric": "log_loss"}, False, r"a gain of -0.1099 clearly misses"),
        (wrong(5), None, {"metric": "log_loss", "min_value": 0.2}, False, "0.2152 is above the largest value"),
    ],
)
def test_the_gate(
    candidate: Evaluation, champion: Evaluation | None, rule: dict[str, Any], promote: bool, reason: str
) -> None:
    decision = decide(candidate, champion, Promotion(**rule))
    assert decision.promote is promote
    assert re.search(reason, decision.reason)


@pytest.mark.parametrize(
    ("candidate", "champion", "rule", "promote", "reason"),
    [
        # Five images more, none less: p = 0.0625. Six: 0.03125.
        (wrong(0), wrong(5), {"evidence": "clearly_better"}, False, r"does not clearly reach the required \+0.0000"),
        (wrong(0), wrong(6), {"evidence": "clearly_better"}, True, r"a gain of \+0.0600 clearly reaches"),
        (wrong(5), wrong(5), {"evidence": "clearly_better"}, False, "does not clearly reach"),
        (
            wrong(0),
            wrong(6),
            {"evidence": "clearly_better", "min_improvement": 0.05},
            False,
            r"\+0.0600 does not clearly reach the required \+0.0500",
        ),
        (wrong(0), wrong(5), {"evidence": "clearly_better", "confidence": 0.9}, True, "clearly reaches"),
        # No worse by more than five points: the same model surely is not.
        (wrong(5), wrong(5), {"evidence": "clearly_better", "min_improvement": -0.05}, True, "clearly reaches"),
        (
            wrong(5),
            wrong(0),
            {"evidence": "not_clearly_worse", "confidence": 0.95},
            True,
            r"-0.0500 does not clearly miss the required",
        ),
        (wrong(6), wrong(0), {"evidence": "not_clearly_worse"}, False, r"-0.0600 clearly misses the required"),
        # Clearly a loss, but not clearly one of more than the five points that are accepted.
        (
            wrong(8),
            wrong(0),
            {"evidence": "not_clearly_worse", "min_improvement": -0.05, "confidence": 0.95},
            True,
            "does not clearly miss",
        ),
        (wrong(5), wrong(6), {"evidence": "not_clearly_worse"}, True, r"\+0.0100 reaches the required"),
        (wrong(40), wrong(0), {"evidence": "not_clearly_worse", "metric": "macro_f1"}, False, "clearly misses"),
    ],
)
def test_how_sure_one_must_be_is_the_recipes(
    candidate: Evaluation, champion: Evaluation, rule: dict[str, Any], promote: bool, reason: str
) -> None:
    decision = decide(candidate, champion, Promotion(**rule))
    assert decision.promote is promote
    assert re.search(reason, decision.reason)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss"])
@pytest.mark.parametrize("n", [2, 4, 49])
def test_a_tiny_test_set_excuses_no_loss(n: int, metric: Any) -> None:
    truths = TRUTHS[:n]
    lost = decide(wrong(min(n, 2), truths=truths), scored(truths, truths), Promotion(metric=metric))
    assert not lost.promote
    assert f"misses, by only {n} test images, which can make nothing clear, the required +0.0000" in lost.reason
    assert decide(scored(truths, truths), scored(truths, truths), Promotion(metric=metric)).promote


def test_a_floor_that_is_just_reached_passes() -> None:
    truths = "abc" * 10
    answers = "".join("bca"["abc".index(truth)] if n >= 21 else truth for n, truth in enumerate(truths))
    candidate = scored(truths, answers)
    assert decide(candidate, None, Promotion(metric="macro_f1", min_value=0.7)).promote
    assert not decide(candidate, None, Promotion(metric="macro_f1", min_value=0.7001)).promote


def test_the_reason_can_be_checked_by_a_person() -> None:
    decision = decide(wrong(3), wrong(5, begin=1), Promotion(evidence="point"))
    assert decision.reason == (
        "accuracy 0.9700 against the champion's 0.9500: a gain of +0.0200 reaches the required +0.0000; of 100 test "
        "images 3 are now right that were wrong, 1 the other way (p = 0.62; 95 % interval of the gain -0.0200 to "
        "+0.0600)"
    )


def test_a_lucky_champion_does_not_stay_for_ever() -> None:
    """1.000 on 273 images keeps out 0.9927 for years, though chance explains two images (p = 0.5)."""
    truths = ("ab" * 137)[:273]
    candidate, champion = wrong(2, truths=truths), wrong(0, truths=truths)
    assert decide(candidate, champion, Promotion()).promote
    assert not decide(candidate, champion, Promotion(evidence="point")).promote
    assert not decide(wrong(7, truths=truths), champion, Promotion()).promote


def test_without_a_comparable_champion_the_reason_says_why() -> None:
    decision = decide(PERFECT, None, Promotion(), "the champion knows other classes and cannot be compared")
    assert decision.reason.startswith("the champion knows other classes and cannot be compared, and accuracy 1.0000")
    assert decision.evidence is None


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss"])
def test_a_class_that_was_lost_is_not_averaged_away(metric: Any) -> None:
    truths = "a" * 95 + "b" * 5
    candidate = scored(truths, "a" * 97 + "b" * 3, sure=0.99)
    champion = scored(truths, "b" * 20 + "a" * 75 + "b" * 5, sure=0.99)
    assert decide(candidate, champion, Promotion(metric=metric)).promote
    decision = decide(candidate, champion, Promotion(metric=metric, min_class_recall=0.7))
    assert not decision.promote
    assert decision.reason == "recall 0.6000 of class 'b' (3 of 5 test images) is not the 0.7000 that every class needs"
    assert decide(candidate, None, Promotion(metric=metric, min_class_recall=0.6)).promote


def test_a_class_without_test_images_has_no_recall() -> None:
    labels = ["a", "b"]
    candidate = evaluate(labels, {"a/1": "a"}, {"a/1": [1.0, 0.0]}, "d")
    assert candidate.per_class["b"]["recall"] == 0
    assert decide(candidate, None, Promotion(min_class_recall=0.9)).promote


def test_the_decision_can_be_stored() -> None:
    stored = json.loads(json.dumps(decide(wrong(0), wrong(6), Promotion()).as_dict()))
    assert stored["promote"] and stored["evidence"]["won"] == 6
    assert stored["evidence"]["p"] == 0.03125
    assert decide(PERFECT, None, Promotion()).as_dict()["evidence"] is None


@pytest.mark.parametrize(
    ("champion", "complaint"),
    [
        (wrong(50, digest="other"), r"different test sets \(d, 100 images; other, 100 images\)"),
        (wrong(50, truths=TRUTHS[:98]), r"different test sets \(d, 100 images; d, 98 images\)"),
        (wrong(50, truths="aabb" * 25), r"different test sets"),
        (scored("ac" * 50, "a" * 100), r"different classes \(a, b; a, c\)"),
        (replace(PERFECT, accuracy=math.nan), "the champion's accuracy is nan, which is no score"),
    ],
)
def test_what_cannot_be_compared_keeps_the_champion(champion: Evaluation, complaint: str) -> None:
    decision = decide(PERFECT, champion, Promotion())
    assert not decision.promote
    assert re.search(complaint, decision.reason)


# --- whatever the evidence, a rule that should refuse it refuses it ---------------------------------------------------

Outcome = dict[str, Any]
RULES = [
    Promotion(metric=metric, evidence=how, min_improvement=-0.9, min_value=None)  # type: ignore[arg-type]
    for metric in ("accuracy", "macro_f1", "log_loss")
    for how in ("point", "clearly_better", "not_clearly_worse")
]

NUMBERS: list[Callable[[random.Random], float]] = [
    lambda chance: math.nan,
    lambda chance: chance.choice([math.inf, -math.inf]),
    lambda chance: -chance.random() - 0.01,
]
# Of one of the three scores; log loss may be above 1.
SCORES: list[Callable[[Evaluation, random.Random], Evaluation]] = [
    lambda model, chance: replace(model, **{chance.choice(METRICS): chance.choice(NUMBERS)(chance)}),
    lambda model, chance: replace(model, **{chance.choice(METRICS[:2]): 1 + chance.random()}),
    lambda model, chance: replace(model, accuracy=(model.accuracy * 100 - 1) / 100),  # one image
    lambda model, chance: replace(model, log_loss=model.log_loss / 2),
]
METRICS = ("accuracy", "macro_f1", "log_loss")
# Of the images: other test sets, other classes, images that are missing or twice there.
IMAGES: list[Callable[[Evaluation, random.Random], Evaluation]] = [
    lambda model, chance: replace(model, test_digest=f"{chance.getrandbits(64):x}"),
    lambda model, chance: replace(model, n=model.n + chance.choice([-1, 1, -model.n])),
    lambda model, chance: replace(model, outcomes=without(model.outcomes, chance.randrange(model.n))),
    lambda model, chance: replace(model, n=model.n - 1, outcomes=without(model.outcomes, chance.randrange(model.n))),
    lambda model, chance: replace(model, outcomes=replace(model.outcomes, names=model.outcomes.names[::-1])),
    lambda model, chance: replace(
        model, outcomes=replace(model.outcomes, truths=tuple(1 - truth for truth in model.outcomes.truths))
    ),
    lambda model, chance: replace(
        model, outcomes=replace(model.outcomes, losses=(math.nan, *model.outcomes.losses[1:]))
    ),
    lambda model, chance: replace(model, classes=model.classes[:1]),
    lambda model, chance: replace(model, classes=(*model.classes[:1], "other")),
]


def without(outcomes: Outcomes, index: int) -> Outcomes:
    lists = {key: value[:index] + value[index + 1 :] for key, value in vars(outcomes).items()}
    return Outcomes(**lists)


def test_ten_thousand_kinds_of_invalid_evidence_never_promote(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules would accept almost any loss: only the evidence itself is a reason to refuse."""
    monkeypatch.setattr(evidence, "RESAMPLES", 20)
    chance, promoted = random.Random(4), []
    sound = [wrong(chance.randrange(5), begin=chance.randrange(90)) for _ in range(20)]
    assert all(decide(model, sound[0], rule).promote for model in sound for rule in RULES)
    for case in range(10_000):
        candidate, champion, rule = chance.choice(sound), chance.choice(sound), chance.choice(RULES)
        broken, break_it = chance.choice("ab"), chance.choice(SCORES + IMAGES)
        if broken == "a":
            candidate = break_it(candidate, chance)
        else:
            champion = break_it(champion, chance)
        if decide(candidate, champion, rule).promote:
            promoted.append((case, break_it, broken))
    assert promoted == []


def test_an_invalid_first_model_is_not_promoted_either() -> None:
    chance = random.Random(5)
    assert not any(decide(break_it(PERFECT, chance), None, rule).promote for rule in RULES for break_it in SCORES)


@pytest.mark.parametrize(
    "bad",
    [
        [0.9], [0.9, 0.1, 0.0], [], [math.nan, 0.1], [math.inf, 0.0], [0.9, -0.1], [7.0, -6.0], [1.0, 1.0],
        [0.0, 0.0], [None, 1.0], ["0.9", "0.1"], None, 0.9, {"a": 1}, [10**400, 0],
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_no_evidence(bad: Any) -> None:
    """One bad answer of a hundred, wherever it stands."""
    expected = {f"{label}/{number}": label for number, label in enumerate(TRUTHS)}
    for spoilt in expected:
        answers = {name: [0.9, 0.1] if label == "a" else [0.1, 0.9] for name, label in expected.items()}
        with pytest.raises(ScoreError):
            evaluate(["a", "b"], expected, answers | {spoilt: bad}, "d")


@pytest.mark.slow
def test_more_right_images_are_never_held_against_a_candidate() -> None:
    """Whoever is promoted would be promoted with one more image right, and whoever is not, not with one less."""
    rules = [Promotion(evidence=how) for how in ("point", "clearly_better", "not_clearly_worse")]  # type: ignore[arg-type]
    for rule in rules:
        promoted = [decide(wrong(count), wrong(10, begin=5), rule).promote for count in range(25)]
        assert promoted == sorted(promoted, reverse=True)
        assert True in promoted and False in promoted


def test_the_stricter_rule_never_promotes_what_the_looser_one_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "RESAMPLES", 200)
    kinds = ("clearly_better", "point", "not_clearly_worse")
    for count in range(0, 25, 2):
        for begin in range(0, 30, 6):
            ours, theirs = wrong(count), wrong(10, begin=begin)
            strict, point, loose = (decide(ours, theirs, Promotion(evidence=how)).promote for how in kinds)  # type: ignore[arg-type]
            assert strict <= point <= loose


# --- calibration and size ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("certainties", "right", "error"),
    [
        ([0.9] * 10, [True] * 9 + [False], 0.0),
        ([1.0] * 4, [True, True, False, False], 0.5),
        ([0.6, 0.6, 0.99, 0.99], [True, True, False, True], (0.8 + 0.98) / 4),
        ([0.6, 0.7], [True, False], (0.4 + 0.7) / 2),  # two bins: what is too much in one is no excuse for the other
    ],
)
def test_calibration_error_is_that_of_its_formula(certainties: list[float], right: list[bool], error: float) -> None:
    assert calibration_error(certainties, right) == pytest.approx(error)


def test_a_model_too_sure_of_itself_stays_out() -> None:
    rule = Promotion(max_calibration_error=0.05)
    careful, sure = wrong(10, sure=0.9), wrong(10, sure=0.999)
    assert decide(careful, None, rule).promote
    decision = decide(sure, careful, rule)
    assert decision.reason == (
        "its certainty is off by 0.0990 (expected calibration error), more than the 0.0500 that may serve"
    )


def test_an_artifact_too_large_stays_out() -> None:
    rule = Promotion(max_size_ratio=1.5)

    def judged(size: int | None, champions: int | None) -> Any:
        check = bounds.size(size, champions, rule)
        assert check
        return decide(PERFECT, PERFECT, rule, others=[check])

    assert judged(45_000_000, 44_000_000).promote
    decision = judged(90_000_000, 44_000_000)
    assert decision.reason == "its artifact is 2.05 times the champion's (90.0 MB against 44.0 MB), more than 1.5"
    assert judged(90_000_000, None).checks[0].verdict == "not judged"
    assert bounds.size(2, 1, Promotion()) is None
