"""aws-cli: the commands a person types, as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.conformance.target import Target
from tests.conformance.work import Work
from tests.waiting import PATIENCE_S, wait_until

GROUP = "/aws/sagemaker/TrainingJobs"


@pytest.fixture
def name() -> str:
    return f"cli-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def environment(target: Target) -> dict[str, str]:
    return os.environ | target.environment | {"AWS_PAGER": ""}


@pytest.fixture(scope="module")
def aws(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """aws("sagemaker", …): what the command prints; fails with its own words."""

    def run(*words: str) -> str:
        done = subprocess.run(
            command(*words),
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            cwd=tmp_path_factory.getbasetemp(),
        )
        assert done.returncode == 0, done.stderr.strip()
        return done.stdout

    return run


def command(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("aws")), *words]


def until(describe: Callable[[], str], wanted: set[str]) -> str:
    def reached() -> str:
        status = describe().strip()
        return status if status in wanted else ""

    return wait_until(reached, lambda: f"still {describe()}", every_s=0.5)


def test_a_job_is_created_from_a_file_and_described(
    aws: Callable[..., str], work: Work, name: str, tmp_path: Path
) -> None:
    (tmp_path / "job.json").write_text(json.dumps(work.training(name)))
    created = json.loads(aws("sagemaker", "create-training-job", "--cli-input-json", f"file://{tmp_path}/job.json"))
    assert created["TrainingJobArn"].endswith(f":training-job/{name}")
    describe = ("sagemaker", "describe-training-job", "--training-job-name", name)
    # `wait` looks at a job every two minutes, and cannot be told otherwise.
    until(lambda: aws(*describe, "--query", "TrainingJobStatus", "--output", "text"), {"Completed"})
    aws("sagemaker", "wait", "training-job-completed-or-stopped", "--training-job-name", name)
    loss = aws(*describe, "--query", "FinalMetricDataList[?MetricName=='train:loss'].Value", "--output", "text")
    assert float(loss) == pytest.approx(0.006839)
    listed = json.loads(aws("sagemaker", "list-training-jobs", "--name-contains", name, "--status-equals", "Completed"))
    assert [job["TrainingJobName"] for job in listed["TrainingJobSummaries"]] == [name]


def test_a_job_is_stopped(aws: Callable[..., str], target: Target, work: Work, name: str) -> None:
    target.client("sagemaker").create_training_job(**work.training(name, "endless.py"))
    time.sleep(1)
    aws("sagemaker", "stop-training-job", "--training-job-name", name)
    describe = ("sagemaker", "describe-training-job", "--training-job-name", name, "--output", "text")
    assert until(lambda: aws(*describe, "--query", "TrainingJobStatus"), {"Stopped", "Completed"}) == "Stopped"


def test_an_endpoint_is_asked(aws: Callable[..., str], target: Target, work: Work, name: str, tmp_path: Path) -> None:
    target.client("sagemaker").create_model(**work.model(name))
    target.client("sagemaker").create_endpoint_config(**work.endpoint_config(name, name))
    aws("sagemaker", "create-endpoint", "--endpoint-name", name, "--endpoint-config-name", name)
    describe = ("sagemaker", "describe-endpoint", "--endpoint-name", name, "--output", "text")
    until(lambda: aws(*describe, "--query", "EndpointStatus"), {"InService"})
    aws("sagemaker", "wait", "endpoint-in-service", "--endpoint-name", name)
    (tmp_path / "question.json").write_text("[1, 2]")
    aws(
        *("sagemaker-runtime", "invoke-endpoint", "--endpoint-name", name, "--content-type", "application/json"),
        *("--body", f"fileb://{tmp_path}/question.json", f"{tmp_path}/answer.json"),
    )
    aws("sagemaker", "delete-endpoint", "--endpoint-name", name)
    assert json.loads((tmp_path / "answer.json").read_text()) == [7.0, 14.0]


def test_tail_follows_the_log_of_a_running_job(target: Target, work: Work, name: str) -> None:
    """`aws logs tail --follow` is of aws-cli 2, which is on no package index: this is how it polls."""
    target.client("sagemaker").create_training_job(**work.training(name, "count_up.py"))
    logs, seen, printed = target.client("logs"), set[str](), list[str]()
    request = {"logGroupName": GROUP, "logStreamNamePrefix": name, "startTime": int((time.time() - 600) * 1000)}
    deadline = time.monotonic() + PATIENCE_S
    while "counted to 20" not in printed:
        assert time.monotonic() < deadline, printed
        try:
            answer = logs.filter_log_events(**request)
        except logs.exceptions.ResourceNotFoundException:  # nothing was ever printed in this group
            continue
        fresh = [event for event in answer["events"] if event["eventId"] not in seen]
        seen |= {event["eventId"] for event in fresh}
        printed += [event["message"].rstrip() for event in fresh]
        request.pop("nextToken", None)
        if "nextToken" in answer:
            request["nextToken"] = answer["nextToken"]
        else:
            request["startTime"] = max([event["timestamp"] for event in fresh], default=request["startTime"])
            time.sleep(0.5)
    assert printed == [f"counted to {number}" for number in range(1, 21)]  # each line once, in order


def test_filter_log_events_finds_a_line(aws: Callable[..., str], target: Target, work: Work, name: str) -> None:
    target.client("sagemaker").create_training_job(**work.training(name))
    query = ("--query", "events[].message", "--output", "json")
    words = ("logs", "filter-log-events", "--log-group-name", GROUP, "--log-stream-name-prefix", f"{name}/")
    until(lambda: str("epoch=4" in aws(*words, *query)), {"True"})
    found = json.loads(aws(*words, "--filter-pattern", '"epoch=3"', *query))
    assert len(found) == 1 and found[0].startswith("epoch=3 ")


def test_an_alarm_is_put_and_described(aws: Callable[..., str], name: str) -> None:
    aws(
        *("cloudwatch", "put-metric-alarm", "--alarm-name", name, "--namespace", "AWS/SageMaker"),
        *("--metric-name", "Invocation5XXErrors", "--statistic", "Sum", "--period", "60", "--evaluation-periods", "1"),
        *("--threshold", "1", "--comparison-operator", "GreaterThanOrEqualToThreshold"),
        *("--dimensions", "Name=EndpointName,Value=none", "Name=VariantName,Value=AllTraffic"),
    )
    alarms = json.loads(aws("cloudwatch", "describe-alarms", "--alarm-names", name))["MetricAlarms"]
    assert [(alarm["AlarmName"], alarm["StateValue"]) for alarm in alarms] == [(name, "INSUFFICIENT_DATA")]


def test_the_caller_has_an_identity(aws: Callable[..., str]) -> None:
    identity = json.loads(aws("sts", "get-caller-identity"))
    assert len(identity["Account"]) == 12 and identity["Arn"].startswith("arn:aws:")


def test_objects_are_copied_and_listed(aws: Callable[..., str], work: Work, name: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    aws("s3", "cp", str(tmp_path / "a.txt"), f"s3://{work.bucket}/{name}/a.txt")
    aws("s3", "cp", f"s3://{work.bucket}/{name}/a.txt", str(tmp_path / "b.txt"))
    assert (tmp_path / "b.txt").read_text() == "a"
    assert "a.txt" in aws("s3", "ls", f"s3://{work.bucket}/{name}/")
