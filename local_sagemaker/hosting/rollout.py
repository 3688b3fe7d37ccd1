"""One deployment carried out: a fresh fleet started beside the one that serves, given requests step by step, watched.

Whatever goes wrong (a worker does not start or ends, an alarm goes off, time runs out), all requests go back to the
fleet that served. No request is lost in any of it: a fleet that loses its requests first answers those it has.

A rollout is not continued where it was when the server ended in the middle of it: the next server rolls the same
deployment out from its start, while the old fleet serves.
"""

from __future__ import annotations

import threading
import time

from local_sagemaker.hosting import deployment
from local_sagemaker.hosting.deployment import KIND
from local_sagemaker.hosting.fleet import Fleet
from local_sagemaker.hosting.plan import Plan, Step
from local_sagemaker.hosting.traffic import Traffic
from local_sagemaker.platform import Platform

_TICK_S = 0.1


class RolledBackError(Exception):
    """The deployment must be given up; the message is the endpoint's FailureReason."""


class InterruptedRolloutError(Exception):
    """The server is about to end."""


class Rollout:
    """For the endpoint's thread."""

    def __init__(
        self,
        platform: Platform,
        name: str,
        traffic: Traffic,
        fresh: Fleet,
        plan: Plan,
        *,
        closed: threading.Event,
    ) -> None:
        """`fresh` has no workers yet."""
        self._platform = platform
        self._name = name
        self._traffic = traffic
        self._fresh = fresh
        self._plan = plan
        self._closed = closed
        self._worked_s = 0.0
        """Time spent on everything but waiting."""
        self._waited_s = 0.0
        """Waits that are over, as long as they would have been without a time scale."""

    def run(self) -> None:
        """Until the fresh fleet has all requests and has proved itself.

        Raises RolledBackError, with all requests back where they were, or InterruptedRolloutError.
        """
        try:
            for step in self._plan.steps:
                self._start(step)
                self._traffic.shift(self._fresh, step.share)
                self._bake(step.wait_s, step.share)
            self._bake(self._plan.termination_wait_s, 1.0)
        except RolledBackError:
            self._traffic.withdraw()
            raise

    def _start(self, step: Step) -> None:
        self._fresh.scale(step.capacity)
        if self._fresh.ready():
            return
        self._tell("Creating", f"{step.capacity:.0%} of the instances are started.", self._traffic.share)
        begun, before = time.monotonic(), self._worked_s
        while not self._fresh.ready():
            self._tick()
            self._worked_s = before + time.monotonic() - begun
            self._check(self._worked_s + self._waited_s)

    def _bake(self, wait_s: float, share: float) -> None:
        """Watch the fresh fleet for `wait_s` seconds times the time scale."""
        self._check(self._worked_s + self._waited_s)
        if not wait_s:
            return
        self._tell("Baking", f"{share:.0%} of the requests go to this fleet.", share)
        begun, scale = time.monotonic(), self._platform.settings.time_scale
        passed_s = 0.0
        while passed_s < wait_s:
            self._tick()
            passed_s = wait_s if not scale else min(wait_s, (time.monotonic() - begun) / scale)
            self._check(self._worked_s + self._waited_s + passed_s)
        self._waited_s += wait_s

    def _tick(self) -> None:
        if self._traffic.serving:
            self._traffic.serving.tend()
        self._fresh.tend()
        if self._closed.wait(_TICK_S):
            raise InterruptedRolloutError

    def _check(self, elapsed_s: float) -> None:
        if failure := self._fresh.failure():
            variant, reason = failure
            raise RolledBackError(f"The primary container for production variant {variant} failed: {reason}")
        if alarms := self._platform.alarms.in_alarm(self._plan.alarms):
            raise RolledBackError(
                f"The deployment was rolled back because the CloudWatch alarm(s) {', '.join(alarms)} "
                "went into the state ALARM."
            )
        if elapsed_s > self._plan.timeout_s:
            raise RolledBackError(
                f"The deployment was rolled back because it took longer than {self._plan.timeout_s:.0f} seconds "
                "(MaximumExecutionTimeoutInSeconds)."
            )

    def _tell(self, status: str, message: str, share: float) -> None:
        serving = self._traffic.serving.summaries(1 - share) if self._traffic.serving else []
        fresh = self._fresh.summaries(share)
        self._platform.store.update(
            KIND, self._name, lambda record: deployment.progress(record, status, message, serving, fresh)
        )
