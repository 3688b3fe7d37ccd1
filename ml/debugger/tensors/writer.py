"""Writes tensors as smdebug 1.0.34 lays them out, so that its readers, and SageMaker's rules, find what they expect.

    collections/000000000/worker_0_collections.json
    events/000000000010/000000000010_worker_0.tfevents     one file for each saved step, named by the global step
    index/000000000/000000000010_worker_0.json             which tensor is where in it; the folder is step // 1000

An event file is a TFRecord file (length, its CRC, an Event message, a CRC) of TensorBoard's Event messages with one
tensor each. As in smdebug's files the last CRC is that of a constant: it checks a message's place, not its content.
Most of what a step writes is what the step before wrote, with other numbers: the bytes of a list of single numbers are
made once, and later steps only put in the time, the step and the values.
"""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from debugger.hook_config import MODES
from debugger.tensors.records import DTYPES
from recordings.storage import END_MARKER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from debugger.hook_config import Collection

    Place = tuple[str, int, int]  # name, where it starts, how long it is
    Template = tuple[NDArray[np.uint8], list[Place], dict[str, NDArray[np.intp]]]

WORKER = "worker_0"
MAGIC = b"0x12345678"
DATA_TYPES = {dtype.name: number for number, dtype in DTYPES.items()}


class TensorWriter:
    """The tensors of one training, step by step."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if (self.folder / END_MARKER).exists():
            raise FileExistsError(
                f"'{self.folder}' holds the tensors of a training that has ended; choose another folder"
            )
        self.blocks: dict[tuple[str, ...], ScalarBlock] = {}

    def write(
        self,
        global_step: int,
        mode: str,
        mode_step: int,
        scalars: tuple[tuple[str, ...], NDArray[np.float32]],
        arrays: Mapping[str, NDArray[Any]],
    ) -> None:
        """One step: `scalars` is (tuple of names, float32 values (N,)), `arrays` is {name: numpy array}."""
        name = f"{global_step:012d}"
        event_file = f"events/{name}/{name}_{WORKER}.tfevents"
        entries: list[Place] = []
        pieces, position = [], 0
        names, values = scalars
        if names:
            block = self.blocks.get(names)
            if block is None:
                block = self.blocks[names] = ScalarBlock(names)
            data, places = block.filled(time.time(), global_step, mode, mode_step, values)
            pieces.append(data)
            entries += places
            position = len(data)
        for tensor_name, array in arrays.items():
            data = record(event(tensor_name, array, global_step, mode, mode_step))
            pieces.append(data)
            entries.append((tensor_name, position, len(data)))
            position += len(data)
        replace(self.folder / event_file, b"".join(pieces))
        index = {
            "meta": {"mode": mode, "mode_step": mode_step, "event_file_name": event_file},
            "tensor_payload": [
                {"tensorname": tensor_name, "start_idx": start, "length": length}
                for tensor_name, start, length in entries
            ],
            "shape_payload": [],
        }
        # Readers go by the index, so it comes last.
        index_file = self.folder / "index" / f"{global_step // 1000:09d}" / f"{name}_{WORKER}.json"
        replace(index_file, json.dumps(index).encode())

    def write_collections(self, collections: Iterable[Collection]) -> None:
        document = {
            "collections": {collection.name: collection.described() for collection in collections},
            "_meta": {"num_workers": 1},
        }
        replace(self.folder / "collections" / "000000000" / f"{WORKER}_collections.json", json.dumps(document).encode())

    def end(self) -> None:
        """Tell readers that no more will come."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / END_MARKER).touch()


class ScalarBlock:
    """The records of a fixed list of single float32 numbers, of which only time, step and values change."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.made: dict[str, tuple[tuple[int, int], Template]] = {}

    def filled(
        self, now: float, global_step: int, mode: str, mode_step: int, values: NDArray[np.float32]
    ) -> tuple[bytes, list[Place]]:
        """-> (bytes, [(name, start, length)])."""
        lengths = len(str(mode_step)), len(varint(global_step))
        if mode not in self.made or self.made[mode][0] != lengths:
            self.made[mode] = lengths, self.template(mode, *lengths)
        template, places, at = self.made[mode][1]
        buffer = template.copy()
        buffer[at["time"]] = np.frombuffer(struct.pack("<d", now), np.uint8)
        buffer[at["step"]] = np.frombuffer(varint(global_step), np.uint8)
        buffer[at["mode_step"]] = np.frombuffer(str(mode_step).encode(), np.uint8)
        buffer[at["value"]] = np.ascontiguousarray(values, np.float32).view(np.uint8).reshape(-1, 4)
        return buffer.tobytes(), places

    def template(self, mode: str, digits: int, step_length: int) -> Template:
        """The bytes with marks in the places of what changes, and where those places are."""
        step = 1 << 7 * (step_length - 1)  # any number of that length
        pieces, places, position = [], [], 0
        at: dict[str, list[int]] = {"time": [], "step": [], "mode_step": [], "value": []}
        for name in self.names:
            message = event(name, np.zeros((), np.float32), step, mode, 10 ** (digits - 1), now=0.0)
            data = record(message)
            # wall_time and step are the first two fields; the value is the last four bytes of the message.
            start = position + 12
            text = b"mode_step" + b"\x12" + varint(digits)
            at["time"].append(start + 1)
            at["step"].append(start + 10)
            at["mode_step"].append(start + message.index(text) + len(text))
            at["value"].append(start + len(message) - 4)
            pieces.append(data)
            places.append((name, position, len(data)))
            position += len(data)
        width = {"time": 8, "step": step_length, "mode_step": digits, "value": 4}
        offsets = {key: np.array(starts)[:, None] + np.arange(width[key]) for key, starts in at.items()}
        return np.frombuffer(b"".join(pieces), np.uint8).copy(), places, offsets


def event(
    name: str, array: NDArray[Any], global_step: int, mode: str, mode_step: int, now: float | None = None
) -> bytes:
    """An Event message with one tensor (tensorflow/core/util/event.proto, framework/{summary,tensor}.proto)."""
    array = np.asarray(array)
    dimensions = b"".join(
        field(2, field(1, size) + field(2, f"{name}_{size}".encode())) for size in array.shape
    )  # fmt: skip
    data_type = DATA_TYPES[array.dtype.name]
    tensor = field(1, data_type) + field(2, dimensions) + field(4, array.tobytes())
    plugins = ((b"mode_step", str(mode_step)), (b"mode", str(MODES.index(mode) + 1)))
    metadata = b"".join(field(1, field(1, key) + field(2, text.encode())) for key, text in plugins)
    # The tensor goes last although its number is lower: then its bytes end the message.
    value = field(1, name.encode()) + field(9, metadata) + field(8, tensor)
    wall_time = b"\x09" + struct.pack("<d", time.time() if now is None else now)
    return wall_time + field(2, global_step) + field(5, field(1, value))


def field(number: int, content: int | bytes) -> bytes:
    """A field of a protocol buffer message: a whole number as a varint, bytes with their length before them."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + struct.pack("<I", masked_crc32c(length)) + message + MAGIC_CRC


def masked_crc32c(data: bytes) -> int:
    """CRC-32C, rotated and shifted as TFRecord files have it (tensorflow/core/lib/hash/crc32c.h)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc_table() -> list[int]:
    """Castagnoli's polynomial, reflected."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


CRC_TABLE = crc_table()
MAGIC_CRC = struct.pack("<I", masked_crc32c(MAGIC))


def replace(path: Path, data: bytes) -> None:
    """Whole or not at all: rules read these files while the training goes on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".tmp")
    partial.write_bytes(data)
    os.replace(partial, path)
