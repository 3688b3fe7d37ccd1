"""The importer of tables of pixels, on CSV files as Kaggle's sets have them."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest

from retraining.dataset.public.data_sets import import_pixels
from retraining.dataset.sources.source import SourceError, open_source
from tests.plugins.imported import names_of, noise, written

PLUGINS = Path(__file__).parents[2] / "plugins"
SIDE = 20


GREY, COLOUR = noise(4, SIDE, SIDE), noise(4, SIDE, SIDE, 3)
LABELS = [1, 0, 1, 0]


def table(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]], sign: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=sign)
        writer.writerows([head, *rows] if head else rows)
    return path


def wide(path: Path, pictures: numpy.ndarray = GREY, labels: Sequence[Any] = LABELS, pixel: str = "pixel{}") -> Path:
    head = ["label", *(pixel.format(number) for number in range(pictures[0].size))]
    return table(path, head, ([label, *each.ravel()] for label, each in zip(labels, pictures, strict=True)))


def fer(
    path: Path, usages: Sequence[str] = ("Training", "Training", "PublicTest", "PrivateTest"), space: str = ""
) -> Path:
    rows = zip(LABELS, (" ".join(map(str, each.ravel())) for each in GREY), usages, strict=True)
    return table(path, ["emotion", f"{space}pixels", f"{space}Usage"], rows)


def run(source: Path, target: Path, label: str | None = None) -> list[str]:
    return names_of(target, import_pixels(str(source), target, label))


def test_a_picture_may_be_a_long_cell(tmp_path: Path) -> None:
    """Which csv refuses beyond 131,072 characters."""
    large = noise(2, 200, 200)
    rows = ([label, " ".join(map(str, each.ravel()))] for label, each in zip("ab", large, strict=True))
    table(tmp_path / "faces.csv", ["label", "pixels"], rows)
    assert run(tmp_path, tmp_path / "out") == ["a/0000000.png", "b/0000001.png"]
    assert (written(tmp_path / "out", 1) == large[1]).all()


@pytest.mark.parametrize("space", ["", " "])
def test_faces_keep_their_three_splits(tmp_path: Path, space: str) -> None:
    fer(tmp_path / "fer2013.csv", space=space)  # icml_face_data.csv has the space
    (tmp_path / "classnames.txt").write_text("Angry\nHappy\n")
    assert run(tmp_path, tmp_path / "out") == [
        "test/Angry/0000003.png", "train/Angry/0000001.png", "train/Happy/0000000.png",
        "validation/Happy/0000002.png",
    ]  # fmt: skip
    assert (written(tmp_path / "out", 2) == GREY[2]).all()


@pytest.mark.parametrize("names", [("train", "test"), ("sign_mnist_train", "sign_mnist_test")])
@pytest.mark.parametrize("pixel", ["pixel{}", "pixel{:04d}", "{}", "p_{}"])
def test_columns_of_pixels_keep_their_values(tmp_path: Path, names: tuple[str, str], pixel: str) -> None:
    for name in names:
        wide(tmp_path / f"{name}.csv", pixel=pixel)
    assert {name.rpartition("/")[0] for name in run(tmp_path, tmp_path / "out")} == {
        "train/0", "train/1", "test/0", "test/1"
    }  # fmt: skip
    assert (written(tmp_path / "out", 3) == GREY[3]).all()
    with open_source(str(tmp_path / "out"), s3=None) as files:
        assert {file.split for file in files} == {"train", "test"}


def test_columns_of_two_numbers_are_read_by_rows(tmp_path: Path) -> None:
    head = ["label", *(f"{y}x{x}" for y in range(1, SIDE + 1) for x in range(1, SIDE + 1))]
    file = table(
        tmp_path / "mnist_train.csv", head, ([label, *each.ravel()] for label, each in zip(LABELS, GREY, strict=True))
    )
    assert run(file, tmp_path / "out")[0] == "0/0000001.png"
    assert (written(tmp_path / "out", 1) == GREY[1]).all()


def test_colours_stand_pixel_by_pixel(tmp_path: Path) -> None:
    """As in hmnist_28_28_RGB.csv of HAM10000, with the class at the end."""
    head = [*(f"pixel{number:04d}" for number in range(COLOUR[0].size)), "label"]
    file = table(tmp_path / "hmnist_28_28_RGB.csv", head, ([*each.ravel(), 1] for each in COLOUR))
    assert len(run(file, tmp_path / "out")) == 4
    assert (written(tmp_path / "out", 2) == COLOUR[2]).all()


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_table_without_a_heading_begins_with_the_class(tmp_path: Path, sign: str) -> None:
    file = table(
        tmp_path / "A_Z.csv", [], ([label, *each.ravel()] for label, each in zip(LABELS, GREY, strict=True)), sign
    )
    assert len(run(file, tmp_path / "out")) == 4
    assert (written(tmp_path / "out") == GREY[0]).all()


def test_letters_of_emnist_stand_upright(tmp_path: Path) -> None:
    for split in ("train", "test"):
        file = tmp_path / f"emnist-letters-{split}.csv"
        table(file, [], ([label + 1, *each.ravel()] for label, each in zip(LABELS, GREY, strict=True)))
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 65 97\n2 66 98\n")
    assert {name.rpartition("/")[0] for name in run(tmp_path, tmp_path / "out")} == {
        f"{split}/{label}" for split in ("train", "test") for label in "AB"
    }
    assert (written(tmp_path / "out", 1) == GREY[1].T).all()


def test_a_table_without_classes_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As in Kaggle's digit-recognizer."""
    wide(tmp_path / "train.csv", labels=[1, "", "1.0", 0])
    table(tmp_path / "test.csv", [f"pixel{number}" for number in range(400)], [GREY[0].ravel()])
    table(tmp_path / "sample_submission.csv", ["ImageId", "Label"], [[1, 0]])
    assert run(tmp_path, tmp_path / "out") == ["train/0/0000002.png", "train/1/0000000.png", "train/1/0000001.png"]
    assert "Left out: test.csv has pixels, and no column of classes." in caplog.text
    assert "Left out: sample_submission.csv has no columns of pixels." in caplog.text
    assert "Pictures left out: 1 (without a label)." in caplog.text
    (tmp_path / "train.csv").unlink()
    with pytest.raises(SourceError, match=r"no table of pixels and classes \(sample_submission\.csv has no columns of"):
        run(tmp_path, tmp_path / "other")


