"""The health check of the containers, held against servers that answer in the ways it must tell apart."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "docker/healthcheck.py"
HEALTH = {"scheduler": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}, "dag_processor": {"status": None}}


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api/v2/monitor/health"
        server.shutdown()


@contextmanager
def saying(words: bytes) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(words)

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def complaint(*arguments: str) -> str:
    """What it says; nothing where it ends with 0."""
    done = subprocess.run([sys.executable, "-I", "-S", PROGRAM, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode == 0) == (done.stderr == ""), done
    return done.stderr.strip()


@pytest.mark.parametrize("status", [200, 401, 403, 404])
def test_any_answer_is_a_sign_of_life(status: int) -> None:
    with answering(status, b"Access Denied") as url:
        assert complaint(url) == ""


def test_a_server_error_is_none() -> None:
    with answering(503, b"") as url:
        assert complaint(url) == f"{url} answered 503"


def test_a_part_must_be_healthy() -> None:
    with answering(200, json.dumps(HEALTH).encode()) as url:
        said = [complaint(url, part) for part in ("scheduler", "triggerer", "dag_processor", "unheard-of")]
    assert said == ["", "triggerer is unhealthy", "dag_processor is None", "unheard-of is None"]


def test_a_part_needs_an_answer_that_names_it() -> None:
    with answering(401, b'{"detail": "Not authenticated"}') as url:
        assert complaint(url, "scheduler") == f"{url} answered 401"
    with answering(200, b"<html>") as url:
        assert "Expecting value" in complaint(url, "scheduler")


def test_nobody_there_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "refused" in complaint(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(("words", "said"), [(b"", "no answer"), (b"220 ftp\r\n\r\n", "not HTTP: b'220 ftp'")])
def test_what_is_no_answer_is_unhealthy(words: bytes, said: str) -> None:
    with saying(words) as url:
        assert complaint(url) == f"{url}: {said}"
