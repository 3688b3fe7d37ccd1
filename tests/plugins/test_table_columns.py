"""Which column of a table is the image, and which the class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from retraining.dataset.source_error import SourceError
from tests.plugins.tabled import NAMES, found, label, placed


@pytest.mark.parametrize("folders", [("images", "."), ("train", "train")])
def test_a_word_behind_a_box_is_the_class(tmp_path: Path, folders: tuple[str, str]) -> None:
    """Of Keras-RetinaNet, without a heading; an image without boxes has a row of its name alone."""
    images, beside = folders
    rows = [f"{name},{n},{n + 1.5},{n + 40},{n + 50},{label(name)}" for n, name in enumerate(NAMES)]
    text = "\n".join([*rows, f"{NAMES[0]},7,7,9,9,cat", f"{NAMES[3]},1,2,3,4,cat", "empty.jpg,,,,,"])
    placed(tmp_path, {f"{images}/{name}": None for name in [*NAMES, "empty.jpg"]} | {f"{beside}/boxes.csv": text})
    read = found(tmp_path)
    assert {Path(name).name: kind for name, (_, kind) in read.items()} == {
        name: label(name) for name in NAMES if name != NAMES[3]
    }


@pytest.mark.parametrize("cells", ["3,cat,red", "3,4,5"])
def test_words_in_no_or_several_columns_are_unclear(tmp_path: Path, cells: str) -> None:
    text = "\n".join(f"{name},{cells}" for name in NAMES)
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "boxes.csv": text})
    with pytest.raises(SourceError, match="not clear of 2, 3, 4"):
        found(tmp_path)


def test_a_column_may_be_called_finding(tmp_path: Path) -> None:
    """The chest X-rays of COVID-19, with ages and views beside."""
    rows = [f"{n},{n + 30},PA,{label(name)},{name}" for n, name in enumerate(NAMES)]
    placed(tmp_path, {f"images/{name}": None for name in NAMES})
    placed(tmp_path, {"metadata.csv": "\n".join(["patientid,age,view,finding,filename", *rows])})
    assert found(tmp_path) == {f"images/{name}": (None, label(name)) for name in NAMES}
    placed(tmp_path, {"metadata.csv": "\n".join(["patientid,age,material,finding,filename", *rows])})
    with pytest.raises(SourceError, match="not clear of patientid, age, material, finding"):
        found(tmp_path)


FLAT_TEST: dict[str, str | None] = {f"train/{name}/{n}.jpg": None for name in ("cat", "dog") for n in range(3)} | {
    f"test/{name}": None for name in NAMES
}


@pytest.mark.parametrize(
    ("table", "label_of"),
    [("sample_submission.csv", label), ("my_predictions.csv", label), ("answers.csv", lambda name: "cat")],
)
def test_guesses_are_no_labels(tmp_path: Path, table: str, label_of: Callable[[str], str]) -> None:
    """A competition's dummy, somebody's predictions, and the same for all."""
    placed(tmp_path, FLAT_TEST | {table: "\n".join(["id,label", *(f"{name},{label_of(name)}" for name in NAMES)])})
    assert len(found(tmp_path)) == 6


@pytest.mark.parametrize("head", [",id,label", "row,image_id,label", "age,file,label"])
def test_a_number_of_the_row_is_no_image(tmp_path: Path, head: str) -> None:
    shuffled = [NAMES[(7 * number) % len(NAMES)] for number in range(len(NAMES))]
    rows = [f"{number:02},{name if 'file' in head else name[:2]},{label(name)}" for number, name in enumerate(shuffled)]
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "labels.csv": "\n".join([head, *rows])})
    assert found(tmp_path) == {f"images/{name}": (None, label(name)) for name in NAMES}


def test_a_column_without_a_name_is_no_image(tmp_path: Path) -> None:
    rows = [f"{name[:2]},{label(name)}" for name in NAMES]
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "labels.csv": "\n".join([",label", *rows])})
    with pytest.raises(SourceError, match=r"only the column without a name, which counts the rows"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("head", "cells", "reason"),
    [
        ("image_id,partition", ["0", "1", "2"], "not clear of none"),
        ("file,has_tumor,is_new", ["1,0", "0,1", "0,0"], "not clear of has_tumor, is_new"),
    ],
)
def test_what_is_no_class_is_not_taken_for_one(tmp_path: Path, head: str, cells: list[str], reason: str) -> None:
    rows = [f"{name},{cells[number % 3]}" for number, name in enumerate(NAMES)]
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "list.csv": "\n".join([head, *rows])})
    with pytest.raises(SourceError, match=reason):
        found(tmp_path)


def test_a_class_may_be_called_none(tmp_path: Path) -> None:
    rows = [f"{name},{'none' if label(name) == 'cat' else 'NaN' if name == '01.jpg' else 'dent'}" for name in NAMES]
    placed(tmp_path, {**{f"i/{name}": None for name in NAMES}, "a.csv": "\n".join(["file,label", *rows])})
    assert Counter(each for _, each in found(tmp_path).values()) == {"none": 6, "dent": 5}


def test_a_label_goes_before_flags(tmp_path: Path) -> None:
    rows = [f"{name},{number % 2},{int(number == 2)}" for number, name in enumerate(NAMES)]
    placed(tmp_path, {**{f"i/{name}": None for name in NAMES}, "a.csv": "\n".join(["image_id,label,blurry", *rows])})
    assert {each for _, each in found(tmp_path).values()} == {"0", "1"} and len(found(tmp_path)) == len(NAMES)
