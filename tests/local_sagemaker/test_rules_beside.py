"""Debugger rules beside the training: verdicts while it runs, actions, kills, second attempts, several hosts."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_sagemaker import app
from local_sagemaker.jobs import rule_evaluation, training_job
from local_sagemaker.settings import Settings
from tests.local_sagemaker.harness import BUCKET, Server, error, has_ended, training_request
from tests.local_sagemaker.test_rules import TERMINAL
from tests.local_sagemaker.test_spot import interrupt
from tests.local_sagemaker.test_training import archive, wait
from tests.object_store import KEY_ID, SECRET, free_ports
from tests.waiting import wait_until

# A rule fires when there is a file of its name among the tensors; at the end the others found nothing.
FOLLOWER = r"""
import argparse, json, os, pathlib, sys, time
flags = argparse.ArgumentParser()
for name in ("tensors", "profiler", "rules", "job", "output", "job-ended"):
    flags.add_argument(f"--{name}", type=pathlib.Path)
flags.add_argument("--follow", action="store_true", required=True)
flags.add_argument("--timeout", type=float)
given = flags.parse_args()
here = pathlib.Path(__file__)
here.with_name("pid.part").write_text(str(os.getpid()))
here.with_name("pid.part").rename(here.with_name("pid"))
rules = {rule["RuleConfigurationName"]: rule["RuleParameters"] or {} for rule in json.loads(given.rules.read_text())}
while rules:
    ended = given.job_ended.exists()
    if "Crash" in rules and (given.tensors / "Crash").exists():
        sys.exit("the evaluator fell over")
    for name in list(rules):
        fired = (given.tensors / name).exists()
        if not fired and not ended:
            continue
        met = f"RuleEvaluationConditionMet: Evaluation of the rule {name} at step 7 resulted in the condition being met"
        verdict = {"RuleEvaluationStatus": "IssuesFound" if fired else "NoIssuesFound",
                   "StatusDetails": f"{met}\nthe loss is 9" if fired else "", "Evidence": {"step": 7, "value": 9.0},
                   "TrainingEndTime": json.loads(given.job.read_text())["TrainingEndTime"]}
        actions = json.loads(rules.pop(name).get("action_json", "[]").replace('\\"', '"'))
        verdict["Actions"] = actions if isinstance(actions, list) else [actions]
        folder = given.output / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "part").write_text(json.dumps(verdict))
        (folder / "part").rename(folder / "verdict.json")
        print(name, "is decided", flush=True)
    time.sleep(0.05)
"""

# `mark(name)` lets a rule fire, `until(name)` waits for a file that the test writes.
PRELUDE = """
import json, os, pathlib, sys, time
folder = pathlib.Path(json.loads(pathlib.Path(os.environ["SMDEBUG_CONFIG_FILE_PATH"]).read_text())["LocalPath"])
folder.mkdir(parents=True, exist_ok=True)
def mark(name):
    (folder / name).touch()
def until(name):
    deadline = time.monotonic() + 600
    while not (pathlib.Path({here!r}) / name).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
