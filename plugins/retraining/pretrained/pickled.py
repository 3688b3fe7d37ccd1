"""torch's .pth files, which are pickles: names and shapes of tensors, and that their numbers are there; nothing is run.

Both formats of torch.save: the zip (data.pkl beside data/<key>) and the one before torch 1.6, in which torchvision
still publishes some files (five pickles, then the numbers). `plain_pickle` reads both without building anything.
"""

from __future__ import annotations

import math
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from retraining import plain_pickle
from retraining.plain_pickle import Class, Made, Outside, PickleRefused, is_made, shown
from retraining.zip_file import open_zip

__all__ = ["PickleRefused", "read_pth"]

MAX_PICKLE_BYTES = 64 * 1024**2
MAX_ENTRIES = 200_000
"""Of the zip: two or three more than there are tensors."""
MAX_DIMENSIONS = 64  # as torch has it
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
KNOWN = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    *(("torch", name) for name in ITEM_BYTES),
}


@dataclass(frozen=True)
class _Storage:
    key: str
    items: int
    item_bytes: int

    @property
    def size_bytes(self) -> int:
        return self.items * self.item_bytes


def read_pth(path: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of each tensor; PickleRefused for anything but a complete, plain state dict."""
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except PickleRefused:
        raise
    except Exception as error:  # broken archives raise nearly everything
        raise PickleRefused(f"it cannot be read ({type(error).__name__}: {str(error)[:200]})") from None


def _read_zip(path: Path) -> dict[str, tuple[int, ...]]:
    with open_zip(path, MAX_ENTRIES) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        if len(entries) < len(archive.infolist()):
            raise PickleRefused("two of its entries have one name")
        for info in entries.values():
            if info.compress_type != zipfile.ZIP_STORED:
                raise PickleRefused(f"its entry {shown(info.filename)} is compressed, which torch.save never does")
        pickles = [info for info in entries.values() if info.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise PickleRefused(f"it has {len(pickles)} pickles named data.pkl, and should have one")
        pickled = pickles[0]
        if pickled.file_size > MAX_PICKLE_BYTES:
            raise PickleRefused(f"its pickle has {pickled.file_size} bytes, at most {MAX_PICKLE_BYTES}")
        with archive.open(pickled) as body:
            found = _Tensors(plain_pickle.load(body, KNOWN, "tensor", text=True))
        folder = pickled.filename.removesuffix("data.pkl")
        for storage in found.storages.values():
            entry = entries.get(f"{folder}data/{storage.key}")
            if entry is None or entry.file_size != storage.size_bytes:
                there = f"{entry.file_size} bytes" if entry else "no entry"
                raise PickleRefused(f"tensor data {storage.key} has {there} instead of {storage.size_bytes}")
        if damaged := archive.testzip():
            raise PickleRefused(f"the checksum of {damaged} is wrong")
    return found.shapes


def _read_legacy(path: Path) -> dict[str, tuple[int, ...]]:
    with path.open("rb") as file:

        def load() -> Any:
            return plain_pickle.load(file, KNOWN, "tensor", text=True, most_bytes=MAX_PICKLE_BYTES)

        if load() != LEGACY_MAGIC:
            raise PickleRefused("it does not begin as torch.save begins")
        load()  # the protocol's version
        load()  # the sizes of the writing machine's integers
        found, keys = _Tensors(load()), load()
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise PickleRefused("its tensor data are not named")
        if sorted(keys) != sorted(found.storages):
            raise PickleRefused("its tensor data are not those that its tensors need, each once")
        for key in keys:
            _skip(file, found.storages[key])
        if file.read(1):
            raise PickleRefused("there is more in it than its tensors")
    return found.shapes


def _skip(file: IO[bytes], storage: _Storage) -> None:
    """Past one storage: the number of its items, then their bytes."""
    head = file.read(8)
    begin = file.tell()
    file.seek(0, 2)
    if len(head) < 8 or file.tell() < begin + storage.size_bytes:
        raise PickleRefused("the file ends before its tensors do")
    if (items := struct.unpack("<q", head)[0]) != storage.items:
        raise PickleRefused(f"tensor data {storage.key} says it has {items} numbers instead of {storage.items}")
    file.seek(begin + storage.size_bytes)


@dataclass
class _Tensors:
    """A state dict, as it was to be made, and what it needs."""

    state: Any
    storages: dict[str, _Storage] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.state, dict):
            raise PickleRefused(f"it holds {shown(self.state)}, not tensors by name")
        for name, value in self.state.items():
            if is_made(value, "_rebuild_parameter") and value.arguments:
                value = value.arguments[0]
            if not isinstance(name, str) or not is_made(value, "_rebuild_tensor_v2"):
                raise PickleRefused(f"{shown(name)} is no tensor")
            self.shapes[name] = self._shape(name, value)

    def _shape(self, name: str, tensor: Made) -> tuple[int, ...]:
        if not 4 <= len(tensor.arguments) <= 8:
            raise PickleRefused(f"{shown(name)} is no tensor")
        outside, offset, shape, strides = tensor.arguments[:4]
        storage = self._storage(outside)
        if not (_are_sizes((offset,)) and _are_sizes(shape) and _are_sizes(strides) and len(shape) == len(strides)):
            raise PickleRefused(f"{shown(name)} has no proper shape")
        count = math.prod(shape)
        last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        # The second: a tensor that repeats its numbers may be larger than any memory.
        if count and (last >= storage.items or count > storage.items):
            raise PickleRefused(f"{shown(name)} of {count} numbers does not lie within its {storage.items}")
        return tuple(shape)

    def _storage(self, outside: object) -> _Storage:
        identity = outside.identity if isinstance(outside, Outside) else None
        if not isinstance(identity, tuple) or len(identity) not in (5, 6):
            raise PickleRefused("a tensor has no data")
        _, kind, key, _, items = identity[:5]
        if not (isinstance(kind, Class) and kind.name in ITEM_BYTES and isinstance(key, str) and len(key) < 100):
            raise PickleRefused("a tensor has no data")
        if not _are_sizes((items,)):
            raise PickleRefused(f"tensor data {shown(key)} has no proper size")
        storage = _Storage(key, items, ITEM_BYTES[kind.name])
        if self.storages.setdefault(key, storage) != storage:
            raise PickleRefused(f"tensor data {shown(key)} is described in two ways")
        return storage


def _are_sizes(values: object) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) <= MAX_DIMENSIONS
        and all(type(value) is int and 0 <= value < 2**48 for value in values)
    )
