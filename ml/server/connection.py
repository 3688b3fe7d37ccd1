"""uvicorn's HTTP/1.1 connection, with the bounds it leaves to a proxy that SageMaker does not put in front of it.

One request of a connection is in work at a time. Of what a caller sends meanwhile a piece is kept, the rest waits at
its side. Who is slow to send or to read, or sends more head, chunks or fields than anyone needs, is sent away; where
there are more connections than MAX_CONNECTIONS, those that have kept us waiting longest. Who sends no more is gone:
nothing is answered into a connection that is half closed.

local_sagemaker/wire/connection.py does the same for the other program; tests/contract holds the two together.
"""

from __future__ import annotations

import asyncio
import heapq
import resource
import weakref
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_CONNECTIONS = 1024  # at once; fewer where the process may open less than four times as many files
MAX_HEAD_BYTES = 64 * 2**10  # request line and fields
MAX_URL_BYTES = 16 * 2**10  # a listing of S3 has three names of 1024 bytes, percent-encoded
MAX_FIELDS = 128  # of a head; also of what follows a body
MAX_CHUNKS = 2**16  # of one body, and one more for each KiB in it
CHUNK_FRAME_BYTES = 32  # around each on average, beside MAX_HEAD_BYTES: sizes, extensions, trailers
HEAD_TIMEOUT_S = 10  # from the beginning of a connection or of a head to the head's end
KEEP_ALIVE_S = 75  # longer than callers keep a connection: they close it, not we, just when the next request comes
BODY_PAUSE_S = 15  # the longest wait for the next part of a body
READ_PAUSE_S = 60  # the longest that a caller may leave an answer unread
TOTAL_S, SLOWEST_BYTES_PER_S = 60, 16 * 2**10  # to wait for a body, or for an answer to be read; more if it is large
LINGER_S = 2  # for which a refused caller may go on sending, so that it comes to read why
LINGER_BYTES = 16 * 2**20  # that it may send meanwhile
TICK_S = 0.5
PIECE_BYTES = 64 * 2**10  # that are read, and kept, at once
CHUNKED_PIECE_BYTES = 2 * 2**10  # small, for what follows a chunked body in it is begun before its turn
BACKLOG = 256
# Of these two would be two opinions, and so would two of any field of AWS.
SINGLE = {b"host", b"authorization", b"content-type", b"content-encoding", b"origin", b"expect", b"smithy-protocol"}
OF_AWS = (b"x-amz-", b"x-amzn-")
END_OF_HEAD = b"\r\n\r\n"


