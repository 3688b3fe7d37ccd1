"""One file from an https address: only from the public network, never more or longer than it may be.

What makes it safe to fetch what a recipe names (server-side request forgery): every address of the host must be public,
and the connection goes to exactly those that were checked; each redirect is checked before anything is sent there; the
certificate must be the host's. Whoever runs Airflow may name hosts of their own network in RETRAINING_INTERNAL_HOSTS; a
recipe cannot. Their proxy (HTTPS_PROXY, NO_PROXY) is used, too: then it decides which hosts there are, and a host that
this machine knows at a private address is refused all the same.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from retraining.public_address import is_public
from retraining.web_address import AddressError, WebAddress

INTERNAL_HOSTS = "RETRAINING_INTERNAL_HOSTS"
BLOCK_BYTES = 1024 * 1024
MAX_REDIRECTS = 5
MAX_SECONDS = 12 * 3600
"""For everything together."""
WINDOW_SECONDS, WINDOW_BYTES = 60.0, 300_000
"""In every minute so much must come, and the first byte within the first one: 40 kbit/s."""
CONNECT_SECONDS = 20.0
MAX_ADDRESSES = 4
"""Of one host, tried one after the other."""
KEPT_FREE_BYTES, LOOK_BYTES = 1024**3, 64 * 1024**2
"""Of the disk, for the worker's other work; how often it is looked at."""
REDIRECTS = (301, 302, 303, 307, 308)


class DownloadError(ValueError):
    """The file could not be fetched, or must not be."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """The way out of this machine; tests put a server of their own behind it."""

    resolve: Callable[..., Any] = socket.getaddrinfo
    connect: Callable[..., socket.socket] = socket.create_connection
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context
    internal_hosts: frozenset[str] = frozenset()
    proxy_for: Callable[[str], str | None] = lambda host: None
    window_seconds: float = WINDOW_SECONDS

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Network:
        """As whoever runs Airflow has set it."""
        named = (host.strip().lower().strip("[]").rstrip(".") for host in environ.get(INTERNAL_HOSTS, "").split(","))
        return cls(internal_hosts=frozenset(named) - {""}, proxy_for=_proxy_for)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server said."""

    written: bool
    """False where it still is what was asked for."""
    version: str | None = None
    """ETag or date of what lies there, for the next time; None where the server tells neither."""


def download(
    url: str, target: Path, max_bytes: int, network: Network | None = None, known: str | None = None
) -> Answer:
    """Write what lies at `url` to `target`; DownloadError leaves nothing there, and tells no secret of the address.

    Nothing is written where it still is `known`, the version of an earlier answer.
    """
    try:
        address = WebAddress.of(url)
    except AddressError as error:
        raise DownloadError(str(error)) from None
    try:
        return _fetch(address, target, max_bytes, network or Network.of(os.environ), known)
    except (OSError, http.client.HTTPException, ValueError) as error:
        target.unlink(missing_ok=True)
        if isinstance(error, DownloadError):
            raise
        why = str(error)[:300] or type(error).__name__
        raise DownloadError(f"{address.place} cannot be downloaded: {why}.") from None


def _fetch(address: WebAddress, target: Path, max_bytes: int, network: Network, known: str | None) -> Answer:
    first, deadline = address.place, time.monotonic() + MAX_SECONDS
    for _ in range(MAX_REDIRECTS + 1):
        with _connected(address, network, deadline) as pace, contextlib.closing(_asked(address, pace, known)) as answer:
            location = answer.headers.get("Location")
            if answer.status in REDIRECTS and location:
                try:
                    address = address.follow(location)
                except AddressError as error:
                    raise DownloadError(f"{first} leads to an address that is not fetched: {error}") from None
                continue
            if answer.status == 304 and known:
                return Answer(written=False, version=known)
            if answer.status != 200:
                raise DownloadError(f"{first} cannot be downloaded: {address.authority} answers {answer.status}.")
            if (answer.length or 0) > max_bytes:
                raise DownloadError(f"{first} is larger than {max_bytes} bytes.")
            with target.open("wb") as out:
                _write(first, answer, out, target, max_bytes, pace)
            return Answer(written=True, version=_version(answer))
    raise DownloadError(f"{first} leads to another address more than {MAX_REDIRECTS} times.")


def _write(
    name: str, answer: http.client.HTTPResponse, out: IO[bytes], target: Path, max_bytes: int, pace: _Pace
) -> None:
    looked = -LOOK_BYTES
    while block := answer.read1(BLOCK_BYTES):
        pace.total += len(block)
        if pace.total > max_bytes:
            raise DownloadError(f"{name} is larger than {max_bytes} bytes.")
        if pace.total - looked >= LOOK_BYTES:
            looked = pace.total
            if shutil.disk_usage(target.parent).free < KEPT_FREE_BYTES + LOOK_BYTES:
                raise DownloadError(
                    f"{name} does not fit on this disk, of which {KEPT_FREE_BYTES} bytes are kept free. Set TMPDIR to "
                    "a larger one."
                )
        out.write(block)
    pace.require_not_cut()
    if answer.length:
        raise DownloadError(f"{name} ends {answer.length} bytes early; try again.")


