"""How the cores of this machine are shared: parallel jobs split them, and a serving endpoint goes before a training.

A job that starts as many OpenMP threads as there are cores while another does the same loses a factor of ten on two
cores, so every job is told its share. Shares are fixed at start: OpenMP cannot change its mind later.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

# Nice levels: under load an endpoint gets about ten times a training's time slices.
NICE_RULES = 15
NICE_TRAINING = 10
NICE_TRANSFORM = 5
NICE_SERVING = 0

_VCPUS_BY_SIZE = {"nano": 1, "micro": 1, "small": 1, "medium": 1, "large": 2, "xlarge": 4}


def vcpus(instance_type: str) -> int:
    """The vCPUs of an instance type by its size: ml.m5.large has 2, xlarge 4, and Nxlarge 4 N."""
    size = instance_type.rsplit(".", 1)[-1]
    if size in _VCPUS_BY_SIZE:
        return _VCPUS_BY_SIZE[size]
    factor = size.removesuffix("xlarge")
    return 4 * int(factor) if factor.isdigit() else 4


class Cores:
    def __init__(self, total: int | None = None) -> None:
        self.total = total or len(os.sched_getaffinity(0))
        self._lock = threading.Lock()
        self._jobs = 0

    @contextlib.contextmanager
    def share(self, instance_type: str, parallel: int = 1) -> Iterator[int]:
        """Hold a job's share: at most the instance's vCPUs, at most the cores divided by the jobs beside it.

        `parallel` is how many siblings are expected to run at once (MaxParallelTrainingJobs), itself included.
        """
        with self._lock:
            self._jobs += 1
            beside = max(parallel, self._jobs)
        try:
            yield max(1, min(vcpus(instance_type), self.total // beside))
        finally:
            with self._lock:
                self._jobs -= 1


def thread_environment(threads: int) -> dict[str, str]:
    """The variables by which the usual numeric libraries take their number of threads, and how long those spin.

    GNU OpenMP's threads spin for a millisecond before they sleep where they wait for each other. On a machine of one's
    own that is right; here Airflow, a database and other jobs need that time, also the thread that is waited for. With
    microseconds a training of two threads beside one busy process is done in three quarters of the time.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return dict.fromkeys(names, str(threads)) | {"GOMP_SPINCOUNT": "1000"}
