"""Jobs kept to themselves: their own /opt/ml, no network where they ask for none; and the truth where it cannot be."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from local_sagemaker.sandbox import isolation
from local_sagemaker.sandbox.isolation import Isolation
from local_sagemaker.sandbox.process import JobProcess, output_path
from local_sagemaker.settings import Settings
from local_sagemaker.wire.errors import ApiError
from tests.local_sagemaker.harness import IMAGE, REPOSITORY, ROLE, Server, has_ended, training_request
from tests.object_store import free_ports
from tests.waiting import PATIENCE_S, wait_until

NOWHERE = Isolation(mounts=False, networks=False, problem="unshare: Operation not permitted")

#: Everybody keeps their id in a user namespace; root has the other way too.
METHODS = ["root", "user"] if os.geteuid() == 0 else ["user"]


@pytest.fixture(params=METHODS)
def isolated(request: pytest.FixtureRequest) -> Isolation:
    found = isolation._try(request.param)
    if not (found.mounts and found.networks):
        pytest.skip(f"this machine forbids namespaces: {found.problem}")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    return tmp_path / "job"


def shell(command: list[str], cwd: Path = REPOSITORY) -> str:
    process = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=PATIENCE_S)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_job_sees_its_own_folder_at_opt_ml(isolated: Isolation, tmp_path: Path) -> None:
    before = sorted(os.listdir("/opt"))
    jobs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        script = f"echo {name} > /opt/ml/name; sleep 0.3; cat /opt/ml/name"
        command = isolated.command(
            ["sh", "-c", script], mounts={"/opt/ml": tmp_path / name}, network_isolation=False
        )  # fmt: skip
        jobs.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    assert [job.communicate(timeout=PATIENCE_S)[0] for job in jobs] == ["one\n", "two\n"]
    assert (tmp_path / "one/name").read_text() == "one\n"
    assert sorted(os.listdir("/opt")) == before


@pytest.mark.parametrize(
    ("program", "text", "mode", "code", "why"),
    [
        ("missing.sh", None, 0, 127, "does not exist"),
        (
            "plain.sh",
            "#!/bin/sh\n",
            0o644,
            126,
            "is not executable (files from S3 never are); put its interpreter before it",
        ),
        ("windows.sh", "#!/bin/sh\r\n", 0o755, 127, "asks in its #! line for '/bin/sh\\r', which does not exist"),
        ("..", None, 0, 126, "is a folder"),
        ("data", "{}", 0o755, 126, "Exec format error"),
    ],
)
def test_program_that_cannot_run_is_told(
    isolated: Isolation, folder: Path, program: str, text: str | None, mode: int, code: int, why: str
) -> None:
    if text is not None:
        (folder / program).write_bytes(text.encode())
        (folder / program).chmod(mode)
    command = isolated.command([f"/opt/ml/{program}"], mounts={"/opt/ml": folder}, network_isolation=False)
    process = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert process.returncode == code
    assert process.stderr.startswith(f"local_sagemaker: /opt/ml/{program} ") and why in process.stderr


def test_what_lies_beside_stays_visible(isolated: Isolation, folder: Path, tmp_path: Path) -> None:
    """The machine's /opt may hold the interpreter; here a folder stands in for /opt."""
    opt = tmp_path / "opt"
    (opt / "venv/bin").mkdir(parents=True)
    (opt / "venv/bin/tool").write_text("tool")
    (opt / "file").write_text("file")
    (opt / "link").symlink_to("venv/bin")
    command = isolated.command(
        ["sh", "-c", f"cat {opt}/venv/bin/tool {opt}/file {opt}/link/tool; echo x >> {opt}/venv/bin/tool; ls {opt}"],
        mounts={str(opt / "ml"): folder},
        network_isolation=False,
    )
    assert shell(command) == "toolfiletoolfile\nlink\nml\nvenv"
    assert (opt / "venv/bin/tool").read_text() == "toolx\n"
    assert sorted(path.name for path in opt.iterdir()) == ["file", "link", "venv"]


def test_path_below_nothing_is_made_for_the_job_alone(isolated: Isolation, folder: Path) -> None:
    target = "/no-such-folder/in/here"
    command = isolated.command(
        ["sh", "-c", f"pwd; echo x > {target}/x; ls -A / {folder}; cat /proc/self/comm"],
        mounts={target: folder},
        network_isolation=False,
    )
    seen = shell(command, cwd=folder).split()
    assert seen[0] == target and set(os.listdir("/")) <= set(seen) and seen[-2:] == ["x", "cat"]
    assert (folder / "x").exists() and not Path("/no-such-folder").exists()


