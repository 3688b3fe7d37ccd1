"""torch's .pth files, which are pickles: read by an unpickler that builds names and shapes, and refuses all else.

Both formats of torch.save: the zip (data.pkl beside data/<key>) and the one before torch 1.6, in which torchvision
still publishes some files (five pickles, then the numbers).
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MAX_PICKLE_BYTES = 64 * 1024**2
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip


class PickleRefused(ValueError):
    """The file is damaged, or holds more than tensors by name."""


@dataclass(frozen=True)
class _Storage:
    key: str
    size_bytes: int


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]


def read_pth(path: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of each tensor; PickleRefused for anything but a complete, plain state dict."""
    try:
        state = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except PickleRefused:
        raise
    except Exception as error:  # broken pickles and archives raise nearly everything
        raise PickleRefused(f"it cannot be read ({type(error).__name__}: {error})") from None
    if not isinstance(state, Mapping):
        raise PickleRefused(f"it holds one {type(state).__name__.strip('_')}, not tensors by name")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise PickleRefused(f"{name!r} is no tensor")
    return {name: tensor.shape for name, tensor in state.items()}


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        (pickled,) = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
        if pickled.file_size > MAX_PICKLE_BYTES:
            raise PickleRefused(f"its pickle has {pickled.file_size} bytes")
        with archive.open(pickled) as body:
            reader = _TensorsOnly(body)
            state = reader.load()
        folder = pickled.filename.removesuffix("data.pkl")
        for storage in reader.storages.values():
            found = archive.getinfo(f"{folder}data/{storage.key}").file_size
            if found != storage.size_bytes:
                raise PickleRefused(f"tensor data {storage.key} has {found} bytes instead of {storage.size_bytes}")
        if damaged := archive.testzip():
            raise PickleRefused(f"the checksum of {damaged} is wrong")
    return state


def _read_legacy(path: Path) -> Any:
    with path.open("rb") as file:
        if _TensorsOnly(file).load() != LEGACY_MAGIC:
            raise PickleRefused("it does not begin as torch.save begins")
        _TensorsOnly(file).load()  # the protocol's version
        _TensorsOnly(file).load()  # the sizes of the writing machine's integers
        reader = _TensorsOnly(file)
        state = reader.load()
        for key in _TensorsOnly(file).load():
            _skip(file, reader.storages[key])
        if file.read(1):
            raise PickleRefused("there is more in it than its tensors")
    return state


def _skip(file: IO[bytes], storage: _Storage) -> None:
    """Past one storage: the number of its items, then their bytes."""
    file.read(8)
    begin = file.tell()
    file.seek(0, 2)
    if file.tell() < begin + storage.size_bytes:
        raise PickleRefused("the file ends before its tensors do")
    file.seek(begin + storage.size_bytes)


class _TensorsOnly(pickle.Unpickler):
    """Builds dictionaries, texts, numbers, and stand-ins for tensors."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module == "torch" and name in ITEM_BYTES:
            return _Kind(name)
        raise PickleRefused(f"it wants to load {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, count, *_ = pid
        storage = _Storage(str(key), ITEM_BYTES[kind.name] * int(count))
        self.storages[storage.key] = storage
        return storage


@dataclass(frozen=True)
class _Kind:
    """A storage class of torch, by its name."""

    name: str


def _rebuild_tensor(storage: _Storage, offset: int, shape: tuple[int, ...], *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise PickleRefused("a tensor has no data")
    return _Tensor(tuple(int(side) for side in shape))


def _rebuild_parameter(tensor: _Tensor, *_: Any) -> _Tensor:
    return tensor
