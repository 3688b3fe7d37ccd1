"""Samples in WebDataset's layout, in tar shards or unpacked: 000001.jpg and 000001.cls → class folders.

https://github.com/webdataset/webdataset: files of one name up to the first dot are one sample; `cls` is its class.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from retraining.archive_names import is_archive
from retraining.dataset.progress import Progress, in_log
from retraining.dataset.public.class_names import ClassNames, class_names, named, text_of
from retraining.dataset.public.image_folder import ENDINGS, ImageFolder
from retraining.dataset.public.shard_names import splits_of
from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.archive import unpack
from retraining.dataset.split import SplitName
from retraining.printable import printable

CLASS_KEYS = ("cls", "label", "class", "class_name", "label_name")
"""Of a sample's JSON, where it has no file `cls`."""

Sample = dict[str, Path]
"""What follows the first dot of a file's name → the file."""


def write_webdataset(folder: Path, target: Path, progress: Progress = in_log) -> int:
    """Write `target`/<split>/<class>/<picture>; returns how many. Raises SourceError, ArchiveError."""
    written = ImageFolder(target, progress)
    shards = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if is_archive(path)}
    for name, split in splits_of(shards).items():
        with TemporaryDirectory(prefix="retraining-") as scratch:
            unpack(shards[name], Path(scratch))
            classes = class_names(shards[name].parent, folder)
            samples = _samples(Path(scratch))
            written.expect(len(samples))
            for called, sample in samples.items():
                _add(written, split, f"{name}: {called}", sample, classes)
    if not shards:
        samples, classes = _samples(folder), class_names(folder)
        splits = splits_of({name.rpartition("/")[0] for name in samples})
        written.expect(len(samples))
        for called, sample in samples.items():
            _add(written, splits[called.rpartition("/")[0]], called, sample, classes)
    written.tell()
    if not written.count:
        raise SourceError(
            f"{folder} holds no sample of a picture and its class: <name>.jpg beside <name>.cls, in .tar files or not."
        )
    return written.count


def _samples(folder: Path) -> dict[str, Sample]:
    found: dict[str, Sample] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
            stem, _, what = path.name.partition(".")
            found.setdefault((path.parent / stem).relative_to(folder).as_posix(), {})[what.lower()] = path
    return found


def _add(
    written: ImageFolder, split: SplitName | None, called: str, sample: Sample, classes: ClassNames | None
) -> None:
    picture = next((path for what, path in sample.items() if f".{what.rpartition('.')[2]}" in ENDINGS), None)
    label = _label(called, sample)
    if picture is None:
        written.left_out["a class is there, and no picture"] += label is not None
    elif label is None:
        written.left_out["neither .cls nor .json tells the class"] += 1
    else:
        written.add(split, named(printable(called), label, classes), picture.name, picture.read_bytes())


def _label(called: str, sample: Sample) -> str | None:
    if "cls" in sample:
        return text_of(called, sample["cls"]).strip() or None
    if "json" not in sample:
        return None
    try:
        said = json.loads(text_of(called, sample["json"]))
    except (ValueError, RecursionError):
        raise SourceError(f"{printable(called)}.json is no JSON; correct it, or leave it out.") from None
    values = [said[key] for key in CLASS_KEYS if key in said] if isinstance(said, dict) else []
    return str(values[0]) if values and isinstance(values[0], str | int) and values[0] != "" else None
