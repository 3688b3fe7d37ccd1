"""The link through which a job finds its temporary folder where its own path is too long for sockets."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_sagemaker.sandbox import short_path


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    if (note := tmp_path / "short-paths").exists():
        shutil.rmtree(note.read_text())


def deep(root: Path, name: str) -> Path:
    folder = root / ("x" * 80) / name
    folder.mkdir(parents=True)
    return folder


def test_short_path_leads_to_the_folder(root: Path) -> None:
    folder = deep(root, "tmp")
    link = short_path.of(folder, root)
    (link / "file").touch()
    assert len(str(link)) <= short_path.LONGEST and (folder / "file").exists()
    assert link.parent.stat().st_mode & 0o777 == 0o700


def test_path_that_is_short_stays(root: Path) -> None:
    assert short_path.of(Path("/job/tmp"), root) == Path("/job/tmp") and not list(root.iterdir())


def test_links_of_ended_jobs_go(root: Path) -> None:
    ended, running = deep(root, "ended"), deep(root, "running")
    old, other = short_path.of(ended, root), short_path.of(running, root)
    shutil.rmtree(ended)
    assert short_path.of(running, root) == other and other.exists() and not old.is_symlink()


def test_foreign_folder_is_not_used(root: Path) -> None:
    (root / "mine").mkdir()
    (root / "planted").symlink_to(root / "mine")
    (root / "short-paths").write_text(str(root / "planted"))
    assert short_path.of(deep(root, "tmp"), root).parent != root / "planted"