def test_mounts_may_lie_in_each_other(isolated: Isolation, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input/data").touch()
    mounts = {"/opt/ml/processing/input": tmp_path / "input", "/opt/ml": folder}
    command = isolated.command(["ls", "/opt/ml/processing/input"], mounts=mounts, network_isolation=False)
    assert shell(command) == "data"


def test_read_only_folder_cannot_be_written(isolated: Isolation, folder: Path) -> None:
    (folder / "model").mkdir()
    command = isolated.command(
        ["sh", "-c", "echo x > /opt/ml/x && ! echo x > /opt/ml/model/x"],
        mounts={"/opt/ml": folder, "/opt/ml/model": folder / "model"},
        network_isolation=False,
        read_only={"/opt/ml/model"},
    )
    shell(command)
    assert (folder / "x").exists() and not (folder / "model/x").exists()


def test_job_starts_where_it_sees_its_folder(isolated: Isolation, folder: Path) -> None:
    (folder / "code").mkdir()
    command = isolated.command(["pwd"], mounts={"/opt/ml": folder}, network_isolation=False)
    assert shell(command, cwd=folder / "code") == "/opt/ml/code"


def test_isolated_job_reaches_nothing_but_itself(isolated: Isolation, folder: Path) -> None:
    """Not even this machine's loopback; but its own works, which many libraries talk to themselves over."""
    script = """
import socket, sys
def reached(address):
    try:
        socket.create_connection(address, 2).close()
    except OSError:
        return False
    return True
own = socket.create_server(("127.0.0.1", 0))
print([reached(own.getsockname()), reached(("127.0.0.1", int(sys.argv[1]))), reached(("192.0.2.1", 80))])
"""
    with socket.create_server(("127.0.0.1", 0)) as outside:
        command = [sys.executable, "-c", script, str(outside.getsockname()[1])]
        assert shell(isolated.command(command, mounts={}, network_isolation=True)) == "[True, False, False]"
        assert shell([sys.executable, "-c", script, str(outside.getsockname()[1])]).startswith("[True, True")


LEAVE = """
import ctypes, os, socket, sys
libc, server = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
CLONE_NEWNET, CLONE_NEWUSER = 0x40000000, 0x10000000
def entered(path):
    try:
        return libc.setns(os.open(path, os.O_RDONLY), 0) == 0
    except OSError:
        return False
def made_device():
    try:
        os.mknod("device", 0o60600, os.makedev(7, 0))
    except OSError:
        return False
    return True
def traced(pid):
    return libc.ptrace(0x4206, pid, 0, 0) == 0  # PTRACE_SEIZE, which stops nobody
def opened(path):
    try:
        os.open(path, os.O_RDONLY)
    except OSError:
        return False
    return True
def everything():
    pids = (1, server, os.getppid())
    return {
        "network": any(entered(f"/proc/{pid}/ns/net") for pid in pids),
        "by process": any(libc.setns(os.pidfd_open(pid), CLONE_NEWNET) == 0 for pid in pids),
        "traced": any(traced(pid) for pid in pids),
        "looked into": any(opened(f"/proc/{pid}/{name}") for pid in pids for name in ("fd/0", "root/", "environ")),
        "mounted": libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, None) == 0,
        "device": made_device(),
    }
first = everything()
if libc.unshare(CLONE_NEWUSER) == 0:  # all rights again, but over nothing that was there before
    second = everything()
    first |= {name: first[name] or second[name] for name in second}
print([name for name, done in first.items() if done])
"""


def test_isolated_job_cannot_leave_its_network(isolated: Isolation, folder: Path) -> None:
    command = [sys.executable, "-c", LEAVE, str(os.getpid())]
    assert shell(isolated.command(command, mounts={"/opt/ml": folder}, network_isolation=True), cwd=folder) == "[]"


def test_isolated_job_has_the_rights_of_a_containers_root(isolated: Isolation, folder: Path) -> None:
    command = ["grep", "-E", "^(Cap|NoNewPrivs)", "/proc/self/status"]
    lines = shell(isolated.command(command, mounts={}, network_isolation=True), cwd=folder).splitlines()
    found = {name: int(value, 16) for name, _, value in (line.partition(":") for line in lines)}
    assert found["NoNewPrivs"] == 1
    assert found["CapInh"] == found["CapAmb"] == 0
    assert (found["CapPrm"] | found["CapEff"] | found["CapBnd"]) & ~0b101_1111_1011 == 0


def test_isolated_job_cannot_change_the_machines_settings(isolated: Isolation, folder: Path) -> None:
    """The kernel runs what core_pattern names as root, in the machine's network. It is only asked, never written."""
    ask = "for one in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel /sys/fs/cgroup; do "
    command = ["sh", "-c", ask + "test -w $one && echo $one; done; echo asked"]
    for mounts in ({}, {"/opt/ml": folder}):
        said = shell(isolated.command(command, mounts=mounts, network_isolation=True), cwd=folder)
        assert said.split() == ["asked"]


SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"crash":
            os._exit(3)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def behind_relay(isolated: Isolation, tmp_path: Path) -> Iterator[tuple[JobProcess, int]]:
    """A server without a network, and the port at which it is reached all the same."""
    (port,) = free_ports(1)
    command = isolated.command(
        [sys.executable, "-c", SERVER, str(port)], mounts={}, network_isolation=True, relay_port=port
    )
    process = JobProcess.start(command, environment={}, cwd=tmp_path, folder=tmp_path / "process", nice=0)

    def ready() -> bool:
        assert process.running(), output_path(tmp_path / "process").read_text()
        return post(port, b"ready") is not None

    wait_until(ready, output_path(tmp_path / "process").read_text)
    yield process, port
    process.kill()


def post(port: int, body: bytes) -> bytes | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/", body)
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def test_server_without_network_is_reached_through_its_relay(behind_relay: tuple[JobProcess, int]) -> None:
    _, port = behind_relay
    body = os.urandom(3_000_000)
    assert post(port, body) == body[::-1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    for number in range(3):  # one connection, kept open
        connection.request("POST", "/", str(number))
        assert connection.getresponse().read() == str(number).encode()


def test_relay_ends_with_its_server(behind_relay: tuple[JobProcess, int]) -> None:
    process, port = behind_relay
    assert post(port, b"crash") is None
    assert process.wait(PATIENCE_S) == 3
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 2)


def test_isolated_job_is_stopped_and_told_like_any_other(isolated: Isolation, folder: Path, tmp_path: Path) -> None:
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "print(subprocess.Popen(['sleep', '60'], start_new_session=True, env={}).pid, flush=True)\n"
        "time.sleep(60)"
    )
    command = isolated.command([sys.executable, "-c", script], mounts={"/opt/ml": folder}, network_isolation=True)
    process = JobProcess.start(command, environment={}, cwd=folder, folder=tmp_path / "process", nice=0)
    printed = output_path(tmp_path / "process")
    wait_until(lambda: printed.read_text().endswith("\n"), printed.read_text)
    adopted = JobProcess.adopt(tmp_path / "process")
    assert adopted is not None and adopted.running()
    assert process.stop(20) == 3
    assert has_ended(int(printed.read_text()))


