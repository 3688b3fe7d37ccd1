"""A picture goes to the endpoint of the champion and nowhere else, sent by who may, from Airflow's own page."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError
from PIL import Image

from retraining.page import trying
from retraining.page.asking import in_words, model_of
from retraining.page.documents import Shelf
from retraining.page.trying import page_of, to_try
from retraining.release.golden import MAX_INSTANCES
from tests.object_store import CLIENT
from tests.page.conftest import token_of
from tests.page.rows import add_dags
from tests.page.served import HOSTILE
from tests.plugins.conftest import local_sagemaker
from tests.plugins.task_run import IMAGE, ROLE, archive

DAG = {"dag_id": "retrain_digits"}
SEVEN = {"label": "7", "index": 1, "score": 0.75, "probabilities": [0.25, 0.75]}
SEVEN["top"] = [{"label": "7", "score": 0.75}, {"label": "1", "score": 0.25}]
NAME = f"7/{'a' * 20}.png"
PICTURE = f"data:image/jpeg;base64,{base64.b64encode(b'jpeg').decode()}"
Post = Callable[..., Any]


def png(side: int = 20) -> bytes:
    body = io.BytesIO()
    Image.new("L", (side, side), 90).save(body, "PNG")
    return body.getvalue()


@pytest.fixture(scope="module")
def sagemaker(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with local_sagemaker(tmp_path_factory.mktemp("sagemaker"), s3_endpoint) as client:
        yield client


@pytest.fixture
def shelf(s3_endpoint: str, airflow: Any, sagemaker: Any, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """An empty bucket, and the environment that leads the API server to it."""
    s3 = boto3.client("s3", endpoint_url=s3_endpoint, **CLIENT)
    shelf = Shelf(s3=s3, bucket=f"try-{uuid4().hex[:12]}")
    s3.create_bucket(Bucket=shelf.bucket)
    add_dags("retrain_digits")
    for name, value in (("ENVIRONMENT", "local"), ("BUCKET", shelf.bucket), ("ROLE_ARN", ROLE)):
        monkeypatch.setenv(f"RETRAINING_{name}", value)
    return shelf


@pytest.fixture
def serves(sagemaker: Any, shelf: Shelf) -> Callable[..., str]:
    """serves(file="its text"): an endpoint of a model with these files, made the champion's; its name."""

    def make(**files: str) -> str:
        name = f"m-{uuid4().hex[:8]}"
        shelf.s3.put_object(Bucket=shelf.bucket, Key=f"{name}.tar.gz", Body=archive(**files))
        container = {
            "Image": IMAGE,
            "ModelDataUrl": f"s3://{shelf.bucket}/{name}.tar.gz",
            "Environment": {"MODEL_CUSTOM_ATTRIBUTES": f"model={name}"},
        }
        sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.t2.medium", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        waiter = sagemaker.get_waiter("endpoint_in_service")
        waiter.wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
        put(shelf, "digits/champion.json", champion(name))
        return name

    return make


def champion(name: str) -> dict[str, str]:
    return {"run_name": "digits-261130-030000-a1b2c", "endpoint": name, "endpoint_config": name, "model": name}


def put(shelf: Shelf, key: str, document: Any) -> None:
    shelf.s3.put_object(Bucket=shelf.bucket, Key=key, Body=json.dumps(document).encode())


@pytest.fixture
def post(airflow: Any, user: dict[str, str]) -> Post:
    def send(body: bytes = b"", kind: str = "image/png", **params: Any) -> Any:
        headers = user | {"Content-Type": kind}
        return airflow.post("/retraining/try", params=DAG | params, content=body, headers=headers)

    return send


def test_a_picture_is_answered_by_the_champions_endpoint(serves: Callable[..., str], post: Post) -> None:
    name = serves(answer=json.dumps(SEVEN))
    answer = post(png())
    told = answer.json()
    assert (answer.status_code, told["model"], told["champion"]) == (200, name, name)
    assert told["answers"] == [{key: SEVEN[key] for key in ("label", "index", "score", "top")}]
    assert 0 < told["ms"] < 240_000
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_several_pictures_are_answered_in_one_request(serves: Callable[..., str], post: Post) -> None:
    serves(answer=json.dumps(SEVEN))
    body = json.dumps({"instances": [base64.b64encode(png()).decode()] * 3}).encode()
    told = post(body, "application/json", of=0).json()
    assert [one["of"] for one in told["answers"]] == [0.25] * 3
    assert [one["of"] for one in post(body, "application/json", of=9).json()["answers"]] == [None] * 3


