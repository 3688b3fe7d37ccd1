"""Trainings with SageMaker Debugger: refused by the account, stopped by a rule; and rules evaluated by ourselves."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from botocore.exceptions import ClientError

from retraining.debugger.memory import KEY
from retraining.environment import AWS_CONN_ID
from retraining.operators.rules import RuleEvaluationOperator
from retraining.requests.debugger import stop_training
from retraining.sensors import DebuggerVerdictSensor
from tests.plugins.task_run import IMAGE, ROLE, context, finish, wait_for

ACCOUNT = "000000000000"
RULES_IMAGE = "503895931360.dkr.ecr.us-east-1.amazonaws.com/sagemaker-debugger-rules:latest"
FOREVER = "import time; time.sleep(50)"


def managed(bucket: str, **parameters: str) -> dict[str, Any]:
    rule = {
        "RuleConfigurationName": "LossNotDecreasing",
        "RuleEvaluatorImage": RULES_IMAGE,
        "RuleParameters": {"rule_to_invoke": "LossNotDecreasing"} | parameters,
    }
    return {
        "DebugHookConfig": {"S3OutputPath": f"s3://{bucket}/out"},
        "DebugRuleConfigurations": [rule],
    }


def without_debugger(operator: Any) -> dict[str, Any]:
    """The fallback of an operator's own request."""
    request = {key: value for key, value in operator.config.items() if not key.startswith("Debug")}
    return request | {"HyperParameters": request["HyperParameters"] | {"profile": "true"}}


def refused(bucket: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"Request": request or {}, "Bucket": bucket, "Account": ACCOUNT}


def memory(s3: Any, bucket: str) -> dict[str, Any]:
    return dict(json.loads(s3.get_object(Bucket=bucket, Key=KEY)["Body"].read()))


