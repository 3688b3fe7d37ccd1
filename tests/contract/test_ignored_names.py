"""What is no image and no class has a list on each side: a folder means the same to sync and to ml/train.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from retraining.dataset.layouts import ignored as sync

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ml() -> ModuleType:
    """ml/dataset/ignored.py by its path: it is of the other program, and needs nothing but Python."""
    spec = importlib.util.spec_from_file_location("ml_ignored", ROOT / "ml/dataset/ignored.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_sides_have_the_same_lists(ml: ModuleType) -> None:
    for name in ("SYSTEM", "NOTES", "PROGRAMS", "EVENTS", "UNFINISHED"):
        assert getattr(ml, name) == getattr(sync, name)


@pytest.mark.parametrize(
    "name",
    [
        *(".ipynb_checkpoints", "Thumbs.db", "desktop.ini", ".DS_Store", "._a.jpg", "__MACOSX", "@eaDir", "README.md"),
        *("labels.CSV", "a.jpg.part", "a.jpg~", "~$notes.docx", "Icon\r", "a.jpg", "cat", "Ä.PNG", "a.jpeg", "README"),
        *("Node.js", "main.c", "NET.PTH", "events.out.tfevents.1573739953.host", "1.dcm", "logo.svg"),
    ],
)
def test_both_sides_judge_a_name_alike(ml: ModuleType, name: str) -> None:
    assert ml.ignored(name) == sync.ignored(name)
    assert ml.why_ignored(name) == sync.why_ignored(name)
    assert ml.why_ignored(name, folder=True) == sync.why_ignored(name, folder=True)
