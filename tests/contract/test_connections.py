"""Both servers bound what one connection, and all of them together, may cost: the same numbers, the same behaviour."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import resource
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import psutil
import pytest
import uvicorn

from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HOMES = ("ml/server/connection.py", "local_sagemaker/wire/connection.py")
PING = b"GET /ping HTTP/1.1\r\nhost: a\r\n\r\n"
LAST = b"GET /ping HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
POST = b"POST /body HTTP/1.1\r\nhost: a\r\n"


def load(home: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"connection_of_{home.partition('/')[0]}", ROOT / home)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server:
    """uvicorn with one side's connection, and an application that says how much it was sent, or answers a lot."""

    def __init__(self, module: ModuleType, loop: Literal["asyncio", "auto"]) -> None:
        self.module, self.begun, self.most_at_once, self.at_once, self.gate = module, 0, 0, 0, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            interface="asgi3",
            loop=loop,
            http=module.Connection,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            timeout_keep_alive=module.KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
            backlog=module.BACKLOG,
        )
        self.uvicorn = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.uvicorn.run, kwargs={"sockets": [self.listener]})

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun, self.at_once = self.begun + 1, self.at_once + 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        body, more = b"", scope["path"] == "/body"
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        while scope["path"] == "/wait" and not self.gate:
            await asyncio.sleep(0.01)
        answer = bytes(2**24) if scope["path"] == "/large" else b"%d" % len(body)
        names = b",".join(name for name, _ in scope["headers"])
        head = [(b"content-length", b"%d" % len(answer)), (b"names", names)]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": answer})
        self.at_once -= 1

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def exchange(self, *sent: bytes) -> bytes:
        """All that comes back until the server closes the connection."""
        with self.connect() as connection:
            with contextlib.suppress(OSError):
                for part in sent:
                    connection.sendall(part)
            return received(connection)

    def open_connections(self) -> int:
        return len(self.uvicorn.server_state.connections)


