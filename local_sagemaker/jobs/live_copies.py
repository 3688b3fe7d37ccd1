"""Folders of a running job that are copied to S3 as they change: tensors, profiles, checkpoints and the like."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from local_sagemaker import s3
from local_sagemaker.background import log
from local_sagemaker.jobs.checkpoints import Checkpoints
from local_sagemaker.jobs.opt_ml import OptMl
from local_sagemaker.jobs.script import Script
from local_sagemaker.s3 import Mirror, ObjectStore

INTERVAL_S = 5.0

# A file that has rested this long is taken for complete.
_SETTLED_S = 1.0


class Copy(Protocol):
    def sync(self, *, settled_s: float = 0.0) -> None: ...


class LiveCopies:
    """Copies in a thread of its own between `start` and `finish`, so that a slow upload delays nothing else."""

    def __init__(self, name: str, copies: list[Copy]) -> None:
        self._name = name
        self._copies = copies
        self._running = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"copies of {name}", daemon=True)

    def start(self) -> None:
        self._running = True
        if self._copies and self._thread.ident is None:
            self._thread.start()

    def add(self, copies: list[Copy]) -> None:
        """More of them while it runs: UpdateTrainingJob can turn the profiler on."""
        self._copies += copies
        if self._running:
            self.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def finish(self) -> None:
        """The last copy, of everything. Raises JobFailedError when S3 does not take it."""
        self.stop()
        for copy in self._copies:
            copy.sync()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            for copy in list(self._copies):
                try:
                    copy.sync(settled_s=_SETTLED_S)
                except Exception:  # the next turn tries again; only the last copy must succeed
                    log.warning("a folder of training job '%s' could not be copied", self._name, exc_info=True)


def of(
    objects: ObjectStore, request: dict[str, Any], hosts: list[OptMl], checkpoints: Checkpoints | None
) -> list[Copy]:
    """What a request asks to have copied. The hosts write below the same prefixes."""
    name = request["TrainingJobName"]
    pairs = []
    if hook := request.get("DebugHookConfig"):
        target = s3.join(hook["S3OutputPath"], name, "debug-output")
        pairs += [(folders.tensors(request), target) for folders in hosts]
    if tensorboard := request.get("TensorBoardOutputConfig"):
        target = s3.join(tensorboard["S3OutputPath"], name, "tensorboard-output")
        pairs += [(folders.tensorboard(request), target) for folders in hosts]
    if output := Script.of(request).intermediate_output:
        pairs += [(folders.intermediate, s3.join(output, name, "output/intermediate")) for folders in hosts]
    mirrors = [Mirror(objects, folder, target) for folder, target in pairs]
    return [*mirrors, *([checkpoints] if checkpoints else [])]


def of_profiler(objects: ObjectStore, request: dict[str, Any], hosts: list[OptMl]) -> list[Copy]:
    """The copies of a job's profiler output; none without a ProfilerConfig."""
    if "ProfilerConfig" not in request:
        return []
    target = request["ProfilerConfig"].get("S3OutputPath") or request["OutputDataConfig"]["S3OutputPath"]
    uri = s3.join(target, request["TrainingJobName"], "profiler-output")
    return [Mirror(objects, folders.profiler, uri) for folders in hosts]
