"""Many files, judged by a process for each core (see `verify_worker`). A picture that ends one costs itself only."""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from retraining.dataset.pictures.verdict import Original, Rejected, VerifiedImage
from retraining.dataset.pictures.worker import LIMITS, Limits
from retraining.dataset.progress import Progress, in_log
from retraining.dataset.source_error import SourceError
from retraining.dataset.stamp import Stamp
from retraining.printable import printable

log = logging.getLogger(__name__)

PACKAGES = Path(__file__).parents[3]
FILES_EACH = 100
"""A process takes about as long to start as this many small pictures take."""
LOST_ALWAYS, LOST_SHARE = 3, 0.02
"""Pictures that may end their process: as many as may be quarantined, for each takes minutes."""

GLANCE = replace(LIMITS, cpu_s=10)
"""Nothing hangs on a small picture."""
GLANCES_S = 60.0
"""For all of them."""

Verdict = VerifiedImage | Rejected
Judged = tuple[Verdict, Stamp | None]


def verify_files(
    paths: Sequence[Path],
    scratch: Path,
    limits: Limits = LIMITS,
    progress: Progress = in_log,
    keep: Callable[[Verdict], Verdict] = lambda verdict: verdict,
) -> list[Judged]:
    """(verdict, stamp) of each path, in their order; a stamp is None where the file changed meanwhile.

    `keep`: what is kept of a verdict; threads call it. Converted pictures land in the folder `scratch` under their
    digests. SourceError when many end their process.
    """
    indices, found, lost = iter(range(len(paths))), dict[int, Judged](), list[Path]()
    workers = min(len(os.sched_getaffinity(0)), 1 + len(paths) // FILES_EACH)

    def work() -> None:
        with _Worker(scratch, limits) as worker:
            while (index := next(indices, None)) is not None and len(lost) <= max(LOST_ALWAYS, LOST_SHARE * len(paths)):
                verdict, stamp = worker.judge(paths[index])
                found[index] = keep(verdict), stamp
                if worker.process is None:
                    lost.append(paths[index])
                progress("Verified", len(found), len(paths))

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done in [pool.submit(work) for _ in range(workers)]:
            done.result()
    if len(found) < len(paths):
        examples = ", ".join(f"{printable(path.name)} ({found[paths.index(path)][0]})" for path in lost[:3])
        raise SourceError(f"{len(lost)} of {len(paths)} files end the program that decodes them: {examples}.")
    return [found[index] for index in range(len(paths))]


def look_at(paths: Iterable[Path | None], scratch: Path, limits: Limits = GLANCE) -> Iterator[bytes | None]:
    """A small picture of each file that was kept out, in their order; None where there is none, or no time is left."""
    deadline, lost = time.monotonic() + GLANCES_S, 0
    with _Worker(scratch, limits) as worker:
        for path in paths:
            if path is None or lost > LOST_ALWAYS or time.monotonic() > deadline:
                yield None
                continue
            yield worker.glimpse(path)
            lost += worker.process is None


class _Worker:
    """One process at a time; a new one after one that died."""

    def __init__(self, scratch: Path, limits: Limits) -> None:
        self.scratch, self.limits = scratch, limits
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self._end()

    def judge(self, path: Path) -> Judged:
        """Tried twice where the process was ended from outside, as it is when a machine runs out of memory."""
        for _ in range(2):
            self.process = self.process or self._started()
            if answer := self._ask(str(path)):
                if failed := answer.get("failed"):
                    raise SourceError(
                        f"{printable(str(path))} cannot be verified: {failed}. Mend the disk and run again."
                    )
                return _read(answer)
            code = self._end()
            if code == -signal.SIGPROF:
                return Rejected(
                    code="TOO_SLOW", detail=f"it takes more than {self.limits.cpu_s:g} s of a processor to decode"
                ), None
        return Rejected(code="DECODER_DIED", detail=f"it ends the program that decodes it ({_name(code)})"), None

    def glimpse(self, path: Path) -> bytes | None:
        """Tried once."""
        self.process = self.process or self._started()
        answer = self._ask({"glimpse": str(path)})
        if answer is None:
            self._end()
            return None
        return base64.b64decode(answer["glimpse"]) if answer.get("glimpse") else None

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "retraining.dataset.pictures.worker", str(self.scratch), *self.limits.arguments()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PACKAGES)},
        )

    def _ask(self, question: str | dict[str, str]) -> dict[str, Any] | None:
        """None when the process has died."""
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(f"{json.dumps(question)}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def _end(self) -> int:
        assert self.process is not None and self.process.stdin is not None
        process, stdin = self.process, self.process.stdin
        self.process = None
        with process:
            stdin.close()
        return process.returncode


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _read(answer: dict[str, Any]) -> Judged:
    if rejected := answer.get("rejected"):
        return Rejected(**rejected), answer["stamp"]
    image = answer["image"]
    original = Original(**image["original"]) if image["original"] else None
    return VerifiedImage(**image | {"original": original}), answer["stamp"]