def test_usual_signals_reach_an_isolated_script(isolated: Isolation, folder: Path) -> None:
    command = isolated.command(
        ["grep", "SigIgn", "/proc/self/status"], mounts={"/opt/ml": folder}, network_isolation=False
    )
    assert not int(shell(command).split()[1], 16) & 0x1001000  # SIGPIPE, SIGXFSZ


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_files_of_an_unprivileged_user_stay_theirs() -> None:
    """A server that does not run as root: the script keeps its id, has no rights, and its files are the user's."""
    python, setpriv = shutil.which("python3", path="/usr/bin:/usr/local/bin"), shutil.which("setpriv")
    if not python or not setpriv:
        pytest.skip("an interpreter for everybody and util-linux's setpriv are needed")
    with tempfile.TemporaryDirectory(prefix="local-sagemaker-") as place:
        folder = Path(place, "job")
        folder.mkdir()
        for path in (Path(place), folder):
            path.chmod(0o755)
            os.chown(path, 65534, 65534)
        program = shutil.copy(isolation._ENTER, place)
        nobody = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", python, "-I", "-S", program, "user"]
        script = (
            "import json, os; rights = open('/proc/self/status').read().split('CapEff:')[1].split()[0]\n"
            "print(json.dumps([os.getuid(), rights])); open('/opt/ml/mine', 'w')"
        )
        process = subprocess.run(
            [*nobody, "--bind", str(folder), "/opt/ml", "--no-network", "--", python, "-c", script],
            capture_output=True, text=True, cwd=place,
        )  # fmt: skip
        if "cannot be entered" in process.stderr:
            pytest.skip(f"this machine forbids user namespaces: {process.stderr}")
        assert json.loads(process.stdout) == [65534, "0000000000000000"], process.stderr
        assert (folder / "mine").stat().st_uid == 65534


