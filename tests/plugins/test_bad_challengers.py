"""Kinds of bad challengers, and what catches each: the gate, a check of the release, or the endpoint's own canary.

None becomes the champion, and none serves beyond its canary. Those that break, crash, mumble, answer wrongly or slowly
behind the endpoint are in `test_guarded_deployment.py` as well as here.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from retraining.operators.endpoint import DeployOperator
from retraining.promotion import bounds
from retraining.promotion.check import Check
from retraining.promotion.decision import Decision, decide
from retraining.promotion.scores import Evaluation, ScoreError, evaluate
from retraining.recipe import Promotion
from retraining.recipe.slices import Traits
from retraining.release.package import reject
from retraining.requests.sagemaker import custom_attributes
from retraining.run import Run
from retraining.steps import task_requests as task_requests
from tests.plugins.release_run import Runs, approval, deploy, deploying, put_artifact, register, roll_back, served
from tests.plugins.scored import scored
from tests.plugins.task_run import context, finish
from tests.plugins.test_guarded_deployment import alarms_of, guarded

# --- at the gate ----------------------------------------------------------------------------------------------------

CLASSES = "abc"
EACH = 60
TRUTHS = "".join(label * EACH for label in CLASSES)
"""60 images of each of three classes; the champion takes each tenth for the next class."""
NAMES = [f"{label}/{place:05}" for place, label in enumerate(TRUTHS)]
EXPECTED = dict(zip(NAMES, TRUTHS, strict=True))
NEXT = dict(zip(CLASSES, CLASSES[1:] + CLASSES[:1], strict=True))


def answering(wrong: Callable[[int, str], bool], other: Mapping[str, str] = NEXT) -> str:
    return "".join(other[label] if wrong(place, label) else label for place, label in enumerate(TRUTHS))


CHAMPION = scored(TRUTHS, answering(lambda place, _: place % 10 == 0))
SWAPPED = {"a": "b", "b": "a", "c": "c"}
CHANCE = random.Random(4)
DRAWN = "".join(CHANCE.choice(CLASSES) for _ in TRUTHS)


@dataclass(frozen=True, kw_only=True)
class Worse:
    """A challenger whose answers are what a model's are, and who should not serve."""

    answers: str = TRUTHS
    sure: float = 0.9
    rule: dict[str, Any] = field(default_factory=dict)
    said: str
    champion: Evaluation | None = CHAMPION
    traits: dict[str, Traits] | None = None
    others: tuple[Check | None, ...] = ()
    forged: dict[str, Any] = field(default_factory=dict)

    def judged(self) -> Decision:
        candidate = replace(scored(TRUTHS, self.answers, sure=self.sure), **self.forged)
        rule, others = Promotion(**self.rule), [other for other in self.others if other]
        return decide(candidate, self.champion, rule, others=others, traits=self.traits)


def looked(**of: Callable[[int], Any]) -> dict[str, Traits]:
    """What the images are known by, from their places."""
    return {name: Traits(file=name, **{k: v(p) for k, v in of.items()}) for p, name in enumerate(NAMES)}


EARLY = answering(lambda place, _: place < 10)
"""Ten images wrong, where the champion has eighteen: better on average, and worse in what these ten have in common."""
LARGE = bounds.size(300_000_000, 100_000_000, Promotion(max_size_ratio=2))