(pathlib.Path(os.environ["SM_MODEL_DIR"]) / "weights").write_text("3")
"""


class Bench:
    """A server with an evaluator that follows, and trainings that wait for this test."""

    def __init__(self, server: Server, here: Path) -> None:
        self.server, self.here = server, here
        self.pid = server.images.with_name("pid")
        """Of the evaluator that was started last."""

    def train(self, name: str, script: str, *rules: str, action: str | None = None, **changes: Any) -> None:
        request = training_request(self.server, name, PRELUDE.format(here=str(self.here)) + script, **changes)
        request["DebugHookConfig"] = {"S3OutputPath": f"s3://{BUCKET}/jobs"}
        parameters = {"action_json": action} if action else {}
        request["DebugRuleConfigurations"] = [
            {"RuleConfigurationName": rule, "RuleEvaluatorImage": "rules", "RuleParameters": parameters}
            for rule in rules
        ]
        self.server.sagemaker.create_training_job(**request)

    def job(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.server.sagemaker.describe_training_job(TrainingJobName=name)
        return answer

    def statuses(self, name: str, member: str = "DebugRuleEvaluationStatuses") -> dict[str, str]:
        return {one["RuleConfigurationName"]: one["RuleEvaluationStatus"] for one in self.job(name)[member]}

    def evaluation(self, job: str, rule: str) -> str:
        (arn,) = (
            one["RuleEvaluationJobArn"]
            for one in self.job(job)["DebugRuleEvaluationStatuses"]
            if one["RuleConfigurationName"] == rule
        )
        return str(arn.rpartition("/")[2])

    def lines(self, group: str, prefix: str) -> list[str]:
        found = self.server.logs.filter_log_events(logGroupName=f"/aws/sagemaker/{group}", logStreamNamePrefix=prefix)
        return [event["message"] for event in found["events"]]

    def verdict(self, job: str, rule: str) -> dict[str, Any]:
        key = f"jobs/{job}/rule-output/{rule}/verdict.json"
        found: dict[str, Any] = json.loads(self.server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        return found

    def judged(self, job: str) -> dict[str, str]:
        wait_until(lambda: set(self.statuses(job).values()) <= TERMINAL)
        return self.statuses(job)


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Server]:
    """A server whose evaluator follows; tests that kill it start it again."""
    here = tmp_path_factory.mktemp("following")
    (here / "follow.py").write_text(FOLLOWER)
    (here / "images.toml").write_text(
        f'[[image]]\nmatch = ["*"]\ninterpreter = "{sys.executable}"\nrules = ["follow.py"]\nfollow = true\n'
    )
    running = Server(here / "state", free_ports(1)[0], s3_endpoint, here / "images.toml")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def bench(tmp_path: Path, following: Server) -> Bench:
    made = Bench(following, tmp_path)
    made.pid.unlink(missing_ok=True)
    return made


def test_an_issue_is_told_while_the_training_runs(bench: Bench) -> None:
    bench.train("live", "mark('Fires')\nuntil('go')", "Fires", "Holds")
    wait_until(lambda: bench.statuses("live")["Fires"] == "IssuesFound")
    assert bench.statuses("live") == {"Fires": "IssuesFound", "Holds": "InProgress"}
    assert bench.verdict("live", "Fires")["RuleEvaluationStatus"] == "IssuesFound"
    name = bench.evaluation("live", "Fires")
    done = bench.server.sagemaker.describe_processing_job(ProcessingJobName=name)
    assert (done["ProcessingJobStatus"], "at step 7" in done["ExitMessage"]) == ("Completed", True)
    assert bench.lines("ProcessingJobs", f"{name}/") == ["Fires is decided"]
    assert bench.job("live")["TrainingJobStatus"] == "InProgress"
    (bench.here / "go").touch()
    ended = wait(bench.server, "live")
    assert ended["TrainingJobStatus"] == "Completed"
    assert bench.judged("live") == {"Fires": "IssuesFound", "Holds": "NoIssuesFound"}
    seen = bench.verdict("live", "Holds")["TrainingEndTime"]
    assert ended["TrainingStartTime"].timestamp() < seen <= ended["TrainingEndTime"].timestamp()
    wait_until(lambda: not list((bench.server.root / "rule-evaluation").glob("live-*")))


def test_stop_training_ends_the_training_and_says_why(bench: Bench) -> None:
    """The text is what the SDK writes: JSON with backslashes before its quotes."""
    action = '{\\"name\\": \\"stoptraining\\", \\"training_job_prefix\\": \\"doomed\\"}'
    bench.train("doomed", "mark('Fires')\ntime.sleep(600)", "Fires", "Holds", action=action)
    ended = wait(bench.server, "doomed")
    assert (ended["TrainingJobStatus"], ended["SecondaryStatus"]) == ("Stopped", "Stopped")
    transitions = [(one["Status"], one["StatusMessage"]) for one in ended["SecondaryStatusTransitions"]]
    assert [status for status, _ in transitions][2:] == ["Training", "Stopping", "Uploading", "Stopped"]
    said = next(message for status, message in transitions if status == "Stopping")
    assert "rule Fires" in said and "at step 7" in said and '"value": 9.0' in said
    (line,) = bench.lines("TrainingJobs", "doomed/platform")
    assert "StopTraining" in line and "rule Fires" in line and "step 7" in line and "the loss is 9" in line
    model = archive(bench.server, ended["ModelArtifacts"]["S3ModelArtifacts"])
    assert model.getnames() == ["weights"]
    assert bench.judged("doomed") == {"Fires": "IssuesFound", "Holds": "NoIssuesFound"}
    log = bench.lines("ProcessingJobs", f"{bench.evaluation('doomed', 'Fires')}/")
    assert "training job 'doomed' is being stopped" in log[-1]


def test_a_prefix_of_two_trainings_stops_none(bench: Bench) -> None:
    action = json.dumps([{"name": "stoptraining", "training_job_prefix": "fit"}, {"name": "sms", "endpoint": "+49 1"}])
    bench.train("fit-2", "until('go')")
    bench.train("fit-1", "mark('Fires')\nuntil('go')", "Fires", action=action)
    bench.judged("fit-1")
    stopping, sms = bench.lines("ProcessingJobs", f"{bench.evaluation('fit-1', 'Fires')}/")[-2:]
    assert "fit-1, fit-2" in stopping and "none is stopped" in stopping
    assert "sms to +49 1: not sent" in sms
    (bench.here / "go").touch()
    assert wait(bench.server, "fit-1")["TrainingJobStatus"] == "Completed"
    assert wait(bench.server, "fit-2")["TrainingJobStatus"] == "Completed"


def test_a_server_killed_meanwhile_loses_no_verdict(bench: Bench) -> None:
    script = "mark('Before')\nuntil('restarted')\nmark('After')\nuntil('go')"
    bench.train("outlives", script, "Before", "After", "Never")
    wait_until(lambda: bench.statuses("outlives")["Before"] == "IssuesFound")
    before, first = bench.job("outlives"), int(bench.pid.read_text())
    bench.pid.unlink()
    bench.server.stop(signal.SIGKILL)
    bench.server.start()
    wait_until(bench.pid.exists)
    assert has_ended(first)
    (bench.here / "restarted").touch()
    wait_until(lambda: bench.statuses("outlives")["After"] == "IssuesFound")
    assert bench.statuses("outlives") == {"Before": "IssuesFound", "After": "IssuesFound", "Never": "InProgress"}
    (bench.here / "go").touch()
    assert wait(bench.server, "outlives")["TrainingStartTime"] == before["TrainingStartTime"]
    assert bench.judged("outlives")["Never"] == "NoIssuesFound"
    kept = {one["RuleConfigurationName"]: one for one in bench.job("outlives")["DebugRuleEvaluationStatuses"]}
    assert kept["Before"] == before["DebugRuleEvaluationStatuses"][0]


def test_an_action_that_was_carried_out_is_not_repeated_by_the_next_server(bench: Bench) -> None:
    action = json.dumps({"name": "stoptraining", "training_job_prefix": "other"})
    bench.train("other-1", "time.sleep(600)")
    bench.train("asks", "mark('Fires')\nuntil('go')", "Fires", "Holds", action=action)
    assert wait(bench.server, "other-1")["TrainingJobStatus"] == "Stopped"
    assert bench.statuses("asks")["Fires"] == "IssuesFound"
    bench.pid.unlink()
    bench.server.stop(signal.SIGKILL)
    bench.server.start()
    bench.train("other-2", "until('go')")
    wait_until(bench.pid.exists)
    (bench.here / "go").touch()
    assert bench.judged("asks") == {"Fires": "IssuesFound", "Holds": "NoIssuesFound"}
    assert wait(bench.server, "other-2")["TrainingJobStatus"] == "Completed"


def test_one_rule_can_be_stopped_while_the_others_go_on(bench: Bench) -> None:
    bench.train("chosen", "until('stopped')\nmark('First')\nmark('Second')\nuntil('go')", "First", "Second")
    wait_until(bench.pid.exists)
    bench.server.sagemaker.stop_processing_job(ProcessingJobName=bench.evaluation("chosen", "First"))
    (bench.here / "stopped").touch()
    wait_until(lambda: bench.statuses("chosen")["Second"] == "IssuesFound")
    assert bench.statuses("chosen")["First"] == "Stopped"
    assert bench.job("chosen")["TrainingJobStatus"] == "InProgress"
    (bench.here / "go").touch()
    wait(bench.server, "chosen")
    assert bench.judged("chosen") == {"First": "Stopped", "Second": "IssuesFound"}


def test_a_second_attempt_is_judged_anew(bench: Bench) -> None:
    """What the first one's rules found stays; what they had not found by its interruption says nothing."""
    script = "mark('Early')\nuntil('interrupted')\nmark('Late')\nuntil('go')"
    condition = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120}
    spot = {"EnableManagedSpotTraining": True, "StoppingCondition": condition}
    bench.train("twice", script, "Early", "Late", "Never", **spot)
    wait_until(lambda: bench.statuses("twice")["Early"] == "IssuesFound")
    first = int(bench.pid.read_text())
    bench.pid.unlink()
    answer = interrupt(bench.server, "twice")
    assert answer.returncode == 0, answer.stderr
    wait_until(bench.pid.exists)
    assert has_ended(first)
    assert bench.statuses("twice") == {"Early": "IssuesFound", "Late": "InProgress", "Never": "InProgress"}
    (bench.here / "interrupted").touch()
    wait_until(lambda: bench.statuses("twice")["Late"] == "IssuesFound")
    (bench.here / "go").touch()
    assert wait(bench.server, "twice")["TrainingJobStatus"] == "Completed"
    assert bench.judged("twice")["Never"] == "NoIssuesFound"


