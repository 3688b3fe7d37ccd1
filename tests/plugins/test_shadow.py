"""A candidate in the champion's shadow: what clients sent, or test images, answered by both before a deploy."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from retraining.environment import AWS_CONN_ID
from retraining.operators.jobs import TransformOperator
from retraining.operators.resources import ModelOperator
from retraining.promotion.scores import ScoreError
from retraining.recipe.capture import Capture
from retraining.recipe.deployment import Shadow as Rule
from retraining.release import captured as captured_module
from retraining.release.captured import Captured, pictures
from retraining.release.shadow import Shadow, ShadowRefused, labels
from retraining.report import Findings, as_markdown, run_report
from retraining.requests import sagemaker as requests
from retraining.run import Run
from retraining.s3.listing import list_keys
from retraining.steps import shadow, shadow_requests
from retraining.steps import task_requests as task_requests
from tests.plugins.release_run import Runs, deploy, put_artifact, served
from tests.plugins.task_run import context, finish
from tests.waiting import wait_until

SENT = 24


def picture(number: int) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (16, 16), (number % 256, number // 256, 7)).save(body, "PNG")
    return body.getvalue()


def text(body: bytes) -> str:
    return base64.b64encode(body).decode()


def record(data: str, content_type: str = "image/png", encoding: str = "BASE64") -> bytes:
    sent = {"observedContentType": content_type, "mode": "INPUT", "data": data, "encoding": encoding}
    return json.dumps({"captureData": {"endpointInput": sent}, "eventVersion": "0"}).encode()


def in_json(document: Any) -> bytes:
    return record(json.dumps(document), "application/json", "JSON")


def shadowed(run: Run, champion: Run | None = None, percent: int = 100, **rule: Any) -> Run:
    """The run with a shadow in its recipe, and with `champion`'s model as the champion's."""
    deployment = replace(run.recipe.deployment, shadow=Rule(**{"requests": 20} | rule))
    run.recipe = replace(run.recipe, deployment=deployment, capture=Capture(percent=percent))
    run.plan = replace(run.plan, recipe=run.recipe)
    facts: Any = run.context["ti"]
    facts.known["sync_dataset.return_value"]["classes"] = ["a", "b"]
    if champion:
        document = {"run_name": champion.plan.run_name, "classes": ["a", "b"], "model": champion.plan.model}
        facts.known["needs_retraining.champion"] = {"document": document, "etag": None}
    return run


def serving(run: Run) -> Run:
    """A champion whose clients have sent images, each in another way, that were kept."""
    deploy(shadowed(run))
    for number in range(SENT):
        body, kind = picture(number), "image/png"
        if number % 2:
            body, kind = json.dumps({"image": text(body)}).encode(), "application/json"
        run.runtime.invoke_endpoint(EndpointName=run.plan.endpoint, ContentType=kind, Body=body)
    found = Captured(s3=run.s3, bucket=run.environment.bucket, prefix=folder(run))
    wait_until(lambda: len(list(replace(found).images())) == SENT)
    return run


def folder(run: Run) -> str:
    return f"{run.plan.captured_key}/{run.plan.endpoint}/AllTraffic/"


def stand(run: Run, **files: str) -> dict[str, Any]:
    """All tasks of the shadow; returns what the last one found."""
    facts: Any = run.context["ti"]
    put_artifact(run, **files or {"weights": "1"})
    ModelOperator(task_id="m", config=task_requests.model_request(run), aws_conn_id=AWS_CONN_ID).execute(context())
    assert shadow_requests(run)
    told(facts, "shadow_requests", "chosen")
    for task in ("shadow_candidate", "shadow_champion"):
        config = getattr(task_requests, f"{task}_request")(run)
        if config:
            operator = TransformOperator(task_id=task, config=config, aws_conn_id=AWS_CONN_ID, poll_seconds=0.1)
            facts.known[f"{task}.return_value"] = finish(operator, context())
    try:
        shadow(run)
    finally:
        told(facts, "shadow", "found")
    return dict(run.fact("shadow", key="found"))


def told(facts: Any, task: str, key: str) -> None:
    """What a task pushed, where others look for it."""
    facts.known[f"{task}.{key}"] = json.loads(json.dumps(facts.known[f"pushed.{key}"]))


# --- what clients sent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (record(text(picture(1))), [1]),
        (record(text(picture(1)), "application/x-image"), [1]),
        (in_json({"image": text(picture(1))}), [1]),
        (in_json({"instances": [text(picture(1)), text(picture(2))]}), [1, 2]),
        (record(text(json.dumps({"image": text(picture(3))}).encode()), "application/json"), [3]),
        (record(text(b"\x93NUMPY"), "application/x-npy"), []),
        (record(text(b"GIF89a")), []),
    ],
)
def test_pictures_are_found_in_each_way_of_asking(line: bytes, found: list[int]) -> None:
    assert pictures(line) == [picture(number) for number in found]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b'{"captureData": {}}',
        in_json({"url": "https://a/1.png"}),
        in_json({"image": "!"}),
        in_json({"image": 5}),
        in_json([1]),
        in_json({"instances": 5}),
        record("not base64", encoding="BASE64"),
    ],
)
def test_what_holds_no_picture_is_left_out(s3: Any, bucket: str, line: bytes) -> None:
    s3.put_object(Bucket=bucket, Key="c/2026/11/28/03/x.jsonl", Body=line + b"\n" + record(text(picture(1))) + b"\n")
    walk = Captured(s3=s3, bucket=bucket, prefix="c/")
    assert [body for _, body in walk.images()] == [picture(1)]
    assert walk.left_out == 1


def test_the_newest_come_first_and_each_once(s3: Any, bucket: str) -> None:
    for number, hour in ((1, "2025/12/31/23"), (3, "2026/11/28/03"), (2, "2026/02/01/00"), (3, "2026/11/28/01")):
        s3.put_object(Bucket=bucket, Key=f"c/{hour}/{number}.jsonl", Body=record(text(picture(number))))
    found = [body for _, body in Captured(s3=s3, bucket=bucket, prefix="c/").images()]
    assert found == [picture(3), picture(2), picture(1)]


def test_no_more_is_read_than_the_bound(s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        s3.put_object(Bucket=bucket, Key=f"c/2026/11/28/0{number}/x.jsonl", Body=record(text(picture(number))))
    monkeypatch.setattr(captured_module, "MAX_READ", 1)
    assert [body for _, body in Captured(s3=s3, bucket=bucket, prefix="c/").images()] == []
    monkeypatch.setattr(captured_module, "MAX_READ", 2**20)
    monkeypatch.setattr(captured_module, "MAX_LINE", 10)
    assert [body for _, body in Captured(s3=s3, bucket=bucket, prefix="c/").images()] == []


# --- how alike both answer ------------------------------------------------------------------------------------------


def stood(candidate: str, champion: str, bound: float | None = None) -> Shadow:
    names = [str(number) for number in range(len(candidate))]
    seconds = {"candidate": 12.4, "champion": 11.0}
    return Shadow(
        source="captured",
        candidate=dict(zip(names, candidate, strict=True)),
        champion=dict(zip(names, champion, strict=True)),
        min_agreement=bound,
        seconds=seconds,
    )


@pytest.mark.parametrize(("bound", "accepted"), [(None, True), (0.7, True), (0.75, True), (0.76, False)])
def test_agreement_is_held_against_its_bound(bound: float | None, accepted: bool) -> None:
    found = stood("aabb", "aaab", bound)
    assert (found.agreement, found.accepted) == (0.75, accepted)


def test_what_became_what_is_told() -> None:
    found = stood("aabbcc", "aaaaac", 0.9)
    assert found.said == (
        "Of 6 images that clients sent the candidate answers 3 as the champion does (0.5000; at least 0.9 is asked "
        "for). Most often otherwise (champion → candidate, images): a → b (2); a → c (1). Its job took 12 s, the "
        "champion's 11 s."
    )
    assert found.as_dict()["differ"][0] == {"image": "2", "champion": "a", "candidate": "b"}


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"1": [0.9, 0.1]}, "1 of 2 images have no answer, 2 for one"),
        ({"1": [0.9, 0.1], "2": [float("nan"), 0.1]}, "2 is answered by"),
        ({"1": [0.9, 0.1], "2": [1.0]}, "not by 2 probabilities"),
    ],
)
def test_answers_that_are_none_are_no_shadow(answers: dict[str, list[float]], said: str) -> None:
    with pytest.raises(ScoreError, match=said):
        labels(answers, ["a", "b"], ["1", "2"])


# --- the tasks, against the server ----------------------------------------------------------------------------------


def test_both_answer_what_clients_sent(runs: Runs) -> None:
    champion, run = serving(runs(1)), runs(2)
    found = stand(shadowed(run, champion), contrary="4")
    stored = run.read_json(run.plan.shadow_key)
    assert (found["source"], found["n"]) == ("captured", 20)
    assert len(stored["differ"]) == round(20 * (1 - found["agreement"])) > 0
    assert found["seconds"]["champion"] is not None and "Its job took" in found["said"]
    # What is a copy of a client's image lies where a lifecycle rule for such images finds it.
    copies = list(list_keys(run.s3, run.environment.bucket, run.plan.shadow_images_key))
    assert len(copies) == 20 and all(key.startswith(f"{run.plan.captured_key}/") for key in copies)


def test_a_broken_picture_is_not_asked(runs: Runs) -> None:
    """One that no model could answer would fail the whole job."""
    champion = serving(runs(1))
    broken = picture(500)[:-30]
    champion.runtime.invoke_endpoint(EndpointName=champion.plan.endpoint, ContentType="image/png", Body=broken)
    found = Captured(s3=champion.s3, bucket=champion.environment.bucket, prefix=folder(champion))
    wait_until(lambda: len(list(replace(found).images())) == SENT + 1)
    run = shadowed(runs(2), champion, requests=SENT + 1)
    assert stand(run)["n"] == SENT
    assert run.fact("shadow_requests", key="chosen")["left_out"] == 1


def test_an_attempt_that_comes_after_asks_the_same(runs: Runs) -> None:
    champion, run = serving(runs(1)), runs(2)
    found = stand(shadowed(run, champion))
    before = run.read_json(run.plan.shadow_choice_key)
    run.runtime.invoke_endpoint(EndpointName=run.plan.endpoint, ContentType="image/png", Body=picture(500))
    wait_until(
        lambda: len(list(Captured(s3=run.s3, bucket=run.environment.bucket, prefix=folder(run)).images())) > SENT
    )
    assert stand(run) == found
    assert run.read_json(run.plan.shadow_choice_key) == before
    jobs = run.sagemaker.list_transform_jobs(NameContains=f"{run.plan.run_name}-shadow")["TransformJobSummaries"]
    assert sorted(job["TransformJobName"] for job in jobs) == [
        run.plan.shadow_candidate_job,
        run.plan.shadow_champion_job,
    ]


def test_a_refused_shadow_leaves_all_as_it_was(runs: Runs) -> None:
    champion, run = serving(runs(1)), runs(2)
    with pytest.raises(ShadowRefused, match=r"at least 1 is asked for.*neither registered nor deployed"):
        stand(shadowed(run, champion, min_agreement=1.0), contrary="1")
    assert run.fact("shadow", key="found")["agreement"] == 0
    with pytest.raises(task_requests.NotPromoted, match="refused in the shadow"):
        task_requests.registration_request(run)  # whatever a person marks
    assert served(run) == champion.plan.endpoint_config
    assert (
        run.sagemaker.list_model_packages(ModelPackageGroupName=run.plan.model_package_group)[
            "ModelPackageSummaryList"
        ][0]["ModelPackageArn"]
        == champion.fact("register")["arn"]
    )


def test_a_shadow_that_was_marked_away_registers_nothing(runs: Runs) -> None:
    run = runs(1)
    facts: Any = run.context["ti"]
    facts.known["shadow_requests.chosen"] = {"source": "test"}
    with pytest.raises(task_requests.NotPromoted, match="never stood there"):
        task_requests.registration_request(run)


@pytest.mark.parametrize("percent", [0, 100])
def test_test_images_stand_in_for_what_nobody_sent(runs: Runs, percent: int) -> None:
    """Both models have answered these already: no job is paid for."""
    run = shadowed(runs(2), runs(1), percent=percent)
    facts: Any = run.context["ti"]
    entries = [f"{label}/{number:03}.png" for label in "ab" for number in range(15)]
    run.write_json(run.plan.manifest_key("f", "test"), [{"prefix": "s3://"}, *entries])
    for who, wrong in (("candidate", "a/000.png"), ("champion", "")):
        for entry in entries:
            first = entry.startswith("a") != (entry == wrong)
            answer = {"probabilities": [0.9, 0.1] if first else [0.1, 0.9]}
            run.write_json(f"{who}/{entry}.out", answer)
        facts.known[f"score_{who}.return_value"] = {"name": f"score-{who}", "output_uri": run.plan.uri(who)}
        manifest = run.plan.manifest_key("f", "test")
        put_artifact(run, weights="1")
        run.sagemaker.create_model(**task_requests.model_request(run) | {"ModelName": f"{run.plan.model}-{who}"})
        job = requests.transform_job(run.plan, f"{run.plan.run_name}-{who}", f"{run.plan.model}-{who}", manifest)
        run.sagemaker.create_transform_job(**job)
        facts.known[f"score_{who}.return_value"]["name"] = job["TransformJobName"]
    found = stand(run)
    assert (found["source"], found["n"], found["agreement"]) == ("test", 20, 0.95)
    assert found["pairs"] == [{"champion": "a", "candidate": "b", "images": 1}]


def test_without_the_key_nothing_is_asked(runs: Runs) -> None:
    run = runs(1)
    facts: Any = run.context["ti"]
    assert shadow_requests(run) is False
    assert "pushed.chosen" not in facts.known


def test_a_first_model_has_no_shadow_to_stand_in(runs: Runs) -> None:
    assert shadow_requests(shadowed(runs(1))) is False


def test_the_report_tells_of_the_shadow() -> None:
    found = stood("ab", "aa", 0.9)
    report = run_report(Findings(run_name="r", recipe="shapes", states={}, failures={}, shadow=found.summary()))
    assert report["shadow"]["agreement"] == 0.5
    assert f"**Shadow** {found.said}" in as_markdown(report)
