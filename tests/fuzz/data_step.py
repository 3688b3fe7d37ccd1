"""What the data step and a recipe read: archives, tables, pictures, pickles, weights, YAML."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import re
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from retraining.dataset.pictures.glimpse import MAX_BYTES, glimpse
from retraining.dataset.pictures.verdict import Original
from retraining.dataset.pictures.verify import Rejected, VerifiedImage, verify_image
from retraining.dataset.processing.verdicts import Row, VerdictsError, read, written
from retraining.dataset.public.cifar import CIFAR_100, write_cifar
from retraining.dataset.public.idx import write_idx
from retraining.dataset.public.npz import write_npz
from retraining.dataset.public.pixel_table import write_pixels
from retraining.dataset.sources.archive import ArchiveError, unpack
from retraining.dataset.sources.source import SourceError, open_source
from retraining.pretrained.weights_file import WeightsError, read_weights_file
from retraining.recipe import RecipeError, load_recipe
from tests.fuzz.examples import PICTURE_WORDS, pictures, safetensors
from tests.fuzz.target import Target
from tests.look_alikes import python2_pickle

ROW = {b"data": bytes(3072), b"fine_labels": [0], b"filenames": [b"a.png"]}
META = {b"fine_label_names": [b"apple"], b"coarse_label_names": [b"fruit"]}
RECIPES = Path(__file__).parents[2] / "dags" / "recipes"


def in_a_file(name: str, read: Callable[[Path], None]) -> Callable[[bytes], None]:
    """A reader of bytes out of one of files."""

    def read_bytes(body: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(body)
            read(path)

    return read_bytes


def read_archive(path: Path) -> None:
    target = path.parent / "target"
    target.mkdir()
    with contextlib.suppress(ArchiveError):
        unpack(path, target)
    beside = {entry.name for entry in path.parent.iterdir()}
    assert beside == {path.name, "target"}, beside
    assert not any(entry.is_symlink() for entry in target.rglob("*"))


def read_labels(path: Path) -> None:
    """The bytes are the table beside images of all its seeds."""
    for number in range(6):
        (path.parent / f"{number:03}.png").write_bytes(b"x")
    with contextlib.suppress(SourceError), open_source(str(path.parent), s3=None) as files:
        assert len({file.label for file in files}) > 1
        assert all(file.path.parent == path.parent and file.path.suffix == ".png" for file in files)
        assert all(text.isprintable() for text in str(files.understood.as_dict()).split("\u200c"))


def read_picture(path: Path) -> None:
    assert isinstance(verify_image(path), VerifiedImage | Rejected)


def read_kept_out(body: bytes) -> None:
    """In a process of its own it may also die; here it may not even raise."""
    picture = glimpse(body)
    assert picture is None or (picture.startswith(b"\xff\xd8") and len(picture) <= MAX_BYTES)


def read_cifar(path: Path) -> None:
    """The bytes are the `train` file of an archive that is otherwise whole."""
    folder = path.parent
    (folder / "meta").write_bytes(python2_pickle(META))
    (folder / "test").write_bytes(cifar())
    with contextlib.suppress(SourceError):
        write_cifar(CIFAR_100, folder, folder / "target")


def read_idx(path: Path) -> None:
    """The bytes are the pictures of a set whose labels are whole."""
    path.with_name("labels-idx1-ubyte").write_bytes(struct.pack(">II2B", 0x801, 2, 1, 0))
    imported(write_idx, path.parent)


def read_npz(path: Path) -> None:
    imported(write_npz, path)


def read_pixels(path: Path) -> None:
    imported(lambda source, target: write_pixels(source, target, None), path)


def imported(write: Callable[[Path, Path], int], source: Path) -> None:
    target = source.parent / "target"
    with contextlib.suppress(SourceError, ArchiveError):
        assert write(source, target) == sum(path.stat().st_size > 0 for path in target.rglob("*.png"))


def read_weights(path: Path) -> None:
    with contextlib.suppress(WeightsError):
        read_weights_file(path)


def read_recipe_file(path: Path) -> None:
    with contextlib.suppress(RecipeError):
        load_recipe(path)


def read_verdicts(body: bytes) -> None:
    """The bytes are the lines of a file that is otherwise whole."""
    above = b'{"format":1,"rules":"x"}\n' + body + b"\n"
    end = {"count": above.count(b"\n") - 1, "sha256": hashlib.sha256(above).hexdigest()}
    with contextlib.suppress(VerdictsError):
        for row in read(above + f"{json.dumps(end)}\n".encode(), "x"):
            assert isinstance(row.name, str)
            # What becomes part of a key.
            verdict = row.verdict
            assert re.fullmatch("[A-Z0-9_]+", verdict.code if isinstance(verdict, Rejected) else "A")
            assert re.fullmatch("[0-9a-f]{64}", verdict.sha256 or "0" * 64)


# --- examples -------------------------------------------------------------------------------------------------------


def tars(mode: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        made = []
        for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            body = io.BytesIO()
            with tarfile.open(fileobj=body, mode=mode, format=kind) as tar:  # type: ignore[call-overload]
                for name in ("cats/1.png", "dogs/" + "long" * 30 + "/é.png"):
                    entry = tarfile.TarInfo(name)
                    entry.size = 9
                    tar.addfile(entry, io.BytesIO(b"123456789"))
                link = tarfile.TarInfo("link")
                link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(link)
            made.append(body.getvalue())
        return made

    return seeds


def zips() -> list[bytes]:
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w", method) as opened:
            opened.writestr("cats/1.png", b"123456789" * 9)
            opened.writestr("dogs/é.png", b"1")
            with opened.open("large.png", "w", force_zip64=True) as member:
                member.write(b"1")
        made.append(body.getvalue())
    for word, page in (("кошка", "cp866"), ("ねこ", "cp932"), ("Äpfel", "cp850")):
        name, body = word.encode(page), io.BytesIO()
        with zipfile.ZipFile(body, "w") as opened:
            opened.writestr(f"{'K' * len(name)}/1.png", b"1")
        made.append(body.getvalue().replace(b"K" * len(name), name))  # what says nothing of its page
    return made


def tables() -> list[bytes]:
    rows = [(f"{number:03}", "cat" if number % 2 else "dog", "train" if number % 3 else "test") for number in range(6)]
    texts = [
        "\n".join(["id,breed", *(f"{name},{label}" for name, label, _ in rows)]),
        "\r\n".join(["path;label;split", *(f'"{name}.png";{label};{split}' for name, label, split in rows)]),
        "\n".join(f"./x\\{name}.png\t{label}" for name, label, _ in rows),
        "\n".join(
            ["image,cat,dog", *(f"{name},{int(label == 'cat')},{int(label == 'dog')}.0" for name, label, _ in rows)]
        ),
        "\n".join(f"{name}.png,5,8,65,{number}e1,{label}" for number, (name, label, _) in enumerate(rows)),
        "\n".join(["name,label,is_valid", *(f"{name},{label},{split == 'test'}" for name, label, split in rows)]),
        "\n".join(["image,choice", *(f"/data/upload/1/1a2b3c4d-{name}.png?x=%20,{label}" for name, label, _ in rows)]),
    ]
    pages = ["image,class", *(f"{name},{'Käfer' if label == 'cat' else 'Mücke'}" for name, label, _ in rows)]
    kana = ["image,class", *(f"{name},{'ねこ' if label == 'cat' else 'いぬ'}" for name, label, _ in rows)]
    found = [text.encode(coding) for text in texts for coding in ("utf-8-sig", "utf-16")]
    return [*found, "\n".join(pages).encode("cp1252"), "\n".join(kana).encode("cp932")]


def records() -> list[bytes]:
    rows = [(f"{number:03}.png", number % 2) for number in range(6)]
    found = [
        [{"file_name": name, "label": "ab"[label]} for name, label in rows],
        [
            {"source-ref": f"s3://b/{name}", "x": label, "x-metadata": {"class-name": "ab"[label]}}
            for name, label in rows
        ],
        [{"image": name, "cat": label == 0, "dog": label == 1, "at": None} for name, label in rows],
        [{"image_url": name, "label": ["ab"[label]], "boxes": [[1, 2]]} for name, label in rows],
    ]
    return ["\n".join(map(json.dumps, each)).encode() for each in found]


def documents() -> list[bytes]:
    rows = [(f"{number:03}.png", number % 2) for number in range(6)]
    coco = {
        "images": [{"id": number, "file_name": name} for number, (name, _) in enumerate(rows)],
        "annotations": [{"image_id": number, "category_id": label} for number, (_, label) in enumerate(rows)],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    }
    found = [
        coco,
        dict(rows),
        {name: {"label": "ab"[label]} for name, label in rows},
        [{"a": n, "b": b} for n, b in rows],
        [
            {"data": {"image": f"/data/upload/1/1a2b3c4d-{name}"}, "annotations": [{"result": [chosen("ab"[label])]}]}
            for name, label in rows
        ],
    ]
    return [json.dumps(each).encode() for each in found]


def chosen(label: str) -> dict[str, Any]:
    """As Label Studio keeps what a person chose."""
    return {"from_name": "kind", "type": "choices", "value": {"choices": [label]}}


def cifar() -> bytes:
    import numpy

    return python2_pickle(ROW | {b"data": numpy.zeros((1, 3072), numpy.uint8)})


def cifars() -> list[bytes]:
    import pickle

    import numpy

    row = ROW | {b"data": numpy.zeros((1, 3072), numpy.uint8)}
    return [cifar(), *(pickle.dumps(row, protocol) for protocol in range(6))]


def idx_files() -> list[bytes]:
    plain = struct.pack(">4I", 0x803, 2, 4, 4) + bytes(range(32))
    return [plain, gzip.compress(plain)]


def npz_files() -> list[bytes]:
    import numpy

    grey, labels = numpy.arange(32, dtype=numpy.uint8).reshape(2, 4, 4), numpy.array([1, 0])
    made = []
    for save in (numpy.savez, numpy.savez_compressed):
        for arrays in (
            {"x_train": grey, "y_train": labels, "x_test": grey, "y_test": labels},
            {"images": grey / 255, "labels": numpy.array(["cat", "dog"])},
            {"X": grey.reshape(2, 16).astype(">u2"), "y": labels.reshape(2, 1)},
        ):
            body = io.BytesIO()
            save(body, **arrays)
            made.append(body.getvalue())
    return made


def pixel_tables() -> list[bytes]:
    head = ",".join(["label", *(f"pixel{number}" for number in range(16))])
    texts = [
        "emotion,pixels,Usage\n0,1 2 3 4,Training\n1,5 6 7 8,PublicTest\n",
        f"{head}\n1{',0' * 16}\n0{',255' * 16}\n",
        f"1{',0' * 16}\n0{',255' * 16}\n",
    ]
    return [text.encode(coding) for text in texts for coding in ("utf-8", "utf-8-sig")]


def weights() -> list[bytes]:
    return [safetensors(), *(path.read_bytes() for path in sorted((Path(__file__).parent / "seeds").glob("*.pth")))]


def verdicts() -> list[bytes]:
    (image, *_) = (found for found in map(verdict, pictures()) if isinstance(found, VerifiedImage))
    converted = replace(image, extension="png", original=Original(format="WebP", sha256="a" * 64, rules="png-1"))
    found = [image, converted, Rejected(code="CORRUPT", detail="ü", sha256="b" * 64), Rejected(code="EMPTY", detail="")]
    rows = [written("x", [Row(name="cats/1.png", size_bytes=70, verdict=each)]) for each in found]
    return [row.splitlines()[1] for row in rows]


def verdict(body: bytes) -> VerifiedImage | Rejected:
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder, "a")).write_bytes(body)
        return verify_image(path)


def recipes() -> list[bytes]:
    return [path.read_bytes() for path in sorted(RECIPES.glob("*.yaml"))]


TAR_WORDS = (
    b"ustar\x0000",
    b"ustar  \x00",
    b"12 size=9999999999\n",
    b"30 path=../../outside\n",
    b"L",
    b"x",
    b"S",
    bytes(512),
)
ZIP_WORDS = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"\xff" * 4, b"../")
TABLE_WORDS = (
    b'"',
    b",",
    b";",
    b"\t",
    b"|",
    b"\n",
    b"\r",
    b"\x00",
    b"1",
    b"0",
    b"../",
    b"split",
    b"train",
    b"\xff\xfe",
)
JSON_WORDS = (
    b'"',
    b"{",
    b"[" * 40,
    b"9" * 400,
    b"1e999",
    b"null",
    b"true",
    b"NaN",
    b"\\u0000",
    b'"a.b":',
    b"\n",
    b'"categories"',
)
PICKLE_WORDS = (
    b"(",
    b"\x85",
    b"\x93",
    b"R",
    b"b",
    b"0",
    b"2",
    b"j\xff\xff\xff\x7f",
    b"cnumpy\ndtype\n",
    b"cos\nsystem\n",
    b"Q",
)
YAML_WORDS = (
    b"&a ",
    b"*a",
    b"<<: *a",
    b"!!python/object:x ",
    b"- ",
    b"[" * 40,
    b"9" * 400,
    b".inf",
    b"|\n",
    b"\x00",
    b"? ",
)

TARGETS = (
    Target("zip", in_a_file("a.zip", read_archive), zips, ZIP_WORDS),
    Target("tar", in_a_file("a.tar", read_archive), tars("w"), TAR_WORDS, 32_768),
    Target("tar_gz", in_a_file("a.tar.gz", read_archive), tars("w:gz"), TAR_WORDS),
    Target("tar_xz", in_a_file("a.tar.xz", read_archive), tars("w:xz"), TAR_WORDS),
    Target("tar_bz2", in_a_file("a.tar.bz2", read_archive), tars("w:bz2"), TAR_WORDS),
    Target("table_of_labels", in_a_file("labels.csv", read_labels), tables, TABLE_WORDS),
    Target("lines_of_labels", in_a_file("labels.jsonl", read_labels), records, JSON_WORDS),
    Target("document_of_labels", in_a_file("labels.json", read_labels), documents, JSON_WORDS),
    Target("picture_of_the_data_step", in_a_file("a.jpg", read_picture), pictures, PICTURE_WORDS),
    Target("picture_that_is_kept_out", read_kept_out, pictures, PICTURE_WORDS),
    Target("cifar_pickle", in_a_file("train", read_cifar), cifars, PICKLE_WORDS),
    Target("pictures_idx", in_a_file("images-idx3-ubyte", read_idx), idx_files, (b"\0\0\x08\x03", b"\xff" * 4)),
    Target(
        "arrays_npz",
        in_a_file("a.npz", read_npz),
        npz_files,
        (*ZIP_WORDS, b"'descr': ", b"(9999999999,", b"|O", b"True"),
    ),
    Target("table_of_pixels", in_a_file("a.csv", read_pixels), pixel_tables, TABLE_WORDS),
    Target("weights_pth", in_a_file("w.pth", read_weights), weights, (*ZIP_WORDS, *PICKLE_WORDS)),
    Target("weights_safetensors", in_a_file("w.safetensors", read_weights), weights, (b'"shape":', b"[-1]", b"1e999")),
    Target(
        "verdicts", read_verdicts, verdicts, (b'"image":', b'"rejected":', b"null", b"[", b"1e999", b"true", b"../")
    ),
    Target("recipe", in_a_file("r.yaml", read_recipe_file), recipes, YAML_WORDS),
)
