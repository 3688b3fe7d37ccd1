"""sourcedir.tar.gz: the same code is the same bytes."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from retraining.source import SourceError, pack_source, source_digest


def scripts(folder: Path) -> Path:
    folder.mkdir()
    for name in ("train.py", "model.py", "requirements.txt", "notes.md"):
        (folder / name).write_text(f"# {name}\n")
    (folder / "__pycache__").mkdir()
    return folder


def test_the_same_code_is_the_same_bytes_anywhere(tmp_path: Path) -> None:
    one, two = scripts(tmp_path / "one"), scripts(tmp_path / "two")
    os.utime(two / "train.py", (1, 1))
    (two / "train.py").chmod(0o700)
    assert pack_source(one) == pack_source(two)
    assert source_digest(one) == source_digest(two)


def test_a_changed_line_is_another_digest(tmp_path: Path) -> None:
    folder = scripts(tmp_path / "code")
    before = source_digest(folder)
    (folder / "model.py").write_text("# other\n")
    assert source_digest(folder) != before


def test_only_flat_scripts_are_shipped(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(pack_source(scripts(tmp_path / "code")))) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == ["model.py", "requirements.txt", "train.py"]
    assert {(member.uid, member.mtime, member.mode) for member in members} == {(0, 0, 0o644)}


def test_a_folder_without_a_training_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no train\.py\. Set RETRAINING_SOURCE_DIR"):
        pack_source(tmp_path)