WORSE = {
    "worse everywhere": Worse(answers=answering(lambda place, _: place % 4 == 1), said="clearly misses"),
    "a constant answer": Worse(answers="a" * len(TRUTHS), said="clearly misses"),
    "drawn at random": Worse(answers=DRAWN, said="clearly misses"),
    "two labels swapped": Worse(answers=answering(lambda *_: True, SWAPPED), said="clearly worse in class 'a'"),
    "classes in another order": Worse(answers=TRUTHS[::-1], said="clearly misses"),
    "off by one class": Worse(answers=answering(lambda *_: True), said="clearly misses"),
    "one class lost": Worse(answers=answering(lambda place, _: place >= 163), said="clearly worse in class 'c'"),
    "a class that falls below its floor": Worse(
        answers=answering(lambda place, label: label == "b" and place % 4 == 1),
        rule={"min_class_recall": 0.8, "worse_classes": "ignore"},
        said="recall 0.7500 of class 'b'",
    ),
    "a slice lost, by name": Worse(
        answers=EARLY, rule={"slices": {"night": "a/0000*"}}, said="clearly worse in slice 'night'"
    ),
    "a slice lost, by folder": Worse(
        answers=EARLY,
        rule={"slices": {"scanner": "folder = *scanner-b*"}},
        traits=looked(folder=lambda place: "in/scanner-b" if place < 10 else "in/scanner-a"),
        said="clearly worse in slice 'scanner'",
    ),
    "a slice lost, by size": Worse(
        answers=EARLY,
        rule={"slices": {"small": "side < 64"}},
        traits=looked(side=lambda place: 32 if place < 10 else 224),
        said="clearly worse in slice 'small'",
    ),
    "a slice lost, by brightness": Worse(
        answers=EARLY,
        rule={"slices": {"dark": "brightness < 0.2"}},
        traits=looked(brightness=lambda place: 0.1 if place < 10 else 0.6),
        said="clearly worse in slice 'dark'",
    ),
    "no better, where a gain is asked": Worse(
        answers=answering(lambda place, _: place % 10 == 0), rule={"min_improvement": 0.02}, said="misses the required"
    ),
    "better by luck, where proof is asked": Worse(
        answers=answering(lambda place, _: place % 10 == 0 and place > 20),
        rule={"evidence": "clearly_better", "min_improvement": 0.01},
        said="does not clearly reach",
    ),
    "the first, and not good enough": Worse(
        answers=answering(lambda place, _: place % 4 == 1),
        rule={"min_value": 0.8},
        champion=None,
        said="below the smallest value that may serve",
    ),
    "surer than it is right": Worse(
        answers=answering(lambda place, _: place % 10 == 0),
        sure=0.999,
        rule={"max_calibration_error": 0.05},
        said="its certainty is off by 0.09",
    ),
    "unsure of all": Worse(sure=0.4, rule={"metric": "log_loss"}, said="log_loss 0.9163 against the champion's"),
    "too large": Worse(rule={"max_size_ratio": 2}, others=(LARGE,), said="its artifact is 3.00 times the champion's"),
    "told better than it is": Worse(
        answers=answering(lambda place, _: place % 4 == 1), forged={"accuracy": 1.0}, said="the outcomes of the 180"
    ),
    "told as no number": Worse(forged={"macro_f1": float("nan")}, said="macro_f1 is nan, which is no score"),
    "scored on other images": Worse(forged={"test_digest": "other"}, said="scored on different test sets"),
    "of other classes": Worse(forged={"classes": ("a", "b", "d")}, said="scored on different classes"),
}

ONE, REST = NAMES[0], {name: [0.8, 0.1, 0.1] for name in NAMES}
MEANINGLESS: dict[str, Mapping[str, Any]] = {
    "no number": REST | {ONE: [float("nan"), 0.5, 0.5]},
    "an infinite score": REST | {ONE: [float("inf"), 0.0, 0.0]},
    "logits": REST | {ONE: [4.0, -1.0, 0.5]},
    "scores of several labels": REST | {ONE: [0.9, 0.9, 0.9]},
    "a class too few": REST | {ONE: [0.5, 0.5]},
    "a class too many": REST | {ONE: [0.4, 0.3, 0.2, 0.1]},
    "texts": REST | {ONE: ["0.8", "0.1", "0.1"]},
    "a label alone": REST | {ONE: "a"},
    "an image without an answer": {name: REST[name] for name in NAMES[1:]},
    "an image that nobody asked for": REST | {"a/stranger": [0.8, 0.1, 0.1]},
    "no answers": {},
}


@pytest.mark.parametrize("kind", WORSE)
def test_the_gate_keeps_a_worse_one_out(kind: str) -> None:
    decision = WORSE[kind].judged()
    assert not decision.promote
    assert WORSE[kind].said in decision.reason


@pytest.mark.parametrize("kind", MEANINGLESS)
def test_answers_that_mean_nothing_decide_nothing(kind: str) -> None:
    with pytest.raises(ScoreError):
        evaluate(list(CLASSES), EXPECTED, MEANINGLESS[kind], "d")


def test_a_new_class_that_was_not_learnt_keeps_it_out() -> None:
    known = {name: label for name, label in EXPECTED.items() if label != "c"}
    sure = {"a": [0.9, 0.1, 0.0], "b": [0.1, 0.9, 0.0], "c": [0.9, 0.1, 0.0]}
    answers = {name: sure[label] for name, label in EXPECTED.items()}
    on_known = {name: answers[name] for name in known}
    candidate = evaluate(list(CLASSES), EXPECTED, answers, "d")
    shared = evaluate(["a", "b"], known, on_known, "d", list(CLASSES))
    champion = evaluate(["a", "b"], known, on_known, "d", ["a", "b", "z"])
    decision = decide(candidate, champion, Promotion(min_class_recall=0.5), shared=shared)
    assert not decision.promote
    assert "of the new classes c miss the floor" in decision.reason


def test_the_same_gate_lets_a_good_one_through() -> None:
    rule = Promotion(min_class_recall=0.8, max_calibration_error=0.2, slices={"night": "a/0000*"}, min_improvement=0.02)
    assert decide(scored(TRUTHS, TRUTHS), CHAMPION, rule).promote


# --- behind the endpoint --------------------------------------------------------------------------------------------

BEHIND = {
    "answers otherwise than in batch": ({"label": "b"}, r"answers 'b' for a/1\.png"),
    "fails at each request": ({"breaks": ""}, "failed at 3 golden images"),
    "ends its process": ({"crashes": ""}, "failed at 3 golden images"),
    "answers what is no prediction": ({"mumbles": ""}, "that is no prediction"),
    "takes no JSON": ({"picky": ""}, r"failed at 3 golden images.*only pictures"),
    "leaves out answers of a list": ({"forgets": ""}, "that is no prediction"),
    "does not start": ({"refuses": "yes"}, "SageMaker rolled the update back"),
}


