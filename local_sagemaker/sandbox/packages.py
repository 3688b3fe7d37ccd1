"""The packages that a job's requirements.txt asks for beyond what its interpreter has.

They go into an environment of their own that also sees the interpreter's packages. It is built once for the same
interpreter and the same demand, in its place, and counts from the moment its last file, `complete`, is written: one
that was cut off is built anew. pip gets the addresses of its indexes from this server's environment (a user's mirror),
and nothing else of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from local_sagemaker.failures import JobFailedError
from local_sagemaker.sandbox import cores, disk
from local_sagemaker.sandbox.isolation import Isolation
from local_sagemaker.sandbox.process import JobProcess, OutputTail, output_path
from local_sagemaker.sandbox.requirements import Packages, Requirements

INSTALL_TIMEOUT_S = 1800.0

_POLL_S = 0.1
_LAST_LINES = 15
_MAX_SAID_BYTES = 4 * 2**20
_UNUSED_S = 30 * 86400.0

_PIP_VARIABLES = (
    "INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "TRUSTED_HOST", "CERT", "CLIENT_CERT", "PROXY",
    "TIMEOUT", "DEFAULT_TIMEOUT", "RETRIES", "CONFIG_FILE", "CACHE_DIR", "CONSTRAINT", "PREFER_BINARY", "ONLY_BINARY",
    "NO_BINARY", "PRE",
)  # fmt: skip
_VARIABLES = (
    *(f"PIP_{name}" for name in _PIP_VARIABLES),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
)


# What ensurepip does, in a tenth of its time: a wheel of pure Python is installed by unpacking it.
_BRING_PIP = """
import ensurepip, pathlib, sysconfig, zipfile
folders = [pathlib.Path(ensurepip.__file__).parent / "_bundled"]
if shared := sysconfig.get_config_var("WHEEL_PKG_DIR"):
    folders.append(pathlib.Path(shared))
wheels = [path for folder in folders for name in ("pip", "setuptools") for path in folder.glob(name + "-*.whl")]
for wheel in wheels:
    zipfile.ZipFile(wheel).extractall(sysconfig.get_path("purelib"))
if not wheels:
    raise SystemExit("ensurepip brings no pip")
