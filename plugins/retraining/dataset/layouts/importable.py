"""Which importer writes the pictures of a file as class folders, by the names that makers and hubs give. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

IDX = re.compile(r"(?P<stem>.*?)[-_. ]?(?P<what>images|labels)[-_. ]idx\d(?:[-_. ]\w+)?(?:\.gz)?", re.IGNORECASE)
"""train-images-idx3-ubyte.gz, t10k-labels.idx1-ubyte, emnist-letters-train-images-idx3-ubyte."""
CIFAR = {
    "cifar10": {"batches.meta", "data_batch_1", "test_batch"},
    "cifar100": {"meta", "train", "test"},
}
MOST_PACKED = 100
"""Files of one set; more are images."""
ENDINGS = (("parquet", ".parquet"), ("webdataset", ".cls"), ("webdataset", ".tar"), ("npz", ".npz"), ("npy", ".npy"))


def importer_of(names: Iterable[str]) -> tuple[str, str] | None:
    """The importer, and a file that it would read; of the first kind there is."""
    names = list(names)
    last = {name.rpartition("/")[2]: name for name in names}
    for importer, files in CIFAR.items():
        if files <= last.keys():
            return importer, last[min(files)]
    if found := next((name for name in names if IDX.fullmatch(name.rpartition("/")[2])), None):
        return "idx", found
    for importer, ending in ENDINGS:
        if found := next((name for name in names if name.lower().endswith(ending)), None):
            return importer, found
    return None


def are_packed(places: Iterable[str]) -> bool:
    """Whether what lies in class folders is nothing but such files, and no class's."""
    last = [name.rpartition("/")[2] for name in islice(places, MOST_PACKED + 1)]
    return 0 < len(last) <= MOST_PACKED and all(IDX.fullmatch(name) for name in last)
