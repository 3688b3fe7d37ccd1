"""The importer of numpy's .npz files, on arrays as Keras, MedMNIST and people save them."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest

from retraining.dataset.public.data_sets import IMPORTERS
from retraining.dataset.sources.archive import ArchiveError
from retraining.dataset.sources.source import SourceError, open_source
from tests.plugins.imported import names_of, noise, written

WIDE = (28, 20)


GREY, COLOUR = noise(4, *WIDE), noise(4, *WIDE, 3)
LABELS = numpy.array([1, 0, 1, 0])


def run(source: Path, target: Path) -> list[str]:
    return names_of(target, IMPORTERS["npz"](str(source), target))


def saved(path: Path, **arrays: Any) -> Path:
    numpy.savez_compressed(path, **arrays)
    return path


def npy(header: bytes, body: bytes = b"", version: bytes = b"\1\0") -> bytes:
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    return b"\x93NUMPY" + version + size + header + body


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return path


def of(array: numpy.ndarray) -> bytes:
    buffer = io.BytesIO()
    numpy.save(buffer, array)
    return buffer.getvalue()


def test_an_array_in_each_file_is_one_set(tmp_path: Path) -> None:
    """Kuzushiji-49: arr_0 in k49-train-imgs.npz, k49-train-labels.npz and so on."""
    for split, count in (("train", 4), ("test", 2)):
        numpy.savez_compressed(tmp_path / f"k49-{split}-imgs.npz", GREY[:count])
        numpy.savez_compressed(tmp_path / f"k49-{split}-labels.npz", LABELS[:count].astype("u1"))
    assert run(tmp_path, tmp_path / "out") == [
        "test/0/0000001.png", "test/1/0000000.png", "train/0/0000003.png", "train/0/0000005.png",
        "train/1/0000002.png", "train/1/0000004.png",
    ]  # fmt: skip
    assert (written(tmp_path / "out", 5) == GREY[3]).all()
    (tmp_path / "k49-test-labels.npz").unlink()
    with pytest.raises(SourceError, match="has no partner of the same split"):
        run(tmp_path, tmp_path / "again")


def test_mnist_of_keras_keeps_pixels_and_splits(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "mnist.npz", x_train=GREY, y_train=LABELS.astype("u1"), x_test=GREY[:1], y_test=LABELS[:1])
    assert run(tmp_path / "mnist.npz", tmp_path / "out") == [
        "test/1/0000004.png", "train/0/0000001.png", "train/0/0000003.png", "train/1/0000000.png",
        "train/1/0000002.png",
    ]  # fmt: skip
    assert (written(tmp_path / "out", 3) == GREY[3]).all()
    with open_source(str(tmp_path / "out"), s3=None) as files:
        assert {file.split for file in files} == {"train", "test"}


def test_medmnist_has_three_splits_and_names_beside_it(tmp_path: Path) -> None:
    pairs = {f"{split}_images": COLOUR for split in ("train", "val", "test")}
    pairs |= {f"{split}_labels": LABELS.reshape(-1, 1).astype("u1") for split in ("train", "val", "test")}
    saved(tmp_path / "bloodmnist.npz", **pairs)
    (tmp_path / "classnames.txt").write_text("basophil\neosinophil\n")
    names = run(tmp_path, tmp_path / "out")
    assert {name.rpartition("/")[0] for name in names} == {
        f"{split}/{label}" for split in ("train", "validation", "test") for label in ("basophil", "eosinophil")
    }
    assert (written(tmp_path / "out", 5) == COLOUR[1]).all()


@pytest.mark.parametrize(
    ("pictures", "expected"),
    [
        (GREY[..., None], GREY),
        (GREY[:, None], GREY),
        (COLOUR, COLOUR),
        (numpy.ascontiguousarray(COLOUR.transpose(0, 3, 1, 2)), COLOUR),
        (noise(4, 400).reshape(4, 400), noise(4, 400).reshape(4, 20, 20)),
        (GREY.astype("i8"), GREY),
        (GREY.astype("f4"), GREY),
        (GREY.astype("f4") / 255, GREY),
        (GREY / 255, GREY),
        (GREY.astype(">f4") / 127.5 - 1, GREY),
        (GREY.astype("f4") / 255 * 2 - 1, GREY),
        (GREY > 127, (GREY > 127) * numpy.uint8(255)),
        (GREY.astype("u2") * 257, GREY.astype("u2") * 257),
        (GREY.astype(">u2") * 257, GREY.astype("u2") * 257),
    ],
)
def test_every_value_of_a_picture_is_kept(tmp_path: Path, pictures: Any, expected: Any) -> None:
    run(saved(tmp_path / "set.npz", X=pictures, y=LABELS), tmp_path / "out")
    for number in range(4):
        found = written(tmp_path / "out", number)
        assert found.shape == expected[number].shape
        assert (found == expected[number]).all()


def test_arrays_of_other_things_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(saved(tmp_path / "set.npz", X=GREY, y=LABELS, class_names=numpy.array(["a", "b"])), tmp_path / "out")
    assert "Left out of set.npz: the arrays class_names, which are called otherwise." in caplog.text


def test_labels_may_be_texts(tmp_path: Path) -> None:
    for number, labels in enumerate((["cat", "dög", "cat", ""], [b"cat", "dög".encode(), b"cat", b""])):
        saved(tmp_path / "set.npz", images=GREY, labels=numpy.array(labels))
        assert run(tmp_path / "set.npz", tmp_path / str(number)) == [
            "cat/0000000.png", "cat/0000002.png", "dög/0000001.png",
        ]  # fmt: skip


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    saved(tmp_path / "set.npz", images=COLOUR, labels=LABELS)
    bodies = [
        [(tmp_path / out / name).read_bytes() for name in run(tmp_path / "set.npz", tmp_path / out)] for out in "ab"
    ]
    assert bodies[0] == bodies[1]


class Loaded:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('loaded')",)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x_train": GREY}, r"mnist\.npz: x_train has no partner of the same split"),
        ({"a": GREY, "b": LABELS}, r"has the arrays a, b; call them x_train and y_train"),
        ({"x": GREY, "images": GREY, "y": LABELS}, r"mnist\.npz: x and images may be the same"),
        ({"x": GREY, "y": LABELS, "x_test": GREY, "y_test": LABELS}, r"mnist\.npz: x says no split, and others do"),
        ({"x": GREY, "y": LABELS[:3]}, r"x has 4 pictures, and mnist\.npz: y 3 labels"),
        ({"x": GREY, "y": numpy.eye(4)}, r"y is of shape \(4, 4\): several numbers .*labels\.argmax\(axis=1\)"),
        ({"x": GREY, "y": LABELS.astype(float)}, r"y is float64; labels are whole numbers or texts"),
        ({"x": GREY, "y": LABELS - 1}, r"y: number 2 is -1; classes are counted from 0"),
        ({"x": GREY, "y": LABELS * 7}, r"y: number 1 is of the class 7; there are names of 2"),
        ({"x": GREY, "y": numpy.array([b"\xff"] * 4)}, r"y: number 1 is no text in UTF-8"),
        ({"x": GREY.astype("f4") / 254, "y": LABELS}, r"x is float32, and its values are not those of bytes on one"),
        ({"x": numpy.full((4, 20, 20), numpy.nan), "y": LABELS}, r"x is float64, and its values are not those"),
        ({"x": GREY.astype("i4") + 1, "y": LABELS}, r"x is int32, and its values .* \(0 to 255\)"),
        ({"x": GREY.astype("f2"), "y": LABELS}, r"x is float16; pictures are bytes"),
        ({"x": COLOUR.astype("u2"), "y": LABELS}, r"x is uint16 in three channels"),
        (
            {"x": noise(4, 28, 28, 28), "y": LABELS},
            r"x is of shape \(4, 28, 28, 28\)\. Pictures are n x height x width",
        ),
        ({"x": noise(4, 28, 28, 4), "y": LABELS}, r"x is of shape \(4, 28, 28, 4\)\. Pictures are"),
        ({"x": noise(4, 3, 9, 3), "y": LABELS}, r"its channels may be the first or the last"),
        ({"x": noise(4, 783), "y": LABELS}, r"x is of shape \(4, 783\)\. Pictures are"),
        ({"x": noise(4, 0, 28), "y": LABELS}, r"x is of shape \(4, 0, 28\); a picture has 1 to"),
        ({"x": noise(0, 28, 28), "y": LABELS[:0]}, r"its arrays hold no picture"),
        ({"x": numpy.asfortranarray(GREY), "y": LABELS}, r"x is saved by columns .*numpy\.ascontiguousarray"),
        ({"x": numpy.zeros(4, "u1,u1"), "y": LABELS}, r"x is .*no array of pictures or labels"),
        ({"x": numpy.zeros((), "u1"), "y": LABELS}, r"x is uint8 of shape \(\), no array"),
        ({"x": numpy.array([Loaded()] * 4), "y": LABELS}, r"x holds Python objects, which are never loaded"),
        (
            {"x_train": GREY, "y_train": LABELS, "x_test": noise(4, 9, 9), "y_test": LABELS},
            r"x_test has pictures of \(9, 9\), and mnist\.npz: x_train of \(28, 20\)",
        ),
    ],
)
def test_arrays_that_are_no_data_set_are_named(tmp_path: Path, arrays: dict[str, Any], told: str) -> None:
    saved(tmp_path / "mnist.npz", **arrays)
    (tmp_path / "classnames.txt").write_text("cat\ndog")
    with pytest.raises(SourceError, match=told):
        run(tmp_path, tmp_path / "out")


HEAD = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 28, 20), }\n"


@pytest.mark.parametrize(
    ("member", "told"),
    [
        (b"", r"x has no header of an array"),
        (b"\x93NUMPY\1\0", r"x has no header of an array"),
        (npy(b"[" * 9000), r"x has no header of an array"),
        (npy(b"(" * 60_000), r"x has no header of an array"),
        (npy(HEAD[:-9]), r"x has no header of an array"),
        (npy(HEAD.replace(b"4,", b"-4,")), r"shape \(-4, 28, 20\), no array"),
        (npy(HEAD.replace(b"4,", b"True,")), r"shape \(True, 28, 20\), no array"),
        (npy(HEAD, b"", b"\3\0"), r"x has no header of an array: its format is \(3, 0\)"),
        (npy(HEAD)[:8] + b"\2\0" + b"\xff" * 4, r"x has no header of an array"),
        (npy(HEAD, b"", b"\2\0")[:8] + b"\xff\xff\xff\xff" + HEAD, r"x has no header of an array"),
        (npy(HEAD), r"x promises uint8 of shape \(4, 28, 20\), 2240 bytes, and has 0"),
        (npy(HEAD, bytes(2239)), r"2240 bytes, and has 2239"),
        (npy(HEAD, bytes(2241)), r"2240 bytes, and has 2241"),
        (npy(HEAD.replace(b"4,", b"4000000,")), r"x has 4000000 rows; read are up to 2000000"),
        (npy(HEAD.replace(b"28,", b"9" * 40 + b",")), r"x promises uint8"),
    ],
)
def test_a_header_that_lies_is_named(tmp_path: Path, member: bytes, told: str) -> None:
    zipped(tmp_path / "a.npz", {"x.npy": member, "y.npy": of(LABELS)})
    with pytest.raises(SourceError, match=told):
        run(tmp_path / "a.npz", tmp_path / "out")


@pytest.mark.parametrize("cut", [0, 4, 100, -1, -30, -200])
def test_a_cut_npz_is_named(tmp_path: Path, cut: int) -> None:
    file = saved(tmp_path / "a.npz", x=GREY, y=LABELS)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(SourceError, match=r"a\.npz cannot be read as \.npz: "):
        run(file, tmp_path / "out")


def test_damage_within_an_array_is_named(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "a.npz", x=(pictures := noise(40, *WIDE)), y=numpy.arange(40))
    body = (tmp_path / "a.npz").read_bytes()
    at = body.index(pictures[39].tobytes())
    (tmp_path / "a.npz").write_bytes(body[:at] + bytes(20) + body[at + 20 :])
    with pytest.raises(SourceError, match=r"a\.npz: x is broken: Bad CRC-32"):
        run(tmp_path / "a.npz", tmp_path / "out")


@pytest.mark.slow
def test_a_small_file_fills_no_disk(tmp_path: Path) -> None:
    """A hundred thousand pictures of nothing, in a hundred kilobytes."""
    head = HEAD.replace(b"4, 28, 20", b"100000, 50, 50")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w") as file:
            file.write(npy(head))
            for _ in range(250):
                file.write(bytes(10**6))
        archive.writestr("y.npy", of(numpy.zeros(100_000, "u1")))
    with pytest.raises(ArchiveError, match=r"a\.npz unpacks to more than 100 times"):
        run(tmp_path / "a.npz", tmp_path / "out")
    zipped(tmp_path / "b.npz", {"x.npy": of(GREY), "y.npy": of(LABELS)}, zipfile.ZIP_BZIP2)
    with pytest.raises(SourceError, match=r"b\.npz: x is packed by method 12"):
        run(tmp_path / "b.npz", tmp_path / "out")


def test_two_sets_of_npz_are_not_mixed(tmp_path: Path) -> None:
    for names in (("pathmnist", "bloodmnist"), ("pathmnist", "pathmnist_64"), ("train", "train_64")):
        folder = tmp_path / names[1]
        folder.mkdir()
        for name in names:
            saved(folder / f"{name}.npz", images=GREY, labels=LABELS)
        with pytest.raises(SourceError, match=r"of several sets: .*Put the files of one into a folder of its own"):
            run(folder, tmp_path / "out")
        assert len(run(folder / f"{names[0]}.npz", tmp_path / names[1] / "out")) == 4


def test_files_may_be_the_splits(tmp_path: Path) -> None:
    for name in ("train", "test"):
        saved(tmp_path / f"{name}.npz", images=GREY, labels=LABELS)
    assert {name.split("/")[0] for name in run(tmp_path, tmp_path / "out")} == {"train", "test"}


def test_a_refusal_names_the_importer_of_npz(tmp_path: Path) -> None:
    saved(tmp_path / "mnist.npz", x=GREY, y=LABELS)
    told = rf"mnist\.npz: .*python -m retraining\.dataset import npz {tmp_path} FOLDER"
    with pytest.raises(SourceError, match=told), open_source(str(tmp_path), s3=None):
        pass
