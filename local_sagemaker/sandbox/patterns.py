"""A user's regular expressions on a user's text, in processes beside this one.

A pattern may need years for a line (`(a+)+$`), and Python's search neither ends nor lets another thread run meanwhile.
So no pattern of a request or a job runs here: pattern_search.py runs it, and the kernel ends that program once one
pattern has used CPU_S seconds of processor time on a piece of text. Only that pattern's numbers are lost.

Concurrency contract: any thread may call any method; calls do not wait for each other, each has a process to itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Self

_PROGRAM = Path(__file__).with_name("pattern_search.py")

CPU_S = 2.0
"""What one pattern may use on one piece of text."""

# On a machine so busy that two seconds of processor time take longer than this, a pattern counts as one that overran.
_WALL_S = 300.0

_MAX_IDLE = 2

Numbers = list[tuple[int, float]]


class PatternProcesses:
    def __init__(self, cpu_s: float = CPU_S) -> None:
        self._cpu_s = cpu_s
        self.idle: list[_Process] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            idle, self.idle = self.idle, []
        for process in idle:
            process.end()

    def problems(self, patterns: Sequence[str]) -> list[str | None]:
        """For each pattern why it is no regular expression that can be used; None for one that can."""
        late = f"it takes more than {self._cpu_s:g} s to compile"
        return [
            late if answer is None else answer if isinstance(answer, str) else None
            for answer, _ in self._answers(patterns, "")
        ]

    def numbers(
        self,
        patterns: Sequence[str],
        lines: Sequence[str],
        spent: Callable[[int, float], object] = lambda place, cpu_s: None,
    ) -> list[Numbers | None]:
        """For each pattern (index of the line, number) of all that it finds; None for one that overran.

        `spent` is told the place of each other one and its seconds of processor time. Raises OSError when no process
        can be started. A pattern that does not compile finds nothing.
        """
        found: list[Numbers | None] = []
        for place, (answer, cpu_s) in enumerate(self._answers(patterns, "\n".join(lines))):
            if answer is None:
                found.append(None)
                continue
            spent(place, cpu_s)
            found.append([] if isinstance(answer, str) else [(line, number) for line, number in answer])
        return found

    def _answers(self, patterns: Sequence[str], text: str) -> list[tuple[Any, float]]:
        """For each pattern the answer, None for one that overran, and seconds of processor time."""
        answers: list[tuple[Any, float]] = []
        spared = False
        while len(answers) < len(patterns):
            with self._borrowed() as process:
                answers += process.ask(patterns[len(answers) :], text)
            if process.alive:
                continue
            if process.overran or spared:
                answers.append((None, self._cpu_s))
            spared = not process.overran  # killed by somebody else: that is no fault of the pattern, the first time
        return answers

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[_Process]:
        with self._lock:
            process = self.idle.pop() if self.idle else None
        process = process or _Process(self._cpu_s)
        try:
            yield process
        except BaseException:
            process.end()
            raise
        with self._lock:
            keep = process.alive and len(self.idle) < _MAX_IDLE
            if keep:
                self.idle.append(process)
        if not keep:
            process.end()


class _Process:
    def __init__(self, cpu_s: float) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_PROGRAM), str(cpu_s)],
            env={},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is for the server
        )
        self._unread = bytearray()
        self.alive = True
        self.overran = False
        """Why it is not alive any more, if a pattern is to blame."""

    def ask(self, patterns: Sequence[str], text: str) -> list[tuple[Any, float]]:
        """The answers; where the process has ended meanwhile, those that came before."""
        assert self.popen.stdin and self.popen.stdout
        answers: list[tuple[Any, float]] = []
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.write(json.dumps({"patterns": patterns, "text": text}).encode() + b"\n")
            self.popen.stdin.flush()
        while self.alive and len(answers) < len(patterns):
            if line := self._line(self.popen.stdout):
                answer, cpu_s = json.loads(line)
                answers.append((answer, cpu_s))
            else:
                self.end()
        return answers

    def _line(self, stdout: IO[bytes]) -> bytes:
        """The next line; nothing when the process has ended or takes too long."""
        searched = 0
        while (end := self._unread.find(b"\n", searched)) < 0:
            searched = len(self._unread)
            ready, _, _ = select.select([stdout], [], [], _WALL_S)
            self.overran = not ready
            if not ready or not (chunk := os.read(stdout.fileno(), 2**16)):
                return b""
            self._unread += chunk
        line = bytes(self._unread[: end + 1])
        del self._unread[: end + 1]
        return line

    def end(self) -> None:
        """Also of one that has ended by itself: it leaves neither a zombie nor an open pipe."""
        if not self.alive:
            return
        self.alive = False
        self.popen.kill()
        self.overran = self.overran or self.popen.wait() == -signal.SIGPROF
        for pipe in (self.popen.stdin, self.popen.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe:
                    pipe.close()
