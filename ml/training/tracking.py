"""Experiment tracking by Weights & Biases and by MLflow, where the environment asks for it.

    WANDB_PROJECT, WANDB_MODE, WANDB_ENTITY or WANDB_API_KEY is set     W&B; WANDB_MODE=offline keeps it in WANDB_DIR,
                                                                         else with the job's output
    MLFLOW_TRACKING_URI is set (with MLFLOW_EXPERIMENT_NAME, if wished)  MLflow; a folder or a server

Tracking is a guest in a training. Each tracker's library runs in a process of its own (trackers.py), which gets lines
of JSON and is never waited for but once, at the end, for a bounded time: a library that is slow to import, a server
that hangs or a crash takes nothing from the training. Whatever goes wrong is said loudly, once. Nothing of it runs, and
nothing is imported, when no variable is set.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from recordings.job import tuning_job

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from training.progress import Progress

WANDB = ("WANDB_PROJECT", "WANDB_MODE", "WANDB_ENTITY", "WANDB_API_KEY")
MLFLOW = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")
FINISH_S = 60  # for all that is not sent yet; importing MLflow alone takes 4 s of CPU
EARLY_FINISH_S = 20  # after SIGTERM or a failure, when time is short: 120 s on SageMaker, 30 s under torchrun


def wanted(environment: Mapping[str, str]) -> dict[str, str]:
    """The trackers that the environment asks for, each with the variable that does."""
    off = environment.get("WANDB_MODE") == "disabled" or environment.get("WANDB_DISABLED", "").lower() == "true"
    chosen = {} if off else {"wandb": next(filter(environment.get, WANDB), None)}
    chosen["mlflow"] = next(filter(environment.get, MLFLOW), None)
    return {name: variable for name, variable in chosen.items() if variable}


def tags(environment: Mapping[str, str], fingerprint: str | None) -> dict[str, str]:
    """Where a run belongs: its jobs, its data, its code. Links are the S3 folder and, on AWS, the console's page."""
    job, region = environment.get("TRAINING_JOB_NAME", ""), environment.get("AWS_REGION", "")
    console = f"https://{region}.console.aws.amazon.com/sagemaker/home?region={region}#/jobs/{job}"
    found = {
        "training_job": job,
        "tuning_job": tuning_job(environment),
        "dataset_fingerprint": fingerprint or "",
        "code": environment.get("SM_MODULE_DIR", ""),
        "console": console if job and region and not environment.get("AWS_ENDPOINT_URL") else "",
    }
    return {name: value for name, value in found.items() if value}


class Tracking:
    """The runs of one training in the trackers that are wanted; without any, every call returns at once."""

    def __init__(self, run: str, follow: bool = True, environment: Mapping[str, str] | None = None) -> None:
        """`run` names the training to its trackers; one that is resumed goes on under the same name."""
        self.environment = dict(os.environ if environment is None else environment)
        self.run, self.stopped = run, False
        self.followers: list[Follower] = []
        self.best: Mapping[str, float] | None = None
        self.wanted = wanted(self.environment) if follow else {}
        if search := tuning_job(self.environment):
            self.environment.setdefault("WANDB_RUN_GROUP", search)  # its trials are a group

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end("failed" if kind else "stopped" if self.stopped else "finished")

    def start(
        self,
        hyperparameters: Mapping[str, Any],
        facts: Mapping[str, str],
        best: Mapping[str, float] | None,
        resumed: bool,
    ) -> None:
        self.best = best
        for name, variable in self.wanted.items():
            if importlib.util.find_spec(name) is None:
                warn(f"{variable} is set, but the library '{name}' is not installed: {name} records nothing")
                continue
            try:
                self.followers.append(Follower(name, self.environment))
            except OSError as error:
                warn(f"{name} could not be started ({error}): it records nothing")
        self.tell(event="start", run=self.run, resumed=resumed, hyperparameters=hyperparameters, tags=facts)

    def epoch(self, values: Mapping[str, float], progress: Progress) -> None:
        self.best = progress.best
        self.tell(event="epoch", number=progress.epoch, values=slashed(values))

    def end(self, status: str) -> None:
        """`status` is finished, stopped or failed."""
        self.tell(event="end", status=status, best=slashed(self.best or {}))
        for follower in self.followers:
            follower.finish(FINISH_S if status == "finished" else EARLY_FINISH_S)

    def tell(self, **message: Any) -> None:
        for follower in self.followers:
            follower.tell(message)


class Follower:
    """One tracker's process, and what it has not been able to read yet."""

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        self.name, self.unread = name, b""
        command = [sys.executable, str(Path(__file__).with_name("trackers.py")), name]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert self.process.stdin is not None
        self.pipe = self.process.stdin
        os.set_blocking(self.pipe.fileno(), False)

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a line, or keep what does not fit into the pipe for the next time."""
        self.unread += json.dumps(message).encode() + b"\n"
        with contextlib.suppress(BlockingIOError, OSError):  # it says itself why it ended
            while self.unread:
                self.unread = self.unread[os.write(self.pipe.fileno(), self.unread) :]

    def finish(self, timeout_s: float) -> None:
        """Wait until all is recorded, but no longer than `timeout_s`."""
        if not self.unread:
            with contextlib.suppress(OSError):
                self.pipe.close()
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            warn(f"{self.name} did not finish within {timeout_s:g} s and was ended: its record may be incomplete")
            return
        if status < 0:  # else it has said itself what went wrong
            warn(f"{self.name} was ended by signal {-status}: its record is incomplete")


def slashed(values: Mapping[str, Any]) -> dict[str, float]:
    """Metric names as trackers group them: train/loss."""
    return {name.replace(":", "/"): value for name, value in values.items() if isinstance(value, int | float)}


def warn(message: str) -> None:
    sys.stderr.write(f"WARNING: tracking: {message}; the training is not affected\n")  # whole: see training.say
    sys.stderr.flush()
