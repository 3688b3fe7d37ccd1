"""Files of boxes beside their images, as YOLO and Pascal VOC have them: told of, for they are not read. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from retraining.dataset.layouts.ignored import why_path_ignored
from retraining.printable import printable

ENDINGS = (".txt", ".xml")
LEAST = 0.5
"""Of the images, that have such a file of their name."""


def boxes(names: Iterable[str]) -> str:
    """A sentence for who has a file of boxes for each image; empty where there are none."""
    images, notes = set[str](), dict[str, str]()
    for name in names:
        stem = name.rpartition("/")[2].rpartition(".")[0]
        why = why_path_ignored(name)
        if why is None:
            images.add(stem)
        elif why == "notes" and name.lower().endswith(ENDINGS):
            notes[stem] = name
    called = sorted(notes[stem] for stem in images & notes.keys())
    if len(called) < 2 or len(called) < LEAST * len(images):
        return ""
    return (
        f"{printable(called[0])} and {len(called) - 1} others are called as images are: boxes of YOLO or Pascal VOC, "
        "which may be of several classes in one picture, are not read. Have their tool export class folders or one "
        "table (Roboflow: Folder Structure or Multi-Class Classification; CVAT: ImageNet), or write a labels.csv of "
        "image,class."
    )
