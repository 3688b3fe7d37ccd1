"""Tables written as JSON: lines of a hub or of SageMaker Ground Truth, of Label Studio, COCO's catalogue. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from retraining.dataset.source_error import SourceError
from retraining.printable import printable

LINES = (".jsonl", ".ndjson", ".manifest")
DOCUMENT = ".json"
MAX_COLUMNS = 2000


def read_records(name: str, text: str) -> tuple[list[str], list[list[str]]]:
    """Columns and rows; a key within another has a dot: `label-metadata.class-name`. Raises SourceError."""
    try:
        found: Sequence[Any]
        if name.lower().endswith(LINES):
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = _records(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{printable(name)} cannot be read as JSON: {str(error)[:200]}.") from None
    if not found or not all(isinstance(record, dict) for record in found):
        raise SourceError(f"{printable(name)} is no table: JSON of one object for each image, or of image and class.")
    rows = [dict(_flat(record)) for record in found]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if len(columns) > MAX_COLUMNS:
        raise SourceError(f"{printable(name)} has {len(columns)} keys, more than {MAX_COLUMNS}; it is no table.")
    return columns, [[row.get(column, "") for column in columns] for row in rows]


def _records(document: Any) -> Sequence[Any]:
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return ()
    images, annotations, categories = (document.get(key) for key in ("images", "annotations", "categories"))
    if isinstance(images, list) and isinstance(annotations, list) and isinstance(categories, list):
        return _of_coco(images, annotations, categories)
    if all(isinstance(value, dict) for value in document.values()):
        return [{"file_name": key} | value for key, value in document.items()]
    if all(isinstance(value, str | int) for value in document.values()):
        return [{"file_name": key, "label": value} for key, value in document.items()]
    return ()


def _of_coco(images: Iterable[Any], annotations: Iterable[Any], categories: Iterable[Any]) -> list[dict[str, Any]]:
    """A row of each image and each of its categories: an image of several classes is told as one of them."""
    try:
        names = {category["id"]: category["name"] for category in categories}
        labels = {(note["image_id"], names[note["category_id"]]) for note in annotations}
        files = {image["id"]: image["file_name"] for image in images}
        return [{"file_name": files[image], "label": label} for image, label in sorted(labels, key=str)]
    except (KeyError, TypeError) as error:
        raise ValueError(f"of COCO's form, without {error}") from None


def _flat(record: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", _cell(each)) for inner, each in value.items() if not _is_long(each))
        elif not _is_long(value):
            yield key, _cell(value)


def _is_long(value: Any) -> bool:
    return isinstance(value, dict | list)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value).strip()
