"""What a rule that fired asks for, as the SDK's built-in actions say it: stop a training, send an email or an SMS.

StopTraining names training jobs by the beginning of their name. As AWS's own rule does, it stops one only if exactly
one InProgress job has such a name: with jobs 'fit-1' and 'fit-12' the prefix 'fit-1' stops neither. An action without
a prefix, which the SDK never sends, means the rule's own job. Messages would go out by SNS, which is not here.
"""

from __future__ import annotations

import json
from typing import Any

from local_sagemaker.jobs import rule_records
from local_sagemaker.jobs import status as job_status
from local_sagemaker.jobs.rule_evaluator import Verdict
from local_sagemaker.jobs.rule_records import Rule
from local_sagemaker.jobs.training_record import KIND, TrainingRecord
from local_sagemaker.state.logs import Logs
from local_sagemaker.state.store import Store

_EVIDENCE_LIMIT = 500


def carry_out(store: Store, logs: Logs, job: str, rule: Rule, verdict: Verdict) -> list[str]:
    """Do what `verdict` asks for and tell of it in the rule's log; returns the training jobs whose threads must stop.

    To be called in the transaction that ends the rule: so it is done once, also when the server is killed meanwhile.
    """
    stopped: list[str] = []
    for action in _actions(verdict):
        match str(action.get("name", "")).lower():
            case "stoptraining":
                said, names = _stop_training(store, logs, job, rule, verdict, action.get("training_job_prefix"))
                stopped += names
            case "email" | "sms" as name:
                said = f"{name} to {action.get('endpoint')}: not sent, there is no SNS here"
            case name:
                said = f"action '{name}' is not known; stoptraining, email and sms are"
        rule_records.say(store, logs, rule.evaluation, [f"[local_sagemaker] {said}"])
    return stopped


def _actions(verdict: Verdict) -> list[dict[str, Any]]:
    actions = verdict.get("Actions") if verdict["RuleEvaluationStatus"] == "IssuesFound" else []
    return [action for action in actions if isinstance(action, dict)] if isinstance(actions, list) else []


def _stop_training(
    store: Store, logs: Logs, job: str, rule: Rule, verdict: Verdict, prefix: str | None
) -> tuple[str, list[str]]:
    running = [record.name for record in store.list(KIND, status="InProgress")]
    found = [name for name in running if (name.startswith(prefix) if prefix else name == job)]
    if len(found) != 1:
        which = f"'{prefix or job}' begins the names of {len(found)} InProgress training jobs"
        listed = f" ({', '.join(sorted(found)[:5])})" if found else ""
        return f"stoptraining: {which}{listed}; it has to be exactly one, so none is stopped", []
    (name,) = found
    why = f"rule {rule.name}{'' if name == job else f' of training job {job}'}: {_reason(verdict)}"
    record = TrainingRecord(store, logs, name)
    record.request_stop(f"{job_status.MESSAGES['Stopping']}, as its action StopTraining asks; {why}")
    record.say(f"stopped by the action StopTraining of {why}")
    return f"stoptraining: training job '{name}' is being stopped", [name]


def _reason(verdict: Verdict) -> str:
    """What the rule found, in one line: its details, which name the step, and its evidence."""
    details = " ".join(str(verdict.get("StatusDetails") or "").split())
    evidence = json.dumps(verdict.get("Evidence") or {})
    return f"{details}; evidence: {evidence[:_EVIDENCE_LIMIT]}"
