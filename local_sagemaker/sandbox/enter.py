"""A program of its own, run before a job's script: it enters the job's namespaces, then becomes the script.

    python -I -S enter.py user|root [--bind SOURCE TARGET | --bind-read-only SOURCE TARGET]… [--no-network]
                          [--relay PORT] -- COMMAND…

`root` needs the rights for it; `user` takes them from a user namespace in which everybody keeps their own id, and
which has no rights left once the script runs. A TARGET that the machine does not have is made in the namespace alone:
the nearest folder above it is covered by an empty one into which everything is mounted that the folder held. Standard
library only, and little of it: its start is part of every job's start.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import stat
import struct
import sys

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, MS_NODIRATIME = 1, 2, 4, 8, 1024, 2048
MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE, MS_RELATIME = 32, 4096, 16384, 1 << 19, 1 << 21
MNT_DETACH = 2
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

_ST_RELATIME = 4096

PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 23, 24, 38, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MAX_CAPABILITIES = 64
# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE: all below 32.
_KEPT_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10})

# Some of these name a program that the kernel then runs as root, in the machine's network.
_SETTINGS = ("/proc/sys", "/proc/sysrq-trigger", "/sys")

_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> None:
    method, binds, no_network, relay, command = _parse(arguments)
    cwd = os.getcwd()
    listener = socket.create_server(("127.0.0.1", relay), backlog=1024) if relay else None
    settings = _writable_settings() if no_network else []
    _unshare(user=method == "user", mounts=bool(binds or settings), network=no_network)
    if binds or settings:
        _mount(None, "/", None, MS_REC | MS_SLAVE)  # nothing done here shows outside
    if binds:
        _mount_all(binds)
    if settings:
        _protect(settings)
    if no_network:
        _loopback_up()
    if listener:
        _start_relay(listener, relay)
    os.chdir(_inside(cwd, binds))
    if no_network:
        _drop_rights()
    if "PWD" in os.environ:
        os.environ["PWD"] = os.getcwd()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and so would the script
        signal.signal(number, signal.SIG_DFL)
    _become(command)


def _become(command: list[str]) -> None:
    """The codes of a program that cannot be run are a shell's, and a container's."""
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"local_sagemaker: {command[0]} {_why_not(command[0], error)}", file=sys.stderr, flush=True)
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


def _why_not(program: str, error: OSError) -> str:
    if os.path.isdir(program):
        return "is a folder; name a program in it"
    if isinstance(error, PermissionError):
        return "is not executable (files from S3 never are); put its interpreter before it, such as /bin/bash"
    if isinstance(error, FileNotFoundError) and os.path.isfile(program):
        with open(program, "rb") as file:
            wanted = file.readline(200).decode(errors="replace").removeprefix("#!").rstrip("\n")
        return f"asks in its #! line for {wanted!r}, which does not exist; lines must end as on Linux"
    return "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be run: {error.strerror}"


Bind = tuple[str, str, bool]
"""Source, target, whether it is read-only."""


def _parse(arguments: list[str]) -> tuple[str, list[Bind], bool, int, list[str]]:
    method, *rest = arguments
    binds: list[Bind] = []
    no_network, relay = False, 0
    while (word := rest.pop(0)) != "--":
        match word:
            case "--bind" | "--bind-read-only":
                binds.append((os.path.realpath(rest.pop(0)), os.path.normpath(rest.pop(0)), word.endswith("only")))
            case "--no-network":
                no_network = True
            case "--relay":
                relay = int(rest.pop(0))
    return method, sorted(binds, key=lambda bind: bind[1]), no_network, relay, rest


def _unshare(*, user: bool, mounts: bool, network: bool) -> None:
    uid, gid = os.geteuid(), os.getegid()
    flags = (CLONE_NEWUSER if user else 0) | (CLONE_NEWNS if mounts else 0) | (CLONE_NEWNET if network else 0)
    _check(_libc.unshare(flags), "unshare")
    if user:
        for name, content in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(content)


def _mount_all(binds: list[Bind]) -> None:
    """Parents come before what lies in them: the list is sorted by target."""
    ours: list[str] = []
    if any(_ancestor(target) == "/" for _, target, _ in binds):
        _cover_root(staging=next(source for source, _, _ in binds if os.path.isdir(source)))
        ours.append("/")
    # By descriptor, because a target may cover the path of another source.
    sources = [os.open(source, os.O_PATH) for source, _, _ in binds]
    for (_, target, read_only), source in zip(binds, sources, strict=True):
        _make(target, ours)
        _mount(f"/proc/self/fd/{source}", target, None, MS_BIND | MS_REC)
        if read_only:
            _mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | _kept_flags(target))
        ours.append(target)
    for source in sources:
        os.close(source)


def _ancestor(target: str) -> str:
    """The nearest folder at or above a path that is there."""
    while not os.path.exists(target):
        target = os.path.dirname(target)
    return target


def _make(target: str, ours: list[str]) -> None:
    """Make `target` a folder without leaving one on the machine; `ours` are folders that are the namespace's own.

    A file can be shown only over a file that is there, such as /etc/hosts.
    """
    if os.path.isfile(target):
        return
    ancestor = _ancestor(target)
    if ancestor != target and not any(_is_below(ancestor, folder) for folder in ours):
        _cover(ancestor, ancestor)
        ours.append(ancestor)
    os.makedirs(target, exist_ok=True)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _cover(folder: str, place: str) -> None:
    """Mount an empty folder at `place` and, in it, everything that `folder` holds."""
    old = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    names = os.listdir(folder)
    _mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    for name in names:
        source, target = f"/proc/self/fd/{old}/{name}", f"{place}/{name}"
        mode = os.lstat(source).st_mode
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(source), target)
            continue
        if stat.S_ISDIR(mode):
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        _mount(source, target, None, MS_BIND | MS_REC)
    os.close(old)


def _cover_root(staging: str) -> None:
    """The same for `/`, which cannot be covered in place: build it at `staging`, then make that the root."""
    _cover("/", staging)
    os.chdir(staging)
    _check(_libc.pivot_root(b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount of the old root")
    _check(_libc.umount2(os.fsencode(staging), MNT_DETACH), f"umount {staging}")
    os.chdir("/")


def _writable_settings() -> list[str]:
    """None in a container, where they are read-only already, nor for a user who has no rights to write them."""
    if os.geteuid() != 0:
        return []
    return [place for place in _SETTINGS if os.path.exists(place) and not os.statvfs(place).f_flag & MS_RDONLY]


def _protect(settings: list[str]) -> None:
    """Show the machine's settings read-only, with all that is mounted in them."""
    for place in settings:
        _mount(place, place, None, MS_BIND | MS_REC)
    with open("/proc/self/mountinfo") as mounts:
        targets = [line.split()[4] for line in mounts]
    for target in targets:
        if any(_is_below(target, place) for place in settings) and not os.statvfs(target).f_flag & MS_RDONLY:
            _mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | _kept_flags(target))


