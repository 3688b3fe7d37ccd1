"""A process that judges pictures, or shows them small: one JSON line in for each file, one out.

Decoders are programs that strangers' files steer. One that takes too much memory raises here; one that takes too much
of the processor, or crashes, takes this process with it and nothing else: `verify_pool` says so of the file, and goes
on with another process.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retraining.dataset.pictures.glimpse import glimpse
from retraining.dataset.pictures.verify import Rejected, VerifiedImage, take_turns, verify_image
from retraining.dataset.stamp import Stamp, stamp_of


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one process."""

    memory_bytes: int
    cpu_s: float
    """For one picture."""

    def arguments(self) -> list[str]:
        return [str(self.memory_bytes), str(self.cpu_s)]


LIMITS = Limits(memory_bytes=3 * 1024**3, cpu_s=120)
"""A picture of 120 megapixels takes about 300 MB, and one of twelve scans about 20 s."""


MOST_WRITTEN_BYTES = 64 * 1024**2
"""To one file, by a decoder that does not stop complaining; a converted picture has at most 25 MiB."""


class FileTurn:
    """One process at a time is within it, of those that opened the same file."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")

    def __enter__(self) -> None:
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self.file, fcntl.LOCK_UN)


def main() -> None:
    """Arguments: the folder for converted pictures, where large ones also take turns; and the limits."""
    scratch, limits = Path(sys.argv[1]), Limits(memory_bytes=int(sys.argv[2]), cpu_s=float(sys.argv[3]))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this decides
    take_turns(FileTurn(scratch / "turn"))
    complaint = _hear_decoders(scratch)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_WRITTEN_BYTES, MOST_WRITTEN_BYTES))
    for line in sys.stdin:
        # A decoder does not come back to Python to be told: SIGPROF, which nobody handles, ends the process.
        signal.setitimer(signal.ITIMER_PROF, limits.cpu_s)
        try:
            asked = json.loads(line)
            if isinstance(asked, str):
                answer = judge(Path(asked), scratch, complaint)
            else:
                answer = look(Path(asked["glimpse"]))
                complaint()
        except OSError as error:  # of the disk: no fault of the picture
            answer = {"failed": f"{error.strerror or error}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), flush=True)


def judge(path: Path, scratch: Path, complaint: Callable[[], str]) -> dict[str, Any]:
    """What was found, and the file's stamp if it was the same before and after."""
    before = _stamp(path)
    found = verify_image(path, scratch)
    if (said := complaint()) and isinstance(found, VerifiedImage) and found.original:
        found = Rejected(code="CORRUPT", detail=said, sha256=found.original.sha256)
    key = "image" if isinstance(found, VerifiedImage) else "rejected"
    return {key: asdict(found), "stamp": before if before == _stamp(path) else None}


def look(path: Path) -> dict[str, Any]:
    """A small picture of a file that was kept out, in base64; None where there is nothing to see."""
    picture = glimpse(path.read_bytes())
    return {"glimpse": base64.b64encode(picture).decode() if picture else None}


def _hear_decoders(scratch: Path) -> Callable[[], str]:
    """What a decoder said of damaged pixels since it was last asked, and made up itself.

    libtiff goes on in a damaged fax and tells nobody but the error output, a line for each row; there it would drown
    a log. Python's own errors still go where they went.
    """
    sys.stderr = os.fdopen(os.dup(2), "w")
    heard = os.open(scratch / f"heard-{os.getpid()}", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(heard, 2)

    def complaint() -> str:
        if not os.fstat(heard).st_size:
            return ""
        lines = os.pread(heard, 4096, 0).decode(errors="replace").splitlines()
        os.ftruncate(heard, 0)
        return next((line for line in lines if line.startswith("Fax")), "")

    return complaint


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp_of(os.stat(path))
    except OSError:
        return None


if __name__ == "__main__":
    main()
