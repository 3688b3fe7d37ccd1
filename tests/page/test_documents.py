"""What Airflow and S3 hold of a run, read together through the real route."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import boto3
import pytest

from retraining.page import airflow_runs
from retraining.page.documents import Shelf, TooLarge, name_of, read_version
from tests.object_store import CLIENT, KEY_ID, SECRET
from tests.page.rows import RUN, add_task, another_run, forget_tasks, set_state
from tests.page.runs import BEGAN, documents

DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture
def shelf(s3_endpoint: str, airflow: Any, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """An empty bucket, and the environment that leads the API server to it."""
    s3 = boto3.client("s3", endpoint_url=s3_endpoint, **CLIENT)
    bucket = f"page-{uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    environment = {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
        "RETRAINING_ENVIRONMENT": "local",
        "RETRAINING_BUCKET": bucket,
        "RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/local-sagemaker",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Shelf(s3=s3, bucket=bucket)


def record() -> airflow_runs.RunRecord:
    found = airflow_runs.find_run(**RUN)
    assert found
    return found


def test_a_run_that_goes_on_is_shown_by_what_its_tasks_left(airflow: Any, viewer: dict[str, str], shelf: Shelf) -> None:
    set_state("running")
    answer = airflow.get("/retraining/run", params=RUN, headers=viewer)
    assert (answer.status_code, "Running." in answer.text, "data-live" in answer.text) == (200, True, True)


def test_a_log_that_cannot_be_read_leaves_the_page(
    airflow: Any, viewer: dict[str, str], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "http://127.0.0.1:9")
    set_state("running")
    add_task("train", "deferred", BEGAN, None, job={"kind": "training", "name": "digits-train"})
    try:
        page = airflow.get("/retraining/run", params=RUN, headers=viewer)
        assert page.status_code == 200
        assert "Now: train waits for what it has begun." in page.text
        assert "Loss and accuracy of every epoch, from the first one on." in page.text
    finally:
        forget_tasks()


def test_a_run_that_ended_is_shown_by_its_report(airflow: Any, viewer: dict[str, str], shelf: Shelf) -> None:
    set_state("success")
    key = f"digits/runs/{name_of(record(), shelf.bucket)}"
    left = documents(DIGITS)
    for name, document in (("report", left.report), ("evaluation", left.evaluation)):
        shelf.s3.put_object(Bucket=shelf.bucket, Key=f"{key}/{name}.json", Body=json.dumps(document).encode())
    answer = airflow.get("/retraining/run", params=RUN | {"task_id": "tune"}, headers=viewer)
    assert answer.status_code == 200
    assert "Right on 3 images more of 300" in answer.text and 'data-section="tuning"' in answer.text
    assert "0.9667" in answer.text  # a class's recall, which only evaluation.json has
    weeks = airflow.get("/retraining/weeks", params={"dag_id": "retrain_digits"}, headers=viewer)
    assert weeks.status_code == 200 and "Right on 3 images more of 300" in weeks.text
    assert 'href="run?dag_id=retrain_digits&amp;run_id=manual__1"' in weeks.text


def test_the_profilers_report_opens_in_a_sandbox(airflow: Any, viewer: dict[str, str], shelf: Shelf) -> None:
    set_state("success")
    key = f"digits/runs/{(name := name_of(record(), shelf.bucket))}"
    address = f"s3://{shelf.bucket}/{key}/profiler-report.html"
    foreign = b"<script>alert(1)</script><p>Where the time went"
    for place in (f"{key}/profiler-report.html", "secret.html"):
        shelf.s3.put_object(Bucket=shelf.bucket, Key=place, Body=foreign)
    report = documents(DIGITS).report | {"run_name": name}
    answers = {}
    for told in (address, f"s3://{shelf.bucket}/secret.html", "s3://another/x.html"):
        body = json.dumps(report | {"profiler": report["profiler"] | {"html": told}}).encode()
        shelf.s3.put_object(Bucket=shelf.bucket, Key=f"{key}/report.json", Body=body)
        answers[told] = airflow.get("/retraining/profiler", params=RUN, headers=viewer)
    assert [answer.status_code for answer in answers.values()] == [200, 404, 404]
    opened = answers[address]
    assert (opened.content, opened.headers["Content-Type"]) == (foreign, "text/html; charset=utf-8")
    policy = opened.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox;") and "script" not in policy and "default-src 'none'" in policy
    assert (
        "profiler?dag_id=retrain_digits&amp;run_id=manual__1"
        in airflow.get("/retraining/run", params=RUN, headers=viewer).text
    )


def test_a_class_is_shown_by_its_place_alone(airflow: Any, viewer: dict[str, str], shelf: Shelf) -> None:
    set_state("success")
    key, report = f"digits/runs/{name_of(record(), shelf.bucket)}", documents(DIGITS).report
    strips = ["a" * 20, None, "../../secret", "b" * 20]
    told = {"classes": [{"label": "x", "count": 3, "shown": 3, "strip": one} for one in strips]}
    left = {
        f"{key}/report.json": json.dumps(report).encode(),
        f"digits/data/versions/{report['dataset']['fingerprint']}/strips.json": json.dumps(told).encode(),
        f"digits/data/strips/{'a' * 20}.webp": b"a picture",
        "digits/secret.webp": b"secret",
    }
    for name, body in left.items():
        shelf.s3.put_object(Bucket=shelf.bucket, Key=name, Body=body)
    places = ("0", "1", "2", "3", "4", "399", "400", "-1", "x")
    answers = [airflow.get("/retraining/strip", params=RUN | {"place": at}, headers=viewer) for at in places]
    assert [answer.status_code for answer in answers] == [200, *[404] * 5, *[422] * 3]
    assert (answers[0].content, answers[0].headers["Content-Type"]) == (b"a picture", "image/webp")
    page = airflow.get("/retraining/run", params=RUN, headers=viewer).text
    assert [f"run_id=manual__1&amp;place={at}" in page for at in range(4)] == [True, False, True, True]


def test_a_report_tells_of_the_runs_before_it(airflow: Any, viewer: dict[str, str], shelf: Shelf) -> None:
    set_state("running")
    alone = airflow.get("/retraining/run", params=RUN, headers=viewer).text
    assert "The runs before this one, from the second run on" in alone
    week = timedelta(weeks=1)
    with another_run("before", record().run_after - week), another_run("later", record().run_after + week):
        page = airflow.get("/retraining/run", params=RUN, headers=viewer).text
    assert "this run" in page and 'run_id=before"' in page and "It left no report." in page
    assert 'run_id=later"' not in page


def test_a_later_attempt_that_died_is_not_hidden_by_an_earlier_report(
    airflow: Any, viewer: dict[str, str], shelf: Shelf
) -> None:
    set_state("failed")
    key = f"digits/runs/{name_of(record(), shelf.bucket)}/report.json"
    shelf.s3.put_object(Bucket=shelf.bucket, Key=key, Body=json.dumps(documents(DIGITS).report).encode())
    add_task("report", "success", BEGAN, BEGAN)
    add_task("train", "failed", BEGAN + timedelta(hours=1), BEGAN + timedelta(hours=2), failure="no machine")
    try:
        page = airflow.get("/retraining/run", params=RUN, headers=viewer).text
        assert "Failed." in page and "train: no machine" in page and "Promoted." not in page
        weeks = airflow.get("/retraining/weeks", params={"dag_id": "retrain_digits"}, headers=viewer).text
        assert "Right on 3 images more" not in weeks
    finally:
        forget_tasks()


def test_a_document_of_any_size_takes_bounded_memory(shelf: Shelf) -> None:
    shelf.s3.put_object(Bucket=shelf.bucket, Key="large", Body=b"0" * 2000)
    with pytest.raises(TooLarge, match="more than 1,000 bytes"):
        shelf.read("large", 1000)
    assert shelf.json("large") is None and shelf.json("absent") is None


def test_a_report_names_no_other_key(shelf: Shelf) -> None:
    shelf.s3.put_object(Bucket=shelf.bucket, Key="secret/dataset.json", Body=b'{"a": 1}')
    assert read_version(shelf, "digits", {"dataset": {"fingerprint": "../../../secret"}}, "dataset.json") is None


@pytest.mark.parametrize("left", [{"run_name": "x"}, {"outcome": "kept", "reason": 5, "gate": 7}, {"outcome": []}])
def test_a_report_of_another_kind_is_said_to_be_so(
    airflow: Any, viewer: dict[str, str], shelf: Shelf, left: dict[str, Any]
) -> None:
    set_state("success")
    key = f"digits/runs/{name_of(record(), shelf.bucket)}/report.json"
    shelf.s3.put_object(Bucket=shelf.bucket, Key=key, Body=json.dumps(left).encode())
    page = airflow.get("/retraining/run", params=RUN, headers=viewer)
    assert (page.status_code, "What this run left is not what this version writes" in page.text) == (200, True)
    weeks = airflow.get("/retraining/weeks", params={"dag_id": "retrain_digits"}, headers=viewer)
    assert (weeks.status_code, "It left no report." in weeks.text) == (200, True)


def test_a_large_document_costs_its_panel_alone(
    airflow: Any, viewer: dict[str, str], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_state("success")
    key, left = f"digits/runs/{name_of(record(), shelf.bucket)}", documents(DIGITS)
    monkeypatch.setattr(Shelf.read, "__defaults__", (100_000,))
    for name, body in (("report", json.dumps(left.report).encode()), ("evaluation", b" " * 200_000)):
        shelf.s3.put_object(Bucket=shelf.bucket, Key=f"{key}/{name}.json", Body=body)
    page = airflow.get("/retraining/run", params=RUN, headers=viewer)
    assert (page.status_code, "Right on 3 images more of 300" in page.text) == (200, True)
