"""What each recipe serves now, and what should: told by SageMaker itself, and loudly where they differ."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from airflow.api_fastapi.app import get_auth_manager

from retraining.environment import Environment
from retraining.page.app import models_page
from retraining.page.documents import Shelf
from retraining.page.models import Model, judge, read_model, read_models, way_back, way_back_in
from tests.object_store import CLIENT
from tests.page.rows import add_dags
from tests.plugins.conftest import local_sagemaker
from tests.plugins.task_run import IMAGE, ROLE, archive

CHAMPION = {
    "run_name": "digits-261130-030000-a1b2c",
    "run_after": "2026-11-30T03:00:00+00:00",
    "endpoint": "retraining-digits",
    "endpoint_config": "digits-261130-030000-a1b2c",
    "metrics": {"accuracy": 0.9876, "macro_f1": 0.98},
}
BEFORE = CHAMPION | {"run_name": "digits-261123-030000-a1b2c", "endpoint_config": "digits-261123-030000-a1b2c"}
SERVES = {
    "name": "retraining-digits", "config": CHAMPION["endpoint_config"], "status": "InService", "pending": None,
    "failure": "", "since": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint", "loud", "said"),
    [
        (SERVES, "good", "It serves the champion."),
        (
            SERVES | {"config": "other"},
            "bad",
            f"It serves other, and not the champion's {CHAMPION['endpoint_config']}.",
        ),
        (SERVES | {"status": "Failed", "failure": "no room"}, "bad", "The endpoint is Failed: no room."),
        (SERVES | {"status": "Updating", "pending": "next"}, "warned", "is changed to next"),
        (None, "bad", "Endpoint retraining-digits does not exist: nothing serves."),
    ],
)
def test_a_difference_from_the_champion_is_shouted(endpoint: Any, loud: str, said: str) -> None:
    found = judge(CHAMPION, endpoint)
    assert found[0] == loud and said in found[1]


def test_what_was_not_asked_is_not_said_to_be_missing() -> None:
    assert judge(CHAMPION, None, asked=False) == ("warned", "It is not known what serves.")
    assert judge(None, None, asked=False)[0] == "warned" and judge(None, None) == ("dim", "No champion yet.")


def test_what_is_wrong_comes_first_and_names_are_text() -> None:
    wrong = Model(recipe="<b>z</b>", champion=CHAMPION, endpoint=SERVES | {"config": "<script>"})
    well = Model(recipe="a", champion=CHAMPION, endpoint=SERVES)
    page = bytes(models_page([well, wrong, Model(recipe="new")]).body).decode()
    assert "&lt;b&gt;z&lt;/b&gt;" in page and "<script>" not in page
    assert page.index("&lt;script&gt;") < page.index("It serves the champion.") < page.index("No champion yet")


def test_a_service_that_hangs_does_not_keep_the_page() -> None:
    go_on = threading.Event()

    def read(recipe: str) -> Model:
        if recipe == "slow":
            go_on.wait(30)
        return Model(recipe=recipe)

    began = time.monotonic()
    slow, quick = read_models(["slow", "quick"], read, seconds=0.5)
    go_on.set()
    assert time.monotonic() - began < 10
    assert slow.problems == ("no answer within 0.5 s",) and quick.problems == ()


@pytest.mark.parametrize("left", [{"metrics": 7}, {"metrics": {"accuracy": "<b>"}}, {"rolled_back": "x"}])
def test_a_champion_of_another_kind_leaves_the_other_recipes(shelf: Shelf, left: dict[str, Any]) -> None:
    key = "odd/champion.json"
    shelf.s3.put_object(
        Bucket=shelf.bucket, Key=key, Body=json.dumps({"run_name": "r", "endpoint": ""} | left).encode()
    )
    nowhere = boto3.client("sagemaker", **CLIENT | {"endpoint_url": "http://127.0.0.1:9"})
    models = read_models(["odd", "digits"], lambda recipe: read_model(shelf, nowhere, recipe, way_back))
    page = bytes(models_page(models).body).decode()
    assert page.count("<section") == 2 and CHAMPION["run_name"] in page


@pytest.fixture(scope="module")
def sagemaker(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with local_sagemaker(tmp_path_factory.mktemp("sagemaker"), s3_endpoint) as client:
        yield client


@pytest.fixture
def shelf(s3_endpoint: str) -> Shelf:
    s3 = boto3.client("s3", endpoint_url=s3_endpoint, **CLIENT)
    bucket = f"models-{uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    for key, document in (
        ("champion", CHAMPION),
        (f"champions/{CHAMPION['run_name']}", CHAMPION),
        (f"champions/{BEFORE['run_name']}", BEFORE),
        ("champions/x';rm", BEFORE | {"run_name": "x';rm"}),
    ):
        s3.put_object(Bucket=bucket, Key=f"digits/{key}.json", Body=json.dumps(document).encode())
    return Shelf(s3=s3, bucket=bucket)


def test_what_sagemaker_says_stands_beside_what_was_promoted(sagemaker: Any, shelf: Shelf, tmp_path: Path) -> None:
    absent = read_model(shelf, sagemaker, "digits", way_back)
    assert absent.word[0] == "bad"
    ours = next(row["line"] for row in absent.past if row["champion"])
    assert ours == f"python -m retraining rollback digits --to {CHAMPION['run_name']} --reason 'why'"
    lifetime = b'{"extended": "2026-11-01", "told": null, "deleted": "2026-11-02T03:00"}'
    shelf.s3.put_object(Bucket=shelf.bucket, Key="digits/endpoint-lifetime.json", Body=lifetime)
    told = "Nobody used endpoint retraining-digits: it was deleted at 2026-11-02T03:00, nothing serves."
    assert read_model(shelf, sagemaker, "digits", way_back).word == ("warned", told)
    shelf.s3.put_object(Bucket=shelf.bucket, Key="model.tar.gz", Body=archive())
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{shelf.bucket}/model.tar.gz"}
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.t2.medium", "InitialInstanceCount": 1}
    config = BEFORE["endpoint_config"]
    sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="retraining-digits", EndpointConfigName=config)
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName="retraining-digits", WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )
    model = read_model(shelf, sagemaker, "digits", way_back)
    assert model.word == ("bad", f"It serves {config}, and not the champion's {CHAMPION['endpoint_config']}.")
    assert [(row["run_name"], row["champion"], row["serves"]) for row in model.past] == [
        ("x';rm", False, True),
        (CHAMPION["run_name"], True, False),
        (BEFORE["run_name"], False, True),
    ]
    lines = [row["line"] for row in model.past]
    assert lines == ["", ours, f"python -m retraining rollback digits --to {config} --reason 'why'"]


def test_the_way_back_is_a_line_for_where_airflow_runs() -> None:
    variables = {
        "RETRAINING_BUCKET": "b",
        "RETRAINING_ROLE_ARN": "arn:aws:iam::111122223333:role/sagemaker",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    local = variables | {"RETRAINING_ENVIRONMENT": "local"}
    lines = [
        way_back_in(Environment.of(environ))("digits", "run")
        for environ in (variables, local, local | {"RETRAINING_SHELL": "docker compose exec scheduler"})
    ]
    assert lines == [
        "python -m retraining rollback digits --to run --reason 'why'",
        "make rollback NAME=digits TO=run REASON='why'",
        "docker compose exec scheduler python -m retraining rollback digits --to run --reason 'why'",
    ]


def test_a_sagemaker_that_cannot_be_reached_leaves_what_s3_tells(shelf: Shelf) -> None:
    nowhere = boto3.client("sagemaker", **CLIENT | {"endpoint_url": "http://127.0.0.1:9"})
    model = read_model(shelf, nowhere, "digits", way_back)
    assert model.word == ("warned", "It is not known what serves.")
    assert model.problems == ("SageMaker does not tell (EndpointConnectionError)",) and len(model.past) == 3


def test_a_store_that_refuses_is_told_in_words(shelf: Shelf, s3_endpoint: str) -> None:
    wrong = boto3.client("s3", **CLIENT | {"endpoint_url": s3_endpoint, "aws_secret_access_key": "wrong"})
    nowhere = boto3.client("sagemaker", **CLIENT | {"endpoint_url": "http://127.0.0.1:9"})
    model = read_model(Shelf(s3=wrong, bucket=shelf.bucket), nowhere, "digits", way_back)
    assert model.problems == ("S3 does not tell (SignatureDoesNotMatch)",)


def test_only_recipes_that_a_person_may_see_are_shown(
    airflow: Any, viewer: dict[str, str], shelf: Shelf, sagemaker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_dags("retrain_digits", "retrain_secret", "other")
    monkeypatch.setenv("RETRAINING_BUCKET", shelf.bucket)
    monkeypatch.setenv("RETRAINING_ROLE_ARN", ROLE)
    monkeypatch.setenv("RETRAINING_ENVIRONMENT", "local")
    page = airflow.get("/retraining/models", headers=viewer).text
    assert "digits" in page and "secret" in page and "other" not in page
    monkeypatch.setattr(
        type(get_auth_manager()), "is_authorized_dag", lambda *_, details, **__: details.id == "retrain_digits"
    )
    page = airflow.get("/retraining/models", headers=viewer).text
    assert "digits" in page and "secret" not in page
    page = airflow.get("/retraining/models?dag_id=retrain_secret", headers=viewer).text
    assert "There is no such recipe, or you may not see its DAG." in page
