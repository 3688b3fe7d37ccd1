"""Small archives in exactly the forms in which the public data sets are published, with images that can be learnt.

A class is a colour (dogs, CIFAR-100) or a brightness (X-rays) under noise, so that a few steps of training tell them
apart; every image is different, and another seed gives images that no training has seen.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
ML_PYTHON = ROOT / ".venv/ml/bin/python"

BREEDS = {
    "001.Affenpinscher": (200, 60, 50),
    "020.Belgian_malinois": (60, 190, 60),
    "133.Yorkshire_terrier": (50, 70, 200),
}
FINE = {"apple": (200, 60, 50), "aquarium_fish": (60, 190, 60), "bicycle": (50, 70, 200)}
LUNGS = {"NORMAL": 70, "PNEUMONIA": 180}
LIBRARIES = {"dogs": BREEDS, "cifar100": FINE}


def pixels(colour: tuple[int, ...] | int, seed: int, size: tuple[int, int] = (32, 32)) -> numpy.ndarray:
    """uint8 (H, W, 3), or (H, W) of one grey."""
    noise = numpy.random.default_rng(seed)
    shape = (*size, 3) if isinstance(colour, tuple) else size
    return (numpy.array(colour) + noise.integers(-45, 46, shape)).clip(0, 255).astype(numpy.uint8)


def jpeg(colour: tuple[int, ...] | int, seed: int, size: tuple[int, int] = (32, 32)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(colour, seed, size)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def zip_of(path: Path, files: Iterator[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in files:
            archive.writestr(name, body)
    return path


def dog_images(path: Path, train: int = 16, held_out: int = 6) -> Path:
    """Udacity's dogImages.zip: photographs of all shapes in train, valid and test."""

    def files() -> Iterator[tuple[str, bytes]]:
        seed = 0
        for split, count in (("train", train), ("valid", held_out), ("test", held_out)):
            for breed, colour in BREEDS.items():
                for _ in range(count):
                    seed += 1
                    name = f"{breed[4:]}_{seed:05d}.jpg"
                    yield f"dogImages/{split}/{breed}/{name}", jpeg(colour, seed, (36 + seed % 9, 34 + seed % 11))

    return zip_of(path, files())


def cifar_100(path: Path, train: int = 60, test: int = 18) -> Path:
    """Toronto's cifar-100-python.tar.gz: pickles of Python 2."""
    content = {
        "meta": {b"fine_label_names": [name.encode() for name in FINE], b"coarse_label_names": [b"fruit"]},
        "train": _cifar_split(train, 0),
        "test": _cifar_split(test, train),
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, document in content.items():
            body = python2_pickle(document)
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return path


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: byte strings as STRING opcodes, numpy's reconstructor under its old name."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes

    def save_global(self, value: Any, name: str | None = None) -> None:
        if getattr(value, "__name__", "") == "_reconstruct":
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
            self.memoize(value)
        else:
            super().save_global(value, name)

    dispatch[type(lambda: None)] = save_global
    dispatch[type(len)] = save_global


def python2_pickle(content: Any) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def _cifar_split(count: int, first: int) -> dict[bytes, Any]:
    labels = [number % len(FINE) for number in range(count)]
    names, colours = list(FINE), list(FINE.values())
    planes = [pixels(colours[label], first + number).transpose(2, 0, 1) for number, label in enumerate(labels)]
    return {
        b"filenames": [f"{names[label]}_s_{number:06d}.png".encode() for number, label in enumerate(labels)],
        b"batch_label": b"batch 1 of 1",
        b"fine_labels": labels,
        b"coarse_labels": [0] * count,
        b"data": numpy.stack(planes).reshape(count, -1),
    }


def chest_xray(path: Path, patients: int = 12) -> Path:
    """Kaggle's archive: grey JPEGs, three of pneumonia for each normal one, a val of 16, patients in the names."""

    def files() -> Iterator[tuple[str, bytes]]:
        for seed, name in enumerate(_xray_names(patients)):
            yield f"chest_xray/{name}", jpeg(LUNGS[name.split("/")[1]], seed, (40 + seed % 7, 52))

    return zip_of(path, files())


def _xray_names(patients: int) -> Iterator[str]:
    for patient in range(1, patients + 1):
        yield f"train/NORMAL/IM-{patient:04d}-0001.jpeg"
        yield f"train/NORMAL/IM-{patient:04d}-0002.jpeg"
        for image in range(6):
            yield f"train/PNEUMONIA/person{patient}_bacteria_{patient * 6 + image}.jpeg"
    for patient in range(8):
        yield f"val/NORMAL/NORMAL2-IM-{1400 + patient}-0001.jpeg"
        yield f"val/PNEUMONIA/person{1946 + patient}_bacteria_{patient}.jpeg"
    for patient in range(6):
        yield f"test/NORMAL/IM-{9000 + patient}-0001.jpeg"
        yield f"test/PNEUMONIA/person{2000 + patient}_virus_{patient}.jpeg"


ARCHIVES = {
    "dogs": (dog_images, "dogImages.zip"),
    "cifar100": (cifar_100, "cifar-100-python.tar.gz"),
    "chest_xray": (chest_xray, "archive.zip"),
}


def archive(data_set: str, folder: Path) -> Path:
    """The archive of one of the sets, under its usual name."""
    write, name = ARCHIVES[data_set]
    return write(folder / name)


def unseen(data_set: str, label: str, seed: int) -> bytes:
    """A JPEG of a class that is in no archive."""
    colour: Any = LUNGS[label] if data_set == "chest_xray" else LIBRARIES[data_set][label]
    return jpeg(colour, 100_000 + seed, (40, 40))


RANDOM_WEIGHTS = """
import sys, torch
from network import model
torch.manual_seed(3)
torch.save(model.build(sys.argv[1], 1000).state_dict(), sys.argv[2])
"""


def random_weights(architecture: str, path: Path) -> Path:
    """What stands in for ImageNet's weights: the same file with random numbers, written by the interpreter of ml/."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "ml")}
    command = [str(ML_PYTHON), "-W", "ignore", "-c", RANDOM_WEIGHTS, architecture, str(path)]
    subprocess.run(command, env=environment, check=True, timeout=PATIENCE_S)
    return path
