"""The importer of .npy files, as QuickDraw publishes them and as people save their arrays."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from retraining.dataset.public.data_sets import IMPORTERS
from retraining.dataset.sources.source import SourceError, open_source
from tests.plugins.imported import names_of, noise, written

DRAWN = noise(3, 784)
LABELS = numpy.array([1, 0, 1])


def run(source: Path, target: Path) -> list[str]:
    return names_of(target, IMPORTERS["npy"](str(source), target))


@pytest.mark.parametrize("form", ["{}", "full_numpy_bitmap_{}", "full%2Fnumpy_bitmap%2F{}"])
def test_a_file_for_each_class_is_quickdraw(tmp_path: Path, form: str) -> None:
    for number, label in enumerate(("cat", "hot air balloon")):
        numpy.save(tmp_path / f"{form.format(label)}.npy", DRAWN[: number + 1])
    assert run(tmp_path, tmp_path / "out") == [
        "cat/0000000.png", "hot air balloon/0000001.png", "hot air balloon/0000002.png",
    ]  # fmt: skip
    assert (written(tmp_path / "out", 2) == DRAWN[1].reshape(28, 28)).all()


@pytest.mark.parametrize(
    "names",
    [
        ("X.npy", "y.npy"),
        ("images.npy", "labels.npy"),
        ("data/pets_imgs.npy", "data/pets_labels.npy"),
    ],
)
def test_pictures_and_labels_may_be_two_files(tmp_path: Path, names: tuple[str, str]) -> None:
    for name, array in zip(names, (DRAWN, LABELS), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        numpy.save(tmp_path / name, array)
    assert run(tmp_path, tmp_path / "out") == ["0/0000001.png", "1/0000000.png", "1/0000002.png"]


def test_splits_of_arrays_are_kept(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        numpy.save(tmp_path / f"x_{split}.npy", DRAWN[:count])
        numpy.save(tmp_path / f"y_{split}.npy", LABELS[:count])
    run(tmp_path, tmp_path / "out")
    with open_source(str(tmp_path / "out"), s3=None) as files:
        assert {file.split for file in files} == {"train", "validation", "test"} and len(files) == 7


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"cat": DRAWN}, "holds one .npy file; expected are"),
        ({"cat": DRAWN, "dog": noise(2, 81)}, "has pictures of"),
        ({"cat": DRAWN, "dog": numpy.array([{}], object)}, "holds Python objects, which are never loaded"),
        ({"X_train": DRAWN, "y_test": LABELS}, "has no partner of the same split"),
        ({"X": DRAWN, "y": LABELS[:2]}, "has 3 pictures, and y.npy 2 labels"),
    ],
)
def test_arrays_that_make_no_set_are_refused(tmp_path: Path, arrays: dict[str, numpy.ndarray], reason: str) -> None:
    for name, array in arrays.items():
        numpy.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
    with pytest.raises(SourceError, match=reason):
        run(tmp_path, tmp_path / "out")


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        numpy.save(tmp_path / f"{label}.npy", DRAWN)
    (tmp_path / "dog.npy").write_bytes((tmp_path / "dog.npy").read_bytes()[:-1])
    with pytest.raises(SourceError, match=r"dog\.npy promises uint8 of shape \(3, 784\), 2352 bytes, and has 2351"):
        run(tmp_path, tmp_path / "out")


def test_a_refusal_names_the_importer_of_npy(tmp_path: Path) -> None:
    numpy.save(tmp_path / "cat.npy", DRAWN)
    with (
        pytest.raises(SourceError, match=rf"python -m retraining.dataset import npy {tmp_path} FOLDER"),
        open_source(str(tmp_path), s3=None),
    ):
        pass
