"""A channel of tar shards in WebDataset's layout, as the pipeline's data step writes them -> its images.

    index.json          {"classes": […], "shardlist": [{"url": "train-000000.tar", "nsamples": 800, …}, …], …}
    train-000000.tar    3/0a1b….jpg, 3/0a1b….cls (the number of its class, as text), and so on

Each shard is read once from its beginning to its end, which is what a streamed channel (FastFile) is good at: its
digest is held against the index, each image's is taken, and where it lies is kept. Nothing is unpacked. What is cut,
damaged or none of ours is refused by name, before there is a network.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataset.ignored import ignored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any, BinaryIO

INDEX = "index.json"
KIND, FORMAT = "wids-shard-index-v1", 1
MAX_INDEX_BYTES = 64 * 2**20
BUFFER_BYTES = 2**20
SHARD_NAME = re.compile(r"[a-z]+-[0-9]{6,9}\.tar")
MEMBER_NAME = re.compile(r"(0|[1-9][0-9]{0,5})/([0-9A-Za-z_-]{1,64})\.([0-9a-z]{1,8})")
CLASS = "cls"
WAY_OUT = "; delete the folder 'shards' of this version of the data, and sync again"


class BadShards(ValueError):
    """They are not as the data step wrote them; the message names the file and the way out."""


@dataclass(frozen=True)
class Image:
    """One image, which lies in a shard."""

    label: int
    """Its class, in the order of the data set's."""
    path: Path
    """Where it would lie in a channel of single files."""
    shard: Path
    offset: int
    size: int
    sha256: str

    def read(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True)
class Listed:
    """A shard, as the index tells it."""

    path: Path
    images: int
    size: int
    sha256: str

    def __str__(self) -> str:
        return f"'{self.path.parent.name}/{self.path.name}'"


def are_in(folder: Path) -> bool:
    """Whether a channel holds shards; also those whose index is gone, for no training learns from a bare tar file."""
    if (folder / INDEX).is_file() and _index(folder).get("__kind__") == KIND:
        return True
    entries = [path for path in folder.iterdir() if not ignored(path.name, folder=path.is_dir())]
    return bool(entries) and all(path.suffix == ".tar" and path.is_file() for path in entries)


def classes_of(folder: Path) -> list[str]:
    """In the order of their numbers. Raises BadShards."""
    index = _index(folder)
    classes = index.get("classes")
    if index.get("format") != FORMAT or not isinstance(classes, list) or not all(map(_is_class, classes)):
        raise BadShards(
            f"'{folder.name}/{INDEX}' is none that is read here (format {FORMAT}, with a list of 'classes'); shards of "
            f"other makers are not{WAY_OUT}"
        )
    if len(set(classes)) < len(classes):
        raise BadShards(f"'{folder.name}/{INDEX}' names a class twice{WAY_OUT}")
    return classes


def read_shards(folder: Path, classes: Sequence[str], threads: int = 1) -> list[Image]:
    """All images, in the order that a channel of single files has. Raises BadShards, ValueError for no images."""
    known = classes_of(folder)
    if unknown := [name for name in known if name not in classes]:
        raise ValueError(f"channel '{folder.name}' has classes {unknown}; the data set's classes are {list(classes)}")
    shards = _listed(folder)
    _require_same_files(folder, shards)
    numbers = [classes.index(name) for name in known]
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(lambda listed: _images(listed, known, numbers), shards)
        found = [image for part in parts for image in part]
    if not found:
        raise ValueError(f"channel '{folder.name}' holds no images: its {INDEX} lists none")
    found.sort(key=lambda image: (image.label, image.path.name))
    for one, other in itertools.pairwise(found):
        if one.path == other.path:
            where = " and ".join(sorted({one.shard.name, other.shard.name}))
            raise BadShards(f"channel '{folder.name}' has an image twice, '{_below(one.path)}' in {where}{WAY_OUT}")
    return found


def beside(folder: Path) -> list[Path]:
    """What else lies in a channel of shards."""
    return [path for path in sorted(folder.iterdir()) if path.name != INDEX and path.suffix != ".tar"]


# -- the index --------------------------------------------------------------------------------------------------------


def _index(folder: Path) -> dict[str, Any]:
    """Empty for what is no JSON object."""
    try:
        with (folder / INDEX).open("rb") as file:
            body = file.read(MAX_INDEX_BYTES + 1)
    except OSError as error:
        raise BadShards(f"channel '{folder.name}' holds shards, but no {INDEX}: {error.strerror}{WAY_OUT}") from None
    try:
        index = json.loads(body) if len(body) <= MAX_INDEX_BYTES else None
    except (ValueError, RecursionError):
        index = None
    return index if isinstance(index, dict) else {}


def _is_class(name: object) -> bool:
    """Whether a folder could be called so."""
    plain = isinstance(name, str) and 0 < len(name) <= 255 and not {"/", "\0"} & set(name)
    return plain and not ignored(str(name), folder=True)


