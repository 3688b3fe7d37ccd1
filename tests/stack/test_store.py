"""The store as the stack starts it, and a stranger at each of its doors."""

from __future__ import annotations

import os
import re
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
import psutil
import pytest

from stack import store, store_keys
from stack.errors import StackError
from stack.settings import GRPC_OFFSET, STORE_PARTS, Settings
from tests import object_store, stranger
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow

WEED = object_store.WEED
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS_FRAME = 4
FOREIGN = "Origin: https://elsewhere.test"
REQUESTS = (
    *("GET /", "GET /status", "GET /cluster/status", "GET /dir/assign", "GET /vol/grow?count=1", "GET /ui/index.html"),
    *(
        "GET /dir/status",
        "GET /dir/lookup?volumeId=1",
        "GET /metrics",
        "GET /buckets/",
        "GET /1,01637037d6",
        "GET /3,1",
    ),
    *("POST /1,01637037d6", "POST /submit", "PUT /buckets/doors/evil", "DELETE /1,01637037d6", "POST /admin/vacuum"),
)


@dataclass(frozen=True)
class Running:
    endpoint: str
    folder: Path
    ports: dict[str, int]

    @property
    def client(self) -> Any:
        return boto3.client("s3", endpoint_url=self.endpoint, **object_store.CLIENT)

    @property
    def grpc(self) -> list[int]:
        return [port + GRPC_OFFSET for port in self.ports.values()]

    @property
    def inner_http(self) -> list[int]:
        return [port for part, port in self.ports.items() if part != "S3"]

    @property
    def places(self) -> list[str]:
        """Where `weed shell` finds it."""
        parts = ("master", "filer")
        return [f"-{part}=127.0.0.1:{self.ports[part]}.{self.ports[part] + GRPC_OFFSET}" for part in parts]


