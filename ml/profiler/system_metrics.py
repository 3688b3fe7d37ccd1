"""System metrics where nobody else takes them: each core, GPU, memory, disk and network, in SageMaker's files.

    <folder>/system/incremental/<YYYYMMDDHH>/<minute>.<host>.json    JSON lines, read by system_usage.py

On an instance with the profiler enabled the platform writes these; this sampler is for jobs without, such as those of
accounts where SageMaker Debugger is closed. Needs psutil; without it there are no such metrics, which is said once.
GPUs are read through torch. One thread, which takes about a millisecond of each half second.

    <folder>/processor/<host>-<pid>.json      JSON lines: what a process of the training was given of the processors

That nobody else measures, so it is measured wherever a training is profiled: how long its threads were ready to run and
had to wait, and who ran meanwhile. Linux only; what a machine does not tell is left out.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from profiler.step_times import DEFAULT_CONFIG
from recordings.notes import give_up, mark_end

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType
    from typing import Any

INTERVAL_S = 0.5  # SageMaker's own default
SHARE_INTERVAL_S = 1
SHARES = "processor"  # the folder


def watch(folder: Path | str | None, always: bool = False) -> None:
    """Sample into `folder` until the process ends, unless the platform samples, or there is no folder.

    `always`: also where the platform samples, which may keep what it finds from whoever reads this folder.
    """
    if folder and (always or not Path(os.environ.get("SMPROFILER_CONFIG_PATH", DEFAULT_CONFIG)).is_file()):
        atexit.register(SystemMetrics(folder).start().close)


def watch_share(folder: Path | str | None) -> None:
    """Measure until the process ends what it is given of the processors; nothing without a folder."""
    if folder:
        atexit.register(ProcessorShare(folder).start().stop)


class SystemMetrics:
    """Samples between `start` and `stop`, in a thread that ends with the process."""

    def __init__(self, folder: Path | str, interval_s: float = INTERVAL_S) -> None:
        self.folder, self.interval_s = Path(folder), interval_s
        self.host = os.environ.get("SM_CURRENT_HOST", "algo-1")
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, name="system-metrics", daemon=True)

    def start(self) -> SystemMetrics:
        self.thread.start()
        return self

    def stop(self) -> None:
        self.ended.set()
        self.thread.join()

    def close(self) -> None:
        """Stop, and tell readers that no more will come."""
        self.stop()
        mark_end(self.folder / "system")

    def run(self) -> None:
        try:
            import psutil

            psutil.cpu_times_percent(percpu=True)  # the first call only sets the reference point
            before, at = counters(psutil), time.monotonic()
            while not self.ended.wait(self.interval_s):
                now, elapsed = time.time(), max(1e-3, time.monotonic() - at)
                after, at = counters(psutil), time.monotonic()
                self.write(now, [*cores(psutil), *gpus(), *memory(psutil), *rates(before, after, elapsed)])
                before = after
        except Exception:
            give_up("system-metrics", self.folder, "the machine cannot be measured", "system metrics")

    def write(self, now: float, readings: Iterable[Mapping[str, Any]]) -> None:
        minute = int(now) // 60 * 60
        folder = self.folder / "system/incremental" / time.strftime("%Y%m%d%H", time.gmtime(minute))
        folder.mkdir(parents=True, exist_ok=True)
        where = {"NodeId": self.host, "Timestamp": round(now, 3)}
        with (folder / f"{minute}.{self.host}.json").open("a", encoding="utf-8") as file:
            lines = (json.dumps({**reading, **where}) for reading in readings if math.isfinite(reading["Value"]))
            file.writelines(f"{line}\n" for line in lines)


def reading(kind: str, name: str, dimension: str, value: float) -> dict[str, Any]:
    return {"Type": kind, "Name": name, "Dimension": dimension, "Value": round(value, 3)}


def cores(psutil: ModuleType) -> Iterator[dict[str, Any]]:
    for core, times in enumerate(psutil.cpu_times_percent(percpu=True)):
        waiting = getattr(times, "iowait", 0.0)
        yield reading("cpu", f"cpu{core}", "CPUUtilization", max(0.0, 100.0 - times.idle - waiting))
        yield reading("cpu", f"cpu{core}", "I/OWaitPercentage", waiting)


def gpus() -> Iterator[dict[str, Any]]:
    """Only once the training uses CUDA: a question to torch would start it. `utilization` needs NVIDIA's bindings."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        yield reading("gpu", f"gpu{index}", "GPUMemoryUtilization", 100.0 * (total - free) / total)
        try:
            yield reading("gpu", f"gpu{index}", "GPUUtilization", float(torch.cuda.utilization(index)))
        except (ImportError, RuntimeError):
            continue


def memory(psutil: ModuleType) -> Iterator[dict[str, Any]]:
    yield reading("memory", "MemoryUsedPercent", "", psutil.virtual_memory().percent)


def counters(psutil: ModuleType) -> tuple[Any, Any]:
    return psutil.disk_io_counters(), psutil.net_io_counters()


