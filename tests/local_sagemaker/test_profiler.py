"""System metrics of a job, sampled for real, in the files that SageMaker's readers expect."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from local_sagemaker.jobs.nvml import Gpus
from local_sagemaker.jobs.profiler import SystemProfiler
from tests.waiting import PATIENCE_S, wait_until

ML_PYTHON = Path(__file__).parents[2] / ".venv/ml/bin/python"
READER = """
import json, sys, time
from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader
events = LocalSystemMetricsReader(sys.argv[1]).get_events(0, (time.time() + 99) * 1e6)
print(json.dumps([[e.type, e.name, e.dimension, e.node_id, e.value, e.timestamp] for e in events]))
"""
# A driver of two GPUs, one of which answers no question about its use.
DRIVER = """
typedef struct { unsigned gpu, memory; } use_t;
typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(index + 1ul); return 0; }
int nvmlDeviceGetUtilizationRates(void *device, use_t *use) { use->gpu = 83; return device == (void *)1 ? 0 : 3; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) { memory->total = 200; memory->used = 50; return 0; }
"""


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiler")
    profiler = SystemProfiler(folder, 100)
    profiler.start()
    wait_until(lambda: len(lines(folder)) >= 30)
    profiler.stop()
    return folder


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in sorted(folder.rglob("*.json")) for line in path.read_text().splitlines()]


def test_pipe_in_place_of_a_file_holds_nobody_up(tmp_path: Path) -> None:
    """A job may put one there, and the job's end waits for its profiler."""
    for minute in range(int(time.time()) // 60 * 60, int(time.time()) + 600, 60):
        folder = tmp_path / "system/incremental" / time.strftime("%Y%m%d%H", time.gmtime(minute))
        folder.mkdir(parents=True, exist_ok=True)
        os.mkfifo(folder / f"{minute}.algo-1.json")
    profiler = SystemProfiler(tmp_path, 20)
    profiler.start()
    time.sleep(0.5)
    stopping = threading.Thread(target=profiler.stop, daemon=True)
    stopping.start()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()


def test_files_are_named_after_the_start_of_their_minute(sampled: Path) -> None:
    for path in sampled.rglob("*.json"):
        match = re.fullmatch(r"system/incremental/(\d{10})/(\d{10})\.algo-1\.json", str(path.relative_to(sampled)))
        assert match
        assert int(match[2]) % 60 == 0
        assert time.strftime("%Y%m%d%H", time.gmtime(int(match[2]))) == match[1]


def test_cores_memory_and_network_are_measured(sampled: Path) -> None:
    found = {(line["Type"], line["Dimension"]) for line in lines(sampled)}
    assert {("cpu", "CPUUtilization"), ("cpu", "I/OWaitPercentage"), ("memory", ""), ("network", "Algorithm")} <= found
    shares = [line["Value"] for line in lines(sampled) if line["Type"] in ("cpu", "memory")]
    assert all(isinstance(value, float) and 0 <= value <= 100 for value in shares)


@pytest.mark.skipif(not ML_PYTHON.exists(), reason="smdebug lives in the environment of ml/")
def test_smdebugs_reader_reads_every_line(sampled: Path) -> None:
    ended = subprocess.run([str(ML_PYTHON), "-c", READER, str(sampled)], capture_output=True, text=True, check=True)
    events = json.loads(ended.stdout.splitlines()[-1])
    written = [
        [line[k] for k in ("Type", "Name", "Dimension", "NodeId", "Value", "Timestamp")] for line in lines(sampled)
    ]
    assert sorted(map(str, events)) == sorted(map(str, written))


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler to stand in for the driver")
def test_gpus_are_read_from_the_driver(tmp_path: Path) -> None:
    (tmp_path / "driver.c").write_text(DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "driver.so", tmp_path / "driver.c"], check=True)
    gpus = Gpus(str(tmp_path / "driver.so"))
    assert list(gpus.readings()) == [("gpu0", 83.0, 25.0)]
    gpus.close()
    assert list(gpus.readings()) == []


def test_a_machine_without_the_driver_has_no_gpus() -> None:
    gpus = Gpus("libno-such-driver.so.1")
    assert list(gpus.readings()) == []
    gpus.close()


def test_a_folder_that_refuses_does_not_end_the_sampling(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "system").write_text("a file where a folder belongs")
    profiler = SystemProfiler(tmp_path, 100)
    profiler.start()
    wait_until(lambda: "could not write a reading" in caplog.text)
    (tmp_path / "system").unlink()
    wait_until(lambda: lines(tmp_path))
    profiler.stop()
