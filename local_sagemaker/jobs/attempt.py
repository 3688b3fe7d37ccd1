"""One attempt of a training job: the processes of all its hosts, from their start to the end of the last one."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Literal

from local_sagemaker.jobs.host_process import HostProcess
from local_sagemaker.sandbox.process import CHUNK_BYTES

_POLL_S = 0.1

# What the other hosts get to end themselves when one has failed; AWS does not say.
_AFTER_FAILURE_S = 5.0

# How long a killed process may take to be gone.
_GONE_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """Why an attempt is being ended before its processes are done."""

    kind: Literal["stopped", "limit", "interrupted", "shutdown", "refused", "host"]
    """`refused`: it did what no job may do (`detail` says what); `host`: one of its hosts failed."""
    grace_s: float
    """Between SIGTERM and SIGKILL."""
    detail: str = ""


class Attempt:
    def __init__(self, hosts: list[HostProcess], collect: Callable[[HostProcess], None]) -> None:
        """`collect` is called for each host again and again, to take what it has printed."""
        self._hosts = hosts
        self._collect = collect
        self.failed: HostProcess | None = None
        """The host that failed first, if one did: it ended with another exit code than 0, or without one."""

    def follow(self, wanted: Callable[[], End | None]) -> End | None:
        """Carry the processes to their end; returns what ended them, or None when they ended by themselves.

        `wanted` is asked about ten times a second whether and why to end them. Whatever happens here, no process of
        the job is left when this returns.
        """
        end: End | None = None
        deadline = float("inf")
        try:
            while not self._wait():
                asked = wanted()
                if end is None and (end := asked or self._failed_host()):
                    deadline = time.monotonic() + end.grace_s
                    for host in self._hosts:
                        host.terminate()
                elif asked and asked.kind == "shutdown":
                    deadline = min(deadline, time.monotonic() + asked.grace_s)
                if time.monotonic() >= deadline:
                    break
            if end is None:
                self._failed_host()
        finally:
            self._kill(refused=end is not None and end.kind == "refused")
        return end

    def _wait(self) -> bool:
        """Look at all hosts, for a moment at the first that runs; whether all have ended."""
        running = [host for host in self._hosts if host.exit_code is None]
        for host in running:
            behind = any(one.printed_bytes - one.read_bytes > CHUNK_BYTES for one in self._hosts)
            host.wait(_POLL_S if host is running[0] and not behind else 0.0)
        for host in self._hosts:
            self._collect(host)
        return all(host.exit_code is not None for host in self._hosts)

    def _failed_host(self) -> End | None:
        bad = [host for host in self._hosts if host.exit_code]
        self.failed = min(bad, key=lambda host: host.ended_at, default=None)
        return End("host", _AFTER_FAILURE_S, self.failed.host.name) if self.failed else None

    def _kill(self, *, refused: bool) -> None:
        """End them all, and take the rest of what they have printed, if that is still wanted."""
        deadline = time.monotonic() + _GONE_S
        for host in self._hosts:
            host.kill()
        for host in self._hosts:
            host.wait(max(0.0, deadline - time.monotonic()))
            self._collect(host)
            printed_bytes = 0 if refused else host.printed_bytes
            while host.read_bytes < printed_bytes:
                self._collect(host)
