"""`make test`: pytest in the interpreter of Airflow and in that of torch, as one run with one exit status."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOTHING_COLLECTED = 5  # pytest's exit status
ML_TESTS = "tests/ml"
CONTAINER_TESTS = "tests/containers"  # on other Pythons: `make test-containers`
# What configures AWS clients, SageMaker's scripts, Airflow, our stack and the trackers: a test sets what it needs. And
# what would let each of their thousand processes compile anew what it imports.
NOT_FOR_TESTS = (
    "PYTHONDONTWRITEBYTECODE",
    "AWS_",
    "AIRFLOW_",
    "RETRAINING_",
    "SAGEMAKER_",
    "SM_",
    "LOCAL_SAGEMAKER_",
    "WANDB_",
    "MLFLOW_",
)
SHARED = {"GOMP_SPINCOUNT": "1000"}  # as local_sagemaker gives it to its jobs
# How many at a time on two cores, in the groups of tests/conftest.py: those around Airflow wait for jobs and endpoints
# now and then; those of ml/ compute, beside them. What is quick only computes.
PACE = {
    "airflow": ("--numprocesses=3", "--dist=loadscope"),
    "ml": ("--numprocesses=1", "--dist=loadscope"),
    "quick": ("--numprocesses=2", "--dist=loadscope"),
}
IN_ORDER = ("--no-loadscope-reorder",)  # of that conftest; in ml/ the files with most tests go first

QUICK = "--quick"  # of tests/conftest.py: nothing in ml/ is quick, since each of its processes imports torch


@dataclass(frozen=True)
class Suite:
    """One call of pytest."""

    interpreter: str
    arguments: tuple[str, ...]


def chosen(arguments: list[str]) -> list[Suite]:
    """Which interpreter runs pytest with what; arguments that name tests go only to the interpreter they need."""
    paths = [word for word in arguments if word == "tests" or word.startswith("tests/")]
    options = tuple(word for word in arguments if word not in paths)
    ml_paths = [path for path in paths if path == ML_TESTS or path.startswith(f"{ML_TESTS}/")]
    # A few chosen tests would wait longer for the workers than they take.
    pace = PACE if not arguments else {"airflow": PACE["quick"]} if arguments == [QUICK] else {}
    everything = not paths or any(path in ("tests", "tests/") for path in paths)
    airflow_paths = ["tests"] if everything else [path for path in paths if path not in ml_paths]
    if everything and not ml_paths and QUICK not in options:
        ml_paths = [ML_TESTS]
    suites = []
    if airflow_paths:
        elsewhere = (f"--ignore={ML_TESTS}", f"--ignore={CONTAINER_TESTS}")
        order = (*pace["airflow"], *IN_ORDER) if pace else ()
        suites.append(Suite("airflow", (*airflow_paths, *elsewhere, *order, *options)))
    if ml_paths:
        # The scripts of ml/ import each other by bare name, as in a container.
        suites.append(Suite("ml", ("-o", "pythonpath=ml", *ml_paths, *pace.get("ml", ()), *options)))
    return suites


def verdict(statuses: list[int], *, narrowed: bool) -> int:
    """One exit status of several. With a narrower choice than everything, one suite may well have no such test."""
    if narrowed and any(status != NOTHING_COLLECTED for status in statuses):
        statuses = [status for status in statuses if status != NOTHING_COLLECTED]
    return next((status for status in statuses if status), 0)


def environment(shell: Mapping[str, str]) -> dict[str, str]:
    """What the tests see of a shell: not the stack or the account that it works with, after `make local-env` say.

    Where two trainings share two cores, OpenMP's threads do not spin for long while they wait for each other.
    """
    return SHARED | {name: value for name, value in shell.items() if not name.startswith(NOT_FOR_TESTS)}


def run(root: Path, arguments: list[str]) -> int:
    """All tests: both suites at once. Chosen ones one after the other, for a person who looks on, or debugs."""
    suites = chosen(arguments)
    if arguments:
        statuses = [_run(root, suite) for suite in suites]
    else:
        statuses = _side_by_side(root, suites)
    return verdict(statuses, narrowed=bool(arguments))


def _side_by_side(root: Path, suites: list[Suite]) -> list[int]:
    """The first one is heard as it goes, then what the others said, each as a whole."""
    first, *others = suites
    with contextlib.ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in others]
        beside = [
            stack.enter_context(subprocess.Popen(**_call(root, suite), stdout=file, stderr=file))
            for suite, file in zip(others, said, strict=True)
        ]
        statuses = [_run(root, first)]
        for suite, file, process in zip(others, said, beside, strict=True):
            _announce(suite)
            statuses.append(process.wait())
            file.seek(0)
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()
    return statuses


def _run(root: Path, suite: Suite) -> int:
    _announce(suite)
    return subprocess.run(**_call(root, suite), check=False).returncode


def _announce(suite: Suite) -> None:
    print(f"== pytest in .venv/{suite.interpreter}: {' '.join(suite.arguments)}", flush=True)


def _call(root: Path, suite: Suite) -> dict[str, Any]:
    python = root / ".venv" / suite.interpreter / "bin" / "python"
    return {"args": [str(python), "-m", "pytest", *suite.arguments], "cwd": root, "env": environment(os.environ)}
