"""A run of one recipe up to its release, whose tasks are run one by one against a real server."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from PIL import Image

from retraining.environment import AWS_CONN_ID
from retraining.operators.endpoint import DeployOperator, RollbackOperator
from retraining.operators.register import RegisterOperator
from retraining.operators.resources import EndpointConfigOperator, ModelOperator
from retraining.promotion.champion import own_champion
from retraining.run import Run
from retraining.steps import smoke_test, update_champion
from retraining.steps import task_requests as task_requests
from tests.plugins.task_run import archive, context, finish
from tests.waiting import wait_until

Runs = Callable[..., Run]


class Facts:
    """The XComs of one run."""

    def __init__(self, **known: Any) -> None:
        self.known = known

    def xcom_push(self, key: str, value: Any) -> None:
        self.known[f"pushed.{key}"] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.known.get(f"{task_ids}.{key}")


IMAGES = ("training", "training_self_hosted", "serving", "rules", "evaluation")
GOLDEN = "a/1.png"
ARN = "arn:aws:sagemaker:us-east-1:000000000000:training-job/t"


def register(run: Run, **files: str) -> str:
    """The tasks before deploy; returns the package's ARN."""
    facts: Any = run.context["ti"]
    put_artifact(run, **files or {"weights": "1"})
    for kind, build in (
        (ModelOperator, task_requests.model_request),
        (EndpointConfigOperator, task_requests.endpoint_config_request),
        (RegisterOperator, task_requests.registration_request),
    ):
        operator: Any = kind(task_id="t", config=build(run), aws_conn_id=AWS_CONN_ID)  # type: ignore[operator]
        record = operator.execute(context())
        if kind is ModelOperator:
            facts.known["compare.comparison"]["artifact"] = record["artifact"]
    facts.known["register.return_value"] = record
    return str(record["arn"])


def put_artifact(run: Run, **files: str) -> None:
    key = run.model_data_url.rsplit("/", 1)[-1]
    run.s3.put_object(Bucket=run.environment.bucket, Key=key, Body=archive(**files))


def deploying(run: Run) -> DeployOperator:
    config = task_requests.endpoint_request(run)
    return DeployOperator(task_id="deploy", config=config, aws_conn_id=AWS_CONN_ID, poll_seconds=0.1)


def deploy(run: Run, **files: str) -> Any:
    register(run, **files)
    return finish(deploying(run), context())


def die_before_asking(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt of `deploy` that ends between writing down what it wants and asking for it."""
    operator = deploying(run)
    with monkeypatch.context() as patch:
        patch.setattr(operator.hook.conn, "update_endpoint", lambda **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            operator.execute(context())


@contextmanager
def between_look_and_request(sagemaker: Any, operation: str, befalls: Callable[[], Any]) -> Iterator[None]:
    """What happens once, just before the request of an operation is signed."""
    left = [befalls]

    def befall(**_: Any) -> None:
        if left:
            left.pop()()

    event = f"before-sign.sagemaker.{operation}"
    sagemaker.meta.events.register(event, befall)
    try:
        yield
    finally:
        sagemaker.meta.events.unregister(event, befall)


def delete_endpoint(run: Run) -> None:
    run.sagemaker.delete_endpoint(EndpointName=run.plan.endpoint)
    wait_until(lambda: served(run) is None)


def rolling_back(run: Run) -> RollbackOperator:
    config = task_requests.rollback_request(run)
    return RollbackOperator(task_id="rollback", config=config, aws_conn_id=AWS_CONN_ID, poll_seconds=0.1)


def roll_back(run: Run) -> Any:
    return finish(rolling_back(run), context())


def promote(run: Run, before: Run | None = None, **files: str) -> None:
    """What a run does from create_model on."""
    facts: Any = run.context["ti"]
    image = io.BytesIO()
    Image.new("RGB", (4, 4)).save(image, "PNG")
    run.s3.put_object(Bucket=run.environment.bucket, Key=f"{run.plan.images_key}{GOLDEN}", Body=image.getvalue())
    facts.known["compare.comparison"]["golden"] = {GOLDEN: "a"}
    champion = own_champion(run.s3, run.plan)
    facts.known["needs_retraining.champion"] = {"document": champion.document, "etag": champion.etag}
    facts.known["needs_retraining.need"] = {"needed": True}
    facts.known["preflight.return_value"]["code"] = run.plan.run_name
    facts.known["deploy.return_value"] = deploy(run, **files or {"label": "a"})
    smoke_test(run)
    update_champion(run)


def served(run: Run) -> str | None:
    try:
        return str(run.sagemaker.describe_endpoint(EndpointName=run.plan.endpoint)["EndpointConfigName"])
    except run.sagemaker.exceptions.ClientError:
        return None


def modified(run: Run) -> Any:
    return run.sagemaker.describe_endpoint(EndpointName=run.plan.endpoint)["LastModifiedTime"]


def approval(run: Run) -> str:
    arn = run.fact("register")["arn"]
    return str(run.sagemaker.describe_model_package(ModelPackageName=arn)["ModelApprovalStatus"])