@pytest.mark.parametrize("kind", BEHIND)
def test_the_canary_goes_back(runs: Runs, kind: str) -> None:
    files, said = BEHIND[kind]
    before, run = runs(1), guarded(runs(2), bake_seconds=3600)
    deploy(before)
    with pytest.raises(Exception, match=said):
        deploy(run, **files)
    stays_out(run, before)


def artifact_replaced(run: Run) -> None:
    put_artifact(run, label="b")


def artifact_deleted(run: Run) -> None:
    run.s3.delete_object(Bucket=run.environment.bucket, Key=run.model_data_url.rsplit("/", 1)[-1])


def model_made_anew(run: Run) -> None:
    put_other = run.plan.uri("another.tar.gz")
    run.s3.put_object(Bucket=run.environment.bucket, Key="another.tar.gz", Body=b"another")
    run.sagemaker.delete_model(ModelName=run.plan.model)
    request = task_requests.model_request(run)
    request["PrimaryContainer"]["ModelDataUrl"] = put_other
    run.sagemaker.create_model(**request)


def rejected_by_a_person(run: Run) -> None:
    reject(run.sagemaker, run.fact("register")["arn"], "it takes cats for dogs")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (artifact_replaced, "was replaced"),
        (artifact_deleted, "does not exist any more"),
        (model_made_anew, "is not what this run asks for"),
        (rejected_by_a_person, "it takes cats for dogs"),
    ],
)
def test_what_was_changed_after_the_gate_is_not_deployed(runs: Runs, change: Callable[[Run], None], said: str) -> None:
    before, run = runs(1), guarded(runs(2))
    deploy(before)
    register(run)
    change(run)
    with pytest.raises(ValueError, match=said):
        deploying(run)
    assert run.release_intents.read() is None  # nothing was asked of the endpoint
    assert (served(run), approval(run) != "Approved") == (before.plan.endpoint_config, True)


def test_a_bad_one_answers_no_more_than_its_share(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it bakes: golden images come last here, so that clients meet it."""
    before, run, told = runs(1), guarded(runs(2), bake_seconds=3600), Counter[str]()
    deploy(before)
    wait = DeployOperator._wait

    def after_clients(operator: DeployOperator, context: Any, endpoint: Any, intent: Any) -> Any:
        if any(row["Status"] == "Baking" for row in _notes(endpoint)):
            ask(run, told, 200)
        return wait(operator, context, endpoint, intent)

    monkeypatch.setattr(DeployOperator, "_wait", after_clients)
    with pytest.raises(Exception, match=r"answers 'b' for a/1\.png"):
        deploy(run, label="b")
    stays_out(run, before)
    ours, all_of_them = told[custom_attributes(run.plan.model)], told.total()
    assert all_of_them >= 200
    assert 0 < ours <= 0.65 * all_of_them  # half of them, and a wide margin
    told.clear()
    ask(run, told, 20)
    assert set(told) == {custom_attributes(before.plan.model)}


def _notes(endpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    pending = endpoint.get("PendingDeploymentSummary") or {}
    return [note for variant in pending.get("ProductionVariants", ()) for note in variant.get("VariantStatus", ())]


def ask(run: Run, told: Counter[str], times: int) -> None:
    """As clients do, some at a time; `told` counts by which model answered. No request may fail."""

    def send() -> None:
        for _ in range(times // 4):
            answer = run.runtime.invoke_endpoint(EndpointName=run.plan.endpoint, ContentType="image/png", Body=b"x")
            told[answer["CustomAttributes"]] += 1

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def stays_out(run: Run, before: Run) -> None:
    """The one before serves alone, nothing of this run is left, and the registry says so once it was rolled back."""
    assert served(run) == before.plan.endpoint_config
    assert alarms_of(run) == []
    with pytest.raises(Exception, match="nothing to roll back"):
        roll_back(run)
    assert approval(run) == "Rejected"
    with pytest.raises(Exception, match="was taken back; clearing deploy does not repeat it"):
        finish(deploying_again(run), context())
    assert run.find_json(run.plan.champion_key) is None


def deploying_again(run: Run) -> DeployOperator:
    """A person clears `deploy`; the package is not rejected any more, say."""
    run.sagemaker.update_model_package(ModelPackageArn=run.fact("register")["arn"], ModelApprovalStatus="Approved")
    return deploying(run)


# --- all of them ----------------------------------------------------------------------------------------------------


def test_there_are_forty_kinds() -> None:
    others = 1 + 4 + 1 + 1  # a new class, four changes after the gate, a slow one, one refused in the shadow
    assert len(WORSE) + len(MEANINGLESS) + len(BEHIND) + others >= 40
