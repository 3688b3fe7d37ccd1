"""Folders, archives and their traps."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from retraining.dataset.archive import ArchiveError, unpack
from retraining.dataset.sources import SourceError, open_source


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def found(source: Path | str) -> set[tuple[str | None, str, str]]:
    with open_source(str(source), s3=None) as files:
        return {(file.split, file.label, file.name) for file in files}


def test_folders_are_classes(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "dog/deep/er/1.png")
    assert found(tmp_path) == {(None, "cat", "cat/1.png"), (None, "dog", "dog/deep/er/1.png")}


def test_split_folders_are_kept(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/1.png", "valid/cat/2.png", "test/dog/3.png")
    assert {(split, label) for split, label, _ in found(tmp_path)} == {
        ("train", "cat"),
        ("validation", "cat"),
        ("test", "dog"),
    }


def test_clutter_is_ignored(tmp_path: Path) -> None:
    write(
        tmp_path,
        "cat/1.png",
        "dog/1.png",
        "cat/.DS_Store",
        "cat/._1.png",
        "dog/Thumbs.db",
        "labels.csv",
        "__MACOSX/cat/1",
    )
    assert {name for _, _, name in found(tmp_path)} == {"cat/1.png", "dog/1.png"}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_archives_are_like_folders(tmp_path: Path, suffix: str) -> None:
    content = write(tmp_path / "in", "pets/cat/1.png", "pets/dog/1.png")
    path = tmp_path / f"pets{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in content.rglob("*.png"):
                archive.write(file, file.relative_to(content))
    else:
        with tarfile.open(path, "w:gz" if suffix.endswith("gz") else "w") as tar:
            tar.add(content, arcname=".")
    assert {label for _, label, _ in found(path)} == {"cat", "dog"}


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "cat/../../evil.png", "c:/evil.png", "cat\\..\\evil"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ArchiveError, match=r"a name that leads out of the folder"):
        unpack(path, tmp_path / "out")
    assert not list(tmp_path.rglob("*evil.png"))


def test_links_in_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("cat/1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ArchiveError, match="not a plain file"):
        unpack(path, tmp_path / "out")


def test_a_broken_archive_says_so(tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ArchiveError, match=r"pets.zip cannot be read: .*Download or make it again"):
        found(tmp_path / "pets.zip")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda root: write(root, "cat/1.png", "Cat/1.png"), "'Cat' and 'cat' differ only in case"),
        (lambda root: write(root, "cat/1.png", "<b>/1.png"), "'<b>' cannot be a class name"),
        (lambda root: "http://example.com/pets.zip", "plain http can be changed on the way"),
        (lambda root: "https://example.com/pets.exe", "must end in .zip"),
        (lambda root: "bundled://cats", "the only bundled data set is bundled://digits"),
        (lambda root: write(root, "notes.txt") / "notes.txt", "neither a folder nor a .zip"),
    ],
)
def test_useless_sources_are_explained(tmp_path: Path, make: Callable[[Path], Path | str], complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        found(make(tmp_path))