def _kept_flags(target: str) -> int:
    """The flags a mount has. In a user namespace a remount that drops one of them is refused."""
    found = os.statvfs(target).f_flag
    kept = found & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME)
    return kept | (MS_RELATIME if found & _ST_RELATIME else 0)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(probe, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | IFF_UP, b""))


def _drop_rights() -> None:
    """Keep what a container's root has. With more than that it could enter the machine's network again, trace a process
    that is in it, mount, load a module, or make devices; and no program of the machine gives it back."""
    for capability in range(_MAX_CAPABILITIES):
        if capability in _KEPT_CAPABILITIES or _libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) != 1:
            continue
        dropped = _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        _check(dropped, f"drop capability {capability}")
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; then the same for those above 31
    _check(_libc.capget(header, data), "capget")
    effective, permitted = struct.unpack_from("II", data)
    kept = sum(1 << capability for capability in _KEPT_CAPABILITIES)
    _check(_libc.capset(header, struct.pack("6I", effective & kept, permitted & kept, 0, 0, 0, 0)), "capset")
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def _start_relay(listener: socket.socket, port: int) -> None:
    """Carry connections from the machine's loopback to the namespace's, by a process that is not the script's child.

    A socket stays in the network it was made in: `listener` was made outside, what the relay opens is inside.
    """
    script = os.pidfd_open(os.getpid())
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.close(script)
        listener.close()
        return
    if os.fork() == 0:
        for number in (script, listener.fileno()):
            os.set_inheritable(number, True)
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "relay.py")
        os.execv(sys.executable, [sys.executable, "-I", "-S", program, str(listener.fileno()), str(port), str(script)])
    os._exit(0)


def _inside(cwd: str, binds: list[Bind]) -> str:
    """A path of the machine as the namespace shows it."""
    for source, target, _ in reversed(binds):
        if _is_below(cwd, source):
            return target + cwd[len(source) :]
    return cwd


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if value is None else os.fsencode(value) for value in (source, target, kind, data)]
    _check(_libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(
            f"local_sagemaker: the job's sandbox cannot be entered: {error.strerror or error} {error.filename or ''}"
        )
