"""The server's own figures, and its rate beside moto's server in the same interleaved run.

    python -m bench.server            (make bench-server; --quick for small n)

Both servers get the same requests from threads of this process, over connections that are kept where the server keeps
them (moto's does not): a signed DescribeTrainingJob and ListTrainingJobs, with 100 training jobs in each server. moto
needs an interpreter of its own (`make .venv/moto/.installed`, or --peer); without it only our own figures are printed.
One round is ours, then moto's; the ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import io
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import psutil

from bench.local_server import KEY_ID, REGION, REPOSITORY, SECRET, Buckets, LocalServer, free_port
from local_sagemaker.state.store import Store

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.14-cpu"
ROLE = "arn:aws:iam::000000000000:role/r"
NUM_JOBS = 100


@dataclasses.dataclass(frozen=True)
class Figure:
    name: str
    value: str
    target: str
    n: int

    def __str__(self) -> str:
        return f"| {self.name} | {self.value} | {self.target} | {self.n} |"


class Moto:
    """moto's server, with as many training jobs."""

    def __init__(self, interpreter: Path) -> None:
        self.port = free_port()
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [str(interpreter), "-m", "moto.server", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        atexit.register(self._process.kill)
        while not accepts(self.port):
            if self._process.poll() is not None:
                raise RuntimeError(f"{interpreter} -m moto.server ended with status {self._process.returncode}")
            time.sleep(0.01)
        self.start_s = time.perf_counter() - started

    def fill(self) -> None:
        for number in range(NUM_JOBS):
            body = json.dumps(training_job(f"job-{number}")).encode()
            exchange(self.port, request(self.port, "CreateTrainingJob", body))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


def training_job(name: str) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "HyperParameters": {f"parameter-{number}": "0.001" for number in range(10)},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }


def fill(root: Path, count: int) -> None:
    """Finished jobs, each with a metric series, written as the server would have."""
    root.mkdir(parents=True, exist_ok=True)
    store = Store(root / "state.db")
    now = time.time()
    for number in range(count):
        describe = training_job(f"job-{number}") | {
            "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:000000000000:training-job/job-{number}",
            "TrainingJobStatus": "Completed",
            "SecondaryStatus": "Completed",
            "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/out/model.tar.gz"},
            "CreationTime": now - number,
            "LastModifiedTime": now,
        }
        series = {"metrics": {"loss": [[now + step, 1 / (1 + step)] for step in range(200)]}}
        store.insert("training-job", f"job-{number}", describe, series)
    store.close()


def request(port: int, operation: str, body: bytes) -> bytes:
    """A signed request as bytes; it can be sent for 15 minutes."""
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"SageMaker.{operation}"}
    signed = botocore.awsrequest.AWSRequest("POST", f"http://127.0.0.1:{port}/", data=body, headers=headers)
    credentials = botocore.credentials.Credentials(KEY_ID, SECRET)
    botocore.auth.SigV4Auth(credentials, "sagemaker", REGION).add_auth(signed)
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed.headers.items())
    return f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def exchange(port: int, content: bytes, times: int = 1, latencies_s: list[float] | None = None) -> int:
    """Send it that many times over one connection, or over as many as the server closes; returns the answers of 200."""
    good = 0
    while times > 0:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=120) as connection,
            connection.makefile("rb") as file,
        ):
            kept = True
            while kept and times > 0:
                sent = time.perf_counter()
                connection.sendall(content)
                status, kept = _read_answer(file)
                good += status == 200
                times -= 1
                if latencies_s is not None:
                    latencies_s.append(time.perf_counter() - sent)
    return good


def _read_answer(file: BinaryIO) -> tuple[int, bool]:
    """Its status, and whether the server keeps the connection."""
    status, length, kept = file.readline().split(b" ", 2)[1], 0, True
    while (line := file.readline().lower()) not in (b"\r\n", b""):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
        elif line.startswith(b"connection:"):
            kept = b"close" not in line
    file.read(length)
    return int(status), kept


