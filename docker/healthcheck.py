"""`healthcheck.py URL [PART]`: exit status 0 if something answers at URL, and says that PART of it is healthy.

Standard library only: the slim base image has no curl, and `airflow jobs check` costs seconds of CPU each time. Not
urllib.request either: it runs every few seconds in each container, and importing that is most of what it would cost.
"""

import json
import socket
import sys

WITHIN_S = 10


def problem(url: str, part: str | None) -> str | None:
    """What is wrong with an address of the form http://host:port/path; None if nothing is."""
    try:
        status, body = get(url)
        # A refusal is an answer too: S3 and SageMaker want signed requests.
        if status >= 500 or (part and status >= 400):
            return f"{url} answered {status}"
        said = json.loads(body).get(part, {}).get("status") if part else "healthy"
    except (OSError, ValueError) as error:
        return f"{url}: {error or type(error).__name__}"
    return None if said == "healthy" else f"{part} is {said}"


def get(url: str) -> tuple[int, bytes]:
    """Status and body. HTTP/1.0: the body ends with the connection and comes in no chunks. ValueError, OSError."""
    address, _, path = url.removeprefix("http://").partition("/")
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), WITHIN_S) as connection:
        connection.sendall(f"GET /{path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        with connection.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    protocol, _, rest = head.partition(b" ")
    if not protocol.startswith(b"HTTP/1."):
        raise ValueError("no answer" if not head else f"not HTTP: {head[:40]!r}")
    return int(rest[:3]), body


if __name__ == "__main__":
    sys.exit(problem(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
