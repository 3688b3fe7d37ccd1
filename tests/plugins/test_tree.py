"""Links are followed and counted; nothing of a folder is missing without a word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.source import open_source
from retraining.dataset.sources.tree import read_tree
from tests.plugins.test_sources import write


def test_links_to_folders_and_files_are_followed(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", "bird/1.png", "2.png")
    root = write(tmp_path / "in", "cat/1.png")
    (root / "bird").symlink_to(elsewhere / "bird")
    (root / "cat" / "2.png").symlink_to(elsewhere / "2.png")
    with open_source(str(root), None) as files:
        assert {file.name: (file.label, file.linked) for file in files} == {
            "bird/1.png": ("bird", True),
            "cat/1.png": ("cat", False),
            "cat/2.png": ("cat", True),
        }
        assert files.understood.as_dict()["links_followed"] == 2
        assert all(file.path.is_file() and not file.path.is_symlink() for file in files)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, "cat/1.png", "dog/1.png")
    (root / "cat" / "2.png").symlink_to(tmp_path / "gone")
    (root / "cat" / "3.png").symlink_to(root / "cat" / "3.png")
    with open_source(str(root), None) as files:
        assert {file.name: file.rejected.code for file in files if file.rejected} == {
            "cat/2.png": "NOT_REGULAR",
            "cat/3.png": "NOT_REGULAR",
        }


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    root = write(tmp_path, "cat/1.png", "dog/1.png")
    (root / "cat" / "all").symlink_to(root)
    (root / "dog" / "self").symlink_to(root / "dog")
    with open_source(str(root), None) as files:
        assert {file.name for file in files} == {"cat/1.png", "dog/1.png"}
        assert files.understood.left_out["links that lead back"].examples == ["cat/all", "dog/self"]


def test_folders_without_images_are_told_from_those_of_notes(tmp_path: Path) -> None:
    root = write(tmp_path, "cat/1.png", "notes/a.txt", "bird/.DS_Store")
    (root / "fish").mkdir()
    assert read_tree(root).empty == ["bird", "fish"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, really = write(tmp_path, "cat/1.png", "dog/1.png"), os.scandir

    def scandir(path: str | Path) -> object:  # whoever runs the tests may read everything
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SourceError, match=r"dog cannot be read \(Permission denied\)"):
        read_tree(root)
