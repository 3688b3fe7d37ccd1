"""What the job behind a waiting task is doing, in a few words, asked from the SageMaker API."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

ASK_EVERY_S = 3.0
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
WHOLE, BEGINNING = 9, 5  # characters of a recipe's name in those of its jobs: `name_prefix` of retraining/plan.py


class JobWatch:
    """Looks up the newest tuning or training job of a recipe since `since`. What it cannot find out it does not say."""

    def __init__(self, sagemaker: Any, logs: Any, since: datetime, recipe: str) -> None:
        self._sagemaker, self._logs = sagemaker, logs
        # A long name is cut in those of jobs; of two recipes with the same beginning the newer job is told.
        self._newest = {
            "CreationTimeAfter": since,
            "NameContains": recipe if len(recipe) <= WHOLE else recipe[:BEGINNING].rstrip("-"),
            "SortBy": "CreationTime",
            "SortOrder": "Descending",
            "MaxResults": 1,
        }
        self._answers: dict[str, tuple[float, str | None]] = {}
        self._sources: dict[str, Callable[[], str | None]] = {"tune": self._tuning, "train": self._training}

    def detail(self, task_name: str) -> str | None:
        """The words for the task, at most ASK_EVERY_S old; None for tasks without such a job."""
        source = self._sources.get(task_name.rpartition(".")[2])
        if source is None:
            return None
        asked_at, answer = self._answers.get(task_name, (float("-inf"), None))
        if time.monotonic() - asked_at > ASK_EVERY_S:
            try:
                answer = source()
            except (BotoCoreError, ClientError, KeyError):
                answer = None
            self._answers[task_name] = (time.monotonic(), answer)
        return answer

    def _tuning(self) -> str | None:
        newest = self._sagemaker.list_hyper_parameter_tuning_jobs(**self._newest)["HyperParameterTuningJobSummaries"]
        if not newest:
            return None
        name = newest[0]["HyperParameterTuningJobName"]
        running = self._sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name, StatusEquals="InProgress"
        )["TrainingJobSummaries"]
        lines = [self._last_epoch_line(trial["TrainingJobName"]) for trial in running]
        job = self._sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        return tuning_words(job, [line for line in lines if line])

    def _training(self) -> str | None:
        newest = self._sagemaker.list_training_jobs(**self._newest)["TrainingJobSummaries"]
        if not newest or newest[0]["TrainingJobStatus"] != "InProgress":
            return None
        name = newest[0]["TrainingJobName"]
        return self._last_epoch_line(name) or f"{name} is starting"

    def _last_epoch_line(self, job: str) -> str | None:
        """The last metric line of a training job's log; None before the first epoch has ended."""
        streams = self._logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{job}/", limit=1)
        if not streams["logStreams"]:
            return None
        events = self._logs.get_log_events(
            logGroupName=LOG_GROUP,
            logStreamName=streams["logStreams"][0]["logStreamName"],
            limit=20,
            startFromHead=False,
        )["events"]
        epochs = [event["message"].strip() for event in events if event["message"].startswith("epoch=")]
        return epochs[-1] if epochs else None


def tuning_words(job: dict[str, Any], epoch_lines: list[str]) -> str:
    """`2 of 4 trials done, 2 running (epoch 3/6, 1/6), best validation:accuracy 0.9731`.

    `job` is the answer of DescribeHyperParameterTuningJob, `epoch_lines` the last metric line of each running trial.
    """
    limits = job["HyperParameterTuningJobConfig"].get("ResourceLimits", {})
    counts = job["TrainingJobStatusCounters"]
    done, failed, running = counts.get("Completed", 0), counts.get("NonRetryableError", 0), counts.get("InProgress", 0)
    words = [f"{done} of {limits.get('MaxNumberOfTrainingJobs', '?')} trials done"]
    if running:
        epochs = ", ".join(line.split()[0].removeprefix("epoch=") for line in epoch_lines)
        words.append(f"{running} running" + (f" (epoch {epochs})" if epochs else ""))
    if failed:
        words.append(f"{failed} failed")
    best = (job.get("BestTrainingJob") or {}).get("FinalHyperParameterTuningJobObjectiveMetric")
    if best:
        words.append(f"best {best['MetricName']} {best['Value']:.4f}")
    return ", ".join(words)