@pytest.fixture(scope="module", params=["laptop", "compose"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Started under a loose umask, in a folder whose name means something to shells and to configuration files.

    For compose by what its image runs; where that keeps its data is fixed.
    """
    laptop = request.param == "laptop"
    folder = tmp_path_factory.mktemp("doors") / ('it\'s $HOME "ö"' if laptop else "data")
    folder.mkdir()
    ports = object_store.store_ports()
    starting = object_store.of_the_laptop if laptop else object_store.of_compose
    before = os.umask(0)
    try:
        with object_store.seaweedfs(folder, ports, starting) as endpoint:
            os.umask(before)
            found = Running(endpoint, folder, ports)
            found.client.create_bucket(Bucket="doors")
            found.client.put_object(Bucket="doors", Key="object", Body=b"what is inside")
            yield found
    finally:
        os.umask(before)


def answer(port: int, sent: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """The first bytes that come back; none where the door stays shut."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
            connection = context.wrap_socket(plain, server_hostname="127.0.0.1") if context else plain
            connection.sendall(sent)
            return connection.recv(2000)
    except (ssl.SSLError, ConnectionError):
        return b""


def caller(keys: Path | None, protocols: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(protocols)
    if keys:
        context.load_cert_chain(keys / "certificate.pem", keys / "key.pem")
    return context


def request(line: str) -> bytes:
    return (
        f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{FOREIGN}\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx".encode()
    )


def speaks_grpc(found: bytes) -> bool:
    return len(found) > SETTINGS_FRAME and found[3] == SETTINGS_FRAME and found[0] == 0


def is_store_in(folder: Path, process: psutil.Process) -> bool:
    """A process that ends while it is asked, such as the store of another test, is none that runs there."""
    try:
        return process.name() == "weed" and process.cwd() == str(folder)
    except psutil.NoSuchProcess:  # or a zombie
        return False


def test_it_opens_no_other_port_than_those_tried_here(running: Running) -> None:
    (found,) = (process for process in psutil.process_iter() if is_store_in(running.folder, process))
    listening = {entry.laddr for entry in found.net_connections("inet") if entry.status == psutil.CONN_LISTEN}
    assert {port for _, port in listening} == {*running.ports.values(), *running.grpc}
    assert {address for address, _ in listening} == {"127.0.0.1"}


def test_no_grpc_port_hears_a_stranger(running: Running, tmp_path: Path) -> None:
    store_keys.make(tmp_path / "other")
    contexts = [None, caller(None, ["h2"]), caller(tmp_path / "other", ["h2"])]
    found = stranger.asked(
        lambda: [speaks_grpc(answer(port, PREFACE, context)) for port in running.grpc for context in contexts]
    )
    assert found == [False] * len(running.grpc) * len(contexts)


def test_each_grpc_port_hears_who_has_the_key(running: Running) -> None:
    own = caller(running.folder / "keys", ["h2"])
    assert [speaks_grpc(answer(port, PREFACE, own)) for port in running.grpc] == [True] * len(running.grpc)


def test_no_inner_http_port_hears_a_stranger(running: Running, tmp_path: Path) -> None:
    store_keys.make(tmp_path / "other")
    plain = stranger.asked(
        lambda: {answer(port, request(line)).partition(b"\r\n")[0] for port in running.inner_http for line in REQUESTS}
    )
    # By the TLS layer, before the request is looked at; what it has not read of it may reset the connection.
    assert b"HTTP/1.0 400 Bad Request" in plain <= {b"HTTP/1.0 400 Bad Request", b""}
    contexts = [caller(None, ["http/1.1"]), caller(tmp_path / "other", ["http/1.1"])]
    tls = stranger.asked(
        lambda: {answer(port, request("GET /"), context) for port in running.inner_http for context in contexts}
    )
    assert tls == {b""}


def test_the_s3_port_gives_nothing_without_a_signature(running: Running) -> None:
    lines = (
        "GET /",
        "GET /doors",
        "GET /doors/object",
        "PUT /doors/evil",
        "DELETE /doors/object",
        "POST /doors?delete",
    )
    port = running.ports["S3"]
    found = stranger.asked(lambda: {answer(port, request(line)).partition(b"\r\n")[0] for line in lines})
    assert found == {b"HTTP/1.1 403 Forbidden"}


COMMANDS = """fs.cat /buckets/doors/object
s3.configure -user=evil -access_key=evilevil -secret_key=evilevil -actions=Admin -apply
"""


def test_weed_shell_opens_nothing_for_a_stranger(running: Running) -> None:
    said = stranger.said_by(WEED, ["shell", *running.places], COMMANDS, within_s=4)
    assert "what is inside" not in said
    config = botocore.config.Config(retries={"total_max_attempts": 1})
    evil = boto3.client(
        "s3",
        endpoint_url=running.endpoint,
        region_name=object_store.REGION,
        aws_access_key_id="evilevil",
        aws_secret_access_key="evilevil",
        config=config,
    )
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidAccessKeyId"):
        evil.list_buckets()


def test_weed_shell_opens_for_the_owner(running: Running) -> None:
    """Which shows too that the stranger's shell is turned away for want of the key, and of nothing else."""
    assert "what is inside" in owner_told(running, "fs.cat /buckets/doors/object")


def test_buckets_do_not_run_out(running: Running) -> None:
    """Each takes a volume; SeaweedFS's own limit is the free disk over the size of a full one: 40 on a laptop."""
    room = re.search(r"volume:\d+/(\d+)", owner_told(running, "volume.list"))
    assert room and int(room[1]) >= 10_000


def owner_told(running: Running, command: str) -> str:
    return subprocess.run(
        [str(WEED), "-config_dir=keys", "shell", *running.places],
        input=f"{command}\nexit\n",
        cwd=running.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    ).stdout


def test_no_socket_lets_a_stranger_connect(running: Running) -> None:
    sockets = [
        store.SOCKETS / f"seaweedfs-{part.lower()}-grpc-{port + GRPC_OFFSET}.sock"
        for part, port in running.ports.items()
    ]
    inside = [running.folder / "keys" / name for name in ("s3.sock", "filer.sock")]
    assert [stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (*sockets, *inside)] == [0] * 7
    began = (running.folder / "keys").stat().st_mtime  # older ones were left by other stores
    for part in ("filer", "S3"):
        named = store.SOCKETS.glob(f"seaweedfs-*-{running.ports[part]}.sock")
        assert [path.name for path in named if path.stat().st_mtime >= began] == []


def test_the_keys_are_their_owners_only(running: Running) -> None:
    keys = running.folder / "keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir() if path.is_file()}
    assert modes == {0o600}


def test_each_start_makes_new_keys_of_whatever_lay_there(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, state=tmp_path / ".local")
    store.prepare(settings)
    before = (store.keys(settings) / "security.toml").read_text()
    (store.keys(settings) / "key.pem").write_text("broken")
    (store.keys(settings) / "left").mkdir()
    store.prepare(settings)
    assert (store.keys(settings) / "security.toml").read_text() != before
    caller(store.keys(settings), ["h2"])  # reads the pair, and refuses one that does not fit
    assert not (store.keys(settings) / "left").exists()


def test_data_of_a_store_without_keys_stay(tmp_path: Path) -> None:
    """As up to 0.9, where the ports stood open."""
    ports = object_store.store_ports()
    store_keys.make(tmp_path / "keys")
    grpc = store.grpc_ports(ports)
    command = store.command_with(str(WEED), data=tmp_path, keys=tmp_path / "keys", cwd=tmp_path, http=ports, grpc=grpc)
    earlier = [word for word in command if not word.startswith("-config_dir")]
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": object_store.KEY_ID,
        "AWS_SECRET_ACCESS_KEY": object_store.SECRET,
    }
    with (tmp_path / "earlier.log").open("wb") as log:
        process = subprocess.Popen(earlier, env=environment, stdout=log, stderr=log, cwd=tmp_path)
    try:
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{ports['S3']}", **object_store.CLIENT)
        object_store.wait_until_ready(client, tmp_path / "earlier.log")
        client.put_object(Bucket="ready", Key="kept", Body=b"from before")
    finally:
        process.kill()
        process.wait()
    with object_store.seaweedfs(tmp_path, ports):
        assert client.get_object(Bucket="ready", Key="kept")["Body"].read() == b"from before"


def test_the_store_is_not_busy_with_garbage(tmp_path: Path) -> None:
    """Where its memory is limited to what it holds, each few requests have Go look through all of it."""

    def collections() -> int:
        return len(re.findall(r"^gc \d+ @", (tmp_path / "weed.log").read_text(errors="replace"), re.MULTILINE))

    with object_store.seaweedfs(tmp_path, variables={"GODEBUG": "gctrace=1"}) as endpoint:
        client = boto3.client("s3", endpoint_url=endpoint, **object_store.CLIENT)
        client.create_bucket(Bucket="busy")
        before = collections()
        assert before > 0
        for number in range(200):
            client.put_object(Bucket="busy", Key=f"{number}", Body=bytes(20_000))
        assert collections() - before <= 10


def test_the_store_rests_when_started_again(tmp_path: Path) -> None:
    """A master that goes on with its log of before woke 1,700 times a second, 5 % of a core, for ever."""

    def wakes() -> int:
        return sum(
            int(line.split()[1])
            for status in Path(f"/proc/{weed.pid}/task").glob("*/status")
            for line in status.read_text().splitlines()
            if line.startswith("voluntary_ctxt")
        )

    ports = object_store.store_ports()
    with object_store.seaweedfs(tmp_path, ports):
        pass
    with object_store.seaweedfs(tmp_path, ports):
        (weed,) = [child for child in psutil.Process().children() if is_store_in(tmp_path, child)]
        time.sleep(4)  # until it has looked at what is there
        before = wakes()
        time.sleep(3)
        assert wakes() - before < 1_500


HTTP = dict(zip(STORE_PARTS, range(14_333, 14_338), strict=True))


def test_a_socket_name_taken_by_another_user_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seaweedfs-master-grpc-24334.sock").touch()
    (tmp_path / "seaweedfs-master-grpc-24338.sock").symlink_to("nowhere")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    found = store.grpc_ports(HTTP, tmp_path, is_free=lambda port: True)
    usual = {part: port + GRPC_OFFSET for part, port in HTTP.items()}
    assert found == usual | {"master": 24_339}


def test_an_own_socket_of_an_earlier_start_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "seaweedfs-master-grpc-24334.sock").touch()
    assert store.grpc_ports(HTTP, tmp_path)["master"] == 24_334


def test_who_took_all_socket_names_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for port in range(24_333, 24_338 + store.GRPC_PORTS_TRIED):
        (tmp_path / f"seaweedfs-filer-grpc-{port}.sock").touch()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StackError, match=r"Another user .* part filer .* are theirs.*make up S3_PORT=15333"):
        store.grpc_ports(HTTP, tmp_path, is_free=lambda port: True)
