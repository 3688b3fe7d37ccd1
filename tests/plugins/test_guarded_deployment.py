"""An update that is watched: by alarms of the user's and the run's own, and by golden images while it bakes."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from botocore.exceptions import ClientError
from PIL import Image

from retraining import operators, requests
from retraining.environment import AWS_CONN_ID, ConfigurationError
from retraining.operators.endpoint import DeployOperator, RollbackOperator
from retraining.recipe.deployment import Deployment
from retraining.release import canary, watch
from retraining.release.alarms import require_alarm_rights, require_alarms
from retraining.release.canary import MISSED
from retraining.release.endpoint import describe_endpoint, is_baking
from retraining.release.golden import Golden
from retraining.release.questions import questions
from retraining.release.watch import Watch, remove_alarms
from retraining.requests.sagemaker import deployment_config
from retraining.run import Run, client
from retraining.steps import task_requests as task_requests
from tests.plugins.release_run import Runs, deploy, deploying, register, roll_back, served
from tests.plugins.task_run import context, finish


@pytest.fixture
def alarm(sagemaker: Any) -> Iterator[str]:
    """A CloudWatch alarm that nothing but a test sets off."""
    name, cloudwatch = f"alarm-{uuid4().hex[:8]}", client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=name, Namespace="Test", MetricName=name, Statistic="Sum", Period=60, EvaluationPeriods=1, Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    yield name
    cloudwatch.delete_alarms(AlarmNames=[name])


def guarded(run: Run, **changes: Any) -> Run:
    """A canary of half the requests, and a golden image that `deploy` can ask about."""
    run.s3.put_object(Bucket=run.environment.bucket, Key=f"{run.plan.images_key}a/1.png", Body=picture())
    run.fact("compare", key="comparison")["golden"] = {"a/1.png": "a"}
    deployment = Deployment(**{"strategy": "canary", "percent": 50, "bake_seconds": 1} | changes)
    serving = replace(run.recipe.serving, instance_count=2)
    run.recipe = replace(run.recipe, deployment=deployment, serving=serving)
    run.plan = replace(run.plan, recipe=run.recipe)
    return run


def picture(grey: int = 0) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(body, "PNG")
    return body.getvalue()


def alarms_of(run: Run) -> list[str]:
    found = client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{run.plan.endpoint_config}-")["MetricAlarms"]
    return [alarm["AlarmName"] for alarm in found]


def asked(run: Run, times: int) -> None:
    """What clients send, whatever becomes of it."""
    for _ in range(times):
        with contextlib.suppress(run.runtime.exceptions.ClientError):
            run.runtime.invoke_endpoint(EndpointName=run.plan.endpoint, ContentType="image/png", Body=b"x")


@contextlib.contextmanager
def traffic(run: Run) -> Iterator[None]:
    ended = threading.Event()

    def send() -> None:
        while not ended.is_set():
            asked(run, 1)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_canary_is_asked_for_and_serves(runs: Runs, alarm: str) -> None:
    for run in (guarded(runs(1), alarms=[alarm]), guarded(runs(2), alarms=[alarm])):
        assert deploy(run)["config"] == run.plan.endpoint_config
    told = run.sagemaker.describe_endpoint(EndpointName=run.plan.endpoint)["LastDeploymentConfig"]
    assert told["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["CanarySize"]["Value"] == 50
    asked = [asked["AlarmName"] for asked in told["AutoRollbackConfiguration"]["Alarms"]]
    assert asked == [alarm, f"{run.plan.endpoint_config}-golden"]
    assert alarms_of(run) == []


def test_an_alarm_takes_the_canary_back(runs: Runs, alarm: str) -> None:
    before, run = runs(1), guarded(runs(2), alarms=[alarm])
    deploy(before)
    client("cloudwatch").set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a test")
    with pytest.raises(AirflowFailException, match=f"rolled the update back.*{alarm} went into the state ALARM"):
        deploy(run)
    assert served(run) == before.plan.endpoint_config


def test_an_unknown_alarm_is_told_before_anything_is_paid(alarm: str) -> None:
    require_alarms(client("cloudwatch"), [alarm])
    with pytest.raises(ConfigurationError, match="there is no CloudWatch alarm nobody"):
        require_alarms(client("cloudwatch"), [alarm, "nobody"])


def test_an_alarm_that_rings_already_is_told(alarm: str, caplog: pytest.LogCaptureFixture) -> None:
    client("cloudwatch").set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a test")
    require_alarms(client("cloudwatch"), [alarm])
    assert f"{alarm} is in ALARM now" in caplog.text


def test_a_long_bake_is_waited_for(runs: Runs) -> None:
    run = runs(1)
    run.recipe = replace(run.recipe, deployment=Deployment(bake_seconds=3600, termination_wait_seconds=3600))
    register(run)
    assert deploying(run).limit_seconds > 7200 + 1800


def test_a_short_bake_is_looked_for_often() -> None:
    def polls(bake: int, poll: float = 30) -> float:
        request = {"DeploymentConfig": deployment_config(Deployment(strategy="canary", bake_seconds=bake))}
        operator = DeployOperator(task_id="t", config=request, aws_conn_id=AWS_CONN_ID, poll_seconds=poll)
        return operator.bake_poll_seconds

    assert [polls(bake) for bake in (1, 60, 300)] == [5, 10, 30]
    assert polls(60, poll=2) == 2


def test_a_bake_that_was_missed_is_told(runs: Runs) -> None:
    """As by an attempt that was away until the update had ended."""
    deploy(runs(1), label="a")
    run = guarded(runs(2), bake_seconds=1)
    register(run, label="a")
    with pytest.raises(TaskDeferred):
        deploying(run).execute(context())
    run.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=run.plan.endpoint, WaiterConfig={"Delay": 1})
    left = context()
    assert deploying(run).execute(left)["canary"] == MISSED == left["ti"].pushed["canary"]


# --- golden images while it bakes -----------------------------------------------------------------------------------


def test_golden_images_are_asked_while_it_bakes(runs: Runs) -> None:
    deploy(runs(1), label="b")
    found = deploy(guarded(runs(2), bake_seconds=5))["canary"]
    # As it is, within JSON, and as one of several; half of the answers came from the model before.
    assert found["answered"] == {"image/png": 1, "application/json": 1, "application/json (instances)": 1}
    assert found["wrong"] is None and found["requests"] >= 3


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"label": "b"}, r"answers 'b' for a/1\.png, .* answered 'a'"),
        ({"breaks": ""}, r"failed at 3 golden images, the last time: .*this model breaks"),
        ({"crashes": ""}, r"3 golden images \(of 3 SageMaker does not tell whether the new model did\), the last"),
        ({"mumbles": ""}, r"answers b'mumbled' for a/1\.png, sent as .*that is no prediction"),
    ],
)
def test_a_bad_answer_takes_the_canary_back(runs: Runs, model: dict[str, str], said: str) -> None:
    before, run = runs(1), guarded(runs(2), bake_seconds=3600)
    deploy(before)
    with pytest.raises(AirflowFailException, match=said):
        deploy(run, **model)
    assert served(run) == before.plan.endpoint_config
    assert alarms_of(run) == []


def test_what_a_canary_answered_is_left_for_the_report(runs: Runs) -> None:
    deploy(runs(1))
    run, left = guarded(runs(2), bake_seconds=3600), context()
    register(run, label="b")
    with pytest.raises(AirflowFailException) as told:
        finish(deploying(run), left)
    wrong = left["ti"].pushed["canary"]["wrong"]
    assert "answers 'b' for a/1.png" in wrong and str(told.value).startswith(f"{wrong} The update to ")
    rollback = RollbackOperator(
        task_id="rollback", config=task_requests.rollback_request(run), aws_conn_id=AWS_CONN_ID, poll_seconds=0.1
    )
    with pytest.raises(AirflowSkipException):  # SageMaker has gone back by itself
        rollback.execute(left)
    assert left["ti"].pushed["serves"] == {"name": run.plan.endpoint, "config": served(run)}


def test_failures_of_the_champion_are_not_held_against_the_canary(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(runs(1), breaks="")
    run = guarded(runs(2), bake_seconds=15)
    ten = [Golden(entry=f"a/{number}.png", label="a", body=picture()) for number in range(10)]
    monkeypatch.setattr(watch, "choose", lambda *_: ten)
    found = deploy(run)["canary"]
    assert sum(found["answered"].values()) == 21  # questions: that chance asks the champion none is 2 ** -21
    assert served(run) == run.plan.endpoint_config
    assert found["others_failed"] > 0 and found["wrong"] is None


def test_an_attempt_killed_while_it_bakes_is_repeated(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    before, run = runs(1), guarded(runs(2), bake_seconds=3600)
    deploy(before)
    with monkeypatch.context() as patch:
        patch.setattr(canary, "questions", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            deploy(run, label="b")
    with pytest.raises(AirflowFailException, match=r"answers 'b' for a/1\.png"):
        finish(deploying(run), context())
    assert served(run) == before.plan.endpoint_config


def test_a_model_that_nobody_reaches_is_told(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = guarded(runs(1))
    deploy(run)
    monkeypatch.setattr(canary, "MAX_REQUESTS", 20)
    golden = [Golden(entry="a/1.png", label="a", body=picture())]
    found = canary.try_canary(run.runtime, run.plan.endpoint, "another", golden, lambda: True)
    assert (found["requests"], found["wrong"]) == (20, None)
    assert found["unanswered"] == {"image/png": 1, "application/json": 1, "application/json (instances)": 1}
    assert "In 20 requests another did not answer 1 of 1 as image/png, 1 of 1 as application/json, " in caplog.text


def test_questions_that_the_canary_left_are_counted(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = guarded(runs(1))
    deploy(run)
    monkeypatch.setattr(canary, "MAX_REQUESTS", 3)
    golden = [Golden(entry=f"a/{n}.png", label="a", body=picture()) for n in range(2)]
    found = canary.try_canary(run.runtime, run.plan.endpoint, run.plan.model, golden, lambda: True)
    assert found["unanswered"] == {"image/png": 0, "application/json": 1, "application/json (instances)": 1}
    assert "did not answer 1 of 2 as application/json, 1 of 1 as application/json (instances)" in caplog.text


# --- alarms of the run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "model", "named"),
    [
        ({"max_5xx_percent": 10}, {"breaks": ""}, "-5xx: .* greater than the threshold"),
        ({"max_model_error_percent": 10}, {"breaks": ""}, "-model-errors: "),
        ({"max_latency_ratio": 3}, {"slow": "0.05"}, "-latency: "),
    ],
)
def test_a_bound_of_the_recipe_takes_the_canary_back(
    runs: Runs, bound: dict[str, float], model: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests.alarms, "PERIOD_SECONDS", 10)
    before, run = runs(1), guarded(runs(2), bake_seconds=3600, **bound)
    run.fact("compare", key="comparison")["golden"] = {}
    deploy(before)
    asked(run, 30)  # so that it is known how fast the champion is
    with traffic(run), pytest.raises(AirflowFailException, match=f"rolled the update back.*{named}"):
        deploy(run, **model)
    assert served(run) == before.plan.endpoint_config
    assert alarms_of(run) == []


def test_a_latency_that_nobody_knows_is_not_watched(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    run = guarded(runs(1), bake_seconds=60, max_latency_ratio=2)
    config = task_requests.endpoint_request
    register(run)
    assert Watch(**config(run)["Watch"]).make_alarms() == [f"{run.plan.endpoint_config}-golden"]
    assert "too few requests in 7 days" in caplog.text
    remove_alarms(run.plan.endpoint_config)


@pytest.mark.parametrize(("bound", "requests"), [({}, 1), ({"max_latency_ratio": 2}, 2)])
def test_golden_images_do_not_weigh_on_a_watched_latency(
    runs: Runs, bound: dict[str, float], requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = guarded(runs(1), bake_seconds=60, **bound)
    deploy(run)
    golden = [Golden(entry=f"a/{n}.png", label="a", body=picture()) for n in range(2)]
    monkeypatch.setattr(watch, "choose", lambda *_: golden)
    found = Watch(**task_requests.endpoint_request(run)["Watch"]).try_golden(run.runtime, run.s3, run.sagemaker)
    assert found["answered"]["application/json (instances)"] == requests


@pytest.mark.parametrize("bound", [{}, {"max_latency_ratio": 100}])
def test_a_list_answered_in_another_order_is_found(runs: Runs, bound: dict[str, float]) -> None:
    before, run = runs(1), guarded(runs(2), bake_seconds=3600, **bound)
    deploy(before)
    pictures = {"b": picture(9), "a": picture(8)}  # in the order in which they are asked
    for label, body in pictures.items():
        run.s3.put_object(Bucket=run.environment.bucket, Key=f"{run.plan.images_key}{label}/1.png", Body=body)
    run.fact("compare", key="comparison")["golden"] = {f"{label}/1.png": label for label in pictures}
    names = {base64.b64encode(body).decode(): label for label, body in pictures.items()}
    with pytest.raises(AirflowFailException, match=r"sent as application/json \(instances\); in batch"):
        deploy(run, names=json.dumps(names), sorts="")
    assert served(run) == before.plan.endpoint_config


def test_a_pair_goes_in_both_orders_where_lists_are_short() -> None:
    images = [Golden(entry=f"{name}/1.png", label=name, body=picture()) for name in "abc"]
    lists = ["".join(image.label for image in q.images) for q in questions(images, 1) if q.is_batch]
    assert lists == ["ab", "ba", "c"]
    assert ["".join(image.label for image in q.images) for q in questions(images[:1], 1) if q.is_batch] == ["a"]


def test_a_rollback_leaves_no_alarm(runs: Runs) -> None:
    before, run = runs(1), guarded(runs(2), bake_seconds=3600)
    deploy(before)
    register(run)
    with pytest.raises(TaskDeferred):
        deploying(run).execute(context())
    assert alarms_of(run) == [f"{run.plan.endpoint_config}-golden"]
    roll_back(run)  # and is not waited an hour for
    assert (served(run), alarms_of(run)) == (before.plan.endpoint_config, [])


def test_a_deploy_marked_as_a_success_leaves_no_alarm(runs: Runs) -> None:
    deploy(runs(1))
    run = guarded(runs(2))
    register(run)
    with pytest.raises(TaskDeferred):
        deploying(run).execute(context())
    run.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=run.plan.endpoint, WaiterConfig={"Delay": 1})
    assert (served(run), len(alarms_of(run))) == (run.plan.endpoint_config, 1)
    run.release_intents.promote()
    with pytest.raises(AirflowSkipException):
        roll_back(run)
    assert (served(run), alarms_of(run)) == (run.plan.endpoint_config, [])


def test_an_endpoint_that_broke_leaves_no_alarm(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(runs(1))
    run = guarded(runs(2))
    register(run)
    with pytest.raises(TaskDeferred):
        deploying(run).execute(context())
    described_as(monkeypatch, EndpointStatus="UpdateRollbackFailed")
    with pytest.raises(AirflowFailException, match="is UpdateRollbackFailed"):
        roll_back(run)
    assert alarms_of(run) == []
    # Which of the two configurations its instances still need, nobody knows.
    run.sagemaker.describe_endpoint_config(EndpointConfigName=run.plan.endpoint_config)


def test_no_configuration_goes_while_sagemaker_goes_back(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    before, run = runs(1), runs(2)
    deploy(before)
    register(run)
    with pytest.raises(TaskDeferred):
        deploying(run).execute(context())
    described_as(monkeypatch)  # on the way back SageMaker need not say from where
    assert roll_back(run)["config"] == before.plan.endpoint_config


def described_as(monkeypatch: pytest.MonkeyPatch, **members: Any) -> None:
    """What SageMaker says of the endpoint to the operators, besides what it is."""

    def describe(sagemaker: Any, name: str) -> dict[str, Any]:
        found = describe_endpoint(sagemaker, name) or {}
        return {key: value for key, value in (found | members).items() if key != "PendingDeploymentSummary"}

    monkeypatch.setattr(operators.endpoint, "describe_endpoint", describe)


def test_forbidden_alarms_are_told_before_anything_is_paid(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run, cloudwatch = runs(1), client("cloudwatch")
    require_alarm_rights(cloudwatch, run.plan.endpoint, run.plan.tags)
    assert alarms_of(run) == []
    denied = {"Error": {"Code": "AccessDenied", "Message": "not authorized to perform cloudwatch:PutMetricAlarm"}}

    def refuse(**_: Any) -> None:
        raise ClientError(denied, "PutMetricAlarm")

    monkeypatch.setattr(cloudwatch, "put_metric_alarm", refuse)
    with pytest.raises(ConfigurationError, match=r"PutMetricAlarm.*Allow cloudwatch:PutMetricAlarm.*bake_seconds: 0"):
        require_alarm_rights(cloudwatch, run.plan.endpoint, run.plan.tags)


@pytest.mark.parametrize(("status", "bakes"), [("Updating", True), ("RollingBack", False)])
def test_an_update_that_is_taken_back_bakes_no_longer(status: str, bakes: bool) -> None:
    fresh = [{"VariantName": "AllTraffic", "VariantStatus": [{"Status": "Baking"}]}]
    pending = {"EndpointConfigName": "new", "ProductionVariants": fresh}
    assert is_baking({"EndpointStatus": status, "PendingDeploymentSummary": pending}) == bakes
