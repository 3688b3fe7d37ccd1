"""A version's images once more as tar shards in WebDataset's layout, for trainings that would ask for each file.

    versions/<fingerprint>/shards/train/train-000000.tar, … and index.json; so for each split

A sample is an image `<class>/<digest>.<jpg or png>` and a text of the same name with `.cls`, its class; classes are
numbers, in the order of index.json's `classes`. Samples come in the order of their digests, which mixes the classes.
The index is written last; it is that of wids, WebDataset's library for random access, with members of ours. The same
version gives the same bytes: members are nobody's, and of no time.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tarfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retraining.dataset.split import SPLITS, SplitName
from retraining.dataset.versions.places import Places, bytes_of
from retraining.dataset.versions.store import Store
from retraining.dataset.versions.version import Image, Version, as_json

log = logging.getLogger(__name__)

FORMAT = 1
SHARD_BYTES = 64 * 2**20
"""Of a shard at most, unless one image alone has more."""
INDEX = "index.json"
AHEAD = 10
"""Images that are read before their turn, and held."""
ENDING_BYTES = 2 * tarfile.RECORDSIZE
"""Two empty blocks, and what fills the last record."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image of a split, as it stands in a shard."""

    image: Image
    number: int
    """Of its class."""

    @property
    def names(self) -> tuple[str, str]:
        """Of the image and of its class, in the shard."""
        digest, number = self.image.sha256[:20], self.number
        return f"{number}/{digest}.{self.image.extension}", f"{number}/{digest}.cls"


def keep_shards(version: Version, store: Store, places: Places, scratch: Path) -> None:
    """Shards of all splits, where they are not there already.

    `places`: whose bytes the images are, by their keys. Raises Forgotten where one is gone, DatasetError where S3 has
    other bytes than its name says.
    """
    root = f"versions/{version.fingerprint}/shards/"
    sizes = store.sizes(root)
    for split in SPLITS:
        folder = f"{root}{split}/"
        there = {key.removeprefix(folder): size for key, size in sizes.items() if key.startswith(folder)}
        _keep_split(version, split, store, places, there, scratch)


def _keep_split(
    version: Version, split: SplitName, store: Store, places: Places, there: Mapping[str, int], scratch: Path
) -> None:
    """`there`: what lies in the split's folder, and its bytes."""
    folder = f"versions/{version.fingerprint}/shards/{split}/"
    wanted = samples(version, split)
    head = _head(version, split, wanted)
    if INDEX in there and _is_whole(store.read(f"{folder}{INDEX}"), head, there):
        return
    # Half of it, or of other pictures. The index goes first: it must not be taken for that of the new shards.
    for name in sorted(there, key=lambda name: name != INDEX):
        store.remove(f"{folder}{name}")
    log.info("Packing %d images of %s into shards.", len(wanted), split)
    packed = _packed(_read_ahead(wanted, store, places), scratch / "shard.tar")
    shards = [_put(store, folder, f"{split}-{number:06}.tar", *shard) for number, shard in enumerate(packed)]
    store.put_changed({f"{folder}{INDEX}": as_json(head | {"shardlist": shards})})


def samples(version: Version, split: SplitName) -> list[Sample]:
    """Each entry of the split's manifest once, in the order of their digests."""
    numbers = {label: number for number, label in enumerate(version.classes)}
    images = {image.entry: image for image in version.images if image.split == split}
    made = [Sample(image=image, number=numbers[image.label]) for image in images.values()]
    return sorted(made, key=lambda sample: (sample.image.sha256, sample.number))


def _head(version: Version, split: SplitName, wanted: Sequence[Sample]) -> dict[str, Any]:
    """index.json without its shards: what they are of."""
    counts = Counter(sample.image.label for sample in wanted)
    named = hashlib.sha256("\n".join(name for sample in wanted for name in sample.names).encode())
    return {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": split,
        "format": FORMAT,
        "fingerprint": version.fingerprint,
        "classes": version.classes,
        "images": len(wanted),
        "counts": {label: counts[label] for label in version.classes},
        "names_sha256": named.hexdigest(),
    }


def _is_whole(index: bytes | None, head: Mapping[str, Any], there: Mapping[str, int]) -> bool:
    """Whether an index is of the same samples, and what it lists is all that is there."""
    try:
        said = json.loads(index or b"null")
        listed = {shard["url"]: shard["filesize"] for shard in said.pop("shardlist")}
    except (ValueError, AttributeError, KeyError, TypeError):
        return False
    return said == head and listed == {name: size for name, size in there.items() if name != INDEX}


def _packed(bodies: Iterable[tuple[Sample, bytes]], path: Path) -> Iterator[tuple[Path, int]]:
    """Each shard in turn at the same path, and how many samples it has."""
    tar, count = _new(path), 0
    for sample, body in bodies:
        files = list(zip(sample.names, (body, str(sample.number).encode()), strict=True))
        more = sum(tarfile.BLOCKSIZE + len(part) + -len(part) % tarfile.BLOCKSIZE for _, part in files)
        if count and tar.offset + more + ENDING_BYTES > SHARD_BYTES:
            tar.close()
            yield path, count
            tar, count = _new(path), 0
        for name, part in files:
            member = tarfile.TarInfo(name)  # nobody's, and of no time
            member.size = len(part)
            tar.addfile(member, io.BytesIO(part))
        count += 1
    tar.close()
    if count:
        yield path, count


def _new(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)


def _put(store: Store, folder: str, name: str, path: Path, count: int) -> dict[str, Any]:
    """Its line in the index."""
    store.put(f"{folder}{name}", path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"url": name, "nsamples": count, "filesize": path.stat().st_size, "sha256": digest}


def _read_ahead(wanted: Sequence[Sample], store: Store, places: Places) -> Iterator[tuple[Sample, bytes]]:
    """Each sample with its image's bytes, of which AHEAD are held at most."""
    coming = deque[tuple[Sample, Future[bytes]]]()
    with ThreadPoolExecutor(AHEAD) as pool:
        for number in range(len(wanted) + AHEAD):
            if number >= AHEAD and coming:
                sample, body = coming.popleft()
                yield sample, body.result()
                store.progress("Packed", number - AHEAD + 1, len(wanted))
            if number < len(wanted):
                sample = wanted[number]
                coming.append((sample, pool.submit(bytes_of, sample.image, store, places)))
