"""Folders, archives and their traps."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from retraining.dataset.sources import archive
from retraining.dataset.sources.archive import ArchiveError, unpack
from retraining.dataset.sources.source import SourceError, open_source


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
    write(tmp_path, "train/cat/1.png", "train/dog/4.png", "valid/cat/2.png", "test/dog/3.png")
    assert {(split, label) for split, label, _ in found(tmp_path)} == {
        ("train", "cat"),
        ("train", "dog"),
        ("validation", "cat"),
        ("test", "dog"),
    }


def test_one_class_says_what_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "error.log/1.png", ".dog/1.png")
    with pytest.raises(
        SourceError, match=r"one class only, 'cat'[^\0]* left out:[^\0]*hidden: 1 files[^\0]*\(error\.log"
    ):
        found(tmp_path)


@pytest.mark.parametrize("names", [["Pets.ZIP"], ["Pets.ZIP", "cat/1.png"]])
def test_an_archive_within_a_folder_is_told_of(tmp_path: Path, names: list[str]) -> None:
    write(tmp_path, *names)
    with pytest.raises(SourceError, match=r"Pets\.ZIP is not looked into: name it itself as the source"):
        found(tmp_path)


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


PACKED = {".zip": "", ".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".TBZ2": "bz2", ".tar.xz": "xz"}


@pytest.mark.parametrize("suffix", [*PACKED, ".ZIP", ".Zip", ".TAR.GZ", ".Tar.Xz"])
def test_archives_are_like_folders(tmp_path: Path, suffix: str) -> None:
    content = write(tmp_path / "in", "pets/cat/1.png", "pets/dog/1.png", "pets/LICENSE")
    path = tmp_path / f"pets{suffix}"
    if suffix.lower() == ".zip":
        with zipfile.ZipFile(path, "w") as made:
            for file in content.rglob("*"):
                made.write(file, file.relative_to(content))
    else:
        packed = next(kind for known, kind in PACKED.items() if known.lower() == suffix.lower())
        with tarfile.open(path, f"w:{packed}") as tar:  # type: ignore[call-overload]
            tar.add(content, arcname=".")
    assert {label for _, label, _ in found(path)} == {"cat", "dog"}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("packed", ["zip", "", "gz", "bz2", "xz"])
def test_an_archive_is_what_its_bytes_are(tmp_path: Path, suffix: str, packed: str) -> None:
    path = tmp_path / f"pets{suffix}"
    if packed == "zip":
        zipped(path, "PK/cat/1.png", "PK/dog/1.png")
    else:
        with tarfile.open(path, f"w:{packed}") as tar:  # type: ignore[call-overload]
            tar.add(write(tmp_path / "in", "PK/cat/1.png", "PK/dog/1.png"), arcname="PK")
    assert {label for _, label, _ in found(path)} == {"cat", "dog"}


def test_a_zip_that_unpacks_itself_is_read(tmp_path: Path) -> None:
    body = zipped(tmp_path / "pets.zip", "cat/1.png", "dog/1.png").read_bytes()
    (tmp_path / "pets.zip").write_bytes(b"MZ" + bytes(600) + body)
    assert {label for _, label, _ in found(tmp_path / "pets.zip")} == {"cat", "dog"}


def zipped(path: Path, *names: str) -> Path:
    """A zip with these names in it as they are."""
    with zipfile.ZipFile(path, "w") as made:
        for name in names:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            made.writestr(entry, b"" if name.endswith(("/", "\\")) else b"x")
    return path


def test_backslashes_in_a_zip_are_separators(tmp_path: Path) -> None:
    path = zipped(tmp_path / "powershell.zip", "pets\\cat\\", "pets\\cat\\1.png", "pets\\dog\\1.png")
    assert {label for _, label, _ in found(path)} == {"cat", "dog"}


def test_what_is_refused_is_called_as_in_the_archive(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zipped(tmp_path / "twice.zip", "cat/a\x1b.png", "cat/a\x1b.png")
    with pytest.raises(ArchiveError, match=r"twice\.zip holds cat/a\\x1b\.png twice"):
        found(path)
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as made:
        link = zipfile.ZipInfo("cat/a\x1b.png")
        link.external_attr = 0o120777 << 16
        made.writestr(link, "1.png")
    with pytest.raises(ArchiveError, match=r"link\.zip holds cat/a\\x1b\.png, which is not a plain file"):
        found(tmp_path / "link.zip")


def test_a_colon_is_no_drive_of_windows(tmp_path: Path) -> None:
    path = zipped(tmp_path / "times.zip", "10:30 h/cat/1.png", "10:30 h/dog/1.png")
    assert {label for _, label, _ in found(path)} == {"cat", "dog"}


def test_the_unicode_name_beside_an_old_one_counts(tmp_path: Path) -> None:
    """WinZip and Info-ZIP write it on Windows, where names are in a code page."""
    classes = {"aaa": "\u043a\u043e\u0442", "bbb": "\u043f\u0435\u0441"}
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as made:
        for stand_in, name in classes.items():
            field = b"\1" + struct.pack("<I", zlib.crc32(f"{name}/1.png".encode("cp866"))) + f"{name}/1.png".encode()
            entry = zipfile.ZipInfo(f"{stand_in}/1.png")
            entry.extra = struct.pack("<HHBHH", 0x9999, 1, 7, 0x7075, len(field)) + field
            made.writestr(entry, b"x")
    body = (tmp_path / "windows.zip").read_bytes()
    for stand_in, name in classes.items():
        body = body.replace(stand_in.encode(), name.encode("cp866"))
    (tmp_path / "windows.zip").write_bytes(body)
    assert {label for _, label, _ in found(tmp_path / "windows.zip")} == set(classes.values())


def test_names_that_a_mac_zipped_are_read_as_it_meant_them(tmp_path: Path) -> None:
    """It writes UTF-8 and does not say so."""
    body = zipped(tmp_path / "mac.zip", "Löwe/1.png", "猫/1.png").read_bytes()
    assert b"\x00\x08" in body
    (tmp_path / "mac.zip").write_bytes(body.replace(b"\x14\x00\x00\x08", b"\x14\x00\x00\x00"))
    assert {label for _, label, _ in found(tmp_path / "mac.zip")} == {"Löwe", "猫"}


class OldName(zipfile.ZipInfo):
    """As programs of Windows write names: in the code page of its country, of which the zip says nothing."""

    page = "cp437"

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.filename.encode(self.page), 0


def in_page(path: Path, page: str, *labels: str) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for label in labels:
            entry = OldName(f"{label}/1.png")
            entry.page = page
            made.writestr(entry, b"x")
    return path


@pytest.mark.parametrize(
    ("page", "labels"),
    [
        ("cp866", ("\u043a\u043e\u0448\u043a\u0430", "\u0401\u0436", "dog")),
        ("cp932", ("\u30cd\u30b3", "\u30bd\u30fc\u30b9", "\u72ac")),  # with a backslash within a letter
        ("cp437", ("L\u00f6we", "B\u00e4r", "\u00eele de R\u00e9")),
        ("cp850", ("ch\u00e2teau", "for\u00eat", "b\u00ea-a-b\u00e1")),
        ("cp865", ("bl\u00e5b\u00e6r", "b\u00f8nne")),
    ],
)
def test_names_in_a_page_of_windows_are_read(tmp_path: Path, page: str, labels: tuple[str, ...]) -> None:
    path = in_page(tmp_path / "old.zip", page, *labels)
    assert {label for _, label, _ in found(path)} == set(labels)


@pytest.mark.parametrize(
    ("page", "label"),
    [
        ("gbk", "\u72d7"),
        ("gbk", "\u5411\u65e5\u8475"),
        ("cp949", "\uace0\uc591\uc774"),
        ("cp852", "\u0142ab\u0119d\u017a"),
        ("cp1251", "\u043a\u043e\u0448\u043a\u0430"),
        ("cp862", "\u05d7\u05ea\u05d5\u05dc"),
    ],
)
def test_a_class_in_an_unknown_page_is_refused(tmp_path: Path, page: str, label: str) -> None:
    """In another page it would be a word that nobody wrote."""
    with pytest.raises(SourceError, match=r"no text in UTF-8: rename it, or unpack the archive where it was made"):
        found(in_page(tmp_path / "old.zip", page, label, "dog"))


def test_names_of_any_bytes_in_a_tar_are_carried(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "old.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        for name in ("cat/café.png", "dog/1.png"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert {name for _, _, name in found(tmp_path / "old.tar")} == {"cat/caf\\xe9.png", "dog/1.png"}


def test_an_archive_may_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "pets.zip", "cat/1.png", "dog/1.png")
    monkeypatch.setattr(archive, "KEPT_FREE_BYTES", 2**62)
    with pytest.raises(ArchiveError, match=r"does not fit on the worker's disk: \d+ bytes are free.*Set TMPDIR"):
        unpack(path, tmp_path / "out")


def test_what_packs_too_well_is_no_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("cat/1.png", bytes(20_000_000))
    monkeypatch.setattr(archive, "RATIO_FROM_BYTES", 10_000_000)
    with pytest.raises(ArchiveError, match=r"unpacks to more than 100 times its \d+ bytes"):
        unpack(tmp_path / "bomb.zip", tmp_path / "out")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("content", ["noise", "words"])
def test_damage_anywhere_in_an_archive_is_named(tmp_path: Path, suffix: str, content: str) -> None:
    """Whatever the decompressors raise; of noise they only copy, so that damage to it is seen at the end."""
    draw = random.Random(1)
    noise = (
        draw.randbytes(300_000) if content == "noise" else b"".join(b"%x," % draw.randrange(999) for _ in range(90_000))
    )
    path = tmp_path / f"pets{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("cat/1.png", noise)
    else:
        with tarfile.open(path, f"w:{suffix[5:]}") as tar:  # type: ignore[call-overload]
            entry = tarfile.TarInfo("cat/1.png")
            entry.size = len(noise)
            tar.addfile(entry, io.BytesIO(noise))
    whole = path.read_bytes()
    for number, at in enumerate(range(100, len(whole), len(whole) // 12)):
        cut = whole[:at] if number % 2 else whole[:at] + bytes(40) + whole[at + 40 :]
        path.write_bytes(cut)
        with contextlib.suppress(ArchiveError):  # nothing else
            unpack(path, tmp_path / f"out{number}")


@pytest.mark.parametrize("packed", ["gz", "bz2", "xz"])
def test_a_damage_that_only_a_checksum_tells_is_named(tmp_path: Path, packed: str) -> None:
    """What is unpacked has its length and its names, and other pixels."""
    path, noise = tmp_path / f"pets.tar.{packed}", random.Random(1).randbytes(100_000)
    with tarfile.open(path, f"w:{packed}") as tar:  # type: ignore[call-overload]
        entry = tarfile.TarInfo("cat/1.png")
        entry.size = len(noise)
        tar.addfile(entry, io.BytesIO(noise))
    whole = path.read_bytes()
    path.write_bytes(whole[:50_000] + bytes([whole[50_000] ^ 1]) + whole[50_001:])
    with pytest.raises(ArchiveError, match=r"cannot be read: .*Download or make it again"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("name", ["pets.zip", "pets.tar", "pets.tgz"])
def test_a_saved_web_page_is_told_as_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\n<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head></html>" * 9)
    with pytest.raises(ArchiveError, match=r"is a web page, as a login"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("behind", [b"", bytes(5000), b"a signature"])
def test_what_follows_a_tar_does_not_count(tmp_path: Path, behind: bytes) -> None:
    path = tmp_path / "pets.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("cat/1.png"), io.BytesIO())
    path.write_bytes(path.read_bytes() + behind)
    assert unpack(path, tmp_path / "out") == 1


def test_an_archive_that_asks_for_gigabytes_of_memory_is_refused(tmp_path: Path) -> None:
    """xz notes how large its dictionary is; here the note is changed to four gigabytes, and its checksum with it."""
    path = tmp_path / "pets.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        tar.addfile(tarfile.TarInfo("cat/1.png"), io.BytesIO())
    body = bytearray(path.read_bytes())
    header = slice(12, 12 + 4 * (body[12] + 1))
    at = body.index(b"\x21\x01", header.start) + 2  # the filter LZMA2 has one byte of properties
    body[at] = 40
    checked = bytes(body[header])[:-4]
    body[header] = checked + zlib.crc32(checked).to_bytes(4, "little")
    path.write_bytes(body)
    with pytest.raises(ArchiveError, match="Memory usage limit"):
        unpack(path, tmp_path / "out")


def test_a_name_longer_than_a_file_system_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"a name of more than 255 bytes; shorten it"):
        unpack(zipped(tmp_path / "long.zip", f"cat/{'n' * 300}.png"), tmp_path / "out")


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


def bomb(kind: str, path: Path) -> None:
    if kind == "entries":
        body = zipped(path, "x").read_bytes()
        at, end = body.index(b"PK\x01\x02"), body.index(b"PK\x05\x06")
        entries = body[at:end] * 600_000
        path.write_bytes(body[:at] + entries + body[end : end + 12] + struct.pack("<IIH", len(entries), at, 0))
        return
    if kind == "bzip2":  # three kilobytes of it are gigabytes
        with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as made:
            made.writestr("cat/1.png", bytes(20_000_000))
        return
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        if kind == "digits":
            info = tarfile.TarInfo("x")
            info.type, info.size = tarfile.XHDTYPE, 30_000
            tar.addfile(info, io.BytesIO(b"9" * 30_000))
        elif kind == "headers":
            info = tarfile.TarInfo("x")
            info.type = tarfile.DIRTYPE
            info.pax_headers["comment"] = "x" * (2**20 - 1024)
            for _ in range(110):
                tar.addfile(info, io.BytesIO())
        elif kind == "header":
            info = tarfile.TarInfo("x")
            info.type, info.size = tarfile.XHDTYPE, 100 * 2**20
            tar.addfile(info, io.BytesIO(bytes(100 * 2**20)))
        elif kind == "deep":
            tar.addfile(tarfile.TarInfo("a/" * 150 + "1.png"), io.BytesIO())
        elif kind == "folders":
            info = tarfile.TarInfo("a")
            info.type = tarfile.DIRTYPE
            for _ in range(210):
                tar.fileobj.write(info.tobuf() * 1000)  # type: ignore[union-attr]
        elif kind == "sparse":
            info = tarfile.TarInfo("x")
            info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,0"}
            info.pax_headers["GNU.sparse.size"] = str(2**50)
            tar.addfile(info, io.BytesIO())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "complaint"),
    [
        ("entries", "pets.zip", "more than 500,000 entries"),
        ("bzip2", "pets.zip", "cat/1.png is packed by method 12. Pack it again with Deflate"),
        ("header", "pets.tar.gz", "a header of 104857600 bytes"),
        ("headers", "pets.tar.gz", "more than 100 times its"),
        ("digits", "pets.tar.gz", "more than 300 digits in a row"),
        ("deep", "pets.tar.gz", "more than 100 folders deep"),
        ("folders", "pets.tar.gz", "more than 100 times its"),
        ("sparse", "pets.tar.gz", "not a plain file"),
    ],
)
def test_an_archive_that_only_costs_is_refused_in_words(tmp_path: Path, kind: str, name: str, complaint: str) -> None:
    bomb(kind, tmp_path / name)
    with pytest.raises(ArchiveError, match=complaint):
        unpack(tmp_path / name, tmp_path / "out")