def test_an_attempt_that_is_retried_decides_nothing(bench: Bench) -> None:
    script = """
first = not (pathlib.Path({here!r}) / "tried").exists()
(pathlib.Path({here!r}) / "tried").touch()
if first:
    until("judged")
    os.kill(os.getppid(), 9)
    os.kill(os.getpid(), 9)
mark("Second")
until("go")
"""
    retry = {"RetryStrategy": {"MaximumRetryAttempts": 1}}
    bench.train("retried", script.format(here=str(bench.here)), "Second", **retry)
    wait_until(bench.pid.exists)
    (bench.here / "judged").touch()
    wait_until(lambda: bench.judged("retried") == {"Second": "IssuesFound"})
    (bench.here / "go").touch()
    assert wait(bench.server, "retried")["TrainingJobStatus"] == "Completed"


def test_nothing_is_decided_before_it_is_known_that_no_attempt_follows(bench: Bench) -> None:
    """While artifacts are uploaded an internal error may still begin the training again."""
    bench.train("uploads", "(pathlib.Path(os.environ['SM_MODEL_DIR']) / 'big').write_bytes(os.urandom(2**26))", "Holds")
    seen: set[tuple[str, str]] = set()

    def ended() -> bool:
        job = bench.job("uploads")
        seen.add((job["SecondaryStatus"], job["DebugRuleEvaluationStatuses"][0]["RuleEvaluationStatus"]))
        return bool(job["TrainingJobStatus"] != "InProgress")

    wait_until(ended)
    assert ("Uploading", "InProgress") in seen and ("Uploading", "NoIssuesFound") not in seen
    assert bench.judged("uploads") == {"Holds": "NoIssuesFound"}