def most_connections() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(MAX_CONNECTIONS, files // 4))


class NotTaken(Exception):
    """Ends the parser's work; the connection has noted what to answer."""


class Flow(FlowControl):
    """What was read already comes before what is to be read."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection.transport)
        self.connection = weakref.proxy(connection)

    def resume_reading(self) -> None:
        if self.connection.unread:
            self.connection.loop.call_soon(self.connection.proceed)
        else:
            super().resume_reading()


class Outlet:
    """The transport as an answer sees it: closed while the body still comes, it lingers."""

    def __init__(self, connection: Any) -> None:
        self.connection, transport = connection, connection.transport
        self.write, self.is_closing = transport.write, transport.is_closing

    def close(self) -> None:
        if self.connection.body_is_open():
            self.connection.end()
        else:
            self.connection.transport.close()


class Pace:
    """How a caller keeps up with a body or an answer."""

    def __init__(self, pause_s: float) -> None:
        self.pause_s, self.quiet_s, self.total_s, self.num_bytes = pause_s, 0.0, 0.0, 0

    def moved(self, num_bytes: int) -> None:
        self.quiet_s, self.num_bytes = 0.0, self.num_bytes + num_bytes

    def is_too_slow(self) -> bool:
        """To be asked at each tick at which the caller is waited for."""
        self.quiet_s, self.total_s = self.quiet_s + TICK_S, self.total_s + TICK_S
        return self.quiet_s > self.pause_s or self.total_s > TOTAL_S + self.num_bytes / SLOWEST_BYTES_PER_S


class Connection(HttpToolsProtocol, asyncio.BufferedProtocol):
    buffer = bytearray(PIECE_BYTES)  # of all connections: it is emptied before another's turn

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = Flow(self)
        self.unread = bytearray()  # what the parser has not been given yet
        self.refusal: tuple[int, str] | None = None
        self.is_over, self.over_s, self.over_bytes = False, 0.0, 0
        self.in_head, self.head_bytes, self.head_s, self.seam = False, 0, 0.0, b""
        self.names: list[bytes] = []  # of the fields of a head, or of what follows a body
        self.in_body = False
        self.body_left: int | None = 0  # None: it comes in chunks
        self.num_chunks, self.frame_bytes = 0, 0
        self.body, self.answer, self.unsent = Pace(BODY_PAUSE_S), Pace(READ_PAUSE_S), 0
        self.since = self.loop.time()  # when what the caller is waited for began
        self.ticks = self.loop.call_later(TICK_S, self.tick)
        self.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ticks.cancel()
        self.unread.clear()
        super().connection_lost(exc)
        self.cycle: Any = None  # it points back here: so all goes at once, not when the collector of cycles comes by

    # Who may stay

    def make_room(self) -> None:
        """Where there are too many, some of the others go that keep us waiting; this one, where none does."""
        most = most_connections()
        if len(self.connections) <= most:
            return
        others: list[Any] = [other for other in self.connections if not other.transport.is_closing()]
        if len(others) <= most:
            return
        waited_for = [other for other in others if other is not self and other.is_waited_for()]
        for other in heapq.nsmallest(max(1, most // 32), waited_for, key=lambda other: other.since):
            other.transport.abort()
        if not waited_for:
            self.refuse(503, "all connections are in use; try again")

    def is_in_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def is_waited_for(self) -> bool:
        return self.is_over or self.in_body or not self.is_in_work() or self.flow.write_paused

    def tick(self) -> None:
        """Twice a second: whoever takes too long goes."""
        self.ticks = self.loop.call_later(TICK_S, self.tick)
        sent, self.unsent = self.unsent, self.transport.get_write_buffer_size()
        sent -= self.unsent
        if self.is_over or self.transport.is_closing():
            self.over_s = 0.0 if sent > 0 and not self.is_over else self.over_s + TICK_S
            if self.over_s > LINGER_S:
                self.transport.abort()
        elif self.flow.write_paused:
            if sent > 0:
                self.answer.moved(sent)
            if self.answer.is_too_slow():
                self.transport.abort()
        elif self.in_head or self.head_bytes or self.cycle is None:
            self.head_s += TICK_S
            if self.head_s > HEAD_TIMEOUT_S:
                self.refuse(408 if self.head_bytes else 0, f"a head must come within {HEAD_TIMEOUT_S} s")
        elif self.in_body and not self.flow.read_paused and self.body.is_too_slow():
            self.refuse(408, f"a body must not pause for {BODY_PAUSE_S} s, nor trickle for {TOTAL_S} s")

    def refuse(self, status: int, detail: str) -> None:
        """End the connection; with an answer, if there is a status and no answer is under way."""
        if self.is_over or self.transport.is_closing():
            return
        if self.is_in_work():
            status = 0 if self.cycle.response_started else status
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if status:
            body = f"{status} {detail}\n".encode()
            head = b"content-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self.end()

    def end(self) -> None:
        """Close, but not while the caller sends: it would find the connection broken, and no answer."""
        self.is_over = True
        self.unread.clear()
        self.pipeline.clear()
        self._unset_keepalive_if_required()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
        else:
            self.transport.close()

    # What comes in

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(memoryview(self.buffer)[:nbytes]))

    def data_received(self, data: bytes) -> None:
        if not self.is_over:
            self.unread += data
            self.proceed()
            return
        self.over_bytes += len(data)
        if self.over_bytes > LINGER_BYTES:
            self.transport.abort()

    def proceed(self) -> None:
        """Give the parser what it may have now; read on if that was all."""
        while self.unread and not self.is_over and not self.transport.is_closing():
            size = self.next_size()
            if not size:
                break
            piece = bytes(self.unread[:size])
            del self.unread[:size]
            self.parse(piece)
        if self.is_over or self.transport.is_closing():
            self.unread.clear()
        elif self.unread or (self.is_in_work() and len(self.cycle.body) > HIGH_WATER_LIMIT):
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def next_size(self) -> int:
        """As far as the end of a head, or of its body; 0 while a request is in work that has come whole."""
        if self.in_body:
            if len(self.cycle.body) > HIGH_WATER_LIMIT:
                return 0
            return min(len(self.unread), CHUNKED_PIECE_BYTES if self.body_left is None else self.body_left)
        return 0 if self.is_in_work() else min(self.size_of_head(), MAX_HEAD_BYTES + 1 - self.head_bytes)

    def size_of_head(self) -> int:
        """Of what is unread; its end may have begun in the piece before."""
        across = (self.seam + self.unread[:3]).find(END_OF_HEAD)
        if across >= 0:
            return across + len(END_OF_HEAD) - len(self.seam)
        at = self.unread.find(END_OF_HEAD)
        return at + len(END_OF_HEAD) if at >= 0 else len(self.unread)

    def parse(self, piece: bytes) -> None:
        self._unset_keepalive_if_required()
        if not self.in_body:
            self.head_bytes += len(piece)
            self.seam = (self.seam + piece)[-3:]
        elif self.body_left is None:
            self.frame_bytes += len(piece)
        else:
            self.body_left -= len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass  # answered as if it had not asked for another protocol, and closed
        except httptools.HttpParserError:
            self.refuse(*(self.refusal or (400, "this is no request of HTTP/1.1")))
        if self.head_bytes > MAX_HEAD_BYTES:
            self.refuse(431, f"a head may have {MAX_HEAD_BYTES} bytes")
        if self.frame_bytes > MAX_HEAD_BYTES + CHUNK_FRAME_BYTES * self.num_chunks:
            self.refuse(400, "more bytes stand around the body's chunks than a body needs")

    def not_taken(self, status: int, detail: str) -> NotTaken:
        self.refusal = status, detail
        return NotTaken(detail)

    # What the parser finds

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.in_head, self.names, self.since = True, [], self.loop.time()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            raise self.not_taken(414, f"an address may have {MAX_URL_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if len(self.names) >= MAX_FIELDS:
            raise self.not_taken(431, f"a head may have {MAX_FIELDS} fields")
        if name in self.names and (name in SINGLE or name.startswith(OF_AWS)):
            raise self.not_taken(400, f"there are two fields {name.decode('latin-1')!r}; one is allowed")
        self.names.append(name)
        if self.in_head:  # what follows a body is nothing that a request was admitted for
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        fields = dict(self.headers)
        self.in_head, self.head_bytes, self.head_s, self.seam, self.names = False, 0, 0.0, b"", []
        self.since, self.body, self.answer = self.loop.time(), Pace(BODY_PAUSE_S), Pace(READ_PAUSE_S)
        self.in_body, self.num_chunks, self.frame_bytes = True, 0, 0
        self.body_left = None if b"transfer-encoding" in fields else int(fields.get(b"content-length", 0))
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise self.not_taken(400, "HTTP/1.1 and 1.0 are spoken here")
        if not self.url.startswith(b"/") and self.url != b"*":
            scheme, _, rest = self.url.partition(b"://")
            if scheme.lower() != b"http" or rest.partition(b"/")[0] != fields.get(b"host"):
                raise self.not_taken(400, "an address must begin with /, or with http:// and the Host of the request")
        if self.parser.should_upgrade() and self.body_left != 0:
            raise self.not_taken(400, "Upgrade is not offered; a request with a body must not ask for it")
        super().on_headers_complete()
        outlet: Any = Outlet(self)
        self.cycle.transport = outlet
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_chunk_header(self) -> None:
        self.num_chunks += 1
        if self.num_chunks > MAX_CHUNKS + self.body.num_bytes // 1024:
            raise self.not_taken(400, "the body comes in too many small chunks")

    def on_body(self, body: bytes) -> None:
        self.body.moved(len(body))
        if self.body_left is None:
            self.frame_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_body = False
        super().on_message_complete()

    def body_is_open(self) -> bool:
        """An answer may come before the body: the rest could be endless, or (Expect: 100-continue) never be sent."""
        return not self.pipeline and self.in_body

    def on_response_complete(self) -> None:
        if self.is_over:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        self.since = self.loop.time()
        if self.transport.is_closing():
            return
        short = self.body_left is not None and self.body_left <= PIECE_BYTES and not self.expect_100_continue
        if self.body_is_open() and not short:
            self.end()
        else:
            self.proceed()