def received(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def one_answer(connection: socket.socket) -> bytes:
    """Of those whose body is `0`."""
    answer = b""
    while not answer.endswith(b"\r\n\r\n0"):
        answer += connection.recv(65536)
    return answer


@pytest.fixture(params=HOMES)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    # Of the two environments one has uvloop.
    served = Server(load(request.param), "asyncio" if request.param.startswith("ml") else "auto")
    served.thread.start()
    try:
        wait_until(lambda: served.uvicorn.started)
        yield served
    finally:
        served.uvicorn.should_exit = True
        served.thread.join(PATIENCE_S)
        served.listener.close()


def test_both_sides_have_the_same_numbers() -> None:
    ours, theirs = (
        {name: value for name, value in vars(load(home)).items() if name.isupper()}
        | {"": load(home).most_connections()}
        for home in HOMES
    )
    assert ours == theirs and len(ours) > 15


def test_pipelined_requests_are_taken_one_at_a_time(server: Server) -> None:
    before, count = psutil.Process().memory_info().rss, 30_000
    with server.connect() as connection:
        answers: list[bytes] = []
        reader = threading.Thread(target=lambda: answers.append(received(connection)))
        reader.start()
        for _ in range(count // 1000):
            connection.sendall(PING * 1000)
        connection.sendall(LAST)
        reader.join(PATIENCE_S)
    assert answers[0].count(b"HTTP/1.1 200") == count + 1
    assert server.most_at_once == 1
    grown = psutil.Process().memory_info().rss - before - 2 * len(answers[0])
    assert grown < 10 * 2**20


def test_pipelined_requests_wait_until_answers_are_read(server: Server) -> None:
    with server.connect() as connection:
        connection.settimeout(2)
        with contextlib.suppress(TimeoutError):
            while server.begun < 10**6:
                connection.sendall(PING * 1000)
    begun = server.begun
    time.sleep(0.2)
    assert server.begun <= begun + 1 and server.at_once <= 1


def test_requests_that_follow_a_chunked_body_are_answered(server: Server) -> None:
    chunked = POST + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nauthorization: none\r\n\r\n"
    answers = server.exchange(chunked + PING + chunked + LAST)
    assert answers.count(b"HTTP/1.1 200") == 4 and answers.count(b"\r\n\r\n3") == 2
    assert b"authorization" not in answers  # a trailer is no field of the head that was admitted


@pytest.mark.parametrize("pieces", [1, 2, 3, 5])
def test_the_end_of_a_head_may_come_in_pieces(server: Server, pieces: int) -> None:
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = PING + POST + b"content-length: 3\r\n\r\nabc" + LAST
        for at in range(0, len(sent), pieces):
            connection.sendall(sent[at : at + pieces])
            time.sleep(0.0005)
        answers = received(connection)
    assert answers.count(b"HTTP/1.1 200") == 3


def test_a_body_that_nobody_reads_does_not_cost_the_connection(server: Server) -> None:
    unread = b"GET /ping HTTP/1.1\r\nhost: a\r\ncontent-length: 3000\r\n\r\n"
    with server.connect() as connection:
        for _ in range(3):
            connection.sendall(unread)
            assert one_answer(connection).endswith(b"\r\n\r\n0")
            connection.sendall(PING.ljust(3000))
        connection.sendall(LAST)
        assert received(connection).count(b"HTTP/1.1 200") == 1
    refused = server.exchange(unread.replace(b"3000", b"300000"), *[bytes(1000)] * 300, LAST)
    assert refused.count(b"HTTP/1.1 200") == 1  # the rest could be without end


def test_a_large_body_comes_whole(server: Server) -> None:
    body = bytes(3_000_001)
    assert server.exchange(POST + b"content-length: 3000001\r\n\r\n" + body + LAST).count(b"\r\n\r\n3000001HTTP") == 1
    chunk = b"%x\r\n" % len(body) + body + b"\r\n"
    chunked = POST + b"transfer-encoding: chunked\r\n\r\n" + 2 * chunk + b"0\r\n\r\n"
    assert server.exchange(chunked + LAST).count(b"\r\n\r\n6000002HTTP") == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ((b"GET /ping HTTP/1.1\r\nhost: a\r\nx: ", *[bytes([120]) * 2**20] * 64), 431),
        ((b"GET /", *[b"x" * 2**20] * 64), 414),
        ((b"GET /ping HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",), 431),
        ((POST + b"transfer-encoding: chunked\r\n\r\n1;", *[b"x" * 2**20] * 64), 400),
        ((POST + b"transfer-encoding: chunked\r\n\r\n", *[b"1\r\na\r\n" * 10_000] * 20), 400),
        ((POST + b"transfer-encoding: chunked\r\n\r\n0\r\n", *[b"x: y\r\n" * 10_000] * 20), 431),
        ((POST + b"content-length: 1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\na",), 400),
        ((b"GET /ping HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",), 400),
        ((b"GET /ping HTTP/1.1\r\nhost: a\r\nx-amz-target: a\r\nX-Amz-Target: b\r\n\r\n",), 400),
        ((b"GET /ping HTTP/1.1\r\nhost: a\r\nauthorization: a\r\nauthorization: a\r\n\r\n",), 400),
        ((b"GET http://b/ping HTTP/1.1\r\nhost: a\r\n\r\n",), 400),
        ((b"GET /ping\r\n\r\n",), 400),
        ((b"\r\n" * 2**17,), 431),
        ((b"\x16\x03\x01\x02\x00\x01\x00",), 400),
    ],
    ids=[
        *("head", "url", "fields", "extension", "chunks", "trailers", "upgrade"),
        *("host", "target", "keys", "absolute", "http 0.9", "nothing", "tls"),
    ],
)
def test_what_no_caller_needs_is_refused_by_its_status(server: Server, sent: tuple[bytes, ...], status: int) -> None:
    before = psutil.Process().memory_info().rss
    assert server.exchange(*sent).startswith(b"HTTP/1.1 %d " % status)
    assert psutil.Process().memory_info().rss - before < 20 * 2**20
    assert server.exchange(LAST).startswith(b"HTTP/1.1 200 ")


def test_an_offer_of_another_protocol_is_passed_over(server: Server) -> None:
    asked = b"GET /ping HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n\r\n"
    assert server.exchange(asked).startswith(b"HTTP/1.1 200 ")
    assert server.exchange(LAST.replace(b"/ping", b"http://a/ping")).startswith(b"HTTP/1.1 200 ")