def test_rules_of_a_training_that_never_began_are_judged_too(bench: Bench) -> None:
    bench.server.sagemaker.create_training_job(
        **training_request(bench.server, "stillborn", "pass")
        | {
            "HyperParameters": {
                "sagemaker_program": "t.py",
                "sagemaker_submit_directory": f"s3://{BUCKET}/none.tar.gz",
            },
            "DebugRuleConfigurations": [{"RuleConfigurationName": "Holds", "RuleEvaluatorImage": "rules"}],
        }
    )
    assert wait(bench.server, "stillborn")["TrainingJobStatus"] == "Failed"
    assert bench.judged("stillborn") == {"Holds": "NoIssuesFound"}


def test_a_rule_that_is_added_meanwhile_is_judged_too(bench: Bench) -> None:
    bench.train("added", "mark('Later')\nuntil('go')")
    wait_until(lambda: bench.job("added")["SecondaryStatus"] == "Training")
    later = {"RuleConfigurationName": "Later", "RuleEvaluatorImage": "rules"}
    bench.server.sagemaker.update_training_job(TrainingJobName="added", ProfilerRuleConfigurations=[later])
    wait_until(lambda: bench.statuses("added", "ProfilerRuleEvaluationStatuses") == {"Later": "IssuesFound"})
    assert bench.job("added")["TrainingJobStatus"] == "InProgress"
    (bench.here / "go").touch()
    wait(bench.server, "added")


