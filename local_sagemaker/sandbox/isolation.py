"""What keeps a job to itself: its own folder at /opt/ml, and no network where it asks for none.

Both are Linux namespaces, entered by a small program (enter.py) in front of the job's command. Whether the kernel
allows them is tried once, at the start of the server; where it does not, jobs see the paths of their folder instead.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from local_sagemaker.settings import Settings
from local_sagemaker.wire.errors import validation

CONTAINER_BASE = "/opt/ml"

_ENTER = Path(__file__).with_name("enter.py")
_PROBE_TIMEOUT_S = 5.0

# Ubuntu's, Debian's and everybody's switch, each with the value that forbids.
_SWITCHES = (
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),
    ("kernel.unprivileged_userns_clone", "0"),
    ("user.max_user_namespaces", "0"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Isolation:
    mounts: bool
    """A job can see its own folder at /opt/ml."""
    networks: bool
    """A job can be cut off from every network."""
    method: str = "root"
    """How enter.py gets the right to do it: `root` has it, `user` makes a user namespace."""
    problem: str = ""
    """What stands against it, in the words of what was tried; empty when nothing does."""

    @classmethod
    def probe(cls, mode: str = "auto", *, needed: Iterable[Path] = ()) -> Isolation:
        """What this machine allows: it is really tried. The mode `off` tries nothing and gives neither.

        Jobs need the paths in `needed` by their own names: where one lies below /opt/ml, that cannot be covered.
        """
        if mode == "off":
            return cls(mounts=False, networks=False, problem="--isolation is off")
        methods = (*(("root",) if os.geteuid() == 0 else ()), "user")
        found = []
        for method in methods:
            found.append(_try(method))
            if not found[-1].problem:
                break
        best = max(reversed(found), key=lambda isolation: (isolation.mounts and isolation.networks, isolation.mounts))
        if hidden := [str(path) for path in needed if path.is_relative_to(CONTAINER_BASE)]:
            return dataclasses.replace(best, mounts=False, problem=f"{hidden[0]} lies below {CONTAINER_BASE}")
        return best

    def __str__(self) -> str:
        """For people: what jobs have of it, and what stands against the rest."""
        folder = f"jobs see their own {CONTAINER_BASE}" if self.mounts else "jobs see the paths of their folder"
        network = "network isolation is kept" if self.networks else "network isolation cannot be kept"
        return f"{folder}; {network}" + (f" ({self.problem})" if self.problem else "")

    def command(
        self,
        command: list[str],
        *,
        mounts: Mapping[str, Path],
        network_isolation: bool,
        read_only: Collection[str] = (),
        relay_port: int | None = None,
    ) -> list[str]:
        """`command`, wrapped so that each absolute path in `mounts` shows the folder (or file) given there.

        It is unchanged where nothing is asked for or possible. The command starts in the folder it is started in, by
        the path under which it sees it. Paths in `read_only` (some of those in `mounts`) cannot be written. With
        network isolation, connections to `relay_port` of this machine's loopback reach the same port inside.
        """
        words = []
        for target, source in mounts.items() if self.mounts else ():
            words += ["--bind-read-only" if target in read_only else "--bind", str(source), target]
        if network_isolation and self.networks:
            words += ["--no-network", *(["--relay", str(relay_port)] if relay_port else [])]
        return [sys.executable, "-I", "-S", str(_ENTER), self.method, *words, "--", *command] if words else command

    def base(self, folder: Path) -> Path:
        """Where a job sees the folder that stands in for its /opt/ml."""
        return Path(CONTAINER_BASE) if self.mounts else folder

    def check_network_isolation(self, settings: Settings) -> str | None:
        """For a request with EnableNetworkIsolation: None when it is kept, a line for the log when it is waived.

        Raises a ValidationException where it can neither be kept nor was waived.
        """
        if self.networks:
            return None
        if settings.relax_network_isolation:
            return f"EnableNetworkIsolation has no effect (--relax-network-isolation): {self.problem}"
        raise validation(
            f"EnableNetworkIsolation cannot be kept on this machine ({self.problem}). Leave it out, or start "
            "local_sagemaker with --relax-network-isolation to run such jobs with the network"
        )


def _try(method: str) -> Isolation:
    wanted = Isolation(mounts=True, networks=True, method=method)
    problem = _attempt(wanted, mounts=True, networks=True)
    if not problem:
        return wanted
    without_mounts = _attempt(wanted, mounts=False, networks=True)
    without_networks = _attempt(wanted, mounts=True, networks=False)
    if method == "user" and (switch := forbidding_switch()):
        problem += f"; {switch} forbids it"
    return Isolation(mounts=not without_networks, networks=not without_mounts, method=method, problem=problem)


def forbidding_switch(root: Path = Path("/proc/sys")) -> str | None:
    """The setting of the kernel that keeps unprivileged users from namespaces, as `sysctl` writes it."""
    for name, forbids in _SWITCHES:
        try:
            if (root / name.replace(".", "/")).read_text().strip() == forbids:
                return f"{name}={forbids}"
        except OSError:
            continue
    return None


def _attempt(isolation: Isolation, *, mounts: bool, networks: bool) -> str:
    """Run a command that way; returns why it failed, or nothing."""
    with tempfile.TemporaryDirectory(prefix="local-sagemaker-") as folder:
        (seen := Path(folder, "seen")).touch()
        shown = {CONTAINER_BASE: Path(folder)} if mounts else {}
        command = (
            ["/bin/sh", "-c", f"test -f {CONTAINER_BASE}/seen && : > {CONTAINER_BASE}/seen"] if mounts else ["true"]
        )
        command = isolation.command(command, mounts=shown, network_isolation=networks)
        try:
            process = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, cwd=folder)
        except (OSError, subprocess.SubprocessError) as error:
            return f"namespaces cannot be tried: {error}"
        if process.returncode == 0 and seen.exists():
            return ""
        last = process.stderr.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        return last[0].removeprefix("local_sagemaker: the job's sandbox cannot be entered: ").strip()
