"""A local_sagemaker process for a measurement: started, killed, started again, and clients for it."""

from __future__ import annotations

import atexit
import http.client
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import typing
from pathlib import Path
from typing import Any

import boto3
import botocore.config

REPOSITORY = Path(__file__).parents[1]
KEY_ID, SECRET, REGION = "bench-key-id", "bench-secret", "us-east-1"
_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": REGION}


class Buckets(http.server.BaseHTTPRequestHandler):
    """As much of an object store as a small job needs: any object is there, only those in `objects` can be read."""

    protocol_version = "HTTP/1.1"

    objects: typing.ClassVar[dict[str, bytes]] = {}
    """Path, `/bucket/key` → content."""

    def do_HEAD(self) -> None:
        self._answer(200, self.objects.get(self.path, b"1234567890"), body=False)

    def do_GET(self) -> None:
        content = self.objects.get(self.path)
        missing = b"<Error><Code>NoSuchKey</Code><Message>none can be read here</Message></Error>"
        self._answer(404 if content is None else 200, missing if content is None else content, body=True)

    def do_PUT(self) -> None:
        """What a job leaves is dropped."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer(200, b"", body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, content: bytes, *, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"0"')
        self.end_headers()
        if body:
            self.wfile.write(content)

    @classmethod
    def serve(cls) -> str:
        """Start it in a thread that ends with this process; returns its URL."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), cls)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients are killed on purpose
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"


class LocalServer:
    def __init__(self, root: Path, *, s3_endpoint: str, arguments: tuple[str, ...] = ()) -> None:
        self.root = root
        self.port = free_port()
        self._s3_endpoint = s3_endpoint
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)  # also when the measurement fails

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, timeout_s: float = 60.0) -> float:
        """Start it and wait for its first answer; returns the seconds that took. Raises RuntimeError if it refuses."""
        self.root.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "local_sagemaker", "--port", str(self.port), "--root", str(self.root)]
        started = time.perf_counter()
        with (self.root / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self._arguments],
                cwd=REPOSITORY,
                env=os.environ | _ENVIRONMENT | {"AWS_ENDPOINT_URL_S3": self._s3_endpoint},
                stdout=log,
                stderr=log,
            )
        while not self.answers():
            if self.process.poll() is not None or time.perf_counter() - started > timeout_s:
                raise RuntimeError(f"the server did not start:\n{(self.root / 'server.log').read_text()[-3000:]}")
            time.sleep(0.005)
        return time.perf_counter() - started

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", "/", b"{}", {"X-Amz-Target": "SageMaker.ListModels"})
            return connection.getresponse().status == 403  # unsigned: it answers, and nothing has been done
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def client(self, service: str = "sagemaker", **config: Any) -> Any:
        """Nothing is retried: what a call meets is what is measured."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            config=botocore.config.Config(
                retries={"total_max_attempts": 1}, read_timeout=60, parameter_validation=False, **config
            ),
        )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
