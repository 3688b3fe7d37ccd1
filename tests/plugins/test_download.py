"""What a recipe's source may make the worker connect to: the public network, and nothing else."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from retraining.download import DownloadError, Network, download
from retraining.web_address import without_secrets

HOSTS = (
    *("127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2852039166", "017700000001", "0", "localhost", "localhost."),
    *("10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "192.0.0.8", "198.18.0.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[fe80::1]"),
    *(
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001::1]",
        "[::127.0.0.1]",
    ),
    *("0177.0.0.1", "127.0.1", "10.1", "2130706433"),
    *("①②⑦.⓪.⓪.①", "127。0。0。1", "%31%32%37.0.0.1", "user@127.0.0.1", "example.com@127.0.0.1", "a\\@127.0.0.1"),
)
FORMS = ("https://{}/pets.zip", "HTTPS://{}:8443/pets.zip", "http://{}/pets.zip", "ftp://{}/pets.zip", "https:{}/p.zip")
URLS = [form.format(host) for host in HOSTS for form in FORMS]


def never(*arguments: Any, **_: Any) -> Any:
    raise AssertionError(f"nothing may be connected to, but was: {arguments}")


def resolving(*addresses: str) -> Any:
    return lambda host, port, type: [(0, type, 6, "", (address, port)) for address in addresses]


def test_no_connection_is_made_to_what_is_not_public(tmp_path: Path) -> None:
    assert len(URLS) >= 200
    for url in URLS:
        with pytest.raises(DownloadError):
            download(url, tmp_path / "pets.zip", 100, Network(connect=never))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "64:ff9b::1", "::ffff:8.8.8.8", "fe80::1%eth0"])
def test_one_private_address_of_a_host_is_enough(tmp_path: Path, address: str) -> None:
    network = Network(resolve=resolving("93.184.216.34", address), connect=never)
    with pytest.raises(DownloadError, match=r"example\.com is not on the public network.*RETRAINING_INTERNAL_HOSTS"):
        download("https://example.com/pets.zip", tmp_path / "pets.zip", 100, network)


def test_the_connection_goes_to_the_address_that_was_checked(tmp_path: Path) -> None:
    seen: list[Any] = []

    def connect(place: Any, timeout: float) -> Any:
        seen.append(place)
        raise OSError("refused")

    network = Network(resolve=resolving("93.184.216.34"), connect=connect)
    with pytest.raises(DownloadError, match="cannot be downloaded: refused"):
        download("https://example.com/pets.zip", tmp_path / "pets.zip", 100, network)
    network = Network(resolve=resolving("10.0.0.7"), connect=connect, internal_hosts=frozenset({"data.corp"}))
    with pytest.raises(DownloadError, match="cannot be downloaded: refused"):
        download("https://data.corp/pets.zip", tmp_path / "pets.zip", 100, network)
    assert seen == [("93.184.216.34", 443), ("10.0.0.7", 443)]


def test_no_secret_of_an_address_is_told(tmp_path: Path) -> None:
    for url in ("https://me:hunter2@example.com/a.zip", "https://example.com/a.zip?X-Amz-Signature=hunter2"):
        assert "hunter2" not in without_secrets(url)
        with pytest.raises(DownloadError) as refused:
            download(url, tmp_path / "a.zip", 100, Network(resolve=resolving("10.0.0.1"), connect=never))
        assert "hunter2" not in str(refused.value)


# --- a server of our own, behind a public address -------------------------------------------------------------------

BODY = bytes(range(256)) * 40
DRIP_S = 0.05


class Site(BaseHTTPRequestHandler):
    """/file, /large, /drip, /cut, and /to?… which leads there."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(f"{self.headers['Host']}{self.path}")
        kind, _, where = self.path.partition("?")
        if kind == "/to":
            self.send_response(302)
            self.send_header("Location", where)
            self.end_headers()
            return
        if kind == "/tagged" and self.headers["If-None-Match"] == '"1"':
            self.send_response(304)
            self.end_headers()
            return
        self.send_response(200 if kind != "/missing" else 404)
        if kind == "/tagged":
            self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(BODY) * (2 if kind == "/cut" else 1)))
        self.end_headers()
        for at in range(0, len(BODY), 1 if kind == "/drip" else len(BODY)):
            try:
                self.wfile.write(BODY[at : at + (1 if kind == "/drip" else len(BODY))])
                self.wfile.flush()
            except OSError:
                return
            if kind == "/drip":
                time.sleep(DRIP_S)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """All hosts have one public address, and what connects to it reaches the site."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pets.example")])
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key(), serial_number=1)
        .not_valid_before(datetime(2020, 1, 1))
        .not_valid_after(datetime(2100, 1, 1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pets.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "site.pem").write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "site.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Network(
        resolve=resolving("93.184.216.34"),
        connect=lambda place, timeout: socket.create_connection(server.server_address[:2], timeout=timeout),
        trust=lambda: ssl.create_default_context(cafile=str(folder / "site.pem")),
        window_seconds=1.0,
    )
    server.shutdown()
    server.server_close()


def test_a_file_of_a_public_host_is_fetched(tmp_path: Path, network: Network) -> None:
    download("https://pets.example/to?/file", tmp_path / "a.zip", len(BODY), network)
    assert (tmp_path / "a.zip").read_bytes() == BODY


@pytest.mark.parametrize(
    ("path", "most", "words"),
    [
        ("file", len(BODY) - 1, "is larger than"),
        ("cut", 10**6, "ends 10240 bytes early"),
        ("drip", 10**6, "too slow"),
        ("missing", 10**6, "answers 404"),
        ("to?http://pets.example/file", 10**6, "plain http"),
        ("to?ftp://pets.example/file", 10**6, "must be https"),
        ("to?https://me:secret@pets.example/file", 10**6, "no user or password"),
        ("to?https://127.0.0.1/file", 10**6, None),
        ("to?/to?/to?/to?/to?/to?/to?/file", 10**6, "leads to another address more than 5 times"),
        ("to?https://other.example/file", 10**6, "certificate"),
    ],
)
def test_what_a_host_answers_is_bounded(
    tmp_path: Path, network: Network, path: str, most: int, words: str | None
) -> None:
    Site.asked.clear()

    def resolve(host: str, port: int, type: int) -> Any:
        return resolving("127.0.0.1" if host == "127.0.0.1" else "93.184.216.34")(host, port, type)

    began = time.monotonic()
    with pytest.raises(DownloadError, match=words or "not on the public network") as refused:
        download(f"https://pets.example/{path}", tmp_path / "a.zip", most, replace(network, resolve=resolve))
    assert "secret" not in str(refused.value)
    assert not (tmp_path / "a.zip").exists()
    assert time.monotonic() - began < 60
    assert all(asked.startswith("pets.example/") for asked in Site.asked)


def test_what_is_still_the_same_is_not_fetched_again(tmp_path: Path, network: Network) -> None:
    url, target = "https://pets.example/tagged", tmp_path / "a.zip"
    first = download(url, target, len(BODY), network)
    target.unlink()
    second = download(url, target, len(BODY), network, known=first.version)
    assert (first.written, second.written, target.exists()) == (True, False, False)
    assert second.version == first.version
    other = download(url, target, len(BODY), network, known='ETag "2"')
    assert (other.written, target.read_bytes()) == (True, BODY)


def test_a_version_that_is_no_header_is_not_sent(tmp_path: Path, network: Network) -> None:
    target = tmp_path / "a.zip"
    assert download("https://pets.example/file", target, len(BODY), network, known="of a file").written
