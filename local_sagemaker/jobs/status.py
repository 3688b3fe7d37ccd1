"""The life of a job as its Describe response tells it: statuses, transitions, limits, end reasons. Pure."""

from __future__ import annotations

import errno
from typing import Any

Describe = dict[str, Any]

#: Statuses of training, tuning, transform and processing jobs after which nothing changes any more.
TERMINAL = frozenset({"Completed", "Failed", "Stopped"})

#: AWS's own messages, as jobs show them in SecondaryStatusTransitions; those of Interrupted, Restarting and
#: MaxWaitTimeExceeded could not be seen on AWS and follow its documentation.
MESSAGES = {
    "Pending": "Training job waiting for capacity",
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading the training image",
    "Training": "Training image download completed. Training in progress.",
    "Interrupted": "The job stopped because the managed spot training instances were interrupted.",
    "Restarting": "Restarting the training job after an internal error",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
}

DEFAULT_MAX_RUNTIME_S = 86_400
"""SageMaker's own default of MaxRuntimeInSeconds."""

_FAILURE_REASON_LIMIT = 1024
_SHOWN = 200

# What the kernel says of a name or a path, whoever asks and whenever.
_OF_NAMES = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)

# What a job can do to its own folders.
_OF_FOLDERS = (errno.EACCES, errno.EPERM, errno.EEXIST)
_OWN = ("/opt/ml/", "/outside/")

# The phases in which a managed spot job pays for its instances. Between an interruption and the next start it does not.
_PAID = frozenset({"Training", "Stopping", "Uploading"})


def told(reason: str) -> str:
    """A FailureReason as it is kept: of bounded length, and text also where it quotes names that are none."""
    text = reason[: _FAILURE_REASON_LIMIT + 1].encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _FAILURE_REASON_LIMIT else text[: _FAILURE_REASON_LIMIT - 1] + "…"


def fault_of_job(error: Exception) -> str | None:
    """The FailureReason of an error that a job's own files cause wherever they are looked at; else None.

    It must not be an InternalServerError, which is retried, and paid for, again.
    """
    match error:
        case RecursionError():
            return "ClientError: the job left folders that are nested too deeply"
        case UnicodeError():
            return f"ClientError: the job left a file whose name is not UTF-8: {error}"
        case OSError() if error.errno in _OF_NAMES or (
            error.errno in _OF_FOLDERS and any(part in str(error.filename) for part in _OWN)
        ):
            name = str(error.filename)
            shown = name if len(name) <= _SHOWN else f"…{name[-_SHOWN:]}"
            return f"ClientError: the job names or has left a file that cannot be one: {error.strerror}: {shown}"
        case ValueError() if "null byte" in str(error) or "null character" in str(error):
            return f"ClientError: the job names a file that cannot be one: {error}"
    return None


def enter(describe: Describe, secondary: str, now: float, message: str | None = None) -> None:
    """Move a training job to a secondary status and write the transition; the open one gets its EndTime."""
    transitions = describe.setdefault("SecondaryStatusTransitions", [])
    if transitions and "EndTime" not in transitions[-1]:
        transitions[-1]["EndTime"] = now
    entry = {"Status": secondary, "StartTime": now, "StatusMessage": message or MESSAGES[secondary]}
    if secondary in {*TERMINAL, "MaxRuntimeExceeded", "MaxWaitTimeExceeded"}:
        entry["EndTime"] = now
    transitions.append(entry)
    describe["SecondaryStatus"] = secondary
    if secondary == "Training":
        describe.setdefault("TrainingStartTime", now)


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
        if describe.get("EnableManagedSpotTraining"):
            describe["BillableTimeInSeconds"] = max(1, round(_duration_s(describe, now, _PAID)))


def trained_s(describe: Describe, now: float) -> float:
    """Seconds in Training, over all attempts of the job: what MaxRuntimeInSeconds bounds."""
    return _duration_s(describe, now, frozenset({"Training"}))


def limit_exceeded(describe: Describe, now: float) -> str | None:
    """The secondary status of the limit that a job has passed, if it has passed one.

    MaxRuntimeInSeconds counts the seconds of training, MaxWaitTimeInSeconds all seconds since CreateTrainingJob,
    waiting included. MaxPendingTimeInSeconds bounds the wait for a place; AWS applies it to accelerated instance types
    only, and its end is told as Stopped, for it has no status of its own.
    """
    condition = describe.get("StoppingCondition", {})
    if trained_s(describe, now) > condition.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME_S):
        return "MaxRuntimeExceeded"
    age_s = now - describe["CreationTime"]
    if "MaxWaitTimeInSeconds" in condition and age_s > condition["MaxWaitTimeInSeconds"]:
        return "MaxWaitTimeExceeded"
    pending = describe["SecondaryStatus"] == "Pending" and _accelerated(describe)
    if pending and now - describe["SecondaryStatusTransitions"][-1]["StartTime"] > condition.get(
        "MaxPendingTimeInSeconds", float("inf")
    ):
        return "Stopped"
    return None


def retries_left(describe: Describe) -> bool:
    """Whether the RetryStrategy has an attempt left after an internal error."""
    restarts = sum(entry["Status"] == "Restarting" for entry in describe.get("SecondaryStatusTransitions", []))
    return bool(restarts < int(describe.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0)))


def failure_reason(
    exit_code: int, failure_file: str, last_lines: list[str], command: list[str], host: str | None = None
) -> str:
    """FailureReason of a script that ended badly, in the toolkit's form.

    A script that wrote /opt/ml/output/failure is quoted; else its last lines say what happened. `host` is named where a
    job has several.
    """
    where = f"{host}: " if host else ""
    if failure_file.strip():
        ending = f", exit code: {exit_code}"
        head = f"AlgorithmError: {where}"
        quoted = _first(failure_file.strip(), _FAILURE_REASON_LIMIT - len(head) - len(ending))
        return f"{head}{quoted}{ending}"
    hint = ""
    if exit_code in (137, -9):
        hint = " The process was killed (SIGKILL), most often because the machine ran out of memory."
    error = "\n".join(last_lines).strip()
    text = (
        f"AlgorithmError: {where}ExecuteUserScriptError:\nExitCode {exit_code}\nErrorMessage "
        f'"{_last(error, 650)}"{hint}\nCommand "{_first(" ".join(command), 150)}", exit code: {exit_code}'
    )
    return _shorten(text)


def stop_requested(describe: Describe, now: float, message: str | None = None) -> bool:
    """Enter Stopping if the job can be stopped; a job that has ended or is stopping stays as it is."""
    if describe["TrainingJobStatus"] != "InProgress":
        return False
    describe["TrainingJobStatus"] = "Stopping"
    enter(describe, "Stopping", now, message)
    return True


def _duration_s(describe: Describe, now: float, statuses: frozenset[str]) -> float:
    """Seconds since the first training started that were spent in some secondary statuses."""
    started = describe.get("TrainingStartTime", now)
    return sum(
        float(entry.get("EndTime", now) - entry["StartTime"])
        for entry in describe.get("SecondaryStatusTransitions", [])
        if entry["Status"] in statuses and entry["StartTime"] >= started
    )


def _accelerated(describe: Describe) -> bool:
    return str(describe["ResourceConfig"].get("InstanceType", "")).startswith(("ml.p", "ml.g", "ml.trn"))


def _shorten(text: str) -> str:
    return told(text)


def _first(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _last(text: str, limit: int) -> str:
    return text if len(text) <= limit else "…" + text[-limit + 1 :]
