"""The serving image of the tests: a model server of the standard library that does what its model or a request says.

The model's model.json may ask for a slow or a failing start; the words in `serve` change what a request gets.
"""

import http.server
import json
import os
import pathlib
import sys
import time

BASE = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
MODEL = json.loads((BASE / "model/model.json").read_text())


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes; waiting between them costs 40 ms a request

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/ping" else 404, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        command = body.decode(errors="replace").strip()
        if command == "crash":
            os._exit(3)
        if command == "unsupported":
            return self.answer(415, b'{"error": "UNSUPPORTED"}')
        if command == "broken" or MODEL.get("answers") == "errors":
            return self.answer(500, b"Traceback: broken")
        if command.startswith("sleep "):
            time.sleep(float(command.split()[1]))
        if command.startswith("crash once "):
            marker = pathlib.Path(command.split()[2])
            if not marker.exists():
                marker.touch()
                os._exit(3)
        if command.startswith("parts "):
            return self.parts(*map(float, command.split()[1:]))
        if command.startswith("zeros "):
            return self.answer(200, bytes(int(command.split()[1])), "application/octet-stream")
        if command == "half":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
            return None
        if command == "echo":
            return self.answer(200, self.headers["X-Amzn-SageMaker-Custom-Attributes"].encode(), "text/csv")
        print(f"answering {len(body)} bytes", flush=True)
        seen = {
            "version": MODEL["version"], "pid": os.getpid(), "bytes": len(body), "path": self.path,
            "network": os.readlink("/proc/self/ns/net"),
            "headers": {key.lower(): value for key, value in self.headers.items()},
            "environment": {key: os.environ[key] for key in os.environ if key.startswith(("SAGEMAKER", "OMP", "MY"))},
        }  # fmt: skip
        self.answer(200, json.dumps(seen).encode())

    def parts(self, count: float, pause_s: float, broken: float = 0) -> None:
        """An answer in pieces: `part 0;`, `part 1;`, …; a broken one ends without its end."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(int(count)):
            part = b"part %d;" % number
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            time.sleep(pause_s)
        if not broken:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def answer(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", "from-the-model")
        session = self.headers["X-Amzn-SageMaker-Session-Id"]
        if session == "NEW_SESSION":
            opened = f"of-{os.getpid()}-{time.monotonic_ns()}; Expires=2030-01-01T00:00:00Z"
            self.send_header("X-Amzn-SageMaker-New-Session-Id", opened)
        elif session and "goodbye" in self.headers["X-Amzn-SageMaker-Custom-Attributes"]:
            self.send_header("X-Amzn-SageMaker-Closed-Session-Id", session)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


if __name__ == "__main__":
    if MODEL.get("start") == "fail":
        sys.exit("no such weights: model.pth")
    if MODEL.get("start") == "crash":
        raise RuntimeError("no gpü")
    time.sleep(MODEL.get("start_s", 0))
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