def _version(answer: http.client.HTTPResponse) -> str | None:
    """What can be sent back in a header, and is short."""
    etag, modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
    version = f"ETag {etag}" if etag else f"Last-Modified {modified}" if modified else None
    return version if version and len(version) <= 300 and version.isascii() and version.isprintable() else None


def _condition(known: str | None) -> dict[str, str]:
    kind, _, value = (known or "").partition(" ")
    header = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}.get(kind)
    return {header: value} if header else {}


def _asked(address: WebAddress, pace: _Pace, known: str | None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address.host, address.port)
    connection.sock = pace.stream
    wanted = {"Host": address.authority, "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
    connection.request("GET", address.target, headers=wanted | _condition(known))
    return connection.getresponse()


# --- connecting -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _connected(address: WebAddress, network: Network, deadline: float) -> Iterator[_Pace]:
    """A connection that has proved to be the host, watched. OSError where there is none."""
    addresses = _addresses(address, network)
    proxy = network.proxy_for(address.authority)
    plain = _through(proxy, address, network) if proxy else _direct(addresses, address, network)
    with plain:
        plain.settimeout(network.window_seconds)
        stream = network.trust().wrap_socket(plain, server_hostname=address.host, do_handshake_on_connect=False)
    with stream, _Pace(stream, deadline, network.window_seconds) as pace:
        try:
            stream.do_handshake()
            yield pace
        except (OSError, http.client.HTTPException):
            pace.require_not_cut()
            raise


def _addresses(address: WebAddress, network: Network) -> list[str]:
    """Every address of the host, all of them public or the operator's own."""
    found = _looked_up(address, network)
    if address.host in network.internal_hosts:
        return found
    if not all(is_public(each) for each in found):
        raise DownloadError(
            f"{address.place} cannot be downloaded: {address.host} is not on the public network. Whoever runs Airflow "
            f"may name it in the variable {INTERNAL_HOSTS}; else download it yourself and name the file."
        )
    return found


def _looked_up(address: WebAddress, network: Network) -> list[str]:
    answers: list[list[str]] = []

    def look_up() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            entries = network.resolve(address.host, address.port, type=socket.SOCK_STREAM)
            answers.append(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))

    worker = threading.Thread(target=look_up, daemon=True)
    worker.start()  # the system's resolver knows no time limit
    worker.join(CONNECT_SECONDS)
    return answers[0] if answers else []


def _direct(addresses: list[str], address: WebAddress, network: Network) -> socket.socket:
    if not addresses:
        raise OSError(f"{address.host} has no address")
    last: OSError = OSError("no address answered")
    for each in addresses[:MAX_ADDRESSES]:
        try:
            return network.connect((each, address.port), timeout=CONNECT_SECONDS)
        except OSError as error:
            last = error
    raise last


def _through(proxy: str, address: WebAddress, network: Network) -> socket.socket:
    """A tunnel by the operator's proxy, which is trusted to be where it is."""
    place = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if place.scheme != "http" or not place.hostname:
        raise OSError("HTTPS_PROXY must look like http://host:port")
    tunnel = http.client.HTTPConnection(place.hostname, place.port or 8080, timeout=CONNECT_SECONDS)
    tunnel._create_connection = network.connect  # type: ignore[attr-defined]
    headers = {}
    if place.username is not None:
        import base64
        from urllib.parse import unquote

        secret = f"{unquote(place.username)}:{unquote(place.password or '')}".encode()
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
    tunnel.set_tunnel(address.host, address.port, headers)
    tunnel.connect()
    assert isinstance(tunnel.sock, socket.socket)
    return tunnel.sock


def _proxy_for(host: str) -> str | None:
    if urllib.request.proxy_bypass_environment(host):  # type: ignore[attr-defined]
        return None
    return urllib.request.getproxies_environment().get("https")


class _Pace:
    """Shuts a connection down that is too slow: a time limit on each read does not end a peer that drips."""

    def __init__(self, stream: ssl.SSLSocket, deadline: float, window_seconds: float) -> None:
        self.stream, self.total = stream, 0
        self._deadline, self._window_seconds = deadline, window_seconds
        self._why = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Pace:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def require_not_cut(self) -> None:
        if self._why:
            raise DownloadError(self._why)

    def _watch(self) -> None:
        seen = 0
        while not self._done.wait(self._window_seconds):
            if time.monotonic() > self._deadline:
                self._why = f"The download takes longer than {MAX_SECONDS // 3600} hours."
            elif self.total - seen < WINDOW_BYTES:
                self._why = (
                    f"The download is too slow: {self.total - seen} bytes in {self._window_seconds:g} s, at least "
                    f"{WINDOW_BYTES} are wanted. Try again, or download it yourself and name the file."
                )
            seen = self.total
            if self._why:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self.stream, socket.SHUT_RDWR)  # ssl's own would go on without TLS
                return
