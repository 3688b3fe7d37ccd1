"""Memory of both servers over a million requests, each sent when the one before it was answered.

    python -m bench.million           (make bench-memory; --requests 100000 for a short one)

Eight connections that are kept: to local_sagemaker a signed DescribeTrainingJob, ListTrainingJobs and a refused
CreateTrainingJob in turn; to the model server (ml/serve.py with an inference.py that computes nothing) a ping, an
answer and a refused content type. Memory is the resident set, in MB, after the first 1 % of the requests, which fill
caches, and at the end. There is no peer: the goal is at most 1.2 times.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from bench.local_server import REPOSITORY, Buckets, LocalServer, free_port
from bench.server import accepts, fill, request

CONNECTIONS = 8
SIGNED_S = 300.0  # a signature is good for 15 minutes
MODEL = """
def model_fn(model_dir): return None
def input_fn(body, content_type):
    if content_type != "text/plain": raise ValueError(content_type)
    return body
def predict_fn(data, model): return data
def output_fn(data, accept): return data
"""


def ask(port: int, make: Callable[[], list[bytes]], count: int, process: psutil.Process) -> tuple[float, float, float]:
    """Send `count` requests → (MB after 1 % of them, MB after all, requests a second)."""
    selector = selectors.DefaultSelector()
    for number in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ, [number, b""])
    requests, signed, began, settled = make(), time.monotonic(), time.monotonic(), 0.0
    sent = answered = 0
    for key in list(selector.get_map().values()):
        key.fileobj.sendall(requests[sent % len(requests)])  # type: ignore[union-attr]
        sent += 1
    while answered < count:
        for key, _ in selector.select(30):
            data = key.fileobj.recv(65536)  # type: ignore[union-attr]
            if not data:
                raise RuntimeError(f"the server closed a connection after {answered} answers: {key.data[1][:300]!r}")
            key.data[1] += data
            head, end, body = key.data[1].partition(b"\r\n\r\n")
            if not end or len(body) < length(head):
                continue
            key.data[1] = b""
            answered += 1
            if answered == max(1, count // 100):
                settled = megabytes(process)
            if time.monotonic() - signed > SIGNED_S:
                requests, signed = make(), time.monotonic()
            key.fileobj.sendall(requests[sent % len(requests)])  # type: ignore[union-attr]
            sent += 1
    rate = count / (time.monotonic() - began)
    return settled, megabytes(process), rate


def length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def megabytes(process: psutil.Process) -> float:
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 2**20


def of_local_sagemaker(folder: Path, count: int) -> tuple[float, float, float]:
    fill(folder / "server", 100)
    server = LocalServer(folder / "server", s3_endpoint=Buckets.serve())
    server.start()

    def make() -> list[bytes]:
        return [
            request(server.port, "DescribeTrainingJob", b'{"TrainingJobName": "job-1"}'),
            request(server.port, "ListTrainingJobs", b'{"MaxResults": 10}'),
            request(server.port, "CreateTrainingJob", b'{"TrainingJobName": "-"}'),
        ]

    try:
        return ask(server.port, make, count, psutil.Process(server.process.pid))  # type: ignore[union-attr]
    finally:
        server.stop()


def of_the_model_server(folder: Path, count: int) -> tuple[float, float, float]:
    (folder / "code").mkdir(parents=True)
    (folder / "code/inference.py").write_text(MODEL)
    port = free_port()
    process = subprocess.Popen(
        [str(REPOSITORY / ".venv/ml/bin/python"), str(REPOSITORY / "ml/serve.py"), "--host", "127.0.0.1"],
        env=os.environ | {"SM_MODEL_DIR": str(folder), "SAGEMAKER_BIND_TO_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # each refusal is a line
    )
    head = "POST /invocations HTTP/1.1\r\nHost: h\r\nContent-Type: {}\r\nContent-Length: 3\r\n\r\nabc"
    requests = [
        b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n",
        head.format("text/plain").encode(),
        head.format("a/b").encode(),
    ]
    try:
        while not accepts(port):
            if process.poll() is not None:
                raise RuntimeError(f"the model server ended with status {process.returncode}")
            time.sleep(0.1)
        return ask(port, lambda: requests, count, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    count = parser.parse_args().requests
    print("| server | requests | MB after 1 % | MB at the end | ratio | requests a second |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in (("model server", of_the_model_server), ("local_sagemaker", of_local_sagemaker)):
            settled, end, rate = measure(Path(folder) / name, count)
            print(f"| {name} | {count:,} | {settled:.0f} | {end:.0f} | {end / settled:.2f} | {rate:.0f} |", flush=True)


if __name__ == "__main__":
    main()