"""


class StoppedError(JobFailedError):
    """Nobody waits for the installation any more."""


def interpreter_for(
    root: Path,
    isolation: Isolation,
    interpreter: str,
    requirements: Path,
    say: Callable[[str], None],
    *,
    network_isolation: bool = False,
    stop: threading.Event | None = None,
    timeout_s: float = INSTALL_TIMEOUT_S,
) -> str:
    """An interpreter that satisfies requirements.txt: the one given where it does, else one in an environment for it.

    `root` is the server's folder; `say` gets lines for the job's log. With network isolation pip has no network either,
    as in a container. Raises JobFailedError when the packages cannot be installed within `timeout_s` seconds,
    StoppedError when `stop` was set.
    """
    wanted = Requirements.read(requirements)
    packages = Packages.of(interpreter)
    missing = wanted.missing(packages)
    if not missing:
        return interpreter
    key = hashlib.sha256(f"{interpreter}\n{packages.markers}\n{packages.site}\n{wanted.digest()}".encode()).hexdigest()
    environment = Environment(isolation, root / "environments" / key[:16], interpreter, packages)
    deadline = time.monotonic() + timeout_s
    with environment.locked(deadline, stop):
        if not environment.complete():
            say(f"installing requirements.txt into an environment of its own; not there yet: {', '.join(missing)}")
            started = time.monotonic()
            environment.build(requirements, say, deadline, stop, network_isolation=network_isolation)
            say(f"requirements.txt is installed, after {time.monotonic() - started:.1f} s")
        environment.use()
    return str(environment.interpreter)


def end_orphans(root: Path) -> None:
    """At the start of a server: end the installations that an earlier one left behind."""
    for folder in (root / "environments").glob("*.pip"):
        if process := JobProcess.adopt(folder):
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


class Environment:
    """One folder below root/environments."""

    def __init__(self, isolation: Isolation, folder: Path, parent: str, packages: Packages) -> None:
        self._isolation = isolation
        self._folder = folder
        self._parent = parent
        self._packages = packages
        self._pip = folder.with_name(f"{folder.name}.pip")
        self.interpreter = folder / "bin/python"

    @contextlib.contextmanager
    def locked(self, deadline: float, stop: threading.Event | None) -> Iterator[None]:
        """Hold it against other jobs; the lock goes with this process, however that ends."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        with self._folder.with_name(f"{self._folder.name}.lock").open("ab") as lock:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                _check(deadline, stop)
                time.sleep(_POLL_S)
            yield

    def complete(self) -> bool:
        return (self._folder / "complete").exists() and self.interpreter.exists()

    def use(self) -> None:
        """Remember that it is in use, and remove those that have not been for a month."""
        os.utime(self._folder / "complete")
        oldest = time.time() - _UNUSED_S
        for marker in self._folder.parent.glob("*/complete"):
            with contextlib.suppress(OSError):
                if marker.stat().st_mtime < oldest:
                    marker.unlink()
                    shutil.rmtree(marker.parent, ignore_errors=True)

    def build(
        self,
        requirements: Path,
        say: Callable[[str], None],
        deadline: float,
        stop: threading.Event | None,
        *,
        network_isolation: bool,
    ) -> None:
        """Make the folder anew, whatever an earlier attempt has left of it."""
        self._remove()
        disk.require(self._folder.parent, 0, "an environment for requirements.txt")
        try:
            venv = [self._parent, "-I", "-m", "venv", "--without-pip", str(self._folder)]
            for step in (venv, [str(self.interpreter), "-I", "-c", _BRING_PIP]):
                self._run(step, self._folder.parent, None, deadline, stop)
            self._show_parent()
            install = [str(self.interpreter), "-m", "pip", "install", "--no-input", "-r", str(requirements)]
            install = self._isolation.command(install, mounts={}, network_isolation=network_isolation)
            self._run(install, requirements.parent, say, deadline, stop)
            (self._folder / "complete").touch()
        except BaseException:
            self._remove()
            raise
        finally:
            shutil.rmtree(self._pip, ignore_errors=True)

    def _remove(self) -> None:
        for folder in (self._folder, self._pip):
            shutil.rmtree(folder, ignore_errors=True)

    def _show_parent(self) -> None:
        """Let the environment see what its parent sees, behind its own packages."""
        (self._folder / "parent").write_text(self._parent)
        (own,) = self._folder.glob("lib/python*/site-packages")
        lines = [f"import site; site.addsitedir({folder!r})\n" for folder in self._packages.site]
        (own / "_parent.pth").write_text("".join(lines))

    def _run(
        self,
        command: list[str],
        cwd: Path,
        say: Callable[[str], None] | None,
        deadline: float,
        stop: threading.Event | None,
    ) -> None:
        """Run a step to its end. Raises JobFailedError with its last lines when it fails."""
        shutil.rmtree(self._pip, ignore_errors=True)
        process = JobProcess.start(
            command, environment=self._variables(), cwd=cwd, folder=self._pip, nice=cores.NICE_TRAINING
        )
        tail, last, said_bytes = OutputTail(output_path(self._pip)), [""], 0
        try:
            code = None
            while code is None:
                code = process.wait(_POLL_S)
                for line in tail.all_lines(final=code is not None):
                    last = [*last, line][-_LAST_LINES:]
                    said_bytes += len(line)
                    if say and said_bytes <= _MAX_SAID_BYTES:
                        say(line)
                if code is None:
                    _check(deadline, stop)
                    self._check_room()
        finally:
            process.kill()
        if code != 0:
            words = "\n".join(last).strip()[-600:]
            text = f'ExitCode {code}\nErrorMessage "{words}"\nCommand "{" ".join(command[-6:])}"'
            raise JobFailedError(f"AlgorithmError: InstallRequirementsError:\n{text}")

    def _check_room(self) -> None:
        if disk.free_bytes(self._folder.parent) < disk.RESERVED_BYTES:
            raise JobFailedError("ClientError: installing requirements.txt fills the disk; free some of it")

    def _variables(self) -> dict[str, str]:
        temporary = self._pip / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        defaults = {"PIP_CACHE_DIR": str(self._folder.parent / "cache"), "PIP_RETRIES": "2"}
        for name in (".config/pip/pip.conf", ".pip/pip.conf"):
            if (config := Path.home() / name).is_file():
                defaults["PIP_CONFIG_FILE"] = str(config)
        return {
            **defaults,
            **{name: os.environ[name] for name in _VARIABLES if name in os.environ},
            "PATH": f"{self._folder / 'bin'}:{os.defpath}",
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
        }


def _check(deadline: float, stop: threading.Event | None) -> None:
    if stop and stop.is_set():
        raise StoppedError("InternalServerError: the job was stopped while requirements.txt was being installed")
    if time.monotonic() > deadline:
        raise JobFailedError(
            "AlgorithmError: InstallRequirementsError: pip did not come to an end within the time limit"
        )
