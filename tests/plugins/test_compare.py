"""`compare`, from what two batch transform jobs left in S3 to evaluation.json and the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from retraining.promotion.scores import ScoreError
from retraining.recipe import read_recipe
from retraining.release.artifact import ArtifactChanged, measure
from retraining.report import Findings, as_markdown, run_report
from retraining.run import Run
from retraining.steps import compare
from tests.plugins.task_run import ROLE

IMAGES = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(20)]
RIGHT = {image: image.split("/")[0] for image in IMAGES}
CHAMPION = RIGHT | {"cat/0.png": "dog", "cat/1.png": "dog", "dog/0.png": "cat"}
CANDIDATE = RIGHT | {"cat/0.png": "dog", "dog/1.png": "cat"}


class Facts:
    """The XComs of one run."""

    def __init__(self, known: dict[str, Any]) -> None:
        self.known = known

    def xcom_push(self, key: str, value: Any) -> None:
        self.known[f"compare.{key}"] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.known.get(f"{task_ids}.{key}")


@pytest.fixture
def scored_run(
    sagemaker: Any, s3: Any, bucket: str, recipe_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """scored_run(champion=…, promotion={…}): a run whose models have answered the test images."""
    monkeypatch.setenv("RETRAINING_ENVIRONMENT", "local")
    monkeypatch.setenv("RETRAINING_BUCKET", bucket)
    monkeypatch.setenv("RETRAINING_ROLE_ARN", ROLE)

    def put(key: str, document: Any) -> None:
        s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(document).encode())

    def make(
        candidate: dict[str, str] = CANDIDATE,
        champion: dict[str, str] | None = CHAMPION,
        digest: str = "f1",
        champion_classes: tuple[str, ...] = ("dog", "cat"),
        params: dict[str, Any] | None = None,
        group_by: str | None = None,
        **promotion: Any,
    ) -> Run:
        put("shapes/data/versions/f1/dataset.json", {"classes": ["cat", "dog"]})
        put("shapes/data/versions/f1/test.manifest", [{"prefix": "s3://"}, *IMAGES])
        for folder, answers, classes in (("new", candidate, ("cat", "dog")), ("old", champion, champion_classes)):
            for image, answer in (answers or {}).items():
                put(f"{folder}/{image}.out", {"probabilities": [0.9 if label == answer else 0.1 for label in classes]})
        served = {"run_name": "last-week", "classes": list(champion_classes)} if champion else None
        known: dict[str, Any] = {
            "sync_dataset.return_value": {"fingerprint": "f1", "classes": ["cat", "dog"]},
            "needs_retraining.champion": {"document": served, "etag": None},
            "score_candidate.return_value": {"output_uri": f"s3://{bucket}/new"},
        }
        if champion and set(champion_classes) & {"cat", "dog"}:
            manifest = f"s3://{bucket}/shapes/data/versions/{digest}/test.manifest"
            known["score_champion.return_value"] = {"output_uri": f"s3://{bucket}/old", "input_uri": manifest}
        dag_run = SimpleNamespace(run_after=datetime(2026, 11, 21, tzinfo=UTC), run_id="manual__1")
        context: Any = {"ti": Facts(known), "params": params or {}, "dag_run": dag_run}
        data = recipe_data | {"promotion": promotion} | ({"split": {"group_by": group_by}} if group_by else {})
        return Run(read_recipe(data, where="test"), context)

    return make


def test_everything_behind_the_decision_is_kept(scored_run: Callable[..., Run]) -> None:
    run = scored_run()
    assert compare(run) is True
    stored = run.read_json(f"{run.plan.run_key}/evaluation.json")
    evidence = stored["decision"]["evidence"]
    assert (evidence["n"], evidence["won"], evidence["lost"], evidence["p"]) == (40, 2, 1, 1.0)
    assert evidence["gain"] == pytest.approx(1 / 40)
    assert evidence["low"] < evidence["gain"] < evidence["high"]
    assert stored["candidate"]["confusion"] == [[19, 1], [1, 19]]
    assert stored["champion"]["confusion"] == [[18, 2], [1, 19]]
    assert stored["changed_images"] == {"won": ["cat/1.png", "dog/0.png"], "lost": ["dog/1.png"]}
    assert stored["multiclass_classification_metrics"]["accuracy"]["value"] == 0.95


def test_the_report_shows_the_same_numbers(scored_run: Callable[..., Run]) -> None:
    run = scored_run()
    compare(run)
    comparison = run.fact("compare", key="comparison")
    stored = run.read_json(f"{run.plan.run_key}/evaluation.json")
    states = {"compare": "success", "update_champion": "success"}
    report = run_report(Findings(run_name="r", recipe="shapes", states=states, failures={}, comparison=comparison))
    for key in ("changed_classes", "confused_pairs"):
        assert report[key] == stored[key] == comparison[key]
    assert report["evidence"] == stored["decision"]["evidence"]
    page = as_markdown(report)
    assert "of 40 test images 2 are now right that were wrong, 1 the other way (p = 1; 60 % interval" in page
    assert "| cat | 0.9500 | 0.9000 | +1 | 20 |" in page
    assert "| cat | dog | 1 | 2 |" in page


def test_the_recipes_evidence_is_asked_for(scored_run: Callable[..., Run]) -> None:
    assert compare(scored_run(evidence="clearly_better")) is False
    assert compare(scored_run(min_class_recall=0.96)) is False


def test_another_test_set_of_the_champion_keeps_it(scored_run: Callable[..., Run]) -> None:
    run = scored_run(candidate=RIGHT, digest="f0")
    assert compare(run) is False
    comparison = run.fact("compare", key="comparison")
    assert "different test sets (f1, 40 images; f0, 40 images)" in comparison["decision"]["reason"]
    assert (comparison["decision"]["evidence"], comparison["changed_classes"]) == (None, [])


# A champion of last week, before cows became dogs: it takes every dog for a cow.
OTHER = {image: "cow" if label == "dog" else "cat" for image, label in RIGHT.items()} | {"cat/1.png": "cow"}


def test_other_classes_are_compared_on_those_both_know(scored_run: Callable[..., Run]) -> None:
    run = scored_run(champion=OTHER, champion_classes=("cow", "cat"), min_class_recall=0.9)
    assert compare(run) is True
    stored = run.read_json(f"{run.plan.run_key}/evaluation.json")
    evidence = stored["decision"]["evidence"]
    # To take a cat for what only one of them knows is as wrong as any answer.
    assert (evidence["n"], evidence["won"], evidence["lost"], evidence["gain"]) == (20, 1, 1, 0.0)
    assert stored["changed_images"] == {"won": ["cat/1.png"], "lost": ["cat/0.png"]}
    assert (stored["candidate"]["n"], stored["champion"]["n"], stored["champion"]["accuracy"]) == (40, 20, 0.95)
    assert stored["decision"]["reason"].startswith("on the 1 of 2 classes that both know, accuracy 0.9500 against")
    new = next(check for check in stored["decision"]["gate"] if check["rule"] == "new_classes")
    assert (new["value"], new["verdict"]) == ("'dog' 0.9500", "passed")


def divided_otherwise(run: Run, learned: list[str]) -> None:
    """The champion's version had these test images in training, perhaps in other classes."""
    facts: Any = run.context["ti"]
    facts.known["needs_retraining.champion"]["document"]["ingredients"] = {"dataset": "f0"}
    for split, names in (("train", learned), ("validation", [])):
        body = json.dumps([{"prefix": "s3://"}, *names]).encode()
        run.s3.put_object(Bucket=run.environment.bucket, Key=run.plan.manifest_key("f0", split), Body=body)


