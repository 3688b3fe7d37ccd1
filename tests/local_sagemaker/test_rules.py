"""Debugger rules as records: statuses that start with the job, survive the server, and are processing jobs each.

The evaluator here cannot follow a training, so it runs when that has ended; test_rules_beside.py has one that can.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local_sagemaker.sandbox.images import ImageMap
from tests.local_sagemaker.harness import BUCKET, REPOSITORY, ROLE, Server, has_ended, refused, training_request
from tests.object_store import free_ports
from tests.waiting import wait_until

# While there is a file `wait` beside it, an evaluation lasts for ever; it leaves its process id in `pid`.
EVALUATOR = """
import argparse, json, os, pathlib, sys, time
flags = argparse.ArgumentParser()
for name in ("tensors", "profiler", "rules", "job", "output"):
    flags.add_argument(f"--{name}", type=pathlib.Path)
given = flags.parse_args()
print("evaluating", len(json.loads(given.rules.read_text())), "rules", flush=True)
here = pathlib.Path(__file__)
here.with_name("pid.part").write_text(str(os.getpid()))
here.with_name("pid.part").rename(here.with_name("pid"))
while here.with_name("wait").exists():
    time.sleep(0.05)
for rule in json.loads(given.rules.read_text()):
    folder = given.output / rule["RuleConfigurationName"]
    folder.mkdir(parents=True)
    seen = (given.tensors / "kept").exists()
    (folder / "verdict.json").write_text(json.dumps({
        "RuleEvaluationStatus": "IssuesFound" if seen else "NoIssuesFound", "StatusDetails": "found"}))
