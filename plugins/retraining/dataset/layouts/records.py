"""Tables written as JSON: lines of a hub or of SageMaker Ground Truth, of Label Studio, COCO's catalogue. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from retraining.dataset.source_error import SourceError
from retraining.printable import printable

LINES = (".jsonl", ".ndjson", ".manifest")
DOCUMENT = ".json"
MAX_COLUMNS = 2000
MAX_LABELS = 20
"""Of one image."""
MAX_CELLS = 25 * 1024**2
"""As many as a table of the largest size could have; records of other keys each would have any number."""


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
    rows = [row for record in found for row in _rows(record)]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if len(columns) > MAX_COLUMNS:
        raise SourceError(f"{printable(name)} has {len(columns)} keys, more than {MAX_COLUMNS}; it is no table.")
    if len(columns) * len(rows) > MAX_CELLS:
        raise SourceError(
            f"{printable(name)} has {len(rows)} records of {len(columns)} keys together, more than {MAX_CELLS} values; "
            "it is no table."
        )
    return columns, [[row.get(column, "") for column in columns] for row in rows]


def _records(document: Any) -> Sequence[Any]:
    if isinstance(document, list):
        return [each for one in document for each in (_of_label_studio(one) if _is_task(one) else [one])]
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


def _is_task(record: Any) -> bool:
    """Of Label Studio's JSON; its JSON-MIN is as flat as others."""
    return (
        isinstance(record, dict)
        and isinstance(record.get("data"), dict)
        and isinstance(record.get("annotations"), list)
    )


def _of_label_studio(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What its annotations chose, of one question as `choice`, of several by their names."""
    try:
        results = [each for note in task["annotations"] if not note.get("was_cancelled") for each in note["result"]]
        chosen = [(each["from_name"], each["value"].get(each["type"], [])) for each in results]
        alone = len({question for question, _ in chosen}) == 1
        labels = [{"choice" if alone else question: choice} for question, choices in chosen for choice in choices]
        return [task["data"] | label for label in labels or [{}]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"of Label Studio's form, without {error}") from None


def _rows(record: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """One, or one of each label where these are a list: an image of several classes is told as one of them."""
    flat = dict(_flat(record))
    most = max((len(cell) for cell in flat.values() if isinstance(cell, list)), default=1)
    for number in range(most):
        yield {key: cell if isinstance(cell, str) else cell[min(number, len(cell) - 1)] for key, cell in flat.items()}


def _flat(record: Mapping[str, Any]) -> Iterator[tuple[str, str | list[str]]]:
    for key, value in record.items():
        inner = value.items() if isinstance(value, dict) else ((None, value),)
        for name, each in inner:
            if (cell := _cell(each)) is not None:
                yield (key if name is None else f"{key}.{name}"), cell


def _cell(value: Any) -> str | list[str] | None:
    """A text, or a few: what else is long is no label."""
    if isinstance(value, list) and 0 < len(value) <= MAX_LABELS and all(isinstance(each, str) for each in value):
        return [each.strip() for each in value]
    if isinstance(value, dict | list):
        return None
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value).strip()
