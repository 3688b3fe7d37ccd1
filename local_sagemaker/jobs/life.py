"""The life of a job as its Describe response tells it: statuses, transitions, end reasons. Pure."""

from __future__ import annotations

from typing import Any

Describe = dict[str, Any]

#: Statuses of training, tuning, transform and processing jobs after which nothing changes any more.
TERMINAL = frozenset({"Completed", "Failed", "Stopped"})

#: AWS's own messages, as jobs show them in SecondaryStatusTransitions.
MESSAGES = {
    "Pending": "Training job waiting for capacity",
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading the training image",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}

_FAILURE_REASON_LIMIT = 1024


class JobFailedError(Exception):
    """A job cannot go on; the text becomes its FailureReason (`ClientError: …`, `AlgorithmError: …`, …)."""


def enter(describe: Describe, secondary: str, now: float, message: str | None = None) -> None:
    """Move a training job to a secondary status and write the transition; the open one gets its EndTime."""
    transitions = describe.setdefault("SecondaryStatusTransitions", [])
    if transitions and "EndTime" not in transitions[-1]:
        transitions[-1]["EndTime"] = now
    entry = {"Status": secondary, "StartTime": now, "StatusMessage": message or MESSAGES[secondary]}
    if secondary in {*TERMINAL, "MaxRuntimeExceeded"}:
        entry["EndTime"] = now
    transitions.append(entry)
    describe["SecondaryStatus"] = secondary
    if secondary == "Training":
        describe["TrainingStartTime"] = now


def finish(
    describe: Describe, status: str, now: float, reason: str | None = None, secondary: str | None = None
) -> None:
    """End a training job. Ending it twice is a mistake of the caller: the first end stands."""
    if describe["TrainingJobStatus"] in TERMINAL:
        return
    enter(describe, secondary or status, now, _shorten(reason) if status == "Failed" and reason else None)
    describe["TrainingJobStatus"] = status
    if reason:
        describe["FailureReason"] = _shorten(reason)
    if started := describe.get("TrainingStartTime"):
        describe["TrainingEndTime"] = now
        describe["TrainingTimeInSeconds"] = describe["BillableTimeInSeconds"] = max(1, round(now - started))


def failure_reason(exit_code: int, failure_file: str, last_lines: list[str], command: list[str]) -> str:
    """FailureReason of a script that ended badly, in the toolkit's form.

    A script that wrote /opt/ml/output/failure is quoted; else its last lines say what happened.
    """
    if failure_file.strip():
        return _shorten(f"AlgorithmError: {failure_file.strip()}, exit code: {exit_code}")
    hint = ""
    if exit_code in (137, -9):
        hint = " The process was killed (SIGKILL), most often because the machine ran out of memory."
    error = "\n".join(last_lines).strip()
    text = (
        f"AlgorithmError: ExecuteUserScriptError:\nExitCode {exit_code}\nErrorMessage "
        f'"{_last(error, 700)}"{hint}\nCommand "{_first(" ".join(command), 200)}", exit code: {exit_code}'
    )
    return _shorten(text)


def stop_requested(describe: Describe, now: float) -> bool:
    """Enter Stopping if the job can be stopped; a job that has ended or is stopping stays as it is."""
    if describe["TrainingJobStatus"] != "InProgress":
        return False
    describe["TrainingJobStatus"] = "Stopping"
    enter(describe, "Stopping", now)
    return True


def _shorten(text: str) -> str:
    return text if len(text) <= _FAILURE_REASON_LIMIT else text[: _FAILURE_REASON_LIMIT - 1] + "…"


def _first(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _last(text: str, limit: int) -> str:
    return text if len(text) <= limit else "…" + text[-limit + 1 :]
