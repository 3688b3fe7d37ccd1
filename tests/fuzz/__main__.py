"""`make fuzz`: every reader and every server, for as long as was asked. Exit status 1 when something was found.

Readers run under Atheris, one process each (guided.py); servers are sent requests over the wire (servers.py). What was
reached is kept below .local/fuzz, so that the next call goes on from there; what did harm is in .local/fuzz/findings:
put it into tests/fuzz/found/<target>/ with the change that mends it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.registry import MODULES

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".local" / "fuzz"
SERVERS = ("local_sagemaker", "model_server")
GRACE_S = 300  # to import torch on a busy machine


@dataclass(frozen=True)
class Outcome:
    name: str
    figures: dict[str, float]
    findings: list[str]

    def __str__(self) -> str:
        numbers = "  ".join(f"{key} {value:,}" for key, value in self.figures.items())
        return f"{self.name:26} {numbers}" + "".join(f"\n    FOUND {finding}" for finding in self.findings)


def names_of(interpreter: str) -> list[str]:
    """Asked of the interpreter itself: this one cannot import what the other can."""
    code = f"from tests.fuzz.registry import targets; print(*targets({interpreter!r}))"
    answer = subprocess.run(
        command(interpreter, "-c", code), env=environment(), cwd=ROOT, capture_output=True, check=True
    )
    return answer.stdout.decode().split()


def command(interpreter: str, *arguments: str) -> list[str]:
    return [str(ROOT / ".venv" / interpreter / "bin" / "python"), *arguments]


def environment() -> dict[str, str]:
    """Atheris lies in a folder of its own, which both interpreters borrow."""
    (atheris,) = (ROOT / ".venv" / "fuzz" / "lib").glob("python*/site-packages")
    folders = [str(ROOT), str(ROOT / "plugins"), str(ROOT / "ml"), str(atheris)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(folders)}


def read_target(interpreter: str, name: str, seconds: int) -> Outcome:
    corpus, findings, figures = WORK / "corpus" / name, WORK / "findings" / name, WORK / f"{name}.json"
    figures.parent.mkdir(parents=True, exist_ok=True)
    figures.unlink(missing_ok=True)
    before = set(findings.iterdir()) if findings.is_dir() else set()
    places = (f"--corpus={corpus}", f"--findings={findings}", f"--figures={figures}")
    log = WORK / f"{name}.log"
    with log.open("wb") as output:
        call = command(interpreter, "-m", "tests.fuzz.guided", interpreter, name, f"--seconds={seconds}", *places)
        try:
            status = subprocess.run(
                call, env=environment(), cwd=ROOT, stdout=output, stderr=output, timeout=seconds + GRACE_S, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    found = [str(path) for path in sorted(set(findings.iterdir()) - before)] if findings.is_dir() else []
    if status and not found:
        found = [f"it ended with {status}; see {log}"]
    return Outcome(name, json.loads(figures.read_text()) if figures.exists() else {}, found)


def attack(name: str, seconds: int) -> Outcome:
    figures = WORK / f"{name}.json"
    figures.parent.mkdir(parents=True, exist_ok=True)
    figures.unlink(missing_ok=True)
    log = WORK / f"{name}.log"
    with log.open("wb") as output:
        call = command("airflow", "-m", "tests.fuzz.servers", name, f"--seconds={seconds}", f"--figures={figures}")
        status = subprocess.run(call, env=environment(), cwd=ROOT, stdout=output, stderr=output, check=False).returncode
    found = [f"see {log}: {log.read_text(errors='replace')[-300:]}"] if status else []
    return Outcome(name, json.loads(figures.read_text()) if figures.exists() else {}, found)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="of all processes together; default 30")
    parser.add_argument("--at-once", type=int, default=2, help="processes at a time; default 2")
    parser.add_argument("targets", nargs="*", help="some of them; default all")
    options = parser.parse_args()
    readers = {name: interpreter for interpreter in MODULES for name in names_of(interpreter)}
    wanted = options.targets or [*readers, *SERVERS]
    if unknown := set(wanted) - {*readers, *SERVERS}:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join([*readers, *SERVERS])}")
    seconds = max(5, round(60 * options.minutes / len(wanted)))
    print(f"{len(wanted)} targets, {seconds} s each, {options.at_once} at a time", flush=True)

    def one(name: str) -> Outcome:
        outcome = read_target(readers[name], name, seconds) if name in readers else attack(name, seconds)
        print(outcome, flush=True)
        return outcome

    with ThreadPoolExecutor(options.at_once) as pool:
        outcomes = list(pool.map(one, wanted))
    return int(any(outcome.findings for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
