"""Planted profiler output, in the files of SageMaker's profiler: a machine's readings and a training's steps."""

import json
import math
import time

from profiler.step_times import StepTimes

START = 1747342440.0  # a whole minute


def write_machine(folder, samples, gpu=None, gpu_memory=None, cpu=None, io_wait=None, cores=2):
    """Readings every 500 ms. `gpu(i)`, `gpu_memory(i)`: percent, or a list with one for each GPU; `cpu(i)`,
    `io_wait(i)`: percent of every core."""
    files = {}
    for i in range(samples):
        moment, lines = START + i / 2, []
        for core in range(cores):
            busy = cpu(i) if cpu else 50 + 40 * math.sin(i / 9 + core)
            lines += [("cpu", f"cpu{core}", "CPUUtilization", busy)]
            lines += [("cpu", f"cpu{core}", "I/OWaitPercentage", io_wait(i) if io_wait else 1.0)]
        lines += [("memory", "MemoryUsedPercent", "", 10 + i / samples), ("i/o", "IOPS", "", 5.0)]
        lines += [("i/o", "ReadThroughputInBytesPerSecond", "", 2e6)]
        lines += [("network", "ReceiveBytesPerSecond", "Algorithm", 700.0)]
        lines += [("network", "TransmitBytesPerSecond", "Algorithm", 300.0)]
        lines += [("network", "TransmitBytesPerSecond", "Platform", 9e9)]
        if gpu:
            for name, value in each("gpu", gpu(i)):
                lines += [("gpu", name, "GPUUtilization", value)]
            for name, value in each("gpu", gpu_memory(i) if gpu_memory else 30.0):
                lines += [("gpu", name, "GPUMemoryUtilization", value)]
        text = [
            {"Type": kind, "Name": name, "Dimension": dimension, "Value": value}
            | {"NodeId": "algo-1", "Timestamp": moment}
            for kind, name, dimension, value in lines
        ]
        files.setdefault(int(moment // 60 * 60), []).extend(map(json.dumps, text))
    for minute, lines in files.items():
        hour = folder / "system/incremental" / time.strftime("%Y%m%d%H", time.gmtime(minute))
        hour.mkdir(parents=True, exist_ok=True)
        (hour / f"{minute}.algo-1.json").write_text("\n".join(lines) + "\n")


def each(name, values):
    values = values if isinstance(values, list) else [values]
    return [(f"{name}{index}", value) for index, value in enumerate(values)]


class PlannedClock:
    """A clock that says what the plan wants: it stands still until it is moved."""

    def __init__(self, second):
        self.second = second

    def now(self):
        return round(self.second * 1e6)

    def resolved(self, events):
        return events


def write_steps(folder, steps, loaders=0, begin=START, pid=77):
    """A training whose `steps` are [(mode, seconds waiting, preparing, forward, backward, optimizer)]."""
    times = StepTimes(folder)
    times.clock, times.pid = PlannedClock(begin), pid
    phases = ("DataLoaderIter", "Preparation", "Forward", "Backward(post-forward)", "Optimizer")
    upcoming = iter(steps)
    for mode, count in groups(steps):

        def batches(count=count):
            for _ in range(count):
                step = next(upcoming)
                times.clock.second += step[1]
                yield step

        for step in times.steps(mode, batches(), loaders):
            for phase, seconds in zip(phases[1:], step[2:], strict=True):
                times.clock.second += seconds
                times.ended(phase)
    times.close()
    return times.clock.second


def groups(steps):
    found = []
    for mode, *_ in steps:
        if found and found[-1][0] == mode:
            found[-1][1] += 1
        else:
            found.append([mode, 1])
    return found