def test_of_several_columns_a_person_names_one(tmp_path: Path) -> None:
    rows = [[number, number % 2, "x.jpg", " ".join(map(str, each.ravel()))] for number, each in enumerate(GREY)]
    file = table(tmp_path / "age_gender.csv", ["age", "gender", "img_name", "pixels"], rows)
    with pytest.raises(SourceError, match=r"several columns may tell the class: age, gender.*--label COLUMN"):
        run(file, tmp_path / "out")
    with pytest.raises(SourceError, match=r"has no column 'sex'; beside those of pixels it has age, gender"):
        run(file, tmp_path / "out", "sex")
    command = [sys.executable, "-m", "retraining.dataset", "import", "pixels", str(file), str(tmp_path / "o")]
    told = subprocess.run(
        [*command, "--label", "gender"], cwd=PLUGINS, capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout == f"4 images in 2 classes in {tmp_path / 'o'}\n"
    refused = subprocess.run([*command, "--image", "x"], cwd=PLUGINS, capture_output=True, text=True, timeout=60)
    assert "pixels has no such columns" in refused.stderr


def rows(*, cells: int = 401, last: Any = 7) -> list[list[Any]]:
    return [[1] * 401, [1] * (cells - 1) + [last]]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (rows(last=256), r"a\.csv: row 3 has '256' among its pixels, which are whole numbers from 0 to 255"),
        (rows(last="9" * 5000), r"row 3 has '9999999999"),
        (rows(last=-1), r"row 3 has '-1' among"),
        (rows(last=25.5), r"row 3 has '25\.5' among"),
        (rows(last="1_0"), r"row 3 has '1_0' among"),
        (rows(last="٣"), r"row 3 has '٣' among"),
        (rows(last="1\0"), r"row 3 has '1\\\\x00' among"),
        (rows(last=""), r"row 3 has 399 values of pixels; the pictures before it are 20 x 20"),
        (rows(cells=400), r"row 3 has 400 cells, the first one 401"),
        (rows(cells=402), r"row 3 has 402 cells, the first one 401"),
        ([[9] * 401], r"row 2 is of the class 9; there are names of 2"),
        ([], r"its tables have no row of a picture"),
    ],
)
def test_a_row_that_is_no_picture_is_named(tmp_path: Path, content: list[list[Any]], told: str) -> None:
    table(tmp_path / "a.csv", ["label", *(f"pixel{number}" for number in range(400))], content)
    (tmp_path / "classnames.txt").write_text("cat\ndog")
    with pytest.raises(SourceError, match=told):
        run(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", r"no table of pixels and classes \(a\.csv has no columns of pixels\)"),
        (b"\0\0\0\0", r"a\.csv has no columns of pixels"),
        (b"label,pixels\ncat,\xff\xfe\n", r"a\.csv is no text in UTF-8; save it as CSV UTF-8"),
        (b"\xff\xfel\0a\0", r"a\.csv is no text in UTF-8"),
        (
            b"label,pixels\ncat,1 2 3 4 5\n",
            r"row 2 has 5 values of pixels\. Pictures are squares, of n x n values or thr",
        ),
        (b"label,pixels\ncat,\n", r"row 2 has 0 values of pixels\. Pictures are squares"),
        (b"label,pixels\ncat,1\ncat,1 2 3 4\n", r"row 3 has 4 values of pixels; the pictures before it are 1 x 1"),
        (b"label,pixels,Usage\ncat,1,Later\n", r"row 2 is of the split 'Later'; known are train, validation and test"),
        (b"label,pixels\nA,1\na,1\n", r"the classes 'A' and 'a' would both be called 'a'"),
        (b'label,pixels\ncat,"' + b"1 " * 70_000, r"row 2 has 70000 values of pixels\. Pictures are squares"),
        (b"label,pixels\n" + b"1," * 2_100_000, r"a\.csv has a row of more than 4194304 characters"),
        (b"label,pixels\n" + b'"1\n",' * 900_000, r"a\.csv has a row of more than 4194304 characters"),
        (
            b"label,pixel10," + b",".join(b"pixel%d" % number for number in range(20)) + b"\n",
            r"the column 'pixel0' stands behind one of a later pixel",
        ),
    ],
)
def test_a_file_that_is_no_table_of_pixels_is_named(tmp_path: Path, body: bytes, told: str) -> None:
    (tmp_path / "a.csv").write_bytes(body)
    with pytest.raises(SourceError, match=told):
        run(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("names", [("mnist_train", "fashion_train"), ("emnist-digits-train", "emnist-letters-train")])
def test_two_sets_of_tables_are_not_mixed(tmp_path: Path, names: Sequence[str]) -> None:
    for name in names:
        wide(tmp_path / f"{name}.csv")
    with pytest.raises(SourceError, match=r"of several sets: .*Put the files of one into a folder of its own"):
        run(tmp_path, tmp_path / "out")


def test_tables_of_other_sizes_are_not_mixed(tmp_path: Path) -> None:
    wide(tmp_path / "train.csv")
    wide(tmp_path / "test.csv", pictures=noise(4, 28, 28))
    with pytest.raises(SourceError, match=r"train\.csv: row 2 has 400 values of pixels; the pictures before it are 28"):
        run(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("kind", ["wide", "texts", "large"])
def test_a_refusal_names_the_importer_of_pixels(tmp_path: Path, kind: str) -> None:
    file = fer(tmp_path / "a.csv") if kind == "texts" else wide(tmp_path / "a.csv")
    if kind == "large":  # more than is read of a table
        with file.open("ab") as opened:
            opened.truncate(2**28)
    told = rf"a\.csv: if pictures.*python -m retraining\.dataset import pixels {tmp_path} FOLDER"
    with pytest.raises(SourceError, match=told), open_source(str(tmp_path), s3=None):
        pass
