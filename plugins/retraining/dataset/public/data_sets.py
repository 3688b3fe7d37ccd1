"""Data sets in the form their makers or hubs publish them, written out as a folder of class folders.

Nothing is decided here that `sync` decides: images are copied as they are, verified, quarantined and divided later.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from retraining.dataset.progress import Progress, in_log
from retraining.dataset.public.cifar import CIFAR_10, CIFAR_100, write_cifar
from retraining.dataset.public.hub_parquet import Columns, write_parquet
from retraining.dataset.public.idx import write_idx
from retraining.dataset.public.npy_files import write_npy
from retraining.dataset.public.npz import write_npz
from retraining.dataset.public.pixel_table import write_pixels
from retraining.dataset.public.webdataset import write_webdataset
from retraining.dataset.sources.digits import write_digits
from retraining.dataset.sources.source import SourceError, fetched

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}


def import_digits(source: str | None, target: Path, progress: Progress = in_log) -> int:
    """The handwritten digits that come with scikit-learn; they need no source."""
    if source is not None:
        raise SourceError(f"digits come with scikit-learn and need no source, got {source}; leave it out.")
    return write_digits(target)


def import_dogs(source: str | None, target: Path, progress: Progress = in_log) -> int:
    """Udacity's dogImages.zip: dogImages/{train,valid,test}/NNN.Breed_name/*.jpg. The splits are kept."""
    with _opened("dogs", source) as root:
        folder = _nearest(root, ("train", "valid", "test"))
        breeds = {path.name for path in (folder / "train").iterdir() if path.is_dir()}
        if strange := sorted(name for name in breeds if not re.fullmatch(r"\d{3}\..+", name)):
            raise SourceError(f"{source}: train/{strange[0]} is not named like a breed, for example 001.Affenpinscher.")
        return sum(
            _copy(folder / split, target / into, progress)
            for split, into in (("train", "train"), ("valid", "validation"), ("test", "test"))
        )


def import_cifar10(source: str | None, target: Path, progress: Progress = in_log) -> int:
    """cifar-10-python.tar.gz of the University of Toronto: as CIFAR-100, train in five files."""
    with _opened("cifar10", source) as root:
        return write_cifar(CIFAR_10, _nearest(root, CIFAR_10.files), target, progress)


def import_cifar100(source: str | None, target: Path, progress: Progress = in_log) -> int:
    """cifar-100-python.tar.gz of the University of Toronto: pickled arrays, written as train and test PNG files."""
    with _opened("cifar100", source) as root:
        return write_cifar(CIFAR_100, _nearest(root, CIFAR_100.files), target, progress)


def import_chest_xray(source: str | None, target: Path, progress: Progress = in_log) -> int:
    """Kaggle's chest-xray-pneumonia: chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg.

    Its validation split is 16 images, too few to choose a model by. They are put back into train, so that `sync` takes
    a validation split of the recipe's size from train; test stays as it is.
    """
    with _opened("chest_xray", source) as root:
        folder = _nearest(root, ("train", "val", "test"))
        return sum(
            _copy(folder / split, target / into, progress)
            for split, into in (("train", "train"), ("val", "train"), ("test", "test"))
        )


def import_parquet(
    source: str | None, target: Path, columns: Columns | None = None, progress: Progress = in_log
) -> int:
    """A data set of a hub: train-00000-of-00004.parquet and so on, with pictures and labels in them."""
    with _opened("parquet", source, ".parquet") as root:
        return write_parquet(root, target, columns or Columns(), progress)


def import_webdataset(source: str | None, target: Path, progress: Progress = in_log) -> int:
    """Shards in WebDataset's layout: train-000000.tar and so on, or what was in them."""
    with _opened("webdataset", source) as root:
        return write_webdataset(root, target, progress)


def import_idx(source: str | None, target: Path, progress: Progress = in_log) -> int:
    """MNIST and its relatives: train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-… and so on."""
    with _opened("idx", source) as root:
        return write_idx(root, target, progress)


def import_npz(source: str | None, target: Path, progress: Progress = in_log) -> int:
    """Arrays of pictures and labels in numpy's .npz files: Keras' mnist.npz, MedMNIST, one's own."""
    with _opened("npz", source, ".npz") as root:
        return write_npz(root, target, progress)


def import_npy(source: str | None, target: Path, progress: Progress = in_log) -> int:
    """Arrays as .npy files: X.npy and y.npy, x_train.npy and so on, or one for each class: QuickDraw."""
    with _opened("npy", source) as root:
        return write_npy(root, target, progress)


def import_pixels(source: str | None, target: Path, label: str | None = None, progress: Progress = in_log) -> int:
    """Tables with a picture's class and pixels in each row: FER-2013, Kaggle's MNIST, one's own."""
    with _opened("pixels", source, ".csv") as root:
        return write_pixels(root, target, label, progress)


IMPORTERS: dict[str, Callable[..., int]] = {
    "digits": import_digits,
    "dogs": import_dogs,
    "cifar10": import_cifar10,
    "cifar100": import_cifar100,
    "chest_xray": import_chest_xray,
    "parquet": import_parquet,
    "webdataset": import_webdataset,
    "idx": import_idx,
    "npz": import_npz,
    "npy": import_npy,
    "pixels": import_pixels,
}


@contextmanager
def _opened(name: str, source: str | None, alone: str = "") -> Iterator[Path]:
    """The source as a folder: itself, or fetched and unpacked for as long as it is needed.

    As a file where its name has the ending `alone`.
    """
    if source is None:
        raise SourceError(f"{name} needs a source: an https address, an archive, or the folder it was unpacked to.")
    with TemporaryDirectory(prefix="retraining-") as scratch:
        yield fetched(source, Path(scratch), alone)


def _nearest(root: Path, names: tuple[str, ...]) -> Path:
    """The folder nearest to the root that holds all these. Archives wrap theirs, and Kaggle's holds it twice."""
    for folder in (root, *sorted((path for path in root.rglob("*") if path.is_dir()), key=_depth)):
        if all((folder / name).exists() for name in names):
            return folder
    raise SourceError(f"there is no folder with {', '.join(names)} in it; is it another data set?")


def _depth(path: Path) -> tuple[int, str]:
    return len(path.parts), str(path)


def _copy(split: Path, target: Path, progress: Progress) -> int:
    """Copy <class>/<image> files; whatever is no image by its name (notes, .DS_Store) stays behind."""
    count = 0
    paths = sorted(split.glob("*/*"))
    for number, path in enumerate(paths, 1):
        progress(f"Copied {split.name}", number, len(paths))
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or path.is_symlink():
            continue
        destination = target / path.parent.name / path.name
        if destination.exists():
            raise SourceError(f"{path.parent.name}/{path.name} is there twice; rename one of them.")
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, destination)
        count += 1
    return count
