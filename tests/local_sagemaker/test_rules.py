"""Debugger rules: statuses that start with the job, end after it, and survive the server."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.local_sagemaker.harness import BUCKET, Server, training_request
from tests.object_store import free_ports

# Its first evaluation would last for ever; a later one finds the mark of the first and says what it found.
EVALUATOR = """
import argparse, json, pathlib, sys, time
flags = argparse.ArgumentParser()
for name in ("tensors", "profiler", "rules", "job", "output"):
    flags.add_argument(f"--{name}", type=pathlib.Path)
given = flags.parse_args()
mark = pathlib.Path(__file__).with_name("mark")
if not mark.exists():
    mark.touch()
    time.sleep(600)
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


@pytest.fixture
def server(tmp_path: Path, s3_endpoint: str) -> Any:
    (tmp_path / "evaluate.py").write_text(EVALUATOR)
    images = tmp_path / "images.toml"
    images.write_text(f'[[image]]\nmatch = ["*"]\ninterpreter = "{sys.executable}"\nrules = ["evaluate.py"]\n')
    running = Server(tmp_path / "state", free_ports(1)[0], s3_endpoint, images)
    running.start()
    yield running
    running.stop()


def status(server: Server) -> dict[str, Any]:
    job = server.sagemaker.describe_training_job(TrainingJobName="judged")
    return {"job": job["TrainingJobStatus"], **job["DebugRuleEvaluationStatuses"][0]}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_evaluation_cut_off_by_a_shutdown_is_done_by_the_next_server(server: Server, tmp_path: Path) -> None:
    request = training_request(server, "judged", SCRIPT)
    request["DebugHookConfig"] = {"S3OutputPath": f"s3://{BUCKET}/jobs"}
    request["DebugRuleConfigurations"] = [{"RuleConfigurationName": "Rule", "RuleEvaluatorImage": "rules"}]
    server.sagemaker.create_training_job(**request)
    until((tmp_path / "mark").exists)
    assert (status(server)["job"], status(server)["RuleEvaluationStatus"]) == ("Completed", "InProgress")
    server.stop()
    server.start()
    until(lambda: status(server)["RuleEvaluationStatus"] != "InProgress")
    assert (status(server)["RuleEvaluationStatus"], status(server)["StatusDetails"]) == ("IssuesFound", "found")
