"""Folders with a table, for tests to write, and what is found in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retraining.dataset.sources.source import open_source
from retraining.recipe.layout import Layout
from tests.plugins.test_sync import picture

NAMES = [f"{number:02}.jpg" for number in range(12)]


def label(name: str) -> str:
    return "dog" if int(name[:2]) % 2 else "cat"


def lines(*records: Any) -> str:
    return "\n".join(map(json.dumps, records))


def placed(root: Path, files: dict[str, str | None]) -> Path:
    """Texts, and for None a picture."""
    for number, (name, text) in enumerate(files.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(number) if text is None else text.encode())
    return root


def found(source: Path, **layout: str) -> dict[str, tuple[str | None, str]]:
    with open_source(str(source), s3=None, layout=Layout(**layout)) as files:
        return {file.name: (file.split, file.label) for file in files}


GROUND_TRUTH = [
    {
        "source-ref": f"s3://bucket/upload/{name}",
        "animals": int(label(name) == "dog"),
        "animals-metadata": {"class-name": label(name), "confidence": 0.98, "human-annotated": "yes"},
    }
    for name in NAMES
]
LABEL_STUDIO = [
    {
        "id": number,
        "annotations": [
            {"was_cancelled": True, "result": [{"from_name": "pet", "type": "choices", "value": {"choices": ["x"]}}]},
            {"result": [{"from_name": "pet", "type": "choices", "value": {"choices": [label(name)]}}]},
            {"result": [{"from_name": "pet", "type": "rectanglelabels", "value": {"rectanglelabels": [label(name)]}}]},
        ],
        "file_upload": f"abcd12{name[:2]}-{name}",
        "data": {"image": f"/data/upload/1/abcd12{name[:2]}-{name}"},
    }
    for number, name in enumerate(NAMES)
]
COCO = {
    "images": [{"id": number, "file_name": f"images/{name}"} for number, name in enumerate(NAMES)],
    "annotations": [{"image_id": number, "category_id": 7 + number % 2} for number in range(len(NAMES))] * 2,
    "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}],
}