def test_an_evaluator_that_falls_over_is_an_error_at_once(bench: Bench) -> None:
    bench.train("falls", "mark('Fires')\nuntil('told')\nmark('Crash')\nuntil('go')", "Fires", "Crash", "Holds")
    wait_until(lambda: bench.statuses("falls")["Fires"] == "IssuesFound")
    (bench.here / "told").touch()
    assert bench.judged("falls") == {"Fires": "IssuesFound", "Crash": "Error", "Holds": "Error"}
    assert "fell over" in bench.job("falls")["DebugRuleEvaluationStatuses"][2]["StatusDetails"]
    assert bench.job("falls")["TrainingJobStatus"] == "InProgress"
    (bench.here / "go").touch()
    wait(bench.server, "falls")


def test_a_rule_that_never_ends_is_given_up(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_evaluation, "TIMEOUT_S", 0.5)
    (tmp_path / "hang.py").write_text("import time\ntime.sleep(600)")
    images = tmp_path / "images.toml"
    images.write_text(f'[[image]]\nmatch = ["*"]\ninterpreter = "{sys.executable}"\nrules = ["hang.py"]\nfollow = true')
    keys = {"access_key_id": KEY_ID, "secret_access_key": SECRET}
    settings = Settings(root=tmp_path / "own", images=images, s3_endpoint=bench.server.s3_endpoint, **keys)
    platform = app.build_platform(settings)
    request = training_request(bench.server, "endless", "pass")
    request["DebugRuleConfigurations"] = [{"RuleConfigurationName": "Hangs", "RuleEvaluatorImage": "rules"}]
    training_job.create(platform, request)
    wait_until(lambda: not platform.background.carries("training-job", "endless"))
    job = platform.store.get("training-job", "endless")
    assert job and job.describe["TrainingJobStatus"] == "Completed"
    (status,) = job.describe["DebugRuleEvaluationStatuses"]
    assert status["RuleEvaluationStatus"] == "Error"
    assert "did not end within" in status["StatusDetails"]


def test_the_tensors_of_all_hosts_are_seen(bench: Bench) -> None:
    script = "mark(os.environ['SM_CURRENT_HOST'])\nuntil('go')"
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10}
    bench.train("several", script, "algo-1", "algo-2", "algo-3", ResourceConfig=resources)
    wait_until(lambda: list(bench.statuses("several").values()) == ["IssuesFound", "IssuesFound", "InProgress"])
    (bench.here / "go").touch()
    wait(bench.server, "several")
    assert bench.judged("several")["algo-3"] == "NoIssuesFound"


def test_an_account_that_debugger_is_closed_to_is_told_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.server.stop()
    monkeypatch.setenv("LOCAL_SAGEMAKER_DEBUGGER", "closed")
    bench.server.start()
    answer = error(lambda: bench.train("refused", "pass", "Any"))
    assert answer["Code"] == "ValidationException"
    assert answer["Message"].startswith("Amazon SageMaker Debugger is not available to this account")
    request = training_request(bench.server, "plain", "import time\ntime.sleep(60)")
    request["ProfilerConfig"] = {"S3OutputPath": f"s3://{BUCKET}/jobs"}
    bench.server.sagemaker.create_training_job(**request)
    later = {"RuleConfigurationName": "Later", "RuleEvaluatorImage": "rules"}
    change = {"TrainingJobName": "plain", "ProfilerRuleConfigurations": [later]}
    assert "not available" in error(lambda: bench.server.sagemaker.update_training_job(**change))["Message"]
    bench.server.sagemaker.stop_training_job(TrainingJobName="plain")
    bench.server.stop()
    monkeypatch.undo()
    bench.server.start()


def test_a_name_that_is_no_folder_is_that_rules_error_alone(bench: Bench) -> None:
    bench.train("named", "mark('Fires')\nuntil('go')", "../Fires", "Fires")
    assert bench.judged("named") == {"../Fires": "Error", "Fires": "IssuesFound"}
    (bench.here / "go").touch()
    wait(bench.server, "named")
