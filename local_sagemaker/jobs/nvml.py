"""The GPUs of this machine, as NVIDIA's driver library measures them; none where there is no such library.

Loaded from the driver itself, so nothing has to be installed. Functions and structures: the NVML API reference,
https://docs.nvidia.com/deploy/nvml-api/. Every call that fails leaves its GPU out of that reading.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

LIBRARY = "libnvidia-ml.so.1"


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Gpus:
    """Open while the profiler samples; used by its thread alone."""

    def __init__(self, library: str = LIBRARY) -> None:
        self._devices: list[ctypes.c_void_p] = []
        self._nvml: ctypes.CDLL | None = None
        try:
            nvml = ctypes.CDLL(library)
            if nvml.nvmlInit_v2() == 0:
                self._nvml, self._devices = nvml, list(_devices(nvml))
        except (OSError, AttributeError):  # no driver, or one without these functions
            return

    def readings(self) -> Iterator[tuple[str, float, float]]:
        """(name, percent of the time busy, percent of the memory used) of each GPU."""
        if self._nvml is None:
            return
        for index, device in enumerate(self._devices):
            busy, memory = _Utilization(), _Memory()
            failed = self._nvml.nvmlDeviceGetUtilizationRates(device, ctypes.byref(busy))
            if failed or self._nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)):
                continue
            yield f"gpu{index}", float(busy.gpu), 100.0 * memory.used / max(1, memory.total)

    def close(self) -> None:
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
            self._nvml = None


def _devices(nvml: ctypes.CDLL) -> Iterator[ctypes.c_void_p]:
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return
    for index in range(count.value):
        device = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0:
            yield device
