"""What a training that watched itself left behind: debug-output/ and profiler-output/, mostly within an output.tar.gz.

SageMaker packs SM_OUTPUT_DATA_DIR into <S3OutputPath>/<job>/output/output.tar.gz when a job has ended, well or not. The
archive is the work of whatever ran in that job, so it is read as a stream, within a bound, and nothing of it is let out
of the folder that it is unpacked to: links, absolute names and `..` are refused, and what is in neither folder is left
alone. Everything is unpacked or nothing.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from recordings.storage import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import IO

ARCHIVE = "output.tar.gz"
# Where a training records what happens in it, below SM_OUTPUT_DATA_DIR. Whether it does is no hyperparameter: the same
# training may be watched or not, and go on watched in another way.
DEBUG_OUTPUT, PROFILER_OUTPUT = "debug-output", "profiler-output"
MOST_BYTES = 100 * 2**30  # unpacked; SageMaker itself bounds only the volume


class Refused(Exception):
    """Of an archive that is whole, but not what may be unpacked."""


class UnusableOutput(Exception):
    """There is no output, or it is no archive that may be unpacked; the message names it, and the likely cause."""


@contextmanager
def opened(place: Path | str, most_bytes: int = MOST_BYTES) -> Iterator[tuple[str, Path]]:
    """A training's output -> (where it is said to be, folder with its parts), as long as the context lasts.

    `place` is an archive, a folder with one, or a folder as such an archive holds; a Path or an s3:// URI.
    """
    uri = str(place)
    if uri.startswith("s3://"):
        with from_bucket(uri, most_bytes) as found:
            yield found
        return
    path = Path(place)
    archive = path / ARCHIVE if (path / ARCHIVE).is_file() else path
    if archive.is_dir():
        yield str(archive), archive
        return
    with unpacked(archive, lambda: archive.open("rb"), most_bytes) as folder:
        yield str(archive), folder


@contextmanager
def from_bucket(uri: str, most_bytes: int) -> Iterator[tuple[str, Path]]:
    """The same of an archive in S3, or of a prefix that holds one or the parts."""
    packed = uri.endswith((".tar.gz", ".tgz", ".tar"))
    prefix, _, name = uri.rpartition("/") if packed else (uri, "/", ARCHIVE)
    bucket = Bucket(prefix)
    try:
        packed = packed or bucket.size(name) >= 0
    except Exception as error:  # S3 has many ways not to answer
        raise UnusableOutput(f"'{uri}' cannot be read: {error}") from error
    place = f"{bucket}/{name}" if packed else str(bucket)
    if packed:
        with unpacked(place, lambda: bucket.open(name), most_bytes) as folder:
            yield place, folder
        return
    with tempfile.TemporaryDirectory(prefix="training-output-") as text:
        for part in (DEBUG_OUTPUT, PROFILER_OUTPUT):
            copy(bucket, part, Path(text))
        yield place, Path(text)


def copy(bucket: Bucket, name: str, folder: Path) -> None:
    """What lies below a prefix, which may be nothing."""
    for entry in bucket.walk(name):
        path = folder / inside(entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bucket.read(entry))


@contextmanager
def unpacked(
    place: Path | str, open_archive: Callable[[], AbstractContextManager[IO[bytes]]], most_bytes: int
) -> Iterator[Path]:
    """The parts of an archive in a folder that is there for as long as the context lasts."""
    beside = place.parent if isinstance(place, Path) and os.access(place.parent, os.W_OK) else None
    folder = tempfile.mkdtemp(prefix=".training-output-", dir=beside)  # a volume that holds one holds the other
    try:
        try:
            with open_archive() as file, tarfile.open(fileobj=file, mode="r|*") as archive:
                unpack(archive, Path(folder), most_bytes)
        except FileNotFoundError as error:
            raise UnusableOutput(
                f"there is no '{place}'; SageMaker makes it of SM_OUTPUT_DATA_DIR when a job ends, unless that folder "
                "is empty: did the training start at all?"
            ) from error
        except Refused as error:
            raise UnusableOutput(f"'{place}' is not unpacked: {error}") from error
        except Exception as error:  # whatever bytes can do to gzip and tar, disks and S3
            raise UnusableOutput(f"'{place}' is not a whole archive: {error!r}; was its upload broken off?") from error
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unpack(archive: tarfile.TarFile, folder: Path, most_bytes: int) -> None:
    """The two parts of an open archive. Raises Refused for a member that would leave the folder, or is too much."""
    size = 0
    for member in archive:
        name = inside(member.name)
        if not name.parts or name.parts[0] not in (DEBUG_OUTPUT, PROFILER_OUTPUT):
            continue
        if not (member.isfile() or member.isdir()):
            raise Refused(f"its member '{member.name}' is a link or a device; only files and folders are taken")
        if member.isdir():
            (folder / name).mkdir(parents=True, exist_ok=True)
            continue
        size += member.size
        if size > most_bytes:
            raise Refused(f"it holds more than {most_bytes:,} bytes; save fewer tensors, or reductions of them")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        source = archive.extractfile(member)
        assert source is not None  # of a file
        with source, (folder / name).open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)


def inside(name: str) -> PurePosixPath:
    """The path of a member, which must lie below wherever it is put."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise Refused(f"its member '{name}' would lie outside of the folder")
    return path