def test_forbidden_namespaces_are_told_not_crashed_on() -> None:
    """As in an unprivileged container: the machine refuses, the probe says why, and jobs run as they are."""
    script = (
        "from local_sagemaker.sandbox.isolation import Isolation\n"
        "found = Isolation.probe()\n"
        "print([found.mounts, found.networks, found.problem])\n"
        "print(found.command(['true'], mounts={'/opt/ml': '/tmp'}, network_isolation=True))"
    )
    forbid = "for name in user mnt net; do echo 0 > /proc/sys/user/max_${name}_namespaces; done"
    process = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", f"{forbid}; exec {sys.executable} -c \"$0\"", script],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=PATIENCE_S,
    )  # fmt: skip
    if process.returncode != 0 and "unshare" in process.stderr:
        pytest.skip(f"namespaces are forbidden here, and cannot be forbidden for a test: {process.stderr}")
    told = "unshare: No space left on device; user.max_user_namespaces=0 forbids it"
    assert process.stdout.splitlines() == [f"[False, False, '{told}']", "['true']"]


def test_switch_that_forbids_namespaces_is_named(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    assert isolation.forbidding_switch(tmp_path) is None
    (tmp_path / "kernel/apparmor_restrict_unprivileged_userns").write_text("1\n")
    assert isolation.forbidding_switch(tmp_path) == "kernel.apparmor_restrict_unprivileged_userns=1"


def test_folder_behind_a_link_is_seen_at_opt_ml(isolated: Isolation, folder: Path, tmp_path: Path) -> None:
    """A --root that is a link to a bigger disk."""
    (tmp_path / "link").symlink_to(folder)
    command = isolated.command(["pwd"], mounts={"/opt/ml": tmp_path / "link"}, network_isolation=False)
    assert shell(command, cwd=tmp_path / "link") == "/opt/ml"


def test_file_may_be_shown_over_a_file(isolated: Isolation, folder: Path) -> None:
    (folder / "hosts").write_text("127.0.0.1 algo-1\n")
    command = isolated.command(["cat", "/etc/hosts"], mounts={"/etc/hosts": folder / "hosts"}, network_isolation=False)
    assert shell(command) == "127.0.0.1 algo-1"


def test_opt_ml_is_not_covered_when_the_server_lives_there() -> None:
    found = Isolation.probe(needed=[Path("/usr"), Path("/opt/ml/code/.local")])
    assert not found.mounts and "/opt/ml/code/.local lies below /opt/ml" in found.problem


def test_requests_for_network_isolation_are_refused_where_it_cannot_be(make_server: Callable[..., Server]) -> None:
    strict, relaxed = make_server("--isolation", "off"), make_server("--isolation", "off", "--relax-network-isolation")
    with pytest.raises(ClientError, match=r"--isolation is off.*start local_sagemaker with --relax-network-isolation"):
        strict.sagemaker.create_training_job(**training_request(strict, "isolated", "", EnableNetworkIsolation=True))
    with pytest.raises(ClientError, match="--relax-network-isolation"):
        strict.sagemaker.create_model(
            ModelName="isolated", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE}, EnableNetworkIsolation=True
        )
    assert "network isolation cannot be kept (--isolation is off)" in strict.log()
    relaxed.sagemaker.create_training_job(**training_request(relaxed, "waived", "", EnableNetworkIsolation=True))
    answer = relaxed.wait(
        lambda: relaxed.sagemaker.describe_training_job(TrainingJobName="waived"), "TrainingJobStatus"
    )
    assert answer["TrainingJobStatus"] == "Completed", answer


def test_nothing_is_tried_when_it_is_off() -> None:
    found = Isolation.probe("off")
    assert (found.mounts, found.networks) == (False, False)
    assert found.command(["true"], mounts={"/opt/ml": Path("/tmp")}, network_isolation=True) == ["true"]
    assert found.base(Path("/jobs/opt/ml")) == Path("/jobs/opt/ml")


def test_network_isolation_that_cannot_be_kept_is_refused_or_waived(tmp_path: Path) -> None:
    strict = Settings(root=tmp_path, access_key_id="id", secret_access_key="secret")
    with pytest.raises(ApiError, match=r"Operation not permitted.*--relax-network-isolation") as caught:
        NOWHERE.check_network_isolation(strict)
    assert caught.value.code == "ValidationException"
    relaxed = Settings(root=tmp_path, access_key_id="id", secret_access_key="secret", relax_network_isolation=True)
    assert "has no effect" in str(NOWHERE.check_network_isolation(relaxed))