"""
SCRIPT = """
import json, os, pathlib
folder = pathlib.Path(json.loads(pathlib.Path(os.environ["SMDEBUG_CONFIG_FILE_PATH"]).read_text())["LocalPath"])
folder.mkdir(parents=True)
(folder / "kept").touch()
"""
TERMINAL = {"NoIssuesFound", "IssuesFound", "Error", "Stopped"}


@pytest.fixture
def server(tmp_path: Path, s3_endpoint: str) -> Any:
    (tmp_path / "evaluate.py").write_text(EVALUATOR)
    images = tmp_path / "images.toml"
    images.write_text(f'[[image]]\nmatch = ["*"]\ninterpreter = "{sys.executable}"\nrules = ["evaluate.py"]\n')
    running = Server(tmp_path / "state", free_ports(1)[0], s3_endpoint, images)
    running.start()
    yield running
    running.stop()


def train(server: Server, *rules: str, script: str = SCRIPT) -> list[str]:
    """Start a training job with these rules; returns the names of their evaluations."""
    request = training_request(server, "judged", script)
    request["DebugHookConfig"] = {"S3OutputPath": f"s3://{BUCKET}/jobs"}
    request["DebugRuleConfigurations"] = [
        {"RuleConfigurationName": rule, "RuleEvaluatorImage": "rules", "RuleParameters": {"rule_to_invoke": rule}}
        for rule in rules
    ]
    server.sagemaker.create_training_job(**request)
    return [status["RuleEvaluationJobArn"].rpartition("/")[2] for status in statuses(server)]


def statuses(server: Server) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = server.sagemaker.describe_training_job(TrainingJobName="judged")[
        "DebugRuleEvaluationStatuses"
    ]
    return answer


def evaluation(server: Server, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = server.sagemaker.describe_processing_job(ProcessingJobName=name)
    return answer


def judged(server: Server) -> bool:
    return all(status["RuleEvaluationStatus"] in TERMINAL for status in statuses(server))


def test_every_rule_is_a_processing_job_of_its_own(server: Server) -> None:
    names = train(server, "Deep_Rule", "Second")
    assert names[0].startswith("judged-deep-rule-")
    before = evaluation(server, names[0])
    assert before["TrainingJobArn"].endswith(":training-job/judged")
    assert before["AppSpecification"] == {"ImageUri": "rules"}
    assert before["Environment"] == {"rule_to_invoke": "Deep_Rule"}
    wait_until(lambda: judged(server))
    after = evaluation(server, names[0])
    assert (after["ProcessingJobStatus"], after["ExitMessage"]) == ("Completed", "found")
    assert after["CreationTime"] <= after["ProcessingStartTime"] <= after["ProcessingEndTime"]
    assert (
        after["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"] == f"s3://{BUCKET}/jobs/judged/rule-output"
    )
    listed = server.sagemaker.list_processing_jobs(StatusEquals="Completed")["ProcessingJobSummaries"]
    assert {summary["ProcessingJobName"] for summary in listed} == set(names)
    for name in names:
        read = {"logGroupName": "/aws/sagemaker/ProcessingJobs", "logStreamNamePrefix": f"{name}/algo-1-"}
        assert [event["message"] for event in server.logs.filter_log_events(**read)["events"]] == ["evaluating 2 rules"]


def test_evaluations_outlive_their_training_job(server: Server) -> None:
    """A second job of the same name has evaluations of its own."""
    (first,) = train(server, "Only")
    wait_until(lambda: judged(server))
    server.sagemaker.delete_training_job(TrainingJobName="judged")
    before = evaluation(server, first)
    refused(lambda: server.sagemaker.stop_processing_job(ProcessingJobName=first))
    (second,) = train(server, "Only")
    wait_until(lambda: judged(server))
    assert evaluation(server, first) | {"ResponseMetadata": 0} == before | {"ResponseMetadata": 0}
    assert evaluation(server, second)["ProcessingJobStatus"] == "Completed"
    server.sagemaker.delete_processing_job(ProcessingJobName=first)


def test_stopped_evaluation_ends_at_once_and_the_others_go_on(server: Server, tmp_path: Path) -> None:
    (tmp_path / "wait").touch()
    first, second = train(server, "First", "Second")
    wait_until((tmp_path / "pid").exists)
    server.sagemaker.stop_processing_job(ProcessingJobName=first)
    assert [status["RuleEvaluationStatus"] for status in statuses(server)] == ["Stopped", "InProgress"]
    assert evaluation(server, first)["ProcessingJobStatus"] == "Stopped"
    refused(lambda: server.sagemaker.stop_processing_job(ProcessingJobName=first))
    (tmp_path / "wait").unlink()
    wait_until(lambda: judged(server))
    assert [status["RuleEvaluationStatus"] for status in statuses(server)] == ["Stopped", "IssuesFound"]
    assert evaluation(server, second)["ProcessingJobStatus"] == "Completed"


def test_evaluator_ends_when_nobody_waits_for_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / "wait").touch()
    (name,) = train(server, "Only")
    wait_until((tmp_path / "pid").exists)
    server.sagemaker.stop_processing_job(ProcessingJobName=name)
    assert has_ended(int((tmp_path / "pid").read_text()))
    assert statuses(server)[0]["RuleEvaluationStatus"] == "Stopped"


def test_evaluation_can_be_stopped_before_its_training_ends(server: Server, tmp_path: Path) -> None:
    (name,) = train(server, "Only", script="import time; time.sleep(600)")
    server.sagemaker.stop_processing_job(ProcessingJobName=name)
    server.sagemaker.stop_training_job(TrainingJobName="judged")
    server.wait(lambda: server.sagemaker.describe_training_job(TrainingJobName="judged"), "TrainingJobStatus")
    assert statuses(server)[0]["RuleEvaluationStatus"] == "Stopped"
    assert not (tmp_path / "pid").exists()


def test_evaluator_that_fails_is_an_error_of_every_rule(server: Server, tmp_path: Path) -> None:
    (tmp_path / "evaluate.py").write_text("import sys; sys.exit('no tensors here')")
    (name,) = train(server, "Only")
    wait_until(lambda: judged(server))
    assert statuses(server)[0]["RuleEvaluationStatus"] == "Error"
    answer = evaluation(server, name)
    assert answer["ProcessingJobStatus"] == "Failed"
    assert answer["FailureReason"] == statuses(server)[0]["StatusDetails"]
    assert "exit code 1: no tensors here" in answer["FailureReason"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_evaluation_cut_off_with_the_server_is_done_by_the_next(
    server: Server, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "wait").touch()
    (name,) = train(server, "Rule")
    wait_until((tmp_path / "pid").exists)
    assert statuses(server)[0]["RuleEvaluationStatus"] == "InProgress"
    first = int((tmp_path / "pid").read_text())
    server.stop(number)
    (tmp_path / "pid").unlink()
    server.start()
    wait_until((tmp_path / "pid").exists)
    assert has_ended(first)
    (tmp_path / "wait").unlink()
    wait_until(lambda: judged(server))
    assert (statuses(server)[0]["RuleEvaluationStatus"], statuses(server)[0]["StatusDetails"]) == (
        "IssuesFound",
        "found",
    )
    assert evaluation(server, name)["ProcessingJobStatus"] == "Completed"


def test_evaluator_runs_as_a_plain_processing_job_too(server: Server) -> None:
    """Where AWS's Debugger is closed, its evaluator is started like this; the image's own program is the evaluator."""
    for key in ("tensors/kept", "rules.json"):
        server.s3.put_object(Bucket=BUCKET, Key=f"plain/{key}", Body=b'[{"RuleConfigurationName": "Mine"}]')
    flags = {name: f"/opt/ml/processing/input/{name}" for name in ("tensors", "profiler", "job")}
    flags |= {"rules": "/opt/ml/processing/input/rules.json", "output": "/opt/ml/processing/output"}
    source = {"S3Uri": f"s3://{BUCKET}/plain/", "S3DataType": "S3Prefix", "LocalPath": "/opt/ml/processing/input"}
    target = {"S3Uri": f"s3://{BUCKET}/plain-out", "S3UploadMode": "EndOfJob", "LocalPath": flags["output"]}
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10}
    words = [text for name, path in flags.items() for text in (f"--{name}", path)]
    server.sagemaker.create_processing_job(
        ProcessingJobName="plain",
        RoleArn=ROLE,
        AppSpecification={"ImageUri": "rules", "ContainerArguments": words},
        ProcessingResources={"ClusterConfig": cluster},
        ProcessingInputs=[{"InputName": "all", "S3Input": source}],
        ProcessingOutputConfig={"Outputs": [{"OutputName": "all", "S3Output": target}]},
    )
    answer = server.wait(lambda: evaluation(server, "plain"), "ProcessingJobStatus")
    assert answer["ProcessingJobStatus"] == "Completed", answer.get("FailureReason")
    assert b"IssuesFound" in server.s3.get_object(Bucket=BUCKET, Key="plain-out/Mine/verdict.json")["Body"].read()


@pytest.mark.parametrize("lines", ["follow = true", 'rules = ["run.py"]\nfollow = "yes"'])
def test_an_image_map_that_misuses_follow_is_refused(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "images.toml"
    path.write_text(f'[[image]]\nmatch = ["*"]\ninterpreter = "{sys.executable}"\n{lines}\n')
    with pytest.raises(ValueError, match=r"follow = .* must be true or false, and true needs 'rules'"):
        ImageMap.load(path)


def test_another_word_than_open_or_closed_is_refused(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "local_sagemaker", "--root", str(tmp_path)],
        cwd=REPOSITORY,
        env={"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "LOCAL_SAGEMAKER_DEBUGGER": "shut"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "debugger is 'shut' (LOCAL_SAGEMAKER_DEBUGGER); it must be open or closed" in result.stderr
