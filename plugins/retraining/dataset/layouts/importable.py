"""Which importer writes the pictures of a file as class folders, by the names that makers and hubs give. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

from retraining.printable import printable

IDX = re.compile(r"(?P<stem>.*?)[-_. ]?(?P<what>images|labels)[-_. ]idx\d(?:[-_. ]\w+)?(?:\.gz)?", re.IGNORECASE)
"""train-images-idx3-ubyte.gz, t10k-labels.idx1-ubyte, emnist-letters-train-images-idx3-ubyte."""
CIFAR = {
    "cifar10": {"batches.meta", "data_batch_1", "test_batch"},
    "cifar100": {"meta", "train", "test"},
}
MOST_PACKED = 100
"""Files of one set; more are images."""
ENDINGS = (("parquet", ".parquet"), ("webdataset", ".cls"), ("webdataset", ".tar"), ("npz", ".npz"), ("npy", ".npy"))

UNREAD = {
    ".xlsx": "save it as CSV UTF-8",
    ".xls": "save it as CSV UTF-8",
    ".arrow": "write it as parquet, which Dataset.to_parquet() of the library does, for `import parquet`",
    ".tfrecord": "write its pictures as class folders; TensorFlow alone reads it",
    ".h5": "save its arrays as images and labels by numpy.savez, for `import npz`",
    ".mat": "save its arrays as images and labels by numpy.savez, for `import npz`; scipy.io.loadmat reads it",
    ".pkl": "save its arrays as images and labels by numpy.savez, for `import npz`: a pickle may run anything",
}
"""Ending → what to do with a file of labels or pictures that nothing here opens."""


def unread(names: Iterable[str]) -> str:
    """A sentence about the first such file; empty without any."""
    for name in names:
        last = name.rpartition("/")[2].lower()
        if ending := next((each for each in UNREAD if last.endswith(each) or f"{each}-" in last), None):
            return f"{printable(name)} is not read: if it tells classes, {UNREAD[ending]}."
    return ""


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
