"""Images by URL: what is refused before anything is sent, and what a server may answer."""

import contextlib
import datetime
import io
import json
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

import inference
from pictures import remote
from pictures.remote import Refused
from tests.waiting import PATIENCE_S

HOST = "images.example.com"
URL = f"https://{HOST}/a/cat.png?size=2"


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "PNG")
    return buffer.getvalue()


def resolving(*addresses):
    """What socket.getaddrinfo would say."""
    return lambda host, port, type: [(0, type, 6, "", (address, port)) for address in addresses]


def never(*arguments):
    raise AssertionError(f"nothing may be sent or asked here, but was: {arguments}")


def test_it_is_off_until_hosts_are_named(monkeypatch):
    monkeypatch.delenv(remote.VARIABLE, raising=False)
    with pytest.raises(
        inference.RequestError, match="name the allowed hosts in the variable RETRAINING_ALLOW_URLS"
    ) as off:
        inference.input_fn(json.dumps({"url": URL}), "application/json")
    assert (off.value.status_code, off.value.code) == (400, "URL_DISABLED")
    monkeypatch.setenv(remote.VARIABLE, "other.example.com, Images.Example.COM ,")
    assert remote.allowed_hosts() == {"other.example.com", HOST}
    with pytest.raises(inference.RequestError) as refused:
        inference.input_fn(json.dumps({"url": "https://169.254.169.254/latest/meta-data"}), "application/json")
    assert (refused.value.status_code, refused.value.code) == (400, "URL_REFUSED")


@pytest.mark.parametrize(
    "url",
    [
        *("", "cat.png", "//images.example.com/", "http://images.example.com/", "file:///etc/passwd"),
        *("ftp://images.example.com/", "gopher://images.example.com/", "https:images.example.com", "https:///cat"),
        *("https://images.example.com:80/", "https://images.example.com:8443/", "https://images.example.com:443:80/"),
        *("https://user@images.example.com/", "https://images.example.com@evil.example/", "https://evil.example/"),
        *("https://evil.example#@images.example.com/", "https://evil.example\\@images.example.com/"),
        *("https://images.example.com\\@evil.example/", "https://images.example.com.evil.example/"),
        *("https://images.example.com./", "https://images.example.com#/", "https://images.example.com/a b"),
        *("https://images.example.com/\r\nHost: x", "https://images.example.com/\t", " https://images.example.com/"),
        *("https://127.0.0.1/", "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/"),
        *("https://[::1]/", "https://[::ffff:169.254.169.254]/", "https://localhost/", "https://localhost./"),
        *("https://①②⑦.⓪.⓪.①/", "https://images。example.com/", "https://\u0131mages.example.com/", "https://%31/"),
        *("https://images.example.com/" + "a" * 2000, None, 7, ["https://images.example.com/"], {"a": 1}),
    ],
)
def test_any_other_address_is_refused_before_a_name_is_asked_for(url):
    with pytest.raises(Refused):
        remote.fetch(url, {HOST}, never, never)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "169.254.170.2", "100.64.0.1"),
        *("0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "192.0.0.8"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1"),
        *("::ffff:8.8.8.8", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "::8.8.8.8"),
        *("2002:a9fe:a9fe::", "2001:0:a9fe:a9fe::1", "3fff::1", "192.88.99.1", "not an address", ""),
    ],
)
def test_no_connection_is_made_where_one_address_is_not_public(address):
    for addresses in ((address,), ("93.184.216.34", address), (address, "2606:2800:220:1::1")):
        with pytest.raises(Refused):
            remote.fetch(URL, {HOST}, resolving(*addresses), never)


def test_the_addresses_that_were_checked_are_the_ones_connected_to():
    """A name that resolves otherwise a moment later gains nothing: nobody asks again."""
    asked, seen = [], []

    def resolve(host, port, type):
        asked.append(host)
        return resolving("93.184.216.34" if len(asked) == 1 else "127.0.0.1")(host, port, type)

    def connect(addresses, host, deadline):
        seen.append((addresses, host))
        raise OSError

    with pytest.raises(Refused):
        remote.fetch(URL, {HOST}, resolve, connect)
    assert asked == [HOST] and seen == [(["93.184.216.34"], HOST)]


def test_a_resolver_that_hangs_costs_no_more_than_the_limit(monkeypatch):
    monkeypatch.setattr(remote, "TIME_LIMIT_S", 0.1)
    released = threading.Event()
    with pytest.raises(Refused, match="no address"):
        remote.fetch(URL, {HOST}, lambda *_, **__: [] if released.wait(60) else None, never)
    released.set()


class Server:
    """On the loopback, for one request, which it answers with `parts`; counts those it got rid of."""

    def __init__(self, *parts, pause=0.0, wrap=lambda stream: stream):
        self.parts, self.pause, self.wrap = parts, pause, wrap
        self.received, self.sent = bytearray(), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)

    def serve(self):
        with contextlib.suppress(OSError), self.wrap(self.listener.accept()[0]) as stream:
            while b"\r\n\r\n" not in self.received:
                self.received.extend(stream.recv(4096))
            for part in self.parts:
                stream.sendall(part)
                self.sent += 1
                time.sleep(self.pause)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join(PATIENCE_S)
        self.listener.close()

    def connect(self, *_):
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)


def fetch_from(server):
    with server:
        return remote.fetch(URL, {HOST}, resolving("93.184.216.34"), server.connect)


def answer(body, status="200 OK", kind="image/png", *headers):
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def test_an_image_is_fetched():
    server = Server(answer(png()))
    assert fetch_from(server) == png()
    head = server.received.decode().split("\r\n")
    assert head[0] == "GET /a/cat.png?size=2 HTTP/1.1"
    assert f"Host: {HOST}" in head and not [line for line in head if line.lower().startswith("cookie")]


@pytest.mark.parametrize(
    "parts",
    [
        (answer(png(), "302 Found", "image/png", "Location: http://169.254.169.254/"),),
        (answer(png(), "404 Not Found"),),
        (answer(b"<html>", kind="text/html"),),
        (answer(b"<html>"),),  # says image/png
        (answer(png(), "200 OK", "image/png", "Content-Encoding: gzip"),),
        (answer(png())[:-20],),  # ends before its length
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 9999999999\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n", *([bytes(2**20)] * 8)),  # no length, and no end
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000,),
        (b"not HTTP at all\r\n\r\n",),
        (b"",),
    ],
)
def test_anything_but_an_image_is_refused(parts):
    with pytest.raises(Refused):
        fetch_from(Server(*parts))


@pytest.mark.parametrize("start", [0, 80])
def test_a_server_that_drips_is_cut_off(start, monkeypatch):
    """In the head or in the body of a good answer: each read would be in time, all of them together are not."""
    monkeypatch.setattr(remote, "TIME_LIMIT_S", 0.3)
    good = answer(png())
    drip = [good[position : position + 1] for position in range(start, start + 40)]
    server = Server(good[:start], *drip, good[start + 40 :], pause=0.05)
    with pytest.raises(Refused):
        fetch_from(server)
    assert 3 < server.sent < 30  # of 42 parts: then the connection was gone


def test_a_server_that_cannot_prove_its_name_is_refused(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (tmp_path / "server.pem").write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    server = Server(answer(png()), wrap=lambda stream: context.wrap_socket(stream, server_side=True))
    server.connect = lambda _, host, deadline: remote.encrypted(["127.0.0.1"], host, deadline, server.port)
    with pytest.raises(Refused):
        fetch_from(server)
    assert not server.received