def test_what_the_champion_learned_compares_nothing(scored_run: Callable[..., Run]) -> None:
    """It is right about all that it knows by heart, and about little else."""
    wrong = {"cat": "dog", "dog": "cat"}
    by_heart = RIGHT | {f"{label}/{number}.png": wrong[label] for label in wrong for number in range(10, 18)}
    candidate = RIGHT | {f"{label}/{number}.png": wrong[label] for label in wrong for number in range(11)}
    assert compare(scored_run(candidate=candidate, champion=by_heart)) is False
    run = scored_run(candidate=candidate, champion=by_heart)
    divided_otherwise(run, [f"cow/{number}.png" for number in range(10)])
    assert compare(run) is True
    decision = run.fact("compare", key="comparison")["decision"]
    assert decision["reason"].startswith(
        "on the 20 of 40 test images that the champion did not learn from, accuracy 0.9000 against the "
        "champion's 0.2000"
    )
    assert decision["evidence"]["n"] == 20


def test_a_champion_that_learned_all_is_compared_on_all(
    scored_run: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    run = scored_run()
    divided_otherwise(run, IMAGES)
    assert compare(run) is True
    assert run.fact("compare", key="comparison")["decision"]["evidence"]["n"] == 40
    assert "of which there are none, so that it is on all, to the champion's advantage" in caplog.text


def test_a_new_class_has_the_floor_to_pass(scored_run: Callable[..., Run]) -> None:
    candidate = RIGHT | dict.fromkeys([f"dog/{number}.png" for number in range(5)], "cat")
    other = {"champion": OTHER, "champion_classes": ("cow", "cat")}
    assert compare(scored_run(candidate=candidate, **other)) is True
    run = scored_run(candidate=candidate, min_class_recall=0.8, **other)
    assert compare(run) is False
    assert "of the new classes dog miss the floor" in run.fact("compare", key="comparison")["decision"]["reason"]


def test_a_class_that_both_know_must_not_be_lost(scored_run: Callable[..., Run]) -> None:
    candidate = RIGHT | dict.fromkeys([f"cat/{number}.png" for number in range(8)], "dog")
    run = scored_run(candidate=candidate, champion=OTHER, champion_classes=("cow", "cat"))
    assert compare(run) is False
    assert "clearly worse in class 'cat' (of 20 test images 7 are now wrong that were right" in str(
        run.fact("compare", key="comparison")["decision"]["reason"]
    )


def test_other_classes_and_a_first_promotion_compare_nothing(scored_run: Callable[..., Run]) -> None:
    meant = {"accept_class_change": True, "first_promotion": True}
    run = scored_run(champion=OTHER, champion_classes=("cow", "cat"), params=meant)
    assert compare(run) is True
    reason = run.fact("compare", key="comparison")["decision"]["reason"]
    assert reason == "the champion knows other classes and cannot be compared, and accuracy 0.9500 is good enough"


@pytest.mark.parametrize("whose", ["candidate", "champion"])
def test_an_artifact_swapped_while_it_is_scored_decides_nothing(scored_run: Callable[..., Run], whose: str) -> None:
    run = scored_run()
    key = f"{whose}.tar.gz"
    run.s3.put_object(Bucket=run.environment.bucket, Key=key, Body=b"weights")
    artifact = measure(run.s3, run.plan.uri(key))
    facts: Any = run.context["ti"]
    facts.known["create_model.return_value"] = {"artifact": artifact if whose == "candidate" else None}
    facts.known["needs_retraining.champion"]["document"]["artifact"] = artifact if whose == "champion" else None
    assert compare(run) is True
    run.s3.put_object(Bucket=run.environment.bucket, Key=key, Body=b"another's")
    with pytest.raises(ArtifactChanged, match=f"{whose}.tar.gz"):
        compare(run)


@pytest.mark.parametrize("which", ["candidate", "champion"])
def test_a_missing_answer_of_either_decides_nothing(scored_run: Callable[..., Run], which: str) -> None:
    incomplete = {image: answer for image, answer in RIGHT.items() if image != "dog/7.png"}
    run = scored_run(**{which: incomplete})
    with pytest.raises(ScoreError, match=r"39 answers for 40 test images: 1 missing \(first \['dog/7\.png'\]"):
        compare(run)
    assert run.find("compare", key="comparison") is None


def lost_somewhere() -> dict[str, str]:
    """As many won as lost, so that neither class is clearly worse: four of the first ten images of each are lost."""
    other = {"cat": "dog", "dog": "cat"}
    return RIGHT | {f"{label}/{number}.png": other[label] for label in other for number in range(4)}


def won_elsewhere() -> dict[str, str]:
    other = {"cat": "dog", "dog": "cat"}
    return RIGHT | {f"{label}/{number}.png": other[label] for label in other for number in range(10, 14)}


def test_a_slice_of_dark_images_keeps_the_champion(scored_run: Callable[..., Run]) -> None:
    run = scored_run(lost_somewhere(), won_elsewhere(), slices={"dark": "brightness < 0.25"})
    for image in IMAGES:
        dark = int(image.split("/")[1].removesuffix(".png")) < 10
        body = BytesIO()
        Image.new("L", (20, 20), 20 if dark else 200).save(body, "PNG")
        run.s3.put_object(Bucket=run.environment.bucket, Key=f"{run.plan.images_key}{image}", Body=body.getvalue())
    assert compare(run) is False
    reason = run.fact("compare", key="comparison")["decision"]["reason"]
    assert "clearly worse in slice 'dark' (of 20 test images 8 are now wrong that were right, 0 the other way" in reason
    assert run.read_json(run.plan.test_pixels_key("f1"))["cat/0.png"] == [20, 0.0784]
    run.s3.delete_object(Bucket=run.environment.bucket, Key=f"{run.plan.images_key}cat/0.png")
    assert compare(run) is False  # by what was measured


@pytest.mark.parametrize("cut", ["*_night_*", "folder = *scanner-b*", "group = a"])
def test_a_slice_goes_by_the_names_of_the_source(scored_run: Callable[..., Run], cut: str) -> None:
    """The manifest names images by their content."""
    run = scored_run(lost_somewhere(), won_elsewhere(), slices={"night": cut}, group_by="^(.*)_night_")
    early = [image for image in IMAGES if int(image.split("/")[1].removesuffix(".png")) < 10]
    names = {image: f"scanner-b/{image.replace('/', '/a_night_')}" for image in early}
    run.write_json(run.plan.names_key("f1"), names)
    assert compare(run) is False
    assert "clearly worse in slice 'night' (of 20" in run.fact("compare", key="comparison")["decision"]["reason"]
