"""uvicorn's HTTP/1.1 connection, with the bounds it leaves to a proxy that SageMaker does not put in front of it."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 2**10  # request line and headers; also trailers, and extensions of chunks
HEAD_TIMEOUT_S = 10
TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Connection(HttpToolsProtocol):
    def connection_made(self, transport):
        super().connection_made(transport)
        self.unparsed_bytes = 0  # what came in since the parser last had something to show for it
        self.head_timer = None
        self.await_head()

    def connection_lost(self, exc):
        self.head_came()
        super().connection_lost(exc)

    def await_head(self):
        if self.head_timer is None:
            self.head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def head_came(self):
        self.unparsed_bytes = 0
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def data_received(self, data):
        self.unparsed_bytes += len(data)
        super().data_received(data)
        if self.unparsed_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(TOO_LONG)
            self.transport.close()

    def on_message_begin(self):
        super().on_message_begin()
        self.await_head()

    def on_headers_complete(self):
        self.head_came()
        super().on_headers_complete()

    def on_body(self, body):
        self.unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self):
        self.unparsed_bytes = 0
        super().on_message_complete()

    def on_response_complete(self):
        # An answer may come before the body has: the rest could be endless, or (Expect: 100-continue) never be sent.
        body_is_open = not self.pipeline and self.cycle.more_body
        super().on_response_complete()
        if body_is_open:
            self.transport.close()
