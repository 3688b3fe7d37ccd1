"""The image behind an https address: only from hosts that the model's owner named, and never from inside the network.

Off until RETRAINING_ALLOW_URLS names hosts. What makes it safe to point at a stranger's address (server-side request
forgery): the host must equal a named one; it is resolved once, every address it has must be public, and the connection
goes to exactly those; no redirect, proxy, cookie or compression; limits on time and bytes; and a caller learns nothing
of what was found beyond whether it is an image. In a container with network isolation nothing can be fetched at all.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import re
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

from pictures.picture import ACCEPTED, ALIASES, CONTENT_TYPES, HEAD_BYTES, MAX_BYTES, format_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence, Set
    from typing import Any

    Resolve = Callable[..., Sequence[tuple[Any, ...]]]  # as socket.getaddrinfo
    Connect = Callable[[Sequence[str], str, float], socket.socket]

VARIABLE = "RETRAINING_ALLOW_URLS"
TIME_LIMIT_S = 5  # for everything together
MAX_URL = 2000
PORT = 443
# Plain on purpose: no user, port other than 443, address literal, fragment, backslash, blank or non-ASCII sign fits, so
# there is nothing that two parsers could read differently.
ADDRESS = re.compile(
    r"(?i:https://([a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z][a-z0-9-]+))(?::443)?(/[!$-;=?-Z_a-z~]*)?", re.ASCII
)
# Not public whatever `is_global` says, whose table depends on the release of Python (CVE-2024-4032): protocol
# assignments, 6to4 and its relays, documentation. IPv6 addresses that carry an IPv4 one (mapped, compatible, NAT64) lie
# outside 2000::/3, which is all of the IPv6 network that is in public use.
NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
PUBLIC_V6 = ipaddress.ip_network("2000::/3")


class Disabled(Exception):
    """No host has been allowed."""


class Refused(Exception):
    """The address may not be fetched, or nothing usable was there."""


def allowed_hosts() -> set[str]:
    """The hosts of RETRAINING_ALLOW_URLS, lower case; empty: the whole thing is off."""
    return {host.strip().lower() for host in os.environ.get(VARIABLE, "").split(",")} - {""}


def fetch(
    url: object, hosts: Set[str] | None = None, resolve: Resolve = socket.getaddrinfo, connect: Connect | None = None
) -> bytes:
    """The bytes of an image. Raises Disabled or Refused.

    `hosts` are the allowed ones (default: those of the environment); `resolve` stands for socket.getaddrinfo and
    `connect` for `encrypted`.
    """
    hosts, connect = allowed_hosts() if hosts is None else hosts, connect or encrypted
    if not hosts:
        raise Disabled(f"images by URL are switched off; name the allowed hosts in the variable {VARIABLE}")
    host, path = parse(url)
    if host not in hosts:
        raise Refused(f"the host is not among those that {VARIABLE} names")
    deadline = time.monotonic() + TIME_LIMIT_S
    addresses = public_addresses(host, resolve, deadline)
    try:
        with connect(addresses, host, deadline) as stream, cut_off(stream, deadline):
            body = get(stream, host, path, deadline)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Refused("nothing could be fetched from there in time") from error
    if format_of(body[:HEAD_BYTES]) is None:
        raise Refused(f"no image was there; accepted are {ACCEPTED}")
    return body


def parse(url: object) -> tuple[str, str]:
    """-> host, path. Raises Refused for whatever is not a plain https address of a named host."""
    found = ADDRESS.fullmatch(url) if isinstance(url, str) and len(url) <= MAX_URL else None
    if not found:
        raise Refused(f"an address must be https://host/path in plain ASCII, without user, port or #, up to {MAX_URL}")
    return found[1].lower(), found[2] or "/"


def public_addresses(host: str, resolve: Resolve, deadline: float) -> list[str]:
    """Every address of `host`, as text. Raises Refused if any one of them is not public."""
    answers = []
    worker = threading.Thread(target=lambda: answers.append(look_up(host, resolve)), daemon=True)
    worker.start()  # the system's resolver knows no time limit
    worker.join(max(0.0, deadline - time.monotonic()))
    addresses = answers[0] if answers else []
    if not addresses:
        raise Refused("the host has no address")
    if not all(is_public(address) for address in addresses):
        raise Refused("the host is not on the public network")
    return addresses


def look_up(host: str, resolve: Resolve) -> list[str]:
    try:
        found = resolve(host, PORT, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(entry[4][0] for entry in found))


def is_public(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if not address.is_global or address.is_multicast or address.is_reserved or getattr(address, "scope_id", None):
        return False
    if address.version == 6 and address not in PUBLIC_V6:
        return False
    return not any(address in network for network in NOT_PUBLIC)


def encrypted(addresses: Sequence[str], host: str, deadline: float, port: int = PORT) -> ssl.SSLSocket:
    """A connection to the first of the addresses that answers and proves to be `host`. Raises OSError."""
    context = ssl.create_default_context()
    for address in addresses:
        with contextlib.suppress(OSError):
            plain = socket.create_connection((address, port), timeout=left(deadline))
            return context.wrap_socket(plain, server_hostname=host)  # closes `plain` when it fails
    raise OSError("no address answered")


@contextlib.contextmanager
def cut_off(stream: socket.socket, deadline: float) -> Iterator[None]:
    """Shut the connection down at the deadline: a time limit on each read does not end a peer that drips."""

    def shut() -> None:
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def get(stream: socket.socket, host: str, path: str, deadline: float) -> bytes:
    """One GET; a body only of a plain 200 answer within the limits."""
    connection = http.client.HTTPConnection(host, PORT, timeout=left(deadline))
    connection.sock = stream
    wanted = {"Host": host, "Accept": ", ".join(CONTENT_TYPES), "Accept-Encoding": "identity", "Connection": "close"}
    connection.request("GET", path, headers=wanted)
    with connection.getresponse() as answer:
        kind = answer.headers.get_content_type()
        plain = answer.headers.get("Content-Encoding", "identity") == "identity"
        if answer.status != 200 or not plain or kind not in (*CONTENT_TYPES, *ALIASES, "application/octet-stream"):
            raise Refused(f"no image was there; accepted are {ACCEPTED}")
        if (answer.length or 0) > MAX_BYTES:
            raise Refused(f"the image is larger than {MAX_BYTES // 2**20} MB")
        return limited(answer, deadline)


def limited(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    body = bytearray()
    while part := answer.read1(2**16):
        body += part
        if len(body) > MAX_BYTES:
            raise Refused(f"the image is larger than {MAX_BYTES // 2**20} MB")
    left(deadline)  # else the end may be that of `cut_off`
    if answer.length:
        raise http.client.IncompleteRead(bytes(body), answer.length)
    return bytes(body)


def left(deadline: float) -> float:
    """Seconds until the deadline. Raises TimeoutError when it is past."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
