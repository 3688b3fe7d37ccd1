"""The model of the batch transform tests: it answers every line of a body, in the form that MODE asks for.

MODE bodies: one JSON object a request, about the request. csv: the number of columns of each row. json: the sum of
each line's features. BAD in a body is refused, FLAKY refused with a 503 the first time; ENDLESS
gets an answer without an end.
"""

import http.server
import json
import os

MODE = os.environ.get("MODE", "bodies")
seen_flaky: set[bytes] = set()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/execution-parameters" and "EXECUTION_PARAMETERS" in os.environ:
            return self.answer(200, os.environ["EXECUTION_PARAMETERS"].encode())
        self.answer(200 if self.path == "/ping" else 404, b"")

    def do_POST(self) -> None:
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        body = self.chunks() if chunked else self.rfile.read(int(self.headers["Content-Length"]))
        if b"BAD" in body:
            return self.answer(400, b"bad record")
        if b"ENDLESS" in body:
            return self.endless()
        if b"FLAKY" in body and body not in seen_flaky:
            seen_flaky.add(body)
            return self.answer(503, b"try again")
        self.answer(200, MODES[MODE](body, chunked))

    def endless(self) -> None:
        """An answer that has no end, though the caller has gone."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        while True:
            self.wfile.write(bytes(2**20))

    def chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def about(body: bytes, chunked: bool) -> bytes:
    text = body.decode(errors="replace")[:200]
    about = {"bytes": len(body), "lines": body.count(b"\n"), "text": text, "chunked": chunked, "pid": os.getpid()}
    return json.dumps(about).encode()


def columns(body: bytes, chunked: bool) -> bytes:
    return b"".join(b"%d,ok\n" % len(line.split(b",")) for line in body.splitlines())


def sums(body: bytes, chunked: bool) -> bytes:
    return "\n".join(json.dumps({"sum": sum(json.loads(line))}) for line in body.splitlines()).encode()


MODES = {"bodies": about, "csv": columns, "json": sums}

if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
