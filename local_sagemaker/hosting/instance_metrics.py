"""CPU and memory of an endpoint's workers, once a minute, as SageMaker publishes its instances'.

Namespace `/aws/sagemaker/Endpoints`: CPUUtilization in percent of one core (200 on two busy ones), MemoryUtilization in
percent of this machine's memory, each for all processes of one worker.
"""

from __future__ import annotations

import contextlib
import time

import psutil

from local_sagemaker.hosting.fleet import Fleet
from local_sagemaker.state.metrics import MetricStore

NAMESPACE = "/aws/sagemaker/Endpoints"

_EVERY_S = 60.0


class InstanceMetrics:
    """For the endpoint's thread."""

    def __init__(self, metrics: MetricStore, endpoint: str) -> None:
        self._metrics = metrics
        self._endpoint = endpoint
        self._due = time.monotonic()
        self._cpu_s: dict[int, tuple[float, float]] = {}
        """Process id of a worker → CPU seconds it had used, and when (epoch seconds)."""

    def measure(self, fleet: Fleet) -> None:
        """Put what there is to say, if a minute is over. A worker's first CPU is that since it was started."""
        if time.monotonic() < self._due:
            return
        serving = [(slot.variant.name, slot.pid) for slot in fleet.slots if slot.port is not None]
        if serving:
            self._due = time.monotonic() + _EVERY_S
        before, self._cpu_s = self._cpu_s, {}
        for variant, pid in serving:
            with contextlib.suppress(psutil.Error):  # it has just ended
                self._measure(variant, psutil.Process(pid), before)

    def _measure(self, variant: str, worker: psutil.Process, before: dict[int, tuple[float, float]]) -> None:
        cpu_s, memory_bytes = _usage(worker)
        now = time.time()
        cpu_before, at = before.get(worker.pid, (0.0, worker.create_time()))
        self._cpu_s[worker.pid] = (cpu_s, now)
        values = {
            "CPUUtilization": 100 * max(0.0, cpu_s - cpu_before) / max(0.1, now - at),
            "MemoryUtilization": 100 * memory_bytes / psutil.virtual_memory().total,
        }
        dimensions = {"EndpointName": self._endpoint, "VariantName": variant}
        for name, value in values.items():
            self._metrics.put(NAMESPACE, name, dimensions, value, "Percent")


def _usage(leader: psutil.Process) -> tuple[float, int]:
    """CPU seconds and resident bytes of a process and all below it."""
    cpu_s, memory_bytes = 0.0, 0
    with contextlib.suppress(psutil.Error):
        for process in [leader, *leader.children(recursive=True)]:
            with contextlib.suppress(psutil.Error), process.oneshot():
                times = process.cpu_times()
                cpu_s += times.user + times.system
                memory_bytes += process.memory_info().rss
    return cpu_s, memory_bytes
