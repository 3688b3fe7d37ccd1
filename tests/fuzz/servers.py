"""A running server sent what no client would send: `python -m tests.fuzz.servers NAME --seconds N --figures FILE`.

Found is: a 5xx of its own, an end of the process, a good request that is not answered in time, memory that grows.
Requests are made from numbers, so one that is found is made again by its number.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import functools
import json
import os
import random
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import psutil

from local_sagemaker import app
from tests.fuzz.target import mutated
from tests.local_sagemaker import generated
from tests.local_sagemaker.harness import REPOSITORY, Server
from tests.object_store import KEY_ID, REGION, SECRET, free_ports, seaweedfs
from tests.waiting import wait_until

ANSWER_S = 60
"""No request of these may take longer, whatever is in it and whoever else is at work."""
SILENCE_S = 0.2
GOOD_S = 10
AT_ONCE = 8
BATCH = 500
SETTLED = 3000
MAX_GROWTH = 1.2
MODEL = """
def model_fn(folder): return None
def input_fn(body, content_type): return body
def predict_fn(body, model): return len(body)
def output_fn(number, accept): return str(number)
"""
WORDS = (
    b"\r\n", b"\r\n\r\n", b"\x00", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n", b"Host: evil.example\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n",
    b"Upgrade: websocket\r\n", b"HTTP/1.0", b"HTTP/9.9", b"ffffffffffffffff\r\n", b"0\r\n\r\n", b"%00", b"%zz",
    b"/../..", b"\xc3\x28", b"a" * 3000, b"X: " + b"b" * 9000, b"X-Amz-Target: SageMaker.ListModels\r\n",
    b"Origin: http://evil.example\r\n", b"Range: bytes=9-1\r\n",
)  # fmt: skip
SIGNERS = {"s3": botocore.auth.S3SigV4Auth, "sagemaker": botocore.auth.SigV4Auth}


class Attack:
    """Sends request after request; counts what comes back."""

    def __init__(
        self,
        port: int,
        process: psutil.Process,
        make: Callable[[random.Random], bytes],
        good: Callable[[], bytes],
    ) -> None:
        """`good` makes a request that must be answered; a signature is good for 15 minutes only."""
        self.statuses: collections.Counter[int] = collections.Counter()
        self.findings: list[str] = []
        self.slowest_s = 0.0
        self.slowest = -1
        """The number of that request."""
        self.is_timed = True
        """Whether to be slow is a finding; not where others work on the same machine."""
        self._port, self._process, self._make, self._good = port, process, make, good
        self._settled_mb = 0.0
        self._lock = threading.Lock()

    def run(self, seconds: float, figures: Path) -> None:
        ends, sent = time.monotonic() + seconds, 0
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as senders:
            while time.monotonic() < ends and len(self.findings) < 10:
                list(senders.map(self._send, range(sent, sent + BATCH)))
                sent += BATCH
                self._check(sent)
                self._settled_mb = self._settled_mb or (self._rss_mb() if sent >= SETTLED else 0.0)
                figures.write_text(json.dumps(self.figures()))
        if self._settled_mb and self._rss_mb() > MAX_GROWTH * self._settled_mb:
            self.findings.append(f"memory grew: {self.figures()}")

    def _send(self, number: int) -> None:
        request = self._make(random.Random(number))
        began = time.monotonic()
        status = self.ask(request)
        took = time.monotonic() - began
        with self._lock:
            if took > self.slowest_s:
                self.slowest_s, self.slowest = took, number
            self.statuses[status] += 1
            if status >= 500 or (self.is_timed and took > ANSWER_S):
                self.findings.append(f"request {number}: status {status} after {took:.1f} s for {request[:600]!r}")

    def ask(self, request: bytes, silence_s: float = SILENCE_S) -> int:
        """The status of the answer; 0 where the server closed the connection without one."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=ANSWER_S) as connection:
                connection.sendall(request)
                answer = self._answer(connection, silence_s)
        except (ConnectionError, TimeoutError):
            answer = b""
        found = re.findall(rb"HTTP/1\.1 (\d\d\d)", answer[:4096])
        return max((int(status) for status in found), default=0)

    @staticmethod
    def _answer(connection: socket.socket, silence_s: float) -> bytes:
        """Its beginning. After a silence the request is ended: most that are cut would be waited for."""
        answer, ended = b"", False
        connection.settimeout(silence_s)
        while True:
            try:
                block = connection.recv(65536)
            except TimeoutError:
                if ended:
                    return answer
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(ANSWER_S)
                ended = True
                continue
            if not block:
                return answer
            answer += block if len(answer) < 4096 else b""

    def figures(self) -> dict[str, float]:
        return {
            "requests": sum(self.statuses.values()),
            "answered_5xx": sum(count for status, count in self.statuses.items() if status >= 500),
            "slowest_s": round(self.slowest_s, 2),
            "slowest": self.slowest,
            "rss_settled_mb": round(self._settled_mb),
            "rss_mb": round(self._rss_mb()),
        }

    def _check(self, number: int) -> None:
        if not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE:
            self.findings.append(f"the server ended after request {number}")
            raise SystemExit(self.report())
        began = time.monotonic()
        status = self.ask(self._good(), silence_s=ANSWER_S)
        if status != 200 or (self.is_timed and time.monotonic() - began > GOOD_S):
            self.findings.append(f"after request {number} a good one got {status}, {time.monotonic() - began:.1f} s")

    def report(self) -> str:
        return "\n".join([json.dumps(self.figures()), str(dict(self.statuses)), *self.findings])

    def _rss_mb(self) -> float:
        with contextlib.suppress(psutil.NoSuchProcess):
            return self._process.memory_info().rss / 2**20
        return 0.0


