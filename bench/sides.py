"""The sides of a comparison: processes of their own interpreters that work one after the other, a round at a time."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]


class Side:
    """One process: `python -m <module> --side <name> …` in .venv/<interpreter>, on the first `cores` processors.

    It answers each line of JSON with one. Its import and preparation are over when it is made.
    """

    def __init__(self, module: str, name: str, interpreter: str, cores: int, *options: str) -> None:
        self.name = name
        environment = os.environ | {"OMP_NUM_THREADS": str(cores), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": ""}
        environment["SMDEBUG_CONFIG_FILE_PATH"] = os.devnull + "/none"  # a hook of the caller's would slow only ours
        python = REPOSITORY / f".venv/{interpreter}/bin/python"
        if not python.exists():  # one environment may hold everything
            python = Path(sys.executable)
        self._process = subprocess.Popen(
            [str(python), "-m", module, "--side", name, "--cores", str(cores), *options],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self._answer()

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self._process.wait()}")
        return dict(json.loads(line))

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


def serve(cores: int, prepare: Callable[[], tuple[dict[str, Any], Callable[..., dict[str, Any]]]]) -> None:
    """Be a side: `prepare` returns what there is to say about it, and what answers a question.

    Only answers go to stdout; what the code under test prints goes to stderr.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    about, answer = prepare()
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), file=answers, flush=True)


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """The median of the rounds' ratios, with the smallest and the largest."""
    ratios = [one / other for one, other in zip(theirs, ours, strict=True)]
    return f"{statistics.median(ratios):.3g} ({min(ratios):.3g} to {max(ratios):.3g})"


def machine() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{model or platform.processor()}, {os.cpu_count()} cores; load average at the start {load}"