def test_slow_callers_are_sent_away(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_TIMEOUT_S", "BODY_PAUSE_S", "READ_PAUSE_S", "LINGER_S"):
        monkeypatch.setattr(server.module, name, 1)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        silent, head, body, unread = (stack.enter_context(server.connect()) for _ in range(4))
        head.sendall(b"GET /ping HTTP/1.1\r\nhos")
        body.sendall(POST + b"content-length: 9\r\n\r\nabc")
        unread.sendall(PING.replace(b"/ping", b"/large"))
        assert received(head).startswith(b"HTTP/1.1 408 ")
        assert received(body).startswith(b"HTTP/1.1 408 ")
        assert received(silent) == b""
        wait_until(lambda: server.open_connections() == 0)
    assert server.at_once == 0
    assert time.monotonic() - began < 30  # after TOTAL_S, a minute, they would have gone anyway


def test_a_trickle_is_no_body(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.module, "TOTAL_S", 1)
    with server.connect() as connection:
        connection.sendall(POST + b"content-length: 1000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(50):
                connection.sendall(b"a")
                time.sleep(0.1)
        assert received(connection).startswith(b"HTTP/1.1 408 ")


def test_a_working_caller_gets_in_among_idle_ones(server: Server) -> None:
    """Of whatever kind: silent, within a head, within a body, kept alive, or not reading its answer."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 64
    kinds = (b"", b"GET /pi", POST + b"content-length: 9\r\n\r\nabc", PING, PING.replace(b"/ping", b"/large"))
    server.module.most_connections = lambda: most  # type: ignore[method-assign]
    assert files[0] > 1000
    with contextlib.ExitStack() as stack:
        for number in range(400):
            connection = stack.enter_context(server.connect())
            connection.sendall(kinds[number % len(kinds)])
            if number % 50 == 49:
                assert server.exchange(LAST).startswith(b"HTTP/1.1 200 ")
                assert server.open_connections() <= most + 2


def test_a_connection_in_work_is_not_closed_for_others(server: Server) -> None:
    server.module.most_connections = lambda: 8  # type: ignore[method-assign]
    with server.connect() as working, contextlib.ExitStack() as stack:
        working.sendall(PING)
        assert one_answer(working)
        working.sendall(LAST.replace(b"/ping", b"/wait"))
        wait_until(lambda: server.at_once == 1)
        for _ in range(40):
            stack.enter_context(server.connect())
        server.gate = True
        assert received(working).startswith(b"HTTP/1.1 200 ")


def test_a_server_in_work_everywhere_says_so(server: Server) -> None:
    server.module.most_connections = lambda: 4  # type: ignore[method-assign]
    with contextlib.ExitStack() as stack:
        working = [stack.enter_context(server.connect()) for _ in range(4)]
        for connection in working:
            connection.sendall(LAST.replace(b"/ping", b"/wait"))
        wait_until(lambda: server.at_once == 4)
        assert server.exchange(LAST).startswith(b"HTTP/1.1 503 ")
        server.gate = True
        assert all(received(connection).startswith(b"HTTP/1.1 200 ") for connection in working)


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"", 0),
        (PING, 1),
        (PING + PING, 2),
        (b"no request\r\n\r\n", 0),
        (POST + b"content-length: 9\r\n\r\nhalf", 0),
        (b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n", 0),
    ],
    ids=["empty", "answered", "pipelined", "refused", "half a body", "in work"],
)
def test_nothing_of_a_connection_outlives_it(server: Server, sent: bytes, answers: int) -> None:
    """Not even until the collector of cycles comes by: what piles up meanwhile a long-lived server keeps."""
    gc.collect()
    gc.disable()
    try:
        with server.connect() as connection:
            connection.sendall(sent)
            answer = b""
            while answer.count(b"\r\n\r\n0") < answers:
                answer += connection.recv(65536)
            wait_until(lambda: server.open_connections() == 1)
            begun = [weakref.ref(one) for one in server.uvicorn.server_state.connections]
            wait_until(lambda: b"/wait" not in sent or server.at_once == 1)
        server.gate = True
        wait_until(lambda: not any(one() for one in begun))
    finally:
        gc.enable()
