"""The decoded pictures of a channel on disk: every image is decoded once, by the first training that needs it.

The file holds one picture for each different content in the channel, in the order of their digests: the same images
make the same file, whatever their names, classes and order are.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import PIL
import torch

from pictures import picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from dataset.array_cache import ArrayCache

BLOCK_BYTES = 2**22  # that are decoded and written at once: it should stay in the processor's cache
SAY_EVERY_S = 15


class Images(Protocol):
    """What is decoded: a channel is some, in its own order."""

    image_size: int
    threads: int

    @property
    def digests(self) -> list[str]: ...

    def read_verified(self, index: int) -> NDArray[np.uint8]: ...


def open_pixels(cache: ArrayCache, images: Images) -> tuple[Tensor, Tensor] | None:
    """-> (uint8 (pictures, side, side, 3), which of them each image is (N,)); None: no disk for it."""
    digests, side = images.digests, images.image_size
    examples = {digest: index for index, digest in enumerate(digests)}
    order = sorted(examples)
    place = {digest: position for position, digest in enumerate(order)}

    def make() -> Iterator[NDArray[np.uint8]]:
        return decoded(images, [examples[digest] for digest in order], cache.say)

    shape = (len(order), side, side, 3)
    array = cache.array(name("pixels", recipe(), str(side), *order), shape, np.uint8, make)
    return None if array is None else (torch_of(array), torch.tensor([place[digest] for digest in digests]))


def decoded(images: Images, indices: Sequence[int], say: Callable[[str], object]) -> Iterator[NDArray[np.uint8]]:
    """Blocks of pictures. Raises BadImage, or ValueError for a file that is no longer what its digest says."""
    said, side = time.monotonic(), images.image_size
    pictures = np.empty(
        (min(len(indices), images.threads * max(1, BLOCK_BYTES // side**2 // 3)), side, side, 3), np.uint8
    )

    def fill(place: int) -> None:
        pictures[place] = images.read_verified(part[place])

    with ThreadPoolExecutor(images.threads) as pool:
        for start in range(0, len(indices), len(pictures)):
            part = indices[start : start + len(pictures)]
            list(pool.map(fill, range(len(part))))
            yield pictures[: len(part)]
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                say(f"decoded {start + len(part)} of {len(indices)} images")


def recipe() -> tuple[str, str]:
    """What besides an image decides about its pixels: the code, and the decoder."""
    return hashlib.sha256(Path(picture.__file__).read_bytes()).hexdigest(), PIL.__version__


def name(kind: str, *parts: object) -> str:
    """A file name for what is made of all these parts."""
    return f"{kind}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:40]}"


def torch_of(array: NDArray[Any]) -> Tensor:
    """A tensor over a read-only array: nobody may write into it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it cannot be written
        return torch.from_numpy(array)
