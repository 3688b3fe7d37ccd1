"""What serve.py does with bad requests, too many of them, and a model that misbehaves."""

import concurrent.futures
import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S, wait_until

ML = Path(__file__).parents[2] / "ml"
# The content type says what the model does; `gate` is a file that a test makes to let waiting requests go on.
CODE = """
import os, pathlib, sys, time
import handlers, server

folder = pathlib.Path(__file__).parent

def await_file(name):
    while not (folder / name).exists():
        time.sleep(0.005)

def model_fn(model_dir):
    return []

def model_warmup_fn(model_dir, model):
    if (folder / "broken").exists():
        raise OSError("the accelerator fell off")

def transform_fn(calls, body, content_type, accept):
    calls.append(content_type)
    if content_type == "wait":
        (folder / "waiting").touch()
        await_file("gate")
    if content_type == "exit":
        sys.exit(3)
    if content_type == "stop":
        raise StopIteration
    if content_type == "fail":
        raise OSError("no accelerator")
    if content_type == "calls":
        return " ".join(calls), "text/plain"
    if content_type == "names":
        return handlers.NAME + server.NAME, "text/plain"
    if content_type == "nameless":
        return "x", None
    if content_type == "split":
        return "x", "text/plain\\r\\nx: y"
    return str(len(body)), "text/plain"
"""


class Server:
    """A running serve.py and the folder of its code."""

    def __init__(self, serve, folder, **variables):
        self.code = folder / "code"
        self.code.mkdir()
        (self.code / "inference.py").write_text(CODE)
        (self.code / "handlers.py").write_text("NAME = 'own handlers, '")
        (self.code / "server.py").write_text("NAME = 'own server'")
        self.client, self.process = serve(folder, **variables)
        self.port = self.client.base_url.port

    def post(self, kind="text/plain", content=b"abc", **more):
        return self.client.post("/invocations", content=content, headers={"content-type": kind}, **more)

    def ping(self):
        return self.client.get("/ping").status_code

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def exchange(self, sent):
        """All that comes back for these bytes until the server closes the connection."""
        with self.connect() as connection:
            with contextlib.suppress(OSError):  # it may close while we still send
                connection.sendall(sent)
            return received(connection)

    @contextlib.contextmanager
    def held(self, count, content=b"abc"):
        """`count` requests, of which one keeps the model busy until the end of the block; gives their futures."""
        for name in ("gate", "waiting"):
            (self.code / name).unlink(missing_ok=True)
        with concurrent.futures.ThreadPoolExecutor(count) as threads:
            futures = [threads.submit(self.post, "wait", content)]
            self.until((self.code / "waiting").exists)
            futures += [threads.submit(self.post, "queued", content) for _ in range(count - 1)]
            try:
                yield futures
            finally:
                (self.code / "gate").touch()

    def until(self, condition):
        def met():
            assert self.process.poll() is None
            return condition()

        wait_until(met, every_s=0.005)


def received(connection):
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.fixture
def start(serve, tmp_path):
    return lambda **variables: Server(serve, tmp_path, **variables)


@pytest.fixture(scope="module")
def shared(serve_once, tmp_path_factory):
    return Server(serve_once, tmp_path_factory.mktemp("model"), SAGEMAKER_MAX_PAYLOAD_IN_MB="1")


