"""Work done as a stranger on this machine: as the user `nobody` where the tests run as root, else without the keys."""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NOBODY = 65_534


def become() -> None:
    """In a child process only."""
    os.chdir("/")
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def asked(work: Callable[[], Any]) -> Any:
    """What `work` returns to a stranger. A fork: the interpreter may lie where a stranger cannot start it."""
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            try:
                become()
                answer.write(pickle.dumps(work()))
                answer.flush()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the stranger's work broke"
        answer.seek(0)
        return pickle.load(answer)


def said_by(program: Path, arguments: Sequence[str], words: str, within_s: float) -> str:
    """What a program that a stranger starts says to the lines in `words`, when it has ended or the time is over."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said, program.open("rb") as opened:
        given.write(words.encode())
        given.seek(0)
        child = os.fork()
        if child == 0:
            try:
                for source, target in ((given, 0), (said, 1), (said, 2)):
                    os.dup2(source.fileno(), target)
                become()
                os.execve(opened.fileno(), [program.name, *arguments], {"HOME": "/nonexistent", "PATH": os.defpath})
            finally:
                os._exit(127)
        deadline = time.monotonic() + within_s
        ended = 0
        while not ended and time.monotonic() < deadline:
            ended = os.waitpid(child, os.WNOHANG)[0]
            time.sleep(0.05)
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        said.seek(0)
        return said.read().decode(errors="replace")