def rates(before: tuple[Any, Any], after: tuple[Any, Any], elapsed_s: float) -> Iterator[dict[str, Any]]:
    (disk, network), (new_disk, new_network) = before, after
    if disk is not None and new_disk is not None:  # None where the kernel shows no disk, as in some containers
        operations = new_disk.read_count + new_disk.write_count - disk.read_count - disk.write_count
        yield reading("i/o", "IOPS", "", operations / elapsed_s)
        read, written = new_disk.read_bytes - disk.read_bytes, new_disk.write_bytes - disk.write_bytes
        yield reading("i/o", "ReadThroughputInBytesPerSecond", "", read / elapsed_s)
        yield reading("i/o", "WriteThroughputInBytesPerSecond", "", written / elapsed_s)
    if network is not None and new_network is not None:
        received, sent = new_network.bytes_recv - network.bytes_recv, new_network.bytes_sent - network.bytes_sent
        yield reading("network", "ReceiveBytesPerSecond", "Algorithm", received / elapsed_s)
        yield reading("network", "TransmitBytesPerSecond", "Algorithm", sent / elapsed_s)


class ProcessorShare:
    """Of this process, between `start` and `stop`, in a thread that ends with the process."""

    def __init__(
        self,
        folder: Path | str,
        interval_s: float = SHARE_INTERVAL_S,
        proc: Path | str = "/proc",
        cgroups: Path | str = "/sys/fs/cgroup",
    ) -> None:
        self.folder, self.interval_s = Path(folder) / SHARES, interval_s
        self.proc, self.cgroups = Path(proc), Path(cgroups)
        self.host = os.environ.get("SM_CURRENT_HOST", "algo-1")
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, name="processor-share", daemon=True)

    def start(self) -> ProcessorShare:
        self.before = self.read()  # the first readings only set the reference point
        self.thread.start()
        return self

    def stop(self) -> None:
        self.ended.set()
        self.thread.join()

    def run(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{self.host}-{os.getpid()}.json"
            with path.open("a", encoding="utf-8", buffering=1) as file:
                ended = False
                while not ended:
                    ended = self.ended.wait(self.interval_s)
                    after = self.read()
                    where = {"NodeId": self.host, "Timestamp": round(time.time(), 3)}
                    file.write(json.dumps(where | difference(self.before, after)) + "\n")
                    self.before = after
        except Exception:
            give_up("processor-share", self.folder.parent, "the processors cannot be measured", "its share of them")

    def read(self) -> dict[str, Any]:
        """Counters that only grow, in seconds; a name is missing where the machine does not tell."""
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        found: dict[str, Any] = {"Seconds": time.monotonic(), "Used": time.process_time(), "Cores": len(cores)}
        with contextlib.suppress(OSError, ValueError, IndexError):
            found["Waited"] = self.waits()
        with contextlib.suppress(OSError, ValueError):
            found |= self.of_cores({f"cpu{core}" for core in cores})
        with contextlib.suppress(OSError, ValueError, KeyError):
            found["Throttled"] = self.throttled()
        return found

    def waits(self) -> dict[str, float]:
        """thread -> how long it was ready to run and did not: the second number of its schedstat, in ns."""
        waits = {}
        for path in (self.proc / "self/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                waits[path.name] = int((path / "schedstat").read_text().split()[1]) / 1e9
        if not waits:
            raise FileNotFoundError
        return waits

    def of_cores(self, names: set[str]) -> dict[str, float]:
        """What all processes together, and other machines on the same host, used of the cores this one may use."""
        rows = (line.split() for line in (self.proc / "stat").read_text().splitlines())
        times = [list(map(int, numbers[:8])) for name, *numbers in rows if name in names]
        user, nice, system, _, _, interrupts, soft_interrupts, stolen = map(sum, zip(*times, strict=True))
        tick = os.sysconf("SC_CLK_TCK")
        return {"Busy": (user + nice + system + interrupts + soft_interrupts) / tick, "Stolen": stolen / tick}

    def throttled(self) -> float:
        """How long the container's limit kept it from running: of the control group, version 2 or 1."""
        groups = [line.split(":", 2) for line in (self.proc / "self/cgroup").read_text().splitlines()]
        places = []
        for _, controllers, path in groups:
            if not controllers or "cpu" in controllers.split(","):
                root = self.cgroups / (controllers or "")
                places += [root / path.lstrip("/"), root]
        for place in places:
            if (place / "cpu.stat").is_file():
                numbers = dict(line.split() for line in (place / "cpu.stat").read_text().splitlines())
                if "throttled_usec" in numbers:
                    return int(numbers["throttled_usec"]) / 1e6
                if "throttled_time" in numbers:
                    return int(numbers["throttled_time"]) / 1e9
        raise KeyError("throttled")


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, float]:
    """What was counted between two readings; the number of cores is that of the later one."""
    found = {"Cores": after["Cores"]}
    for name in after.keys() & before.keys() - {"Cores"}:
        if name == "Waited":  # threads that came in between have waited only since then
            found[name] = sum(value - before[name].get(thread, 0.0) for thread, value in after[name].items())
        else:
            found[name] = after[name] - before[name]
    return {name: round(max(0, value), 4) for name, value in sorted(found.items())}
