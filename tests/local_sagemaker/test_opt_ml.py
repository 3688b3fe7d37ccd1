"""The script's side of the contract, without a server: paths, arguments, archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from local_sagemaker import s3
from local_sagemaker.jobs import opt_ml
from local_sagemaker.jobs.life import JobFailedError


@pytest.mark.parametrize(
    ("prefix", "key", "relative"),
    [
        ("data/", "data/a/1.png", "a/1.png"),
        ("data", "data/a/1.png", "a/1.png"),
        ("data/img", "data/img1.png", "img1.png"),
        ("data/img", "data/img/1.png", "1.png"),
        ("data/dataset.json", "data/dataset.json", "dataset.json"),
        ("", "a/1.png", "a/1.png"),
    ],
)
def test_object_lands_where_sagemaker_puts_it(prefix: str, key: str, relative: str) -> None:
    assert s3.relative_path(prefix, key) == relative


def test_arguments_follow_the_toolkit() -> None:
    decoded = opt_ml.decode({"lr": "0.1", "n": "3", "flag": "true", "text": "a b", "quoted": '"32"', "none": "null"})
    assert opt_ml.arguments(decoded) == [
        "--flag", "True", "--lr", "0.1", "-n", "3", "--none", "", "--quoted", "32", "--text", "a b",
    ]  # fmt: skip


def archive(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside.py"),
        member("/etc/outside.py"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("hard", tarfile.LNKTYPE, "train.py"),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=["parent", "absolute", "symlink", "hardlink", "fifo"],
)
def test_unsafe_archive_is_refused_whole(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    path = archive(tmp_path / "a.tar.gz", member("train.py"), bad)
    target = tmp_path / "code"
    target.mkdir()
    with pytest.raises(JobFailedError, match="not a plain file inside"):
        opt_ml.unpack(path, target, "the source")
    assert list(target.iterdir()) == []


def test_broken_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"not a tar")
    with pytest.raises(JobFailedError, match=r"s3://b/a\.tar\.gz is not a readable"):
        opt_ml.unpack(path, tmp_path / "code", "s3://b/a.tar.gz")


@pytest.mark.parametrize("program", ["../train.py", "/train.py", "-c", "missing.py"])
def test_program_outside_the_source_is_refused(tmp_path: Path, program: str) -> None:
    request = {"HyperParameters": {"sagemaker_program": program}}
    with pytest.raises(JobFailedError, match=program):
        opt_ml.command("python", request, tmp_path)
