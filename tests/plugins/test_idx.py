"""The importer of MNIST and its relatives, on small files as their makers write them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest
from PIL import Image

from retraining.dataset.public.data_sets import IMPORTERS
from retraining.dataset.sources.archive import ArchiveError
from retraining.dataset.sources.source import SourceError, open_source
from tests.plugins.imported import names_of, noise

WIDE = (28, 20)


def pictures(count: int, seed: int = 0) -> numpy.ndarray:
    return noise(count, *WIDE, seed=seed)


def idx(values: numpy.ndarray | Sequence[int], kind: int = 8) -> bytes:
    array = numpy.asarray(values, numpy.uint8)
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def mnist(
    folder: Path, train: Sequence[int] = (3, 0, 9, 3), test: Sequence[int] = (9, 0), *, packed: bool = True
) -> Path:
    """As yann.lecun.com published it, and everybody after."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, labels, seed in (("train", train, 0), ("t10k", test, 1)):
        for name, body in (("images-idx3", idx(pictures(len(labels), seed))), ("labels-idx1", idx(labels))):
            if packed:
                (folder / f"{split}-{name}-ubyte.gz").write_bytes(gzip.compress(body))
            else:
                (folder / f"{split}-{name}-ubyte").write_bytes(body)
    return folder


def run(folder: Path, target: Path) -> list[str]:
    return names_of(target, IMPORTERS["idx"](str(folder), target))


def pixels(path: Path) -> numpy.ndarray:
    with Image.open(path) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        return numpy.asarray(picture)


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_keeps_its_pixels_and_splits(tmp_path: Path, packed: bool) -> None:
    names = run(mnist(tmp_path / "mnist", packed=packed), tmp_path / "out")
    assert names == [
        "test/0/0000001.png", "test/9/0000000.png",
        "train/0/0000003.png", "train/3/0000002.png", "train/3/0000005.png", "train/9/0000004.png",
    ]  # fmt: skip
    assert (pixels(tmp_path / "out/train/9/0000004.png") == pictures(4)[2]).all()
    with open_source(str(tmp_path / "out"), s3=None) as files:
        assert {(file.split, file.label) for file in files} >= {("train", "3"), ("test", "9")}


def test_qmnist_tells_the_class_before_the_writer(tmp_path: Path) -> None:
    """As Facebook publishes it: labels of eight ints, of which the first is MNIST's."""
    for split, labels in (("train", (3, 0, 9)), ("test", (9,))):
        rows = numpy.array([[label, 4, 2100 + number, 0, 1, 2, 0, 0] for number, label in enumerate(labels)], ">i4")
        head = struct.pack(">HBBII", 0, 12, 2, *rows.shape)
        (tmp_path / f"qmnist-{split}-labels-idx2-int.gz").write_bytes(gzip.compress(head + rows.tobytes()))
        body = gzip.compress(idx(pictures(len(labels))))
        (tmp_path / f"qmnist-{split}-images-idx3-ubyte.gz").write_bytes(body)
    assert run(tmp_path, tmp_path / "out") == [
        "test/9/0000000.png", "train/0/0000002.png", "train/3/0000001.png", "train/9/0000003.png",
    ]  # fmt: skip
    labels = tmp_path / "qmnist-train-labels-idx2-int.gz"
    labels.rename(tmp_path / "mnist-train-labels-idx2-int.gz")
    (tmp_path / "qmnist-train-images-idx3-ubyte.gz").rename(tmp_path / "mnist-train-images-idx3-ubyte.gz")
    (tmp_path / "qmnist-test-images-idx3-ubyte.gz").unlink()
    (tmp_path / "qmnist-test-labels-idx2-int.gz").unlink()
    with pytest.raises(SourceError, match="holds ints in 2 dimensions"):  # whose second numbers mean who knows what
        run(tmp_path, tmp_path / "other")


def test_fashion_gets_its_names_from_a_list(tmp_path: Path) -> None:
    folder = mnist(tmp_path / "fashion", train=(0, 1), test=(1,))
    (folder / "classnames.txt").write_text("T-shirt/top\nTrouser\n\n")
    assert run(folder, tmp_path / "out") == [
        "test/Trouser/0000000.png", "train/T-shirt_top/0000001.png", "train/Trouser/0000002.png",
    ]  # fmt: skip


