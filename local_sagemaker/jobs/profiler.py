"""System metrics of a training job, in the files SageMaker's profiler writes (JSON lines, one file per minute).

What is measured is the machine, as on an instance: each core, each GPU of NVIDIA, memory, disk and network. On a
laptop that includes whatever else runs beside the job. All hosts of a job are this machine, so only the first one has
such files.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from local_sagemaker.jobs.cluster import FIRST as HOST
from local_sagemaker.jobs.nvml import Gpus
from local_sagemaker.sandbox import left_file

_log = logging.getLogger(__name__)

_INTERVAL_MS = 500
"""SageMaker's own default."""


class SystemProfiler:
    """Samples in a thread of its own between `start` and `stop`; the files are complete after `stop`."""

    def __init__(self, folder: Path, interval_ms: int) -> None:
        self._folder = folder
        self._interval_s = interval_ms / 1000
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="profiler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        gpus = Gpus()
        try:
            self._sample(gpus)
        finally:
            gpus.close()

    def _sample(self, gpus: Gpus) -> None:
        psutil.cpu_times_percent(percpu=True)  # the first call only sets the reference point
        io, network, at = psutil.disk_io_counters(), psutil.net_io_counters(), time.monotonic()
        while not self._stop.wait(self._interval_s):
            now, elapsed = time.time(), max(1e-3, time.monotonic() - at)
            new_io, new_network, at = psutil.disk_io_counters(), psutil.net_io_counters(), time.monotonic()
            events = [*_cpu(), *_gpu(gpus), *_memory(), *_rates(io, new_io, network, new_network, elapsed)]
            io, network = new_io, new_network
            try:
                self._write(now, events)
            except OSError as error:  # a full disk, say; what follows may fit again
                _log.warning("the profiler could not write a reading to %s: %s", self._folder, error)

    def _write(self, now: float, events: list[dict[str, Any]]) -> None:
        # The file's name is the start of its minute, the folder's is the hour (UTC).
        minute = int(now) // 60 * 60
        folder = self._folder / "system/incremental" / time.strftime("%Y%m%d%H", time.gmtime(minute))
        folder.mkdir(parents=True, exist_ok=True)
        # A job may have put a pipe there, and waiting for somebody to read it would hold up the job's end.
        with open(folder / f"{minute}.{HOST}.json", "a", opener=left_file.opener) as file:
            for event in events:
                file.write(json.dumps({**event, "NodeId": HOST, "Timestamp": round(now, 3)}) + "\n")


class Profiling:
    """The profiler of a running job, as its ProfilerConfig wants it, which UpdateTrainingJob may change meanwhile."""

    def __init__(self) -> None:
        self._sampler: SystemProfiler | None = None
        self._interval_ms: int | None = None
        self._on = False

    def __enter__(self) -> Profiling:
        self._on = True
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._turn(None)

    def follow(self, folder: Path, config: dict[str, Any] | None) -> None:
        """Sample as `config` says from now on; nothing happens outside of the `with` block."""
        wanted = config is not None and not config.get("DisableProfiler")
        interval_ms = config.get("ProfilingIntervalInMilliseconds", _INTERVAL_MS) if config and wanted else None
        if self._on and interval_ms != self._interval_ms:
            self._turn(SystemProfiler(folder, interval_ms) if interval_ms else None)
            self._interval_ms = interval_ms

    def _turn(self, sampler: SystemProfiler | None) -> None:
        if self._sampler:
            self._sampler.stop()
        self._sampler = sampler
        self._interval_ms = None
        if sampler:
            sampler.start()


def _event(kind: str, name: str, dimension: str, value: float) -> dict[str, Any]:
    return {"Type": kind, "Name": name, "Dimension": dimension, "Value": round(value, 3)}


def _cpu() -> Iterator[dict[str, Any]]:
    for core, times in enumerate(psutil.cpu_times_percent(percpu=True)):
        yield _event(
            "cpu", f"cpu{core}", "CPUUtilization", max(0.0, 100.0 - times.idle - getattr(times, "iowait", 0.0))
        )
        yield _event("cpu", f"cpu{core}", "I/OWaitPercentage", getattr(times, "iowait", 0.0))


def _gpu(gpus: Gpus) -> Iterator[dict[str, Any]]:
    for name, busy, memory in gpus.readings():
        yield _event("gpu", name, "GPUUtilization", busy)
        yield _event("gpu", name, "GPUMemoryUtilization", memory)


def _memory() -> Iterator[dict[str, Any]]:
    yield _event("memory", "MemoryUsedPercent", "", psutil.virtual_memory().percent)


def _rates(io: Any, new_io: Any, network: Any, new_network: Any, elapsed_s: float) -> Iterator[dict[str, Any]]:
    if io is not None and new_io is not None:  # None where the kernel shows no disk (some containers)
        operations = new_io.read_count + new_io.write_count - io.read_count - io.write_count
        yield _event("i/o", "IOPS", "", operations / elapsed_s)
        read, written = new_io.read_bytes - io.read_bytes, new_io.write_bytes - io.write_bytes
        yield _event("i/o", "ReadThroughputInBytesPerSecond", "", read / elapsed_s)
        yield _event("i/o", "WriteThroughputInBytesPerSecond", "", written / elapsed_s)
    if network is None or new_network is None:  # a sandbox without any interface
        return
    received, sent = new_network.bytes_recv - network.bytes_recv, new_network.bytes_sent - network.bytes_sent
    yield _event("network", "ReceiveBytesPerSecond", "Algorithm", received / elapsed_s)
    yield _event("network", "TransmitBytesPerSecond", "Algorithm", sent / elapsed_s)
