"""A program of its own: the leader of a job's process group, and the parent of all that the job leaves behind.

    python -I -S keeper.py FOLDER COMMAND…

It records its process id in FOLDER/pid and the command's exit code in FOLDER/exit_code, so that a job outlives a killed
server. What the command starts stays below it, even what has made itself a daemon, and ends when the command ends, as
in a container. Standard library only, and little of it: its start is part of every job's start.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

_PR_SET_CHILD_SUBREAPER = 36
_PAUSE_S = 0.01
_CLEANING_S = 5.0


def main(folder: str, command: list[str]) -> int:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # A stop goes to the whole group. The command obeys it; this stays to tell how the command ended.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _write(folder, "pid", os.getpid())
    code = _wait(_start(command))
    _end_rest()
    _write(folder, "exit_code", code)
    return code


def _start(command: list[str]) -> int:
    # A stop that comes before the command has taken over is kept for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    child = os.fork()
    if child == 0:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    return child


def _wait(command: int) -> int:
    """The command's exit code as a shell tells it; others that end meanwhile are reaped."""
    while True:
        pid, status = os.wait()
        if pid == command:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _end_rest() -> None:
    """Kill what is left. The children of a killed process become this one's, so it takes turns until none is left."""
    deadline = time.monotonic() + _CLEANING_S
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            for child in _children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(_PAUSE_S)


def _children() -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            # "pid (name) state parent …": the name may hold anything.
            if int(file.read().rpartition(b")")[2].split()[1]) == os.getpid():
                found.append(int(name))
    return found


def _write(folder: str, name: str, number: int) -> None:
    path = os.path.join(folder, name)
    with contextlib.suppress(FileNotFoundError):  # the folder was taken away: nobody waits for it any more
        with open(f"{path}.part", "w") as file:
            file.write(f"{number}\n")
        os.replace(f"{path}.part", path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