@pytest.mark.parametrize(
    ("file", "status", "said"),
    [
        ("breaks", 502, "failed at it (status 500)"),
        ("crashes", 502, "failed at it (status 500)"),
        ("mumbles", 502, "no label with a score"),
    ],
)
def test_a_model_that_fails_is_told_in_words(
    serves: Callable[..., str], post: Post, file: str, status: int, said: str
) -> None:
    serves(**{file: ""})
    answer = post(png())
    assert answer.status_code == status and said in answer.json()["problem"]


def test_what_does_not_serve_is_told_in_words(shelf: Shelf, post: Post) -> None:
    assert (post(png()).status_code, "Nothing serves yet" in post(png()).text) == (409, True)
    put(shelf, "digits/champion.json", champion("no-such-endpoint"))
    assert "The endpoint does not exist." in post(png()).json()["problem"]


@pytest.mark.parametrize(
    ("code", "members", "said"),
    [
        ("ThrottlingException", {}, "more requests than it can take"),
        ("ModelNotReadyException", {}, "Try again in a moment"),
        ("AccessDeniedException", {}, "sagemaker:InvokeEndpoint"),
        ("ValidationError", {}, "SageMaker answers ValidationError: why"),
        ("ModelError", {"OriginalStatusCode": 429, "OriginalMessage": "{}"}, "busy, or starting"),
        ("ModelError", {"OriginalStatusCode": 422, "OriginalMessage": '{"error": "X", "detail": "y"}'}, "X: y"),
        ("ModelError", {"OriginalStatusCode": 500, "OriginalMessage": '{"answered_by": "model=m"}'}, "model m failed"),
        ("ModelError", {"OriginalStatusCode": 500, "OriginalMessage": "[" * 9}, "status 500"),
        ("ModelError", {}, "status 0"),
    ],
)
def test_each_refusal_says_what_to_do(code: str, members: dict[str, Any], said: str) -> None:
    error = ClientError({"Error": {"Code": code, "Message": "why"}, **members}, "InvokeEndpoint")  # type: ignore[arg-type]
    assert said in in_words(error)


def test_only_what_names_a_model_is_believed() -> None:
    assert model_of("model=digits-1") == "digits-1"
    assert [model_of(text) for text in ("", "model=", "model=<b>", "x", "model=a b")] == [None] * 5


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"", "image/png", 422, "EMPTY"),
        (b"<svg onload=alert(1)>", "image/svg+xml", 422, "FORMAT"),
        (png()[:-30], "image/png", 422, "TRUNCATED"),
        (png(8), "image/png", 422, "TOO_SMALL"),
        (b"[]", "application/json", 400, "1 to 16 pictures"),
        (b'{"instances": ["?"]}', "application/json", 400, "in base64"),
        (b"[" * 100_000, "application/json", 400, "in base64"),
        (json.dumps({"instances": [""] * (MAX_INSTANCES + 1)}).encode(), "application/json", 400, "1 to 16"),
    ],
)
def test_what_is_no_picture_reaches_no_endpoint(
    shelf: Shelf, post: Post, body: bytes, kind: str, status: int, said: str
) -> None:
    put(shelf, "digits/champion.json", champion("never-asked"))
    answer = post(body, kind)
    assert answer.status_code == status and said in answer.json()["problem"]


def test_a_body_is_bounded_as_it_arrives(
    airflow: Any, user: dict[str, str], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "limit_of", lambda several: 1000)
    parts = iter([b"x" * 600] * 1_000_000)
    chunked = airflow.post("/retraining/try", params=DAG, content=parts, headers=user)
    assert (chunked.status_code, "1,000 bytes" in chunked.text) == (413, True)
    assert airflow.post("/retraining/try", params=DAG, content=b"x" * 2000, headers=user).status_code == 413