def test_emnist_stands_upright_and_has_letters(tmp_path: Path) -> None:
    folder = tmp_path / "gzip"
    folder.mkdir()
    for split, labels in (("train", (1, 2, 3)), ("test", (3,))):
        body = idx(pictures(len(labels)))
        (folder / f"emnist-balanced-{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(body))
        (folder / f"emnist-balanced-{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    (folder / "emnist-balanced-mapping.txt").write_text("1 48\n2 65\n3 97\n")
    assert run(tmp_path, tmp_path / "out") == [
        "test/a_lower/0000000.png", "train/0/0000001.png", "train/A/0000002.png", "train/a_lower/0000003.png",
    ]  # fmt: skip
    assert (pixels(tmp_path / "out/train/A/0000002.png") == pictures(3)[1].T).all()


def test_letters_of_both_cases_are_one_class(tmp_path: Path) -> None:
    (tmp_path / "emnist-letters-train-images-idx3-ubyte").write_bytes(idx(pictures(2)))
    (tmp_path / "emnist-letters-train-labels-idx1-ubyte").write_bytes(idx([1, 26]))
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 65 97\n26 90 122\n")
    assert run(tmp_path, tmp_path / "out") == ["A/0000000.png", "Z/0000001.png"]


def test_files_that_lie_there_twice_are_read_once(tmp_path: Path) -> None:
    """torchvision's folder has them packed and unpacked; Kaggle's once more in folders of their names."""
    folder = mnist(mnist(tmp_path / "MNIST/raw"), packed=False)
    assert len(run(tmp_path, tmp_path / "torchvision")) == 6
    for path in list(folder.glob("*-ubyte")):
        (folder / path.name.replace("-idx", ".idx")).write_bytes(path.read_bytes())
        (folder / "in" / path.name).mkdir(parents=True)
        path.rename(folder / "in" / path.name / path.name)
    for path in folder.glob("*.gz"):
        path.unlink()
    assert len(run(folder, tmp_path / "kaggle")) == 6


def test_two_sets_are_not_mixed(tmp_path: Path) -> None:
    for name in ("emnist-letters-train", "emnist-letters-test", "emnist-digits-train", "emnist-digits-test"):
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(pictures(1)))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx([1]))
    with pytest.raises(
        SourceError, match=r"of several sets: emnist-digits-test.*Put the files of one into a folder of its"
    ):
        run(tmp_path, tmp_path / "out")


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "body", "told"),
    [
        (IMAGES, b"", r"train-images-idx3-ubyte is no IDX file: it begins with b''"),
        (IMAGES, b"<html>", r"is no IDX file: it begins with b'<htm'"),
        (IMAGES, idx(pictures(4))[:9], r"ends within its header"),
        (IMAGES, idx(pictures(4))[:-1], r"promises 4 x 28 x 20 bytes, and has 2239 behind its header"),
        (IMAGES, idx(pictures(4)) + b"\0", r"promises 4 x 28 x 20 bytes, and has 2241 behind its header"),
        (IMAGES, gzip.compress(idx(pictures(4))[:-1]), r"ends within number 4 of the 4 that its header promises"),
        (IMAGES, gzip.compress(idx(pictures(4)) + b"\0"), r"goes on behind the 4 that its header promises"),
        (IMAGES, gzip.compress(idx(pictures(4)))[:-9], r"is broken: Compressed file ended"),
        (IMAGES, gzip.compress(idx(pictures(4)))[:-4] + bytes(4), r"is broken: Incorrect length of data"),
        (IMAGES, b"\x1f\x8b\x08\0damaged", r"is broken: "),
        (IMAGES, idx(pictures(4), kind=13), r"holds floats in 3 dimensions. What is read is unsigned bytes"),
        (IMAGES, idx([3, 0, 9, 3]), r"holds unsigned bytes in 1 dimensions"),
        (IMAGES, idx(pictures(3)), r"has 3 pictures, and train-labels-idx1-ubyte 4 labels"),
        (IMAGES, struct.pack(">HBB3I", 0, 8, 3, 4, 0, 28), r"promises pictures of 4 x 0 x 28, which have no pixel"),
        (IMAGES, struct.pack(">HBB3I", 0, 8, 3, 4, 2**31, 2**31), r"promises 4 x 2147483648 x 2147483648 bytes"),
        (IMAGES, struct.pack(">HBB3I", 0, 8, 3, 2**31, 28, 28), r"read are up to 2000000 pictures"),
        (LABELS, idx([3, 0, 9, 5]), r"train-labels-idx1-ubyte: number 3 is of the class 9; there are names of 6"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, name: str, body: bytes, told: str) -> None:
    folder = mnist(tmp_path / "mnist", test=(0,), packed=False)
    (folder / "classnames.txt").write_text("a\nb\nc\nd\ne\nf" if name == LABELS else "\n".join("abcdefghij"))
    (folder / name).write_bytes(body)
    with pytest.raises(SourceError, match=told):
        run(folder, tmp_path / "out")


def test_a_gzip_of_nothing_fills_no_disk(tmp_path: Path) -> None:
    count = 2_000_000
    folder = mnist(tmp_path, train=[0], test=[0])
    header = struct.pack(">HBB3I", 0, 8, 3, count, 4096, 4096)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + bytes(2**20)))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, count)))
    with pytest.raises(ArchiveError, match=r"train-images-idx3-ubyte\.gz unpacks to more than"):
        run(folder, tmp_path / "out")


def test_pictures_without_labels_are_named(tmp_path: Path) -> None:
    folder = mnist(tmp_path / "mnist", packed=False)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(SourceError, match=r"t10k-images-idx3-ubyte has no file of labels beside it"):
        run(folder, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"holds no IDX file; they are called train-images-idx3-ubyte"):
        run(tmp_path / "empty", tmp_path / "other")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("cat\n\ndog", r"classnames\.txt has no name for class 1: its line is empty"),
        ("cat\ndog\ncat", r"classnames\.txt calls both class 0 and class 2 'cat'"),
        ("cat\nCat", r"classes 'cat' and 'Cat' would both be called 'Cat'"),
        (b"\xff\xfe", r"classnames\.txt is no text in UTF-8"),
    ],
)
def test_a_list_of_names_that_would_mix_classes_is_refused(tmp_path: Path, names: str | bytes, told: str) -> None:
    folder = mnist(tmp_path / "mnist", train=(0, 1), test=(0, 1))
    (folder / "classnames.txt").write_bytes(names if isinstance(names, bytes) else names.encode())
    with pytest.raises(SourceError, match=told):
        run(folder, tmp_path / "out")


@pytest.mark.parametrize("folder", ["", "raw", "each"])
def test_a_refusal_names_the_importer_of_idx(tmp_path: Path, folder: str) -> None:
    for path in sorted(mnist(tmp_path / folder, packed=False).glob("*-ubyte")):
        if folder == "each":  # as Kaggle's
            moved = path.rename(path.with_suffix(".old"))
            path.mkdir()
            moved.rename(path / path.name)
    told = rf"python -m retraining\.dataset import idx {tmp_path} FOLDER"
    with pytest.raises(SourceError, match=told), open_source(str(tmp_path), s3=None):
        pass
