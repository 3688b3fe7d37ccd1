"""Which finding stops a run."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from retraining.debugger.rule_verdicts import rule_verdicts, stopping_rules
from retraining.job_kinds import KINDS, is_missing, is_platform_failure, rule_statuses
from retraining.requests.debugger import stop_training


def training_job(debug: str, profiler: str = "NoIssuesFound") -> dict[str, object]:
    return {
        "TrainingJobStatus": "Completed",
        "DebugRuleEvaluationStatuses": [
            {"RuleConfigurationName": "Overfit", "RuleEvaluationStatus": debug, "StatusDetails": "at step 0\n"}
        ],
        "ProfilerRuleEvaluationStatuses": [
            {"RuleConfigurationName": "ProfilerReport", "RuleEvaluationStatus": profiler}
        ],
    }


@pytest.mark.parametrize(
    ("status", "policy", "stops", "warns"),
    [
        ("IssuesFound", "fail", True, False),
        ("IssuesFound", "warn", False, True),
        ("IssuesFound", "ignore", False, False),
        ("Error", "ignore", False, False),
        ("NoIssuesFound", "fail", False, False),
        ("Error", "fail", False, True),
        ("Stopped", "fail", False, True),
        ("InProgress", "fail", False, True),
    ],
)
def test_only_an_issue_found_stops_a_run(status: str, policy: str, stops: bool, warns: bool) -> None:
    verdict = rule_verdicts(training_job(status), {"Overfit": policy})[0]
    assert (verdict.stops, verdict.warns) == (stops, warns)


def test_an_ignored_issue_is_reported_all_the_same() -> None:
    (verdict, _) = rule_verdicts(training_job("IssuesFound"), {"Overfit": "ignore"})
    assert verdict.as_dict() == {
        "rule": "Overfit", "status": "IssuesFound", "details": "at step 0\n", "policy": "ignore"
    }  # fmt: skip


def test_only_rules_with_the_action_stop_a_training() -> None:
    parameters = {
        "Overfit": {"action_json": stop_training("job")},
        "StalledTrainingRule": {"stop_training_on_fire": "True"},
        "AllZero": {"action_json": '{\\"name\\": \\"email\\", \\"endpoint\\": \\"a@b\\"}'},
        "DeadRelu": {},
    }
    configured = [{"RuleConfigurationName": rule, "RuleParameters": given} for rule, given in parameters.items()]
    job = {"DebugRuleConfigurations": [*configured, {"RuleConfigurationName": "bare"}]}
    assert stopping_rules(job) == ["Overfit", "StalledTrainingRule"]
    assert stopping_rules({}) == []


def test_the_profiler_never_stops_a_run() -> None:
    verdict = rule_verdicts(training_job("NoIssuesFound", "IssuesFound"), {"Overfit": "fail"})[1]
    assert (verdict.rule, verdict.stops, verdict.warns) == ("ProfilerReport", False, True)


@pytest.mark.parametrize(("debug", "profiler", "waiting"), [
    ("InProgress", "NoIssuesFound", True), ("IssuesFound", "InProgress", True), ("Error", "IssuesFound", False),
])  # fmt: skip
def test_rules_are_waited_for_in_both_lists(debug: str, profiler: str, waiting: bool) -> None:
    assert KINDS["rules"].in_progress(training_job(debug, profiler)) is waiting


def test_a_job_without_rules_is_not_waited_for() -> None:
    assert rule_statuses({"TrainingJobStatus": "Completed"}) == {}
    assert not KINDS["rules"].in_progress({"TrainingJobStatus": "Completed"})


@pytest.mark.parametrize(
    ("code", "message", "missing"),
    [
        ("ValidationException", "Requested resource not found.", True),
        ("ValidationException", 'Could not find model "x".', True),
        ("ResourceNotFound", "Amazon SageMaker can't find a tuning job", True),
        ("ValidationException", "1 validation error detected: Value 'x' at 'y'", False),
        ("ThrottlingException", "Rate exceeded", False),
        ("AccessDeniedException", "Could not find", False),
    ],
)
def test_only_an_answer_about_absence_means_absent(code: str, message: str, missing: bool) -> None:
    assert is_missing(ClientError({"Error": {"Code": code, "Message": message}}, "Describe")) is missing


def test_only_the_platform_is_worth_a_second_job() -> None:
    assert is_platform_failure("InternalServerError: We encountered an internal error. Please try again.")
    assert not is_platform_failure("AlgorithmError: ExecuteUserScriptError: exit code 1")