def signed(service: str, port: int, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A request as a client of AWS writes it."""
    host = f"127.0.0.1:{port}"
    request = botocore.awsrequest.AWSRequest(
        method, f"http://{host}{path}", data=body, headers=headers | {"Host": host}
    )
    keys = botocore.credentials.Credentials(KEY_ID, SECRET)
    SIGNERS["s3" if service == "s3" else "sagemaker"](keys, service, REGION).add_auth(request)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "Connection: close", "", ""]).encode() + body


# --- local_sagemaker ------------------------------------------------------------------------------------------------

TARGETS = {"sagemaker": "SageMaker", "logs": "Logs_20140328", "cloudwatch": "GraniteServiceVersion20100801"}
IMPLEMENTED = {service: sorted(found) for service, found in app.operations().items() if service in TARGETS}
#: What would start jobs is left to the tests: here as many requests as possible are to be sent.
QUIET = {
    service: [name for name in names if not name.endswith(("Job", "Endpoint", "EndpointAsync"))]
    for service, names in IMPLEMENTED.items()
}
S3_PATHS = (
    "/",
    "/test-bucket",
    "/test-bucket/key",
    "/test-bucket?list-type=2&prefix=a&start-after=a",
    "/no-such-bucket/x",
)
PAGES = ("/", "/jobs", "/endpoints/alpha/invocations", "/favicon.ico", "/ping", "//", "/%2e%2e/", "/a?b=c")


def api_request(port: int) -> Callable[[random.Random], bytes]:
    def make(rng: random.Random) -> bytes:
        kind = rng.random()
        if kind < 0.5:
            asked = generated.request(rng.randrange(10**6), rng.randrange(10**6), QUIET)
            headers = {
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": f"{TARGETS[asked.service]}.{asked.operation}",
            }
            service = {"cloudwatch": "monitoring"}.get(asked.service, asked.service)
            request = signed(service, port, "POST", "/", headers, asked.body)
        elif kind < 0.75:
            method = rng.choice(("GET", "GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"))
            body = rng.randbytes(rng.choice((0, 10, 5000))) if method in ("PUT", "POST") else b""
            request = signed("s3", port, method, rng.choice(S3_PATHS), {}, body)
        else:
            method = rng.choice(("GET", "HEAD", "POST", "TRACE", "CONNECT", "PROPFIND"))
            request = (
                f"{method} {rng.choice(PAGES)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
            )
        return mutated(rng, request, WORDS) if rng.random() < 0.7 else request

    return make


@contextlib.contextmanager
def local_sagemaker(folder: Path) -> Iterator[Attack]:
    store = folder / "s3"
    store.mkdir()
    with seaweedfs(store) as endpoint:
        images = REPOSITORY / "stack" / "images.toml"
        server = Server(root=folder / "root", port=free_ports(1)[0], s3_endpoint=endpoint, images=images)
        server.start()
        assert server.process
        server.s3.create_bucket(Bucket="test-bucket")
        target = {"X-Amz-Target": "SageMaker.ListModels", "Content-Type": "application/x-amz-json-1.1"}
        good = functools.partial(signed, "sagemaker", server.port, "POST", "/", target, b"{}")
        try:
            yield Attack(server.port, psutil.Process(server.process.pid), api_request(server.port), good)
        finally:
            server.stop()


# --- the model server -----------------------------------------------------------------------------------------------


def invocation(port: int) -> Callable[[random.Random], bytes]:
    def make(rng: random.Random) -> bytes:
        body = rng.randbytes(rng.choice((0, 1, 100, 10_000)))
        if rng.random() < 0.3:
            pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
            chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            head = "POST /invocations HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            request = head.encode() + chunked
        else:
            path = rng.choice(("/invocations", "/ping", "/", "/invocations?a=b"))
            method = rng.choice(("POST", "GET", "HEAD", "PUT"))
            head = f"{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            request = head.encode() + body
        return mutated(rng, request, WORDS) if rng.random() < 0.8 else request

    return make


@contextlib.contextmanager
def model_server(folder: Path) -> Iterator[Attack]:
    code = folder / "model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(MODEL)
    (port,) = free_ports(1)
    command = [
        str(REPOSITORY / ".venv" / "ml" / "bin" / "python"),
        str(REPOSITORY / "ml" / "serve.py"),
        "--host",
        "127.0.0.1",
    ]
    variables = {"SM_MODEL_DIR": str(folder / "model"), "SAGEMAKER_BIND_TO_PORT": str(port)}
    outer = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(command, env=outer | variables)
    good = b"GET /ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    attack = Attack(port, psutil.Process(process.pid), invocation(port), lambda: good)
    try:

        def is_up() -> bool:
            assert process.poll() is None, "the model server ended"
            with contextlib.suppress(OSError):
                return attack.ask(good, silence_s=ANSWER_S) == 200
            return False

        wait_until(is_up, every_s=0.1)
        yield attack
    finally:
        process.kill()
        process.wait()


SERVERS = {"local_sagemaker": local_sagemaker, "model_server": model_server}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SERVERS)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--figures", type=Path, required=True)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder, SERVERS[options.name](Path(folder)) as attack:
        attack.run(options.seconds, options.figures)
        print(attack.report())
        return int(bool(attack.findings))


if __name__ == "__main__":
    sys.exit(main())
