"""Importers of the public data sets, on small archives in exactly their makers' formats."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from retraining.dataset.pictures.verify import verify_image
from retraining.dataset.public.data_sets import IMPORTERS
from retraining.dataset.sources.source import SourceError, open_source
from retraining.dataset.split import SPLITS
from retraining.dataset.versions.version import make_version
from retraining.recipe import Split
from tests.look_alikes import python2_pickle

PLUGINS = Path(__file__).parents[2] / "plugins"


def jpeg(seed: int) -> bytes:
    pixels = numpy.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG")
    return buffer.getvalue()


def zipped(path: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for seed, name in enumerate(names):
            archive.writestr(name, jpeg(seed) if name.endswith((".jpg", ".jpeg")) else b"junk")
    return path


def images(target: Path) -> set[str]:
    return {path.relative_to(target).as_posix() for path in target.rglob("*.*") if path.is_file()}


# --- dogs -------------------------------------------------------------------------------------------------------------

DOGS = [
    f"dogImages/{split}/{breed}/{breed[4:]}_{number:05d}.jpg"
    for split in ("train", "valid", "test")
    for breed in ("001.Affenpinscher", "020.Belgian_malinois")
    for number in range(2)
]


def test_dogs_keep_their_splits_and_breeds(tmp_path: Path) -> None:
    source = zipped(tmp_path / "dogImages.zip", [*DOGS, "__MACOSX/dogImages/._train", "dogImages/.DS_Store"])
    assert IMPORTERS["dogs"](str(source), tmp_path / "out") == 12
    assert "validation/020.Belgian_malinois/Belgian_malinois_00001.jpg" in images(tmp_path / "out")
    with open_source(str(tmp_path / "out"), s3=None) as files:
        assert {file.split for file in files} == set(SPLITS)
        assert {file.label for file in files} == {"001.Affenpinscher", "020.Belgian_malinois"}


def test_dogs_are_told_from_other_folders(tmp_path: Path) -> None:
    source = zipped(tmp_path / "cats.zip", [name.replace("001.", "").replace("020.", "") for name in DOGS])
    with pytest.raises(SourceError, match=r"Affenpinscher is not named like a breed, for example 001\.Affenpinscher"):
        IMPORTERS["dogs"](str(source), tmp_path / "out")


# --- CIFAR-100 --------------------------------------------------------------------------------------------------------


FINE = [b"apple", b"aquarium_fish", b"worm"]


def cifar_split(count: int) -> dict[bytes, Any]:
    labels = [number % 3 for number in range(count)]
    return {
        b"filenames": [b"%s_s_%06d.png" % (FINE[label], number) for number, label in enumerate(labels)],
        b"batch_label": b"training batch 1 of 1",
        b"fine_labels": labels,
        b"coarse_labels": [0] * count,
        b"data": numpy.random.default_rng(count).integers(0, 256, (count, 3072), dtype=numpy.uint8),
    }


def tar_of(path: Path, folder: str, content: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, body in content.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return path


def cifar_archive(path: Path, **files: bytes) -> Path:
    content = {
        "meta": python2_pickle({b"fine_label_names": FINE, b"coarse_label_names": [b"fruit"]}),
        "train": python2_pickle(cifar_split(9)),
        "test": python2_pickle(cifar_split(6)),
    }
    return tar_of(path, "cifar-100-python", content | files)


def cifar10_archive(path: Path, **files: bytes) -> Path:
    def batch(count: int) -> bytes:
        content = cifar_split(count)
        return python2_pickle(
            {key: content[key] for key in (b"batch_label", b"data", b"filenames")}
            | {b"labels": content[b"fine_labels"]}
        )

    meta = {b"num_cases_per_batch": 10_000, b"label_names": FINE, b"num_vis": 3072}
    content = {"batches.meta": python2_pickle(meta), "readme.html": b"<meta>"}
    content |= {f"data_batch_{number}": batch(3 + number) for number in range(1, 6)} | {"test_batch": batch(6)}
    return tar_of(path, "cifar-10-batches-py", content | files)


def test_cifar100_arrays_become_the_same_pixels(tmp_path: Path) -> None:
    source = cifar_archive(tmp_path / "cifar-100-python.tar.gz")
    assert IMPORTERS["cifar100"](str(source), tmp_path / "out") == 15
    assert {name.split("/")[1] for name in images(tmp_path / "out")} == {"apple", "aquarium_fish", "worm"}
    written = numpy.asarray(Image.open(tmp_path / "out/train/aquarium_fish/0000004_aquarium_fish_s_000004.png"))
    red, green, blue = cifar_split(9)[b"data"][4].reshape(3, 32, 32)
    assert (written == numpy.stack([red, green, blue], axis=2)).all()


def test_cifar100_has_every_split_after_the_sync_divides_train(tmp_path: Path) -> None:
    source = cifar_archive(tmp_path / "cifar-100-python.tar.gz", train=python2_pickle(cifar_split(60)))
    IMPORTERS["cifar100"](str(source), tmp_path / "out")
    with open_source(str(tmp_path / "out"), s3=None) as files:
        version = make_version([(file, verify_image(file.path)) for file in files], "cifar", Split())
    assert version.counts["test"] == {"apple": 2, "aquarium_fish": 2, "worm": 2}
    assert all(count > 0 for count in version.counts["validation"].values())


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    evil = b"cposix\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
    source = cifar_archive(tmp_path / "cifar-100-python.tar.gz", meta=evil)
    with pytest.raises(SourceError, match=r"meta is not a file of CIFAR-100: .*it wants to load posix\.system"):
        IMPORTERS["cifar100"](str(source), tmp_path / "out")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (python2_pickle({b"data": 1, b"labels": []}), r"train has no fine_labels; is it CIFAR-10"),
        (python2_pickle(cifar_split(9) | {b"fine_labels": [0] * 8}), r"train: data is \(9, 3072\) for 8 labels"),
        (python2_pickle(cifar_split(3) | {b"fine_labels": [0, 1, 7]}), r"image 2 has the label 7; there are 3 classes"),
        (python2_pickle(cifar_split(9))[:200], r"train is not a file of CIFAR-100"),
        (b"<html>not found</html>", r"train is not a file of CIFAR-100"),
    ],
)
def test_other_content_than_cifar100_is_named(tmp_path: Path, train: bytes, message: str) -> None:
    source = cifar_archive(tmp_path / "cifar-100-python.tar.gz", train=train)
    with pytest.raises(SourceError, match=message):
        IMPORTERS["cifar100"](str(source), tmp_path / "out")


def test_cifar10_is_read_from_all_its_batches(tmp_path: Path) -> None:
    source = cifar10_archive(tmp_path / "cifar-10-python.tar.gz")
    assert IMPORTERS["cifar10"](str(source), tmp_path / "out") == 4 + 5 + 6 + 7 + 8 + 6
    assert {name.rpartition("/")[0] for name in images(tmp_path / "out")} == {
        f"{split}/{label.decode()}" for split in ("train", "test") for label in FINE
    }
    written = numpy.asarray(Image.open(tmp_path / "out/train/aquarium_fish/0000005_aquarium_fish_s_000001.png"))
    assert (written == cifar_split(5)[b"data"][1].reshape(3, 32, 32).transpose(1, 2, 0)).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_3", python2_pickle(cifar_split(3)), r"data_batch_3 has no labels; is it CIFAR-100"),
        ("data_batch_5", python2_pickle(cifar_split(3))[:99], r"data_batch_5 is not a file of CIFAR-10: "),
        ("test_batch", b"", r"test_batch is not a file of CIFAR-10"),
        ("batches.meta", python2_pickle({b"label_names": [b"a/b", b"a:b", b"c"]}), r"would both be called 'a_b'"),
    ],
)
def test_other_content_than_cifar10_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    source = cifar10_archive(tmp_path / "cifar-10-python.tar.gz", **{name: content})
    with pytest.raises(SourceError, match=message):
        IMPORTERS["cifar10"](str(source), tmp_path / "out")


def test_cifar10_without_one_of_its_batches_is_refused(tmp_path: Path) -> None:
    source = cifar_archive(tmp_path / "cifar-100-python.tar.gz")
    with pytest.raises(SourceError, match=r"no folder with batches\.meta, data_batch_1, .*, test_batch in it"):
        IMPORTERS["cifar10"](str(source), tmp_path / "out")


# --- chest X-rays -----------------------------------------------------------------------------------------------------


def chest_names(root: str) -> list[str]:
    names = [f"{root}/train/NORMAL/IM-{patient:04d}-{image:04d}.jpeg" for patient in range(30) for image in (1, 2)]
    for patient in range(30):
        names += [f"{root}/train/PNEUMONIA/person{patient}_bacteria_{patient * 3 + n}.jpeg" for n in range(3)]
    names += [f"{root}/val/NORMAL/NORMAL2-IM-{patient:04d}-0001.jpeg" for patient in range(8)]
    names += [f"{root}/val/PNEUMONIA/person{1946 + patient}_bacteria_{patient}.jpeg" for patient in range(8)]
    return [*names, f"{root}/test/NORMAL/IM-9001-0001.jpeg", f"{root}/test/PNEUMONIA/person1_virus_6.jpeg"]


def test_chest_xray_gets_a_validation_split_that_divides_no_patient(tmp_path: Path) -> None:
    names = [*chest_names("chest_xray"), "chest_xray/__MACOSX/._val", "chest_xray/train/.DS_Store"]
    source = zipped(tmp_path / "archive.zip", names)
    assert IMPORTERS["chest_xray"](str(source), tmp_path / "out") == len(names) - 2
    with open_source(str(tmp_path / "out"), s3=None) as files:
        judged = [(file, verify_image(file.path)) for file in files]
        version = make_version(judged, "chest", Split(group_by=r"(person\d+|(?:NORMAL2-)?IM-\d+)"))
    assert min(version.counts["validation"].values()) > 8  # Kaggle's own has 8 of each
    assert version.counts["test"] == {"NORMAL": 1, "PNEUMONIA": 1}
    splits: dict[str, set[str]] = {}
    for image in version.images:
        if image.split != "test":
            patient = image.file.name.split("/")[-1].rsplit("-" if "IM-" in image.file.name else "_bact", 1)[0]
            splits.setdefault(patient, set()).add(image.split)
    assert all(len(parts) == 1 for parts in splits.values())


def test_the_folder_that_kaggles_archive_holds_twice_is_read_once(tmp_path: Path) -> None:
    names = chest_names("chest_xray")
    source = zipped(tmp_path / "archive.zip", [*names, *chest_names("chest_xray/chest_xray")])
    assert IMPORTERS["chest_xray"](str(source), tmp_path / "out") == len(names)


# --- the command ------------------------------------------------------------------------------------------------------


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "retraining.dataset", "import", *map(str, words)]
    return subprocess.run(command, env={"PYTHONPATH": str(PLUGINS)}, capture_output=True, text=True, check=False)


def test_the_command_writes_all_or_nothing(tmp_path: Path) -> None:
    broken = cifar_archive(tmp_path / "cifar-100-python.tar.gz", test=b"cut off")
    ended = run("cifar100", broken, tmp_path / "out")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[-1].startswith("python -m retraining.dataset: test is not a file of CIFAR-100")
    assert [path.name for path in tmp_path.iterdir()] == [broken.name]

    ended = run("cifar100", cifar_archive(broken), tmp_path / "out")
    assert ended.stdout == f"15 images in 3 classes in {tmp_path / 'out'}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dogs", "nowhere.zip"), "nowhere.zip is no folder and no .zip, .tar or .tar.gz file of this machine"),
        (("npz", "nowhere.csv"), "nowhere.csv is no folder and no .npz, .zip, .tar or .tar.gz file of this machine"),
        (("npz", "https://127.0.0.1/a.csv"), "127.0.0.1/a.csv must end in .npz, .zip, .tar"),
        (
            ("npz", "https://127.0.0.1/a.npz?download=1"),
            "a.npz cannot be downloaded: 127.0.0.1 is not on the public network",
        ),
        (("dogs", "https://127.0.0.1/a.npz"), "127.0.0.1/a.npz must end in .zip, .tar"),
        (("dogs",), "dogs needs a source: an https address, an archive, or the folder it was unpacked to"),
        (("digits", "somewhere"), "digits come with scikit-learn and need no source, got somewhere"),
    ],
)
def test_the_command_says_what_is_wrong_with_its_source(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    ended = run(*words, tmp_path / "out")
    assert ended.returncode == 1
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    ended = run("digits", tmp_path)
    assert ended.returncode == 2
    assert "is not empty" in ended.stderr
    assert images(tmp_path) == {"mine.txt"}
