"""Which tensors a file of weights holds, without torch: this interpreter need not have it, and nothing in it is run."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retraining.plain_pickle import PickleRefused, shown
from retraining.pretrained.pickled import MAX_DIMENSIONS, read_pth

MAX_BYTES = 20 * 1024**3
MAX_HEADER_BYTES = 10 * 1024**2  # a thousand tensors need 100 kB
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
SUFFIXES = (".pth", ".safetensors")
WAY_OUT = "Write it by torch.save(model.state_dict(), …), or as a safetensors file."


class WeightsError(ValueError):
    """The file holds no plain weights."""


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A complete file of plain weights."""

    path: Path
    digest: str
    """sha256 of its bytes, in hexadecimal."""
    shapes: dict[str, tuple[int, ...]]

    @property
    def numbers(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes.values())


def read_weights_file(path: Path) -> WeightsFile:
    """Look through a local file; WeightsError says what is wrong with it."""
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path.name}: weights are a .pth or a .safetensors file. {WAY_OUT}")
    if not path.is_file():
        raise WeightsError(f"{path} is no file of this machine.")
    if path.stat().st_size > MAX_BYTES:
        raise WeightsError(f"{path.name} has {path.stat().st_size} bytes; at most {MAX_BYTES} are taken.")
    try:
        shapes = read_pth(path) if path.suffix == ".pth" else _read_safetensors(path)
    except PickleRefused as error:
        raise WeightsError(f"{path.name} is no plain state dict: {error}. {WAY_OUT}") from None
    if not shapes:
        raise WeightsError(f"{path.name} holds no tensors. {WAY_OUT}")
    with path.open("rb") as body:
        digest = hashlib.file_digest(body, "sha256").hexdigest()
    return WeightsFile(path=path, digest=digest, shapes=shapes)


def _read_safetensors(path: Path) -> dict[str, tuple[int, ...]]:
    """Format: 8 bytes length, a JSON header, then the numbers, which fill the file without gap or overlap."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER_BYTES, size - 8):
                raise ValueError(f"its header would have {length} of {size} bytes, at most {MAX_HEADER_BYTES}")
            header = json.loads(file.read(length), object_pairs_hook=_once)
        if not isinstance(header, dict):
            raise ValueError("its header is no object")
        header.pop("__metadata__", None)
        places = sorted(_place(name, entry) for name, entry in header.items())
        end = 0
        for begin, stop, name in places:
            if begin != end:
                raise ValueError(f"{shown(name)} begins at byte {begin}, where {end} is the next")
            end = stop
        if end != size - 8 - length:
            raise ValueError(f"it should have {8 + length + end} bytes and has {size}")
        return {name: tuple(entry["shape"]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)[:300]
        raise WeightsError(f"{path.name} is no complete safetensors file: {why}. Make or copy it again.") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is in its header twice")
    return found


def _place(name: str, entry: dict[str, Any]) -> tuple[int, int, str]:
    """Where its numbers begin and end."""
    (begin, stop), shape, kind = entry["data_offsets"], entry["shape"], entry["dtype"]
    numbers = [begin, stop, *shape]
    if len(shape) > MAX_DIMENSIONS or not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise ValueError(f"{shown(name)} has no proper shape")
    if stop - begin != math.prod(shape) * ITEM_BYTES[kind]:
        raise ValueError(f"{shown(name)} of shape {shape} cannot have {stop - begin} bytes")
    return begin, stop, name
