"""Archives of code and models: what gets through, and what is refused whole."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from local_sagemaker.failures import JobFailedError
from local_sagemaker.sandbox import archives, disk
from local_sagemaker.sandbox.archives import Limits, pack, unpack


def archive(path: Path, *members: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=form) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0, mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, mode
    return info


def refuse(path: Path, match: str, limits: Limits = archives.SOURCE) -> None:
    """The archive is refused with these words, and nothing of it is left."""
    target = path.parent / "code"
    with pytest.raises(JobFailedError, match=match):
        unpack(path, target, "s3://b/a.tar.gz", limits)
    assert sorted(item.name for item in path.parent.iterdir()) == [path.name]


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside.py"),
        member("/etc/outside.py"),
        member("a/../../outside.py"),
        member(".."),
        member("."),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("up", tarfile.SYMTYPE, "../code/train.py"),
        member("absolute", tarfile.SYMTYPE, "/opt/ml/code/train.py"),
        member("hard", tarfile.LNKTYPE, "../a.tar.gz"),
        member("missing", tarfile.LNKTYPE, "nowhere"),
        member("train.py/below", tarfile.SYMTYPE, "x"),
        member("pipe", tarfile.FIFOTYPE),
        member("disk", tarfile.BLKTYPE),
        member("sparse", tarfile.GNUTYPE_SPARSE),
        member("unknown", b"Z"),
    ],
    ids=lambda bad: bad.name,
)
def test_unsafe_archive_is_refused_whole(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    refuse(archive(tmp_path / "a.tar.gz", member("train.py"), bad), "not a plain file inside|not a readable")


@pytest.mark.parametrize(
    "members",
    [
        [member("d", tarfile.SYMTYPE, "/tmp"), member("d/outside.py")],
        [member("d", tarfile.SYMTYPE, ".."), member("d/outside.py", tarfile.SYMTYPE, "a.tar.gz")],
        [member("a/b/c", tarfile.SYMTYPE, "../.."), member("a/b/d", tarfile.SYMTYPE, "c/../x")],
        [member("a", tarfile.SYMTYPE, "../a.tar.gz"), member("b", tarfile.LNKTYPE, "a")],
        [member("a", tarfile.SYMTYPE, "a"), member("b", tarfile.LNKTYPE, "a")],
    ],
    ids=["file below", "link below", "link over link", "hard link over link", "hard link over loop"],
)
def test_link_cannot_be_made_a_way_out(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    """The classical escapes: what is harmless by itself leads out with another one."""
    refuse(archive(tmp_path / "a.tar.gz", *members), "which is not a plain file inside")


def test_links_inside_a_source_lead_where_they_say(tmp_path: Path) -> None:
    """As git checkouts and `tar` have them; a later member of the same name counts."""
    members = [
        member("src/run.py", tarfile.SYMTYPE, "../train.py"),
        member("train.py", size=3),
        member("latest", tarfile.SYMTYPE, "src"),
        member("same.py", tarfile.LNKTYPE, "train.py"),
        member("loop", tarfile.SYMTYPE, "."),
        member("broken", tarfile.SYMTYPE, "src/gone"),
        member("file", tarfile.SYMTYPE, "train.py"),
        member("file", size=5),
    ]
    unpack(archive(tmp_path / "a.tar.gz", *members), tmp_path / "code", "the source")
    found = {name: (tmp_path / "code" / name).read_text() for name in ("latest/run.py", "same.py", "file")}
    assert found == {"latest/run.py": "xxx", "same.py": "xxx", "file": "xxxxx"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_model_with_links_is_refused(tmp_path: Path, kind: bytes) -> None:
    bad = archive(tmp_path / "a.tar.gz", member("w.pth"), member("best.pth", kind, "w.pth"))
    refuse(bad, "holds 'best.pth', which is not a plain file inside", archives.MODEL)


@pytest.mark.parametrize(
    "content",
    [b"not a tar", b"", gzip.compress(b"no tar inside" * 100), gzip.compress(b"x" * 4096)[:-20]],
    ids=["no gzip", "empty", "no tar", "cut"],
)
def test_broken_archive_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    refuse(path, r"s3://b/a\.tar\.gz is not a readable")


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.95])
def test_cut_archive_is_refused_whole(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.tar.gz"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("first", "second"):
            tar.addfile(member(name, size=50_000), io.BytesIO(os.urandom(50_000)))
    path.write_bytes(buffer.getvalue()[: int(keep * len(buffer.getvalue()))])
    refuse(path, "not a readable")


def test_damage_within_an_archive_is_named(tmp_path: Path) -> None:
    """What is packed is damaged, so that it cannot be unpacked, rather than what it unpacks to."""
    words = b"".join(b"%x," % (number * number % 997) for number in range(90_000))
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("train.py")
        info.size = len(words)
        tar.addfile(info, io.BytesIO(words))
    whole = (tmp_path / "whole.tar.gz").read_bytes()
    for number, at in enumerate(range(100, len(whole) - 100, len(whole) // 12)):
        path = tmp_path / f"{number}/a.tar.gz"
        path.parent.mkdir()
        path.write_bytes(whole[:at] + bytes(40) + whole[at + 40 :])
        refuse(path, r"s3://b/a\.tar\.gz is not a readable")


def test_bomb_is_refused_by_what_it_unpacks_to(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "a.tar.gz", member("zeros", size=5_000_000))
    assert bomb.stat().st_size < 50_000
    refuse(bomb, "larger than 10 files or 4000000 bytes", Limits(10, 4_000_000))


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    many = archive(tmp_path / "a.tar.gz", *(member(f"f{number}") for number in range(11)))
    refuse(many, "larger than 10 files", Limits(10, 10**9))


def test_huge_header_is_not_read_into_memory(tmp_path: Path) -> None:
    """A PAX record of gigabytes packs into a few kilobytes; here two megabytes stand for it."""
    info = member("train.py")
    info.pax_headers = {"comment": "x" * 2**21}
    refuse(archive(tmp_path / "a.tar.gz", info), "not a readable .tar.gz: a header of")


@pytest.mark.parametrize("records", [[b"9" * 30_000 + b" a=b\n"], [b"5 a=\n"] * 2_000], ids=["digits", "chain"])
def test_header_that_only_costs_is_refused(tmp_path: Path, records: list[bytes]) -> None:
    headers = b"".join(
        member("pax", tarfile.XHDTYPE, size=len(record)).tobuf() + record + bytes(-len(record) % 512)
        for record in records
    )
    for before in (b"", member("empty").tobuf()):
        (tmp_path / "a.tar.gz").write_bytes(gzip.compress(before + headers + member("train.py").tobuf() + bytes(1024)))
        refuse(tmp_path / "a.tar.gz", "not a readable .tar.gz: (a header with more than 300 digits|maximum recursion)")


def test_archive_bigger_than_the_disk_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda folder: disk.RESERVED_BYTES + 1000)
    refuse(
        archive(tmp_path / "a.tar.gz", member("weights", size=1001)), "'weights' of .* needs 1001 bytes, and the disk"
    )


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.REGTYPE])
def test_folders_within_folders_without_end_are_refused(tmp_path: Path, kind: bytes) -> None:
    """Python cannot remove again what lies deeper than it can go down."""
    names = ["d/" * depth for depth in range(1, 1500)] if kind == tarfile.DIRTYPE else ["d/" * 200 + "file"]
    refuse(archive(tmp_path / "a.tar.gz", *(member(name, kind) for name in names)), "more than 100 folders deep")


def test_stop_leaves_nothing_of_an_archive(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", member("a", size=10), member("b", size=10))
    unpack(path, tmp_path / "code", "a source", stopped=lambda: True)
    assert [item.name for item in tmp_path.iterdir()] == ["a.tar.gz"]


def test_files_folders_and_modes_arrive(tmp_path: Path) -> None:
    long_name = "/".join(["deep" * 20] * 3) + "/file.txt"
    members = [
        member("./train.py", size=3),
        member("run.sh", mode=0o4777),
        member("data", tarfile.DIRTYPE),
        member(long_name),
        member("train.py", size=5),  # a name that comes twice: the last one counts
    ]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        target = tmp_path / f"code{form}"
        unpack(archive(tmp_path / "a.tar.gz", *members, form=form), target, "the source")
        assert (target / "train.py").read_text() == "xxxxx" and (target / long_name).is_file()
        assert (target / "data").is_dir() and (target / "run.sh").stat().st_mode & 0o7777 == 0o755


def test_what_is_packed_is_unpacked_again(tmp_path: Path) -> None:
    """Links to files inside become files: a checkpoint folder with a `latest` in it can be served."""
    folder = tmp_path / "model"
    (folder / "step1").mkdir(parents=True)
    (folder / "step1/weights").write_bytes(b"weights")
    (folder / "latest").symlink_to("step1/weights")
    os.link(folder / "step1/weights", folder / "hard")
    pack(folder, tmp_path / "model.tar.gz")
    unpack(tmp_path / "model.tar.gz", tmp_path / "served", "the model")
    found = {str(path.relative_to(tmp_path / "served")) for path in (tmp_path / "served").rglob("*") if path.is_file()}
    assert found == {"step1/weights", "latest", "hard"}
    assert all((tmp_path / "served" / name).read_bytes() == b"weights" for name in found)


def test_link_to_the_outside_is_not_packed_as_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    (folder / "leak").symlink_to(tmp_path / "secret")
    pack(folder, tmp_path / "model.tar.gz")
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        assert tar.getmember("leak").issym()
