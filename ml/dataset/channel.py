"""A channel folder -> batches.

A channel is `<folder>/<class>/<any name>`, as SageMaker downloads it, or the same images in tar shards (shards.py);
each is in a format that pictures.picture reads. Other files are left out, which is said.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from dataset import pixel_cache, shards
from dataset.ignored import ignored
from pictures import picture
from pictures.bad_image import BadImage
from pictures.memory_gate import MemoryGate
from pictures.picture import MEAN as MEAN  # training finds them here
from pictures.picture import STD as STD
from pictures.picture import Normalisation as Normalisation
from pictures.picture import decode, to_pixels
from pictures.picture import normalise as normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from dataset.array_cache import ArrayCache

Item = TypeVar("Item")
Result = TypeVar("Result")
MEMORY_BYTES = 4 * 2**30  # decoded channels up to this size stay in memory
DECODING_SHARE = 1 / 8  # of the machine's memory that pictures may take while they are decoded; but a GiB they have
# Why files of a channel are left out.
BY_NAME, BESIDE = "that systems, notebooks and people leave between images", "beside the folders of the classes"
BESIDE_SHARDS = "beside the shards"
FOREIGN = "in no format that is read; convert those that are pictures"
GPU_SHARE = 0.4  # of a GPU's free memory that pictures may take; the rest is for the training


class Channel:
    """The images of one channel, `classes` in the order of the network's outputs, as squares of `image_size` px.

    They are decoded when they are first needed, by a pool of threads, since Pillow decodes without holding Python's
    lock: once for all trainings with an ArrayCache as `cache`, else once into memory if they fit into MEMORY_BYTES,
    else again in each epoch.
    """

    def __init__(
        self, folder: Path | str, classes: Sequence[str], image_size: int, cache: ArrayCache | None = None
    ) -> None:
        self.folder, self.image_size, self.cache = Path(folder), image_size, cache
        self.threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        self.packed: list[shards.Image] = []
        if shards.are_in(self.folder):
            self.packed = shards.read_shards(self.folder, classes, self.threads)
            self.paths, labels = [image.path for image in self.packed], [image.label for image in self.packed]
            beside = shards.beside(self.folder)
            self.left_out = {BESIDE_SHARDS: beside} if beside else {}
        else:
            self.paths, labels, self.left_out = list_images(self.folder, classes, self.threads)
        self.labels = torch.tensor(labels)
        self.decoding = MemoryGate(max(2**30, int(DECODING_SHARE * memory_of_process())), wait_s=None)

    def __len__(self) -> int:
        return len(self.paths)

    @functools.cached_property
    def digests(self) -> list[str]:
        """The SHA-256 of each file."""
        if self.packed:
            return [image.sha256 for image in self.packed]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(lambda path: hashlib.sha256(path.read_bytes()).hexdigest(), self.paths))

    @functools.cached_property
    def store(self) -> tuple[Tensor, Tensor] | None:
        """(pictures uint8 (M, side, side, 3), which of them each image is (N,)); None: they are decoded each time."""
        if self.cache is not None:
            found = pixel_cache.open_pixels(self.cache, self)
            if found is not None:
                return found
        if len(self) * self.image_size**2 * 3 > MEMORY_BYTES:
            return None
        return self.read(range(len(self))), torch.arange(len(self))

    @property
    def loaders(self) -> int:
        """How many threads prepare batches beside the one that uses them."""
        return 0 if self.store else self.threads

    def load(self, device: torch.device) -> None:
        """Decode now what is not decoded each time; keep it on a GPU if it takes no more than GPU_SHARE of its rest."""
        if self.store is None or device.type != "cuda":
            return
        pictures, places = self.store
        if pictures.nbytes <= GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.store = pictures.to(device), places

    def read(self, indices: Sequence[int]) -> Tensor:
        pictures = np.empty((len(indices), self.image_size, self.image_size, 3), np.uint8)

        def fill(position: int) -> None:
            pictures[position] = self.read_one(indices[position])

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(fill, range(len(indices))))
        return torch.from_numpy(pictures)

    def read_one(self, index: int) -> NDArray[np.uint8]:
        return self.picture(index, self.body(index))

    def body(self, index: int) -> bytes:
        """Of the image, which lies at its path, or in a shard: then that is where it would lie unpacked."""
        return self.packed[index].read() if self.packed else self.paths[index].read_bytes()

    def read_verified(self, index: int) -> NDArray[np.uint8]:
        """The same; raises ValueError when the file is not what it was when its digest was taken."""
        body = self.body(index)
        if hashlib.sha256(body).hexdigest() != self.digests[index]:
            raise ValueError(f"'{self.name(index)}' was changed while it was read; start again when the folder rests")
        return self.picture(index, body)

    def picture(self, index: int, body: bytes) -> NDArray[np.uint8]:
        try:
            with contextlib.ExitStack() as held:

                def reserve(size_bytes: int) -> None:
                    held.enter_context(self.decoding.room(size_bytes))

                return to_pixels(decode(body, side=self.image_size, reserve=reserve), self.image_size)
        except BadImage as error:
            text = f"'{self.name(index)}': {error}; remove it from the data set or replace it"
            raise BadImage(error.code, text) from error

    def name(self, index: int) -> str:
        return shown(self.paths[index].relative_to(self.folder.parent))

    def batches(self, batch_size: int, order: Tensor | list[Tensor] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (pixels uint8 (n, size, size, 3), labels (n,)), in the given `order` of indices, or in its own."""
        parts = chunks(len(self), batch_size, order)
        if self.store:
            pictures, places = self.store
            for chunk in parts:
                yield pictures.index_select(0, places[chunk].to(pictures.device)), self.labels[chunk]
            return
        for chunk, pixels in zip(parts, ahead(lambda chunk: self.read(chunk.tolist()), parts), strict=True):
            yield pixels, self.labels[chunk]


