"""Weights as a safetensors file: names, shapes and plain numbers; reading it cannot run code.

Why not the safetensors package: the containers a model is served in need not have it. tests/ml holds the two together.
Format: https://github.com/huggingface/safetensors#format (8 bytes length, a JSON header, the numbers).
"""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from torch import Tensor

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_HEADER_BYTES = 100_000_000  # the format's own limit


def write(path: Path | str, state: Mapping[str, Tensor]) -> None:
    """Write tensors by name; raises KeyError for a kind of number the format has not."""
    header, position, tensors = {}, 0, []
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + size],
        }
        position += size
        tensors.append(tensor)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


def read(path: Path | str) -> dict[str, Tensor]:
    """Tensors by name. Raises ValueError for a file that is damaged or no safetensors file."""
    with open(path, "rb") as file:
        content = bytearray(file.read())
    try:
        header, start = read_header(content)
        body = memoryview(content)[start:]
        return {name: tensor(entry, body) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(f"'{path}' is no complete safetensors file: {error}") from error


def read_header(content: bytes | bytearray) -> tuple[dict[str, Any], int]:
    """-> the entries by name, and where in the file their numbers start."""
    (length,) = struct.unpack_from("<Q", content)
    if length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise ValueError(f"its header would have {length} bytes")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    return header, 8 + length


def spans(content: bytes | bytearray) -> list[tuple[int, int]]:
    """Where in the file each tensor's numbers lie: (first byte, byte after the last) of each."""
    header, start = read_header(content)
    return [tuple(start + offset for offset in entry["data_offsets"]) for entry in header.values()]


def tensor(entry: dict[str, Any], body: memoryview) -> Tensor:
    dtype, shape, (begin, end) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    count = math.prod(shape)
    if not 0 <= begin <= end <= len(body) or (end - begin) != count * torch.empty(0, dtype=dtype).element_size():
        raise ValueError(f"a tensor of shape {shape} cannot lie at bytes {begin} to {end} of {len(body)}")
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(body[begin:end]), dtype=dtype).reshape(shape)  # a copy: aligned, and its own
