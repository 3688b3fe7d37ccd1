"""What systems and people leave between images is no image and no class."""

from __future__ import annotations

import pytest

from retraining.dataset.layouts.ignored import ignored, why_path_ignored

LEFT_BEHIND = [
    ".DS_Store", "._1.jpg", ".ipynb_checkpoints", ".AppleDouble", ".TemporaryItems", ".Trash-1000", ".cache", ".git",
    "Thumbs.db", "THUMBS.DB", "desktop.ini", "Desktop.ini", "__MACOSX", "Icon\r", "@eaDir", "#recycle",
    "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__", "labels.csv", "classes.TXT", "a.json",
    "README.md", "1.jpg:Zone.Identifier", "2.jpg.crdownload", "1.jpg~",
    "main.c", "Net.CPP", "show.m", "index.js", "train.sh", "deploy.prototxt", "yolo.cfg", "best.pt", "net.onnx",
    "events.out.tfevents.1573739953.host", "saved_model.pb", "weights.bin",
]  # fmt: skip
IMAGES_AND_CLASSES = [
    "1.jpg", "any.name", "noext", "cat", "3.5", "St. John's wort", "_x", "-", "#1", "$5", "@home", "~tilde", "db",
    "csv", "lost and found", "1.jpg (copy)", "notes", "1.webp", "2.heic",
    "1.dcm", "2.pgm", "logo.svg", "3.raw", "clip.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_is_left_behind_is_ignored(name: str) -> None:
    assert ignored(name)


@pytest.mark.parametrize("name", IMAGES_AND_CLASSES)
def test_images_and_classes_are_not_ignored(name: str) -> None:
    assert not ignored(name)


@pytest.mark.parametrize("name", ["Node.js", "vitamin.c", "asp.net.cs", "a.m"])
def test_a_class_may_be_called_as_programs_are(name: str) -> None:
    assert ignored(name) and not ignored(name, folder=True)
    assert why_path_ignored(f"{name}/1.jpg") is None and why_path_ignored(f"{name}/") is None
    assert why_path_ignored(f"logos/{name}") == "notes"