def memory_of_process() -> int:
    """The machine's memory, in equal parts for the processes that train on it together."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // int(os.environ.get("LOCAL_WORLD_SIZE") or 1)


def ahead(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """work(item) of each, the next one under way in a thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(work, items[0])
        for item in items[1:]:
            current, coming = coming, pool.submit(work, item)
            yield current.result()
        yield coming.result()


def chunks(count: int, batch_size: int, order: Tensor | list[Tensor] | None = None, least: int = 2) -> list[Tensor]:
    """The indices of each batch: of 0 to `count` in the given order, or in their own. A list is cut already."""
    if isinstance(order, list):
        return order
    order = torch.arange(count) if order is None else order
    parts = list(order.split(batch_size))
    if len(parts) > num_chunks(len(order), batch_size, least):
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def num_chunks(count: int, batch_size: int, least: int = 2) -> int:
    """How many batches `count` images make. A rest of fewer than `least` joins the batch before it.

    BatchNorm cannot learn from a batch of one.
    """
    whole, rest = divmod(count, batch_size)
    return max(1, whole + (rest >= least))


def shuffled(labels: Tensor, generator: Generator) -> Tensor:
    """Every image once, in a random order."""
    return torch.randperm(len(labels), generator=generator)


def balanced(labels: Tensor, generator: Generator) -> Tensor:
    """As many indices as there are images, each class equally often: rare ones repeated, common ones in turn.

    Every image of a class is used once before any is used again.
    """
    classes = labels.unique()
    share, rest = divmod(len(labels), len(classes))
    chosen = []
    for position, label in enumerate(classes):
        members = (labels == label).nonzero()[:, 0]
        wanted = share + (position < rest)
        rounds = [members[shuffled(members, generator)] for _ in range(-(-wanted // len(members)))]
        chosen.append(torch.cat(rounds)[:wanted])
    drawn = torch.cat(chosen)
    return drawn[shuffled(drawn, generator)]


def list_images(
    folder: Path, classes: Sequence[str], threads: int = 1
) -> tuple[list[Path], list[int], dict[str, list[Path]]]:
    """Paths and class indices, in an order that does not depend on the file system; and what is left out, by reason.

    An image is a file that begins as one, whatever its name is; but names that `ignored` knows are never looked into.
    """
    found = class_names(folder)
    if unknown := [name for name in found if name not in classes]:
        raise ValueError(f"channel '{folder.name}' has folders {unknown}; the data set's classes are {classes}")
    left_out: dict[str, list[Path]] = {}
    candidates: list[tuple[Path, int]] = []
    for entry in sorted(folder.iterdir()):
        if ignored(entry.name, folder=entry.is_dir()):
            left_out.setdefault(BY_NAME, []).append(entry)
        elif not entry.is_dir():
            left_out.setdefault(BESIDE, []).append(entry)
    for index, name in enumerate(classes):
        files, strays = files_below(folder / name)
        candidates += [(path, index) for path in files]
        if strays:
            left_out.setdefault(BY_NAME, []).extend(strays)
    with ThreadPoolExecutor(threads) as pool:
        begins = list(pool.map(begins_as_image, (path for path, _ in candidates)))
    images = [candidate for candidate, good in zip(candidates, begins, strict=True) if good]
    if foreign := [path for (path, _), good in zip(candidates, begins, strict=True) if not good]:
        left_out[FOREIGN] = foreign
    if not images:
        seen = f"; {told(folder, left_out)}" if left_out else ""
        raise ValueError(f"channel '{folder.name}' holds no images; expected {folder}/<class>/<image>{seen}")
    return [path for path, _ in images], [index for _, index in images], left_out


def files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """(files, what `ignored` names, which is not looked into). Links are followed, but into no folder twice."""
    files: list[Path] = []
    strays: list[Path] = []
    seen = {folder.resolve(), *folder.resolve().parents}
    for place, folders, names in os.walk(folder, followlinks=True):
        strays += [Path(place, name) for name in folders if ignored(name, folder=True)]
        for name in names:
            (strays if ignored(name) else files).append(Path(place, name))
        folders[:] = sorted(
            name for name in folders if not ignored(name, folder=True) and Path(place, name).resolve() not in seen
        )
        seen |= {Path(place, name).resolve() for name in folders}
    return sorted(files), sorted(strays)


def begins_as_image(path: Path) -> bool:
    if not path.is_file():  # but a pipe, or a link that leads nowhere
        return False
    with path.open("rb") as file:
        return picture.format_of(file.read(picture.HEAD_BYTES)) is not None


def told(folder: Path, left_out: dict[str, list[Path]]) -> str:
    """How much is left out and why, with an example of each."""
    parts = [
        f"{len(paths)} {reason} (such as '{shown(paths[0].relative_to(folder))}')" for reason, paths in left_out.items()
    ]
    return f"left out of channel '{folder.name}': {'; '.join(parts)}"


def shown(path: Path) -> str:
    """For people and logs: bytes of a name that are no UTF-8, as old cameras and archives leave, are escaped."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def class_names(folder: Path | str) -> list[str]:
    if shards.are_in(Path(folder)):
        return shards.classes_of(Path(folder))
    return sorted(path.name for path in Path(folder).iterdir() if path.is_dir() and not ignored(path.name, folder=True))