def test_a_refused_training_goes_on_self_hosted_and_is_remembered(
    closed: Any, training: Any, s3: Any, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = training("print('quick')", **managed(bucket))
    operator.refused = refused(bucket, without_debugger(operator))
    record = finish(operator, context())
    assert (record["name"], record["debugger"]) == (operator.config["TrainingJobName"], "self_hosted")
    assert "SAGEMAKER DEBUGGER IS NOT AVAILABLE" in capsys.readouterr().out
    remembered = memory(s3, bucket)
    assert (remembered["format"], remembered["mode"], remembered["account"]) == (1, "self_hosted", ACCOUNT)
    assert "closed to new customers" in remembered["reason"]


def test_a_crash_between_refusal_and_fallback_costs_nothing(
    closed: Any, training: Any, s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the refusal, killed after the fallback was sent: still one job, and its mode is known."""
    operator = training(FOREVER, **managed(bucket))
    operator.refused = refused(bucket, without_debugger(operator))
    with monkeypatch.context() as patched:
        patched.setattr("retraining.operators.training.remember_refusal", lambda *_: pytest.exit("killed"))
        with pytest.raises(pytest.exit.Exception):
            operator.execute(context())
    assert closed.list_training_jobs()["TrainingJobSummaries"] == []
    with pytest.raises(TaskDeferred) as wait:
        operator.execute(context())
    again = training(FOREVER, **managed(bucket))
    again.config["TrainingJobName"] = operator.config["TrainingJobName"]
    with pytest.raises(TaskDeferred):
        again.execute(context())
    (job,) = closed.list_training_jobs()["TrainingJobSummaries"]
    described = closed.describe_training_job(TrainingJobName=job["TrainingJobName"])
    assert again.result(described)["debugger"] == "self_hosted"
    asyncio.run(wait.value.trigger.on_kill())


def test_a_memory_that_cannot_be_written_stops_nothing(closed: Any, training: Any, bucket: str) -> None:
    operator = training("print('quick')", **managed(bucket))
    operator.refused = refused("no-such-bucket-here", without_debugger(operator))
    assert finish(operator, context())["debugger"] == "self_hosted"


def test_a_recipe_that_insists_is_told_the_way_out(closed: Any, training: Any, s3: Any, bucket: str) -> None:
    operator = training("print('quick')", refused=refused(bucket), **managed(bucket))
    with pytest.raises(AirflowFailException, match=r"(?s)closed to new customers.*Set debugger\.mode to self_hosted"):
        operator.execute(context())
    assert closed.list_training_jobs()["TrainingJobSummaries"] == []
    assert memory(s3, bucket)["mode"] == "self_hosted"  # and the next run is told before it pays for a search


def test_any_other_refusal_is_no_reason_to_go_on_without(sagemaker: Any, training: Any, bucket: str) -> None:
    operator = training("print('quick')", **managed(bucket) | {"OutputDataConfig": {"S3OutputPath": "out"}})
    operator.refused = refused(bucket, without_debugger(operator))
    with pytest.raises(ClientError, match="s3OutputPath"):
        operator.execute(context())


def test_a_training_stopped_by_a_rule_is_told_as_that(sagemaker: Any, training: Any, bucket: str) -> None:
    operator, ctx = training(FOREVER), context()
    name = operator.config["TrainingJobName"]
    operator.config |= managed(bucket, action_json=stop_training(name))
    with pytest.raises(AirflowFailException) as failure:
        finish(operator, ctx)
    assert str(failure.value).startswith(f"Training job {name} was stopped by Debugger, because of an issue that Loss")
    assert "the loss stands still at step 9" in str(failure.value)
    (verdict,) = ctx["ti"].pushed["verdicts"]
    assert (verdict["rule"], verdict["status"]) == ("LossNotDecreasing", "IssuesFound")


def test_a_verdict_that_is_still_due_is_waited_for(sagemaker: Any, training: Any, bucket: str) -> None:
    operator = training(FOREVER)
    name = operator.config["TrainingJobName"]
    operator.config |= managed(bucket, action_json=stop_training(name))
    with pytest.raises(AirflowFailException):
        finish(operator, context())
    job = sagemaker.describe_training_job(TrainingJobName=name)
    job["DebugRuleEvaluationStatuses"][0]["RuleEvaluationStatus"] = "InProgress"  # as it was a moment ago
    with pytest.raises(TaskDeferred) as wait:
        operator.ended_badly(context(), job)
    assert (wait.value.trigger.kind, wait.value.method_name) == ("rules", "rules_ended")
    with pytest.raises(AirflowFailException, match="was stopped by Debugger"):
        operator.rules_ended(context(), wait_for(wait.value.trigger))


def test_a_training_stopped_by_a_person_blames_no_rule(sagemaker: Any, training: Any, bucket: str) -> None:
    operator, ctx = training(FOREVER, **managed(bucket)), context()
    with pytest.raises(TaskDeferred) as wait:
        operator.execute(ctx)
    asyncio.run(wait.value.trigger.on_kill())
    with pytest.raises(AirflowFailException, match=r"is Stopped: no reason given"):
        finish(operator, ctx)


# --- rules evaluated by ourselves -----------------------------------------------------------------------------------


def evaluation(bucket: str, script: str) -> RuleEvaluationOperator:
    """The operator of a processing job that runs a script over the documents rules.json and job.json."""
    name = f"rules-{uuid4().hex[:8]}"
    documents = {f"s3://{bucket}/{name}/rules.json": [{"RuleConfigurationName": "Overfit"}]}
    source = {"S3Uri": f"s3://{bucket}/{name}/", "LocalPath": "/opt/ml/processing/input/rules"}
    target = {"S3Uri": f"s3://{bucket}/{name}/out", "LocalPath": "/opt/ml/processing/output/rule"}
    config = {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": {
            "ImageUri": IMAGE,
            "ContainerEntrypoint": ["python", "-c", script],
            "ContainerArguments": ["/opt/ml/processing/input/rules", "/opt/ml/processing/output/rule"],
        },
        "ProcessingInputs": [
            {"InputName": "rules", "S3Input": source | {"S3DataType": "S3Prefix", "S3InputMode": "File"}}
        ],
        "ProcessingOutputConfig": {
            "Outputs": [{"OutputName": "rule", "S3Output": target | {"S3UploadMode": "EndOfJob"}}]
        },
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    return RuleEvaluationOperator(
        task_id="evaluate_rules", config=config, documents=documents, aws_conn_id=AWS_CONN_ID, poll_seconds=0.1
    )


JUDGE = (
    "import pathlib as p, sys; s, t = map(p.Path, sys.argv[1:]); assert 'Overfit' in (s / 'rules.json').read_text(); "
    "(t / 'Overfit').mkdir(); (t / 'Overfit/verdict.json').write_text("
    """'{"RuleEvaluationStatus": "NoIssuesFound", "StatusDetails": ""}')"""
)


def verdicts(record: dict[str, Any]) -> Any:
    rules = {"DebugRuleEvaluationStatuses": ["Overfit"], "ProfilerRuleEvaluationStatuses": []}
    found = {"Output": record["output_uri"], "Rules": rules, "Problem": record["problem"]}
    config: Any = {"TrainingJobName": "j", "Policies": {"Overfit": "fail"}, "Evaluation": found}
    return DebuggerVerdictSensor(task_id="debugger_verdict", config=config).execute(context())


def test_a_second_attempt_adopts_the_evaluation_of_the_first(sagemaker: Any, bucket: str) -> None:
    operator = evaluation(bucket, JUDGE)
    with pytest.raises(TaskDeferred):
        operator.execute(context())  # and here the worker dies
    record = finish(operator, context())
    assert operator.execute(context()) == record  # cleared: nothing is paid twice
    jobs = sagemaker.list_processing_jobs(NameContains=record["name"])["ProcessingJobSummaries"]
    assert len(jobs) == 1
    assert verdicts(record) == [{"rule": "Overfit", "status": "NoIssuesFound", "details": "", "policy": "fail"}]


def test_an_evaluation_that_fails_makes_every_rule_an_error(sagemaker: Any, bucket: str) -> None:
    """As when a managed rule fails: nothing is known about the model, so the run goes on and says so."""
    record = finish(evaluation(bucket, "raise SystemExit('no numpy here')"), context())
    assert "is Failed" in record["problem"]
    (verdict,) = verdicts(record)
    assert (verdict["status"], verdict["details"]) == ("Error", record["problem"])


def test_nothing_to_evaluate_is_skipped(sagemaker: Any) -> None:
    operator = RuleEvaluationOperator(task_id="evaluate_rules", config={}, documents={}, aws_conn_id=AWS_CONN_ID)
    with pytest.raises(AirflowSkipException):
        operator.execute(context())