def test_nothing_of_a_picture_is_kept(
    serves: Callable[..., str], post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serves(answer=json.dumps(SEVEN))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert (post(png()).status_code, post(b"none").status_code) == (200, 422)
    assert list(tmp_path.iterdir()) == []


def test_more_than_a_few_at_once_are_asked_to_wait(shelf: Shelf, post: Post) -> None:
    put(shelf, "digits/champion.json", champion("no-such-endpoint"))
    for _ in range(trying.AT_ONCE):
        assert trying._slots.acquire(blocking=False)
    try:
        answer = post(png())
        assert (answer.status_code, "Try again in a moment" in answer.text) == (429, True)
    finally:
        for _ in range(trying.AT_ONCE):
            trying._slots.release()
    assert post(png()).status_code == 502


@pytest.mark.parametrize(("role", "status"), [(None, 403), ("viewer", 403), ("user", 409)])
def test_only_who_may_trigger_a_run_may_send(airflow: Any, shelf: Shelf, role: str | None, status: int) -> None:
    headers = {"Authorization": f"Bearer {token_of(role)}"}
    assert airflow.post("/retraining/try", params=DAG, content=png(), headers=headers).status_code == status


def test_who_may_only_look_is_told_so(airflow: Any, shelf: Shelf, viewer: dict[str, str], user: dict[str, str]) -> None:
    put(shelf, "digits/champion.json", champion("no-such-endpoint"))
    sentence = "You may look, and not send"
    pages = [airflow.get("/retraining/try", params=DAG, headers=headers) for headers in (viewer, user)]
    assert [(page.status_code, sentence in page.text) for page in pages] == [(200, True), (200, False)]
    assert "connect-src 'self'" in pages[0].headers["content-security-policy"]


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 409),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "http://testserver"}, 409),
        ({"Origin": "http://testserver.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
        ({"Authorization": "Basic ZXk6ZXk="}, 403),
    ],
    ids=str,
)
def test_a_page_of_another_site_sends_nothing(airflow: Any, shelf: Shelf, told: dict[str, str], status: int) -> None:
    """By the cookie that a browser adds to whatever asks."""
    airflow.cookies.set("_token", token_of("user"))
    try:
        answer = airflow.post("/retraining/try", params=DAG, content=png(), headers=told)
    finally:
        airflow.cookies.clear()
    assert answer.status_code == status


@pytest.mark.parametrize("dag_id", ["somebody_elses", "retrain_none", "retrain_../x", "retrain_digits/runs/x", "~"])
def test_only_a_dag_that_airflow_has_leads_to_an_endpoint(shelf: Shelf, post: Post, dag_id: str) -> None:
    for key in ("none", "digits/runs/x"):
        put(shelf, f"{key}/champion.json", champion("secret"))
    answer = post(png(), dag_id=dag_id)
    assert (answer.status_code, "secret" in answer.text) == (404, False)


def test_a_test_image_is_shown_only_where_its_run_names_it(airflow: Any, shelf: Shelf, viewer: dict[str, str]) -> None:
    put(shelf, "digits/champion.json", champion("e"))
    line = {"image": NAME, "class": "7", "answer": "1", "picture": PICTURE}
    others = [line | {"image": "../../champion.json"}, line | {"picture": "data:text/html,x"}, line | {"class": 7}, 7]
    album = {"wrong": {"images": [line, *others]}, "won": 7, "lost": {"images": 7}}
    put(shelf, "digits/runs/digits-261130-030000-a1b2c/page/images.json", album)
    for key in (NAME, f"7/{'b' * 20}.png"):
        shelf.s3.put_object(Bucket=shelf.bucket, Key=f"digits/data/images/{key}", Body=png())
    assert list(to_try(shelf, "digits", champion("e"))) == [NAME]

    def get(name: str) -> Any:
        return airflow.get("/retraining/try/image", params=DAG | {"name": name}, headers=viewer)

    shown = get(NAME)
    assert (shown.status_code, shown.content, shown.headers["content-type"]) == (200, png(), "image/png")
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert [get(name).status_code for name in (f"7/{'b' * 20}.png", "../../champion.json", "")] == [404] * 3


def test_names_of_strangers_are_text() -> None:
    images = {name: {"name": name, "class": name, "picture": PICTURE, "right": False} for name in HOSTILE}
    page = page_of("<b>x</b>", 'retrain_"><b>', champion("<i>"), None, images).decode()
    assert (
        "<script>alert" not in page and "<b>x" not in page and "onerror" not in page.replace("onerror=alert(3)&gt;", "")
    )
    assert page.count('data-name="') == len(HOSTILE)
