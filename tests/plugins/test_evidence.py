"""How sure a difference is: the numbers of the textbooks, and no false alarms beyond what was promised."""

from __future__ import annotations

import random
from fractions import Fraction
from math import comb

import pytest
from sklearn.metrics import f1_score

from retraining.promotion import evidence
from retraining.promotion.decision import decide
from retraining.promotion.evidence import mcnemar, weigh
from retraining.promotion.scores import Evaluation, evaluate
from retraining.recipe import Promotion
from tests.plugins.scored import scored


def noisy(truths: str, error_rate: float, chance: random.Random) -> Evaluation:
    """A model that errs on some images, whichever."""
    labels = sorted(set(truths))
    return scored(truths, "".join(chance.choice(labels) if chance.random() < error_rate else t for t in truths))


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (4, 2, 0.6875), (3, 3, 1.0), (1, 9, 11 / 512)],
)
def test_mcnemar_is_the_two_sided_binomial_test(won: int, lost: int, p: float) -> None:
    assert mcnemar(won, lost) == mcnemar(lost, won) == p


def test_mcnemar_is_exact_for_many_images() -> None:
    exact = 2 * Fraction(sum(comb(2000, k) for k in range(931)), 2**2000)
    assert mcnemar(1070, 930) == float(exact)
    assert mcnemar(30_000, 20_000) == 0.0


def test_both_directions_are_counted() -> None:
    found = weigh(scored("aaaabbbb", "aaabbbbb"), scored("aaaabbbb", "bbaabbba"), "accuracy", 0.95)
    assert (found.n, found.won, found.lost) == (8, 3, 1)
    assert found.gain == pytest.approx(2 / 8)
    assert found.low <= found.gain <= found.high
    assert str(found).startswith("of 8 test images 3 are now right that were wrong, 1 the other way (p = 0.62; 95 %")


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss"])
def test_the_same_answers_are_no_difference_at_all(metric: str) -> None:
    model = noisy("abc" * 40, 0.3, random.Random(1))
    found = weigh(model, model, metric, 0.95)
    assert (found.gain, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss"])
def test_a_comparison_repeated_says_the_same_and_turned_says_the_opposite(metric: str) -> None:
    chance = random.Random(2)
    ours, theirs = noisy("abc" * 60, 0.1, chance), noisy("abc" * 60, 0.4, chance)
    found, turned = weigh(ours, theirs, metric, 0.95), weigh(theirs, ours, metric, 0.95)
    assert found == weigh(ours, theirs, metric, 0.95)
    assert 0 < found.low < found.gain < found.high
    assert turned.gain == -found.gain
    assert turned.low == pytest.approx(-found.high, abs=0.03)
    assert turned.p == found.p < 0.05


def test_the_interval_is_as_wide_as_theory_says() -> None:
    """The standard error of a difference of two proportions on the same n images, by images won and lost."""
    truths = "ab" * 500
    ours = scored(truths, "b" * 30 + truths[30:])  # 15 wrong
    theirs = scored(truths, truths[:900] + "a" * 100)  # 50 others wrong
    found = weigh(ours, theirs, "accuracy", 0.95)
    won, lost, n = 50, 15, 1000
    error = ((won + lost - (won - lost) ** 2 / n) ** 0.5) / n
    assert (found.won, found.lost) == (won, lost)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    wider = weigh(ours, theirs, "accuracy", 0.99)
    assert wider.high - wider.low == pytest.approx(2 * 2.576 * error, rel=0.1)


def test_macro_f1_sees_a_small_class_that_accuracy_does_not() -> None:
    truths = "a" * 190 + "b" * 10
    ours, theirs = scored(truths, "a" * 190 + "b" * 10), scored(truths, "a" * 200)
    assert weigh(ours, theirs, "macro_f1", 0.95).low > 0.4 > weigh(ours, theirs, "accuracy", 0.95).high


@pytest.mark.parametrize("metric", ["macro_f1", "log_loss"])
def test_random_swaps_come_to_mcnemars_p(metric: str) -> None:
    """Where all images on which the models differ count the same: of one class, and answered equally surely."""
    truths = "ab" * 100
    ours, theirs = scored(truths, "aa" + truths[2:]), scored(truths, truths[:-12] + "a" * 12)
    exact = weigh(ours, theirs, "accuracy", 0.95)
    assert (exact.won, exact.lost, exact.p) == (6, 1, 0.125)
    assert weigh(ours, theirs, metric, 0.95).p == pytest.approx(exact.p, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss"])
def test_equally_good_models_are_rarely_called_different(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 pairs of equally good models at most 2.5 % may be called clearly better, and as many clearly worse."""
    monkeypatch.setattr(evidence, "RESAMPLES", 200)
    chance, rule = random.Random(3), Promotion(metric=metric, evidence="clearly_better")  # type: ignore[arg-type]
    pairs = [(noisy("abcd" * 13, 0.2, chance), noisy("abcd" * 13, 0.2, chance)) for _ in range(400)]
    better = sum(decide(ours, theirs, rule).promote for ours, theirs in pairs)
    spared = Promotion(metric=metric, evidence="not_clearly_worse", confidence=0.95)  # type: ignore[arg-type]
    worse = sum(not decide(ours, theirs, spared).promote for ours, theirs in pairs)
    assert better <= 18 and worse <= 18  # binomial(400, 0.025): more than 18 in one of 250 cases


def test_an_answer_of_another_class_is_a_wrong_one() -> None:
    """As where the champion knows other classes: it answers some that the test set does not have."""
    truths = ["a", "b"] * 60
    expected = {f"{number:03}": truth for number, truth in enumerate(truths)}

    def model(answers: list[str], classes: str) -> Evaluation:
        given = {
            f"{number:03}": [0.9 if label == answer else 0.1 / (len(classes) - 1) for label in classes]
            for number, answer in enumerate(answers)
        }
        return evaluate("ab", expected, given, "d", classes)

    ours = model(truths, "bac")
    theirs = model(["z" if number % 4 == 1 else truth for number, truth in enumerate(truths)], "zab")
    labels = [[("a", "b", "z")[answer] for answer in one.outcomes.answered] for one in (ours, theirs)]
    for one, answers in zip((ours, theirs), labels, strict=True):
        assert one.macro_f1 == pytest.approx(f1_score(truths, answers, labels=["a", "b"], average="macro"))
    found = weigh(ours, theirs, "macro_f1", 0.95)
    assert (found.won, found.lost, found.gain) == (30, 0, pytest.approx(ours.macro_f1 - theirs.macro_f1))
    assert 0 < found.low < found.gain < found.high and found.p < 0.001
