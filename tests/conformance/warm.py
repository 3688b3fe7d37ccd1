"""Runs user programs in one warm interpreter: what all of them import is imported once, then each is a fork of its own.

    python warm.py PARALLEL MODULE…

Reads one JSON line per program from stdin (`program`, `folder` for its output, `limit_s`) and writes one per ended
program to stdout (`program`, `exit`). Standard library only: it runs in the interpreter of the client under test.
"""

import importlib
import json
import os
import runpy
import select
import signal
import sys
import time
from pathlib import Path


def serve(parallel: int, answers: int) -> None:
    waiting: list[dict[str, object]] = []
    running: dict[int, dict[str, object]] = {}
    lines, open_input = b"", True
    while open_input or waiting or running:
        if open_input and select.select([0], [], [], 0.05)[0]:
            read = os.read(0, 65536)
            open_input = bool(read)
            *whole, lines = (lines + read).split(b"\n")
            waiting += map(json.loads, whole)
        elif not open_input:
            time.sleep(0.05)
        while waiting and len(running) < parallel:
            job = waiting.pop(0)
            running[start(job)] = job | {"deadline": time.monotonic() + float(str(job["limit_s"]))}
        reap(running, answers)


def start(job: dict[str, object]) -> int:
    """Fork; the child runs the program as `python PROGRAM` would and never returns."""
    if pid := os.fork():
        return pid
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    folder = Path(str(job["folder"]))
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(folder)
    sys.path[0] = str(Path(str(job["program"])).parent)
    sys.argv = [str(job["program"])]
    status = 0
    try:
        runpy.run_path(str(job["program"]), run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        status = 1
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def reap(running: dict[int, dict[str, object]], answers: int) -> None:
    for pid, job in list(running.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            del running[pid]
            answer = {"program": job["program"], "exit": os.waitstatus_to_exitcode(status)}
            os.write(answers, json.dumps(answer).encode() + b"\n")
        elif time.monotonic() > float(str(job["deadline"])):
            os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    answers = os.dup(1)
    os.dup2(2, 1)  # some clients print when they are imported
    for module in sys.argv[2:]:
        importlib.import_module(module)
    serve(int(sys.argv[1]), answers)
