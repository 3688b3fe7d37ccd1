"""Which tensors a file of weights holds, without torch: this interpreter need not have it, and nothing in it is run."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

from retraining.pretrained.pickled import PickleRefused, read_pth

MAX_BYTES = 20 * 1024**3
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
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
    """Format: 8 bytes length, a JSON header, then the numbers, which must fill the file."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER_BYTES, size - 8):
                raise ValueError(f"its header would have {length} of {size} bytes")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = 0
        for name, entry in header.items():
            begin, stop = entry["data_offsets"]
            if stop - begin != math.prod(entry["shape"]) * ITEM_BYTES[entry["dtype"]] or not 0 <= begin <= stop:
                raise ValueError(f"{name!r} of shape {entry['shape']} cannot have {stop - begin} bytes")
            end = max(end, stop)
        if end != size - 8 - length:
            raise ValueError(f"it should have {8 + length + end} bytes and has {size}")
        return {name: tuple(entry["shape"]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise WeightsError(f"{path.name} is no complete safetensors file: {error}. Make or copy it again.") from None