def rate(port: int, content: bytes, total: int, connections: int) -> float:
    """Requests a second over that many connections."""
    each = total // connections
    good: list[int] = []
    threads = [threading.Thread(target=lambda: good.append(exchange(port, content, each))) for _ in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    assert sum(good) == each * connections, f"{sum(good)} of {each * connections} answers were 200"
    return each * connections / took


def starts(folder: Path, n: int) -> Figure:
    seconds = []
    for number in range(n):
        server = LocalServer(folder / f"start-{number}", s3_endpoint=Buckets.serve())
        seconds.append(server.start())
        server.stop()
    value = f"median {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s"
    return Figure("start to first answer", value, "<= 1 s", n)


def idle(server: LocalServer, name: str, seconds: float) -> list[Figure]:
    assert server.process
    process = psutil.Process(server.process.pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)
    used = (sum(process.cpu_times()[:2]) - before) / seconds
    resident = process.memory_info().rss / 2**20
    return [
        Figure(f"CPU, {name}", f"{used:.2%} of a core over {seconds:.0f} s", "about 0", 1),
        Figure(f"resident memory, {name}", f"{resident:.0f} MB", "<= 150 MB", 1),
    ]


def rates(server: LocalServer, moto: Moto | None, rounds: int, total: int) -> list[Figure]:
    figures = []
    for operation, body in (("DescribeTrainingJob", b'{"TrainingJobName": "job-7"}'), ("ListTrainingJobs", b"{}")):
        for connections in (1, 8):
            ours, ratios = [], []
            for _ in range(rounds):
                ours.append(rate(server.port, request(server.port, operation, body), total, connections))
                if moto:
                    peer = rate(
                        moto.port, request(moto.port, operation, body), max(total // 4, connections), connections
                    )
                    ratios.append(ours[-1] / peer)
            value = f"{statistics.median(ours):.0f} a second"
            if ratios:
                value += f"; {statistics.median(ratios):.1f} x moto's ({min(ratios):.1f} to {max(ratios):.1f})"
            figures.append(Figure(f"{operation}, {connections} connections", value, ">= 1.0 x moto's", rounds * total))
    return figures


def crowd(server: LocalServer, clients: int, each: int) -> Figure:
    """Many clients at once, each with a connection of its own."""
    content = request(server.port, "DescribeTrainingJob", b'{"TrainingJobName": "job-7"}')
    latencies_s: list[float] = []
    good: list[int] = []
    errors: list[str] = []

    def one() -> None:
        try:
            good.append(exchange(server.port, content, each, latencies_s))
        except OSError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = clients * each - sum(good)
    p99 = statistics.quantiles(latencies_s, n=100)[98]
    said = f"{failed} errors{f' ({errors[0]})' if errors else ''}"
    value = f"{said}; p50 {statistics.median(latencies_s):.2f} s, p99 {p99:.2f} s"
    return Figure(f"DescribeTrainingJob, {clients} clients at once", value, "0 errors", clients * each)


def lists(folder: Path, count: int, n: int) -> list[Figure]:
    """Pages of a list with many finished jobs, and the status page."""
    fill(folder / "many", count)
    server = LocalServer(folder / "many", s3_endpoint=Buckets.serve())
    server.start()
    figures = []
    for name, body in (
        ("newest first", b"{}"),
        ("100 by name, filtered", b'{"MaxResults": 100, "SortBy": "Name", "NameContains": "job-4"}'),
    ):
        latencies_s: list[float] = []
        exchange(server.port, request(server.port, "ListTrainingJobs", body), n, latencies_s)
        figures.append(_latency(f"a page of {count} finished jobs, {name}", latencies_s, "<= 50 ms"))
    latencies_s = []
    for _ in range(n):
        sent = time.perf_counter()
        urllib.request.urlopen(server.url).read()
        latencies_s.append(time.perf_counter() - sent)
    figures.append(_latency(f"status page with {count} jobs", latencies_s, "<= 50 ms"))
    server.stop()
    return figures


def _latency(name: str, latencies_s: list[float], target: str) -> Figure:
    p99 = statistics.quantiles(latencies_s, n=100)[98]
    value = f"median {1000 * statistics.median(latencies_s):.1f} ms, p99 {1000 * p99:.1f} ms"
    return Figure(name, value, target, len(latencies_s))


def first_lines(server: LocalServer, n: int) -> Figure:
    """From CreateTrainingJob to the script's first line, less what the same interpreter takes to reach it alone."""
    script = b"import time; print(time.time(), flush=True)"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("train.py")
        info.size = len(script)
        archive.addfile(info, io.BytesIO(script))
    Buckets.objects["/bucket/sourcedir.tar.gz"] = buffer.getvalue()
    api, logs = server.client(), server.client("logs")
    source = {"sagemaker_program": "train.py", "sagemaker_submit_directory": "s3://bucket/sourcedir.tar.gz"}
    seconds, alone = [], []
    for number in range(n):
        asked = time.time()
        alone.append(float(subprocess.check_output([sys.executable, "-c", script.decode()])) - asked)
        name = f"first-line-{time.time_ns()}-{number}"
        asked = time.time()
        api.create_training_job(**training_job(name) | {"HyperParameters": source})
        seconds.append(_printed(api, logs, name) - asked)
    beyond = statistics.median(seconds) - statistics.median(alone)
    value = (
        f"{beyond:.2f} s beyond the interpreter's {statistics.median(alone):.2f} s (most {max(seconds):.2f} s in all)"
    )
    return Figure("CreateTrainingJob to the script's first line", value, "<= 1 s beyond", n)


def _printed(api: Any, logs: Any, name: str) -> float:
    """The time that a job printed, once it has ended."""
    while (job := api.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
        time.sleep(0.05)
    group = "/aws/sagemaker/TrainingJobs"
    for event in logs.filter_log_events(logGroupName=group, logStreamNamePrefix=f"{name}/")["events"]:
        try:
            return float(event["message"])
        except ValueError:
            continue
    raise RuntimeError(f"{name} is {job['TrainingJobStatus']}: {job.get('FailureReason')}")


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def machine() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}; load average at the start {load}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def run(folder: Path, peer: Path, quick: bool) -> None:
    print(f"machine: {machine()}")
    moto = Moto(peer) if peer.exists() else None
    if moto is None:
        print(f"moto is not measured: there is no {peer} (`make .venv/moto/.installed` makes it, --peer names another)")
    print("| figure | value | target | n |\n|---|---|---|---|")
    print(starts(folder, 3 if quick else 15), flush=True)
    if moto:
        print(Figure("start to first answer, moto", f"{moto.start_s:.2f} s", "", 1), flush=True)
        moto.fill()
    fill(folder / "hundred", NUM_JOBS)
    server = LocalServer(folder / "hundred", s3_endpoint=Buckets.serve())
    server.start()
    for figure in idle(server, "idle after the start", 3 if quick else 30):
        print(figure, flush=True)
    for figure in rates(server, moto, 2 if quick else 7, 200 if quick else 2_000):
        print(figure, flush=True)
    print(crowd(server, 100 if quick else 500, 2 if quick else 10), flush=True)
    print(first_lines(server, 3 if quick else 15), flush=True)
    for figure in idle(server, "idle after all that", 3 if quick else 30):
        print(figure, flush=True)
    server.stop()
    for figure in lists(folder, 500 if quick else 5_000, 30 if quick else 300):
        print(figure, flush=True)
    if moto:
        moto.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small n: whether it runs, not what it measures")
    parser.add_argument("--peer", type=Path, default=REPOSITORY / ".venv/moto/bin/python", help="moto's interpreter")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="local-sagemaker-bench-"))
    try:
        run(scratch, options.peer, options.quick)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
