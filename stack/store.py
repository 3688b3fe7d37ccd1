"""The object store: SeaweedFS as one process, each of its doors closed but S3's, which asks for a signature.

`store_keys` makes what the doors ask for. gRPC is also spoken over sockets whose names are fixed, in a folder where
everybody may take a name first (/tmp); who did would be dialled in the store's place. He learns nothing without a
certificate, and a port whose name is taken is left out here, so that he cannot keep the store from starting either.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from stack import ports, store_keys
from stack.errors import StackError
from stack.settings import GRPC_OFFSET, STORE_PARTS, Settings

SOCKETS = Path("/tmp")  # as SeaweedFS has it built in
GRPC_PORTS_TRIED = 200
#: Each bucket takes one or more; left to itself the store has as many as the free disk has volumes of full size.
MOST_VOLUMES = 10_000
#: Its heap has 235 MB from the start. A limit near that (GOMEMLIMIT) has Go look for garbage without end, at rest too;
#: a share of it has it look now and then, and keeps a third of what Go's default of 100 would let lie about.
GARBAGE = {"GOGC": "50"}
#: A master that goes on with its Raft log of before, alone as it is, turns in circles from then on: ten times what it
#: takes at rest. It need not: the one volume server tells which volumes there are before any can be written to.
ANEW = "-master.resumeState=false"


def data(settings: Settings) -> Path:
    return settings.state / "s3"


def keys(settings: Settings) -> Path:
    return settings.state / "store-keys"


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Without what would change the store's configuration: a WEED_ variable wins over the file with its keys."""
    kept = {name: value for name, value in given.items() if not name.startswith(("WEED_", "S3_"))}
    return kept | GARBAGE


def prepare(settings: Settings) -> None:
    """Before each start, and only then: a running store reads its keys again from time to time."""
    data(settings).mkdir(parents=True, exist_ok=True)
    store_keys.make(keys(settings))


def command(settings: Settings, weed: str) -> tuple[str, ...]:
    """To be run in `settings.root`. Loopback only, no telemetry, refusals like S3's."""
    http = dict(zip(STORE_PARTS, range(settings.s3_port, settings.s3_port + len(STORE_PARTS)), strict=True))
    return command_with(
        weed, data=data(settings), keys=keys(settings), cwd=settings.root, http=http, grpc=grpc_ports(http)
    )


def command_with(
    weed: str, *, data: Path, keys: Path, cwd: Path, http: Mapping[str, int], grpc: Mapping[str, int]
) -> tuple[str, ...]:
    # Relative: it takes a $ in this option for a variable, and a socket's path may have 107 bytes.
    near = os.path.relpath(keys, cwd)
    return (
        *(weed, "-logtostderr=true", f"-config_dir={near}", "mini"),
        f"-dir={data}",
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-{_option(part)}.port={port}" for part, port in http.items()),
        *(f"-{_option(part)}.port.grpc={port}" for part, port in grpc.items()),
        *(f"-{part}.localSocket={near}/{part}.sock" for part in ("s3", "filer")),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"),
        *("-master.telemetry=false", ANEW, "-disableHttp", f"-volume.max={MOST_VOLUMES}"),
        *("-s3.allowDeleteBucketNotEmpty=false", "-s3.autoCreateBucket=false", "-s3.concurrentUploadLimitMB=64"),
    )


def grpc_ports(
    http: Mapping[str, int], sockets: Path = SOCKETS, is_free: Callable[[int], bool] = ports.is_free
) -> dict[str, int]:
    """A gRPC port for each part: 10,000 above its own, or higher where somebody else has the name of its socket.

    Raises StackError where none of many names is left.
    """
    highest = max(http.values()) + GRPC_OFFSET
    found: dict[str, int] = {}
    for part, port in http.items():
        usual = port + GRPC_OFFSET
        others = range(highest + 1, min(highest + 1 + GRPC_PORTS_TRIED, 65_536))
        for candidate in (usual, *others):
            name = sockets / f"seaweedfs-{_option(part)}-grpc-{candidate}.sock"
            if (
                candidate not in found.values()
                and not _somebody_elses(name)
                and (candidate == usual or is_free(candidate))
            ):
                found[part] = candidate
                break
        else:
            raise StackError(
                f"Another user of this machine keeps the store from starting: the sockets of its part {part} "
                f"({sockets}/seaweedfs-{_option(part)}-grpc-{usual}.sock and {len(others)} more) are theirs. "
                "Have them removed, or move the store with S3_PORT, for example: "
                f"make up S3_PORT={http['S3'] + 1000}"
            )
    return found


def _somebody_elses(socket: Path) -> bool:
    """Whether it is there and cannot be replaced: in a folder like /tmp, only its owner and root may."""
    try:
        return os.geteuid() not in (0, os.lstat(socket).st_uid)
    except FileNotFoundError:
        return False


def _option(part: str) -> str:
    return part.lower()