def _listed(folder: Path) -> list[Listed]:
    found: dict[str, Listed] = {}
    shards: Any = _index(folder).get("shardlist")
    for shard in shards if isinstance(shards, list) else [shards]:
        try:
            url, images, size, sha256 = (shard[key] for key in ("url", "nsamples", "filesize", "sha256"))
            good = bool(SHARD_NAME.fullmatch(url)) and type(images) is type(size) is int and url not in found
        except (TypeError, KeyError):
            good = False
        if not good:
            raise BadShards(f"'{folder.name}/{INDEX}' lists {shard!a:.200}, which is no shard, or one twice{WAY_OUT}")
        found[url] = Listed(folder / url, images, size, sha256)
    return list(found.values())


def _require_same_files(folder: Path, shards: Sequence[Listed]) -> None:
    there, listed = {path.name for path in folder.glob("*.tar")}, {shard.path.name for shard in shards}
    if missing := sorted(listed - there):
        raise BadShards(
            f"channel '{folder.name}' lacks {_first(missing)}, which its {INDEX} lists: channels must be "
            f"FullyReplicated{WAY_OUT}"
        )
    if foreign := sorted(there - listed):
        raise BadShards(f"channel '{folder.name}' has {_first(foreign)}, which its {INDEX} does not list{WAY_OUT}")


# -- a shard ----------------------------------------------------------------------------------------------------------


class Reading:
    """A shard that is read from its beginning to its end, no further than it should be long."""

    def __init__(self, file: BinaryIO, shard: Listed) -> None:
        self.file, self.shard, self.left, self.at = file, shard, shard.size, 0
        self.digest = hashlib.sha256()
        if (found := file.seek(0, 2)) != shard.size:
            raise self.bad(f"has {found} bytes, {INDEX} tells {shard.size}: it was cut, or is another one")
        file.seek(0)

    def bad(self, what: str) -> BadShards:
        return BadShards(f"{self.shard} {what}{WAY_OUT}")

    def take(self, size: int) -> bytes:
        """The next bytes."""
        body = self.file.read(size)
        self.digest.update(body)
        self.at, self.left = self.at + len(body), self.left - len(body)
        if len(body) < size:
            raise self.bad(f"is cut at byte {self.at}")
        return body

    def parts(self, size: int) -> Iterator[bytes]:
        """A member's bytes, a buffer full at a time, and past what fills its last block."""
        for start in range(0, size, BUFFER_BYTES):
            yield self.take(min(BUFFER_BYTES, size - start))
        self.take(-size % tarfile.BLOCKSIZE)

    def header(self) -> tarfile.TarInfo | None:
        """Of the next member, a plain file that can be no longer than the shard is; None after the last one."""
        at, head = self.at, self.take(tarfile.BLOCKSIZE)
        if not any(head):
            return None
        try:
            member = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise self.bad(f"is no tar file, or damaged at byte {at} ({error})") from None
        if member.type != tarfile.REGTYPE:
            raise self.bad(f"has {member.name!a:.300}, which is no plain file but of type {member.type!a}")
        if not 0 <= member.size <= self.left - -member.size % tarfile.BLOCKSIZE:
            raise self.bad(f"has {member.name!a:.300} of {member.size} bytes, where {self.left} are left")
        if not MEMBER_NAME.fullmatch(member.name):
            raise self.bad(f"has {member.name!a:.300}; expected <number of its class>/<name>.<ending>")
        return member


def _images(listed: Listed, known: Sequence[str], numbers: Sequence[int]) -> list[Image]:
    """Of one shard; `known` are the classes by the shard's numbers, `numbers` the data set's for these."""
    with listed.path.open("rb", buffering=BUFFER_BYTES) as file:
        reading = Reading(file, listed)
        found = list(_samples(reading, known, numbers))
        while reading.left:
            reading.take(min(BUFFER_BYTES, reading.left))
    if reading.digest.hexdigest() != listed.sha256:
        raise reading.bad(f"is damaged: its bytes are not those that {INDEX} tells")
    if len(found) != listed.images:
        raise reading.bad(f"has {len(found)} images, {INDEX} tells {listed.images}")
    return found


def _samples(reading: Reading, known: Sequence[str], numbers: Sequence[int]) -> Iterator[Image]:
    """An image, then its class: nothing else, and in no other order."""
    while (member := reading.header()) is not None:
        stem, _, kind = member.name.partition(".")
        label = stem.partition("/")[0]
        if kind == CLASS:
            raise reading.bad(f"has '{member.name}' without its image before it")
        if int(label) >= len(known):
            raise reading.bad(f"has '{member.name}' of class {label}; {INDEX} knows {len(known)} classes")
        offset, digest = reading.at, hashlib.sha256()
        for part in reading.parts(member.size):
            digest.update(part)
        told = reading.header()
        if told is None or told.name != f"{stem}.{CLASS}":
            raise reading.bad(f"has '{member.name}' without its class after it")
        if told.size != len(label) or b"".join(reading.parts(told.size)) != label.encode():
            raise reading.bad(f"has another class in '{told.name}' than {label}")
        path = reading.shard.path.parent / known[int(label)] / member.name.partition("/")[2]
        yield Image(numbers[int(label)], path, reading.shard.path, offset, member.size, digest.hexdigest())


def _below(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _first(names: Sequence[str]) -> str:
    return f"{names[0]!a}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