HEAD = b"POST /invocations HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01 no HTTP at all\r\n\r\n", 400),
        (b"GET /ping HTTP/9.9\r\n\r\n", 400),
        (b"GET /p\xc3\xa4ng HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 404),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET /ping/../etc HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 404),
        (b"DELETE /invocations HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 405),
        (b"GET /invocations HTTP/1.0\r\n\r\n", 405),
        (HEAD + b"content-length: -1\r\n\r\n", 400),
        (HEAD + b"content-length: 99999999999999999999999\r\n\r\n", 400),
        (HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabc", 400),
        (HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nnot hexadecimal\r\n", 400),
        (HEAD + b"content-length: 99999999\r\n\r\n", 413),
        (HEAD + b"x: " + b"y" * 2**20, 431),
        (HEAD + b"x: y\r\n" * 2**17, 431),
        (HEAD + b"x: y\r\n" * 200 + b"\r\n", 431),
        (HEAD + b"x: " + b"y" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 2**20, 414),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
        (b"GET /ping\r\n\r\n", 400),
        (b"GET http://b/ping HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"TRACE /ping HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 405),
        (HEAD + b"host: b\r\n\r\n", 400),
        (HEAD + b"content-type: a\r\ncontent-type: b\r\n\r\n", 400),
        (HEAD + b"x-amzn-sagemaker-session-id: a\r\nx-amzn-sagemaker-session-id: b\r\n\r\n", 400),
        (HEAD.replace(b"close", b"upgrade") + b"upgrade: h2c\r\ncontent-length: 1\r\n\r\na", 400),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"1;" + b"x" * 2**20 + b"\r\n", 400),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 100_000, 400),
        (b"\r\n" * 2**17, 431),
    ],
)
def test_a_request_that_is_none_gets_a_4xx(shared, sent, status):
    answer = shared.exchange(sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert shared.ping() == 200


def test_endless_trailers_end_the_connection(shared):
    answer = shared.exchange(HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"x: y\r\n" * 2**17)
    assert b"200 OK" not in answer
    assert shared.ping() == 200


def test_a_body_may_come_in_chunks(shared):
    assert shared.post(content=iter([b"ab", b"", b"cde"])).text == "5"
    assert shared.post(content=b"").text == "0"


def test_a_connection_serves_many_requests_also_at_once(shared):
    request = b"POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab"
    answers = shared.exchange(3 * request + HEAD + b"content-length: 3\r\n\r\nabc")
    assert answers.count(b"HTTP/1.1 200 OK") == 4


def test_a_caller_that_asks_is_told_to_continue_or_why_not(shared):
    head = HEAD + b"expect: 100-continue\r\ncontent-length: "
    with shared.connect() as connection:
        connection.sendall(head + b"3\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert received(connection).endswith(b"\r\n\r\n3")
    refused = shared.exchange(head + b"99999999\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 413 ")
    # Without the body that was asked about, what follows on the connection would be taken for it.
    unknown = shared.exchange(head.replace(b"/invocations", b"/x").replace(b"close", b"keep-alive") + b"3\r\n\r\n")
    assert unknown.startswith(b"HTTP/1.1 404 ")


@pytest.mark.slow
def test_who_sends_nothing_for_ten_seconds_is_sent_away(shared):
    started = time.monotonic()
    with shared.connect() as silent, shared.connect() as head, shared.connect() as body:
        head.sendall(b"POST /invocations HTTP/1.1\r\nhost: a\r\n")
        body.sendall(HEAD + b"content-length: 100\r\n\r\nabc")
        assert received(body).startswith(b"HTTP/1.1 408 ")
        assert received(head).startswith(b"HTTP/1.1 408 ")
        assert received(silent) == b""
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("kind", ["exit", "stop", "split", "nameless", "fail"])
def test_no_answer_of_the_models_code_ends_the_server(shared, kind):
    answer = shared.post(kind)
    assert (answer.status_code, answer.json()["error"]) == (500, "INFERENCE_FAILED")
    assert shared.post().text == "3"


def test_the_models_code_has_names_of_its_own(shared):
    assert shared.post("names").text == "own handlers, own server"


def test_a_caller_that_leaves_while_it_waits_costs_nothing(shared):
    with shared.held(1):
        with shared.connect() as connection:
            connection.sendall(HEAD + b"content-type: left\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n")
            assert b" 100 " in connection.recv(100)
            connection.sendall(b"a")
        assert [shared.ping() for _ in range(5)] == [200] * 5  # the end of that connection was seen before these
    assert "left" not in shared.post("calls").text.split()


def test_more_bodies_than_memory_allows_are_refused(shared):
    with shared.held(12, content=b"x" * 2**20) as futures:
        shared.until(lambda: sum(future.done() for future in futures) == 4)  # all but 8 MB
    assert sorted(future.result().status_code for future in futures) == [200] * 8 + [429] * 4
    assert shared.post(content=b"x" * 2**20).status_code == 200


def test_a_full_queue_refuses_more_and_is_answered_in_full_at_sigterm(start):
    server = start()
    with server.held(80) as futures:
        server.until(lambda: sum(future.done() for future in futures) == 16)
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: refused(server.port))
        assert server.process.poll() is None
    assert sorted(future.result().status_code for future in futures) == [200] * 64 + [429] * 16
    assert server.process.wait(PATIENCE_S) == 0


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_ping_fails_while_a_request_runs_too_long(start):
    server = start(SAGEMAKER_MODEL_SERVER_TIMEOUT="1", SAGEMAKER_MODEL_SERVER_WORKERS="2")
    with server.held(1) as futures:
        late = futures[0].result()
        assert (late.status_code, late.json()["error"]) == (503, "TIMEOUT")
        assert server.ping() == 503
        assert server.post().text == "3"  # the other thread
    server.until(lambda: server.ping() == 200)


def test_ping_fails_when_the_warm_up_does_not_work_any_more(start):
    server = start()
    assert server.post("fail").status_code == 500
    assert server.ping() == 200  # the warm-up works: it was that request
    (server.code / "broken").touch()
    assert server.ping() == 200  # nobody has met a failure yet
    assert server.post("fail").status_code == 500
    assert server.ping() == 503
    (server.code / "broken").unlink()
    assert server.ping() == 200


def test_a_call_that_never_ends_does_not_keep_the_process(start, tmp_path, environment):
    server = start()
    server.process.kill()
    server.process.wait()
    program = f"import sys; sys.path.insert(0, {str(ML)!r}); import serve; serve.DRAIN_S = 0.5; sys.exit(serve.main())"
    settings = {"SM_MODEL_DIR": str(tmp_path), "SAGEMAKER_BIND_TO_PORT": str(server.port)}
    pipe = subprocess.PIPE
    server.process = subprocess.Popen([sys.executable, "-c", program], env=environment | settings, stderr=pipe)
    try:
        server.until(lambda: not refused(server.port))
        with server.connect() as connection:
            connection.sendall(HEAD + b"content-type: wait\r\ncontent-length: 1\r\n\r\na")
            server.until((server.code / "waiting").exists)
            server.process.terminate()
            _, stderr = server.process.communicate(timeout=PATIENCE_S)
        assert server.process.returncode == 1
        assert b"was still running" in stderr
    finally:
        server.process.kill()
        server.process.communicate()


def test_a_taken_port_is_found_out_before_the_model_is_loaded(shared, environment, tmp_path):
    command = [sys.executable, str(ML / "serve.py"), "serve", "--host", "127.0.0.1", "--port", str(shared.port)]
    settings = environment | {"SM_MODEL_DIR": str(tmp_path / "none")}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert done.stderr == f"serve.py: port {shared.port} of 127.0.0.1 cannot be taken: Address already in use\n"


@pytest.mark.parametrize("text", ["many", "0", "-1", "2.5"])
def test_a_setting_that_is_no_number_is_named(environment, text):
    settings = environment | {"SAGEMAKER_MODEL_SERVER_WORKERS": text}
    done = subprocess.run([sys.executable, str(ML / "serve.py")], env=settings, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"SAGEMAKER_MODEL_SERVER_WORKERS='{text}' must be a whole number from 1" in done.stderr


def test_sigterm_while_the_model_loads_is_a_normal_end(environment, tmp_path):
    (tmp_path / "code").mkdir()
    loading = tmp_path / "loading"
    code = f"import pathlib, time\npathlib.Path({str(loading)!r}).touch()\ntime.sleep(600)"
    (tmp_path / "code" / "inference.py").write_text(code)
    settings = environment | {"SM_MODEL_DIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, str(ML / "serve.py"), "--port", "0"], env=settings)
    try:
        wait_until(loading.exists)
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
