"""A data set of a hub as parquet files, in which Hugging Face keeps pictures and labels → class folders.

A picture is a value {bytes, path} (or bytes alone), a label a number whose names stand in the file's own metadata, or
a text. https://huggingface.co/docs/datasets/image_dataset, https://huggingface.co/docs/hub/datasets-image
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from retraining.dataset.layouts.table_columns import CLASS
from retraining.dataset.progress import Progress, in_log
from retraining.dataset.public.image_folder import ImageFolder
from retraining.dataset.public.shard_names import splits_of
from retraining.dataset.source_error import SourceError
from retraining.printable import printable

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet

ROWS = 64
"""That are in memory at once."""
BROKEN = (ValueError, KeyError, OSError, MemoryError, NotImplementedError, RuntimeError)
"""What pyarrow raises for strangers' bytes: its own exceptions are of these, too."""
NO_READER = "pyarrow, which reads parquet, is not installed here: pip install pyarrow"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Of the files; None: told by their types and names."""

    image: str | None = None
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Read:
    image: str
    label: str
    classes: Sequence[str] | None
    """Names of the label's numbers."""


def write_parquet(source: Path, target: Path, said: Columns, progress: Progress = in_log) -> int:
    """Write `target`/<split>/<class>/<picture> of a folder or one file; returns how many.

    Raises SourceError for what is no such data set, ArchiveError where the disk is full.
    """
    paths = [source] if source.is_file() else sorted(path for path in source.rglob("*.parquet") if path.is_file())
    files = {path.relative_to(source if source.is_dir() else source.parent).as_posix(): path for path in paths}
    if not files:
        raise SourceError(f"{source} holds no .parquet file; is it another data set?")
    written, first = ImageFolder(target, progress), None
    for name, split in splits_of(files).items():
        with _opened(name, files[name]) as file:
            read = _columns(name, file.schema_arrow, said)
            if first and read != first:
                raise SourceError(
                    f"{printable(name)} has other columns or classes than {printable(min(files))}; "
                    "name the folder of one of the data set's configurations."
                )
            first = first or read
            written.expect(file.metadata.num_rows)
            for label, path, body in _rows(name, file, read):
                if label is None:
                    written.left_out[f"without a label, of {split}" if split else "without a label"] += 1
                else:
                    written.add(split, label, path, body)
    written.tell()
    return written.count


def _opened(name: str, path: Path) -> parquet.ParquetFile:
    try:
        from pyarrow import parquet
    except ImportError:
        raise SourceError(NO_READER) from None
    try:
        file = parquet.ParquetFile(path)
        str(file.schema_arrow)  # all names are text
        return file
    except BROKEN as error:
        raise SourceError(f"{printable(name)} cannot be read as parquet: {error}. Download it again.") from None


def _columns(name: str, schema: pyarrow.Schema, said: Columns) -> _Read:
    features = _features(schema)
    image = _one(name, "image", said.image, schema.names, [each.name for each in schema if _is_image(each.type)])
    classes = {column: feature["names"] for column, feature in features.items() if _is_class_label(feature)}
    called = [column for column in schema.names if column.lower().replace("_", "") in CLASS]
    label = _one(name, "label", said.label, schema.names, list(classes) or called)
    return _Read(image=image, label=label, classes=classes.get(label))


def _one(name: str, what: str, said: str | None, known: Sequence[str], found: Sequence[str]) -> str:
    columns = ", ".join(map(printable, known))
    if said is not None:
        if said not in known:
            raise SourceError(f"{printable(name)} has no column {said!r}, but {columns}.")
        return said
    if len(found) == 1:
        return found[0]
    some = f"several columns may be the {what}: {', '.join(map(printable, found))}" if found else f"none is the {what}"
    raise SourceError(f"{printable(name)}: of its columns ({columns}) {some}. Name one: --{what} COLUMN.")


def _features(schema: pyarrow.Schema) -> Mapping[str, Any]:
    """What the hub's library wrote of the columns; nothing where another one wrote the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _is_class_label(feature: Any) -> bool:
    names = feature.get("names") if isinstance(feature, dict) else None
    return isinstance(names, list) and bool(names) and all(isinstance(each, str) for each in names)


def _is_image(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _rows(name: str, file: parquet.ParquetFile, read: _Read) -> Iterator[tuple[str | None, str, bytes]]:
    """Class, what the picture is called, and its bytes."""
    for number, (image, label) in enumerate(_values(name, file, read), 1):
        path, body = _picture(image)
        if body is None:
            raise SourceError(
                f"{printable(name)}: row {number} has no bytes of a picture, only where it once was "
                f"({printable(path) or 'nowhere'}). Save the data set with its pictures: Dataset.to_parquet() of the "
                "library does."
            )
        yield _label(name, number, label, read), path, body


def _values(name: str, file: parquet.ParquetFile, read: _Read) -> Iterator[tuple[Any, Any]]:
    batches = file.iter_batches(batch_size=ROWS, columns=[read.image, read.label])
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            images, labels = (batch.column(column).to_pylist() for column in (read.image, read.label))
        except BROKEN as error:
            raise SourceError(f"{printable(name)} is broken: {error}. Download it again.") from None
        yield from zip(images, labels, strict=True)


def _picture(value: Any) -> tuple[str, bytes | None]:
    if isinstance(value, dict):
        path, body = value.get("path"), value.get("bytes")
    else:
        path, body = None, value
    return (PurePosixPath(path).name if isinstance(path, str) else ""), (body if isinstance(body, bytes) else None)


def _label(name: str, number: int, value: Any, read: _Read) -> str | None:
    """None where nobody has labelled it: hubs write -1 for a test set that is kept secret."""
    where = f"{printable(name)}: row {number}, column {read.label!r}"
    if value is None or value == "" or (value == -1 and read.classes):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        if read.classes is None:
            return str(value)
        if 0 <= value < len(read.classes):
            return read.classes[value]
        raise SourceError(f"{where}, is {value}; there are {len(read.classes)} classes.")
    raise SourceError(
        f"{where}, is {str(value)[:40]!r}: neither a number nor a text. Name another column: --label COLUMN."
    )
