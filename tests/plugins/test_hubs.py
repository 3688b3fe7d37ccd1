"""Importers of what hubs keep, on small files as their libraries write them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from retraining.dataset.public.data_sets import import_parquet, import_webdataset
from retraining.dataset.public.hub_parquet import Columns
from retraining.dataset.sources.source import SourceError, open_source

PLUGINS = Path(__file__).parents[2] / "plugins"
NAMES = ["tench, Tinca tinca", "n01/great white"]


def picture(seed: int, kind: str = "PNG") -> bytes:
    pixels = numpy.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def hub_file(
    path: Path, labels: Sequence[Any], features: Mapping[str, Any] | None = None, **more: Sequence[Any]
) -> Path:
    """As `datasets.Dataset.to_parquet` writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": picture(number), "path": f"photo {number}.png"} for number in range(len(labels))]
    table = pyarrow.table({"image": images, "label": labels, **more})
    said = {"label": {"names": NAMES, "_type": "ClassLabel"}} if features is None else dict(features)
    info = {"info": {"features": {"image": {"_type": "Image"}, **said}}}
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), path, row_group_size=7)
    return path


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_classes_and_splits_of_a_hub_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hub_file(tmp_path / "hub/data/train-00000-of-00002.parquet", [0, 1] * 40)
    hub_file(tmp_path / "hub/data/train-00001-of-00002.parquet", [1, 0])
    hub_file(tmp_path / "hub/data/validation-00000-of-00001.parquet", [1])
    hub_file(tmp_path / "hub/data/test-00000-of-00001.parquet", [0, -1, -1])
    assert import_parquet(str(tmp_path / "hub"), tmp_path / "out") == 84
    with open_source(str(tmp_path / "out"), s3=None) as files:
        counts = {(file.split, file.label) for file in files}
        assert counts >= {(split, NAMES[0]) for split in ("train", "test")} | {("validation", "n01_great white")}
        assert len(files) == 84
    first = tmp_path / "out/train" / NAMES[0] / "0000001_photo_0.png"  # test-00000 comes first
    assert first.read_bytes() == picture(0)
    assert "n01/great white is called n01_great white" in caplog.text
    assert "Pictures left out: 2 (without a label, of test)." in caplog.text


def test_splits_may_be_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        hub_file(tmp_path / f"default/{split}/0000.parquet", ["cat", "dog"], features={})
    assert import_parquet(str(tmp_path), tmp_path / "out") == 4
    assert {name.rpartition("/")[0] for name in written(tmp_path / "out")} == {
        f"{split}/{label}" for split in ("train", "test") for label in ("cat", "dog")
    }


def test_one_file_is_a_source_too(tmp_path: Path) -> None:
    file = hub_file(tmp_path / "pets.parquet", ["cat", "dog"], features={})
    assert import_parquet(str(file), tmp_path / "out") == 2
    assert written(tmp_path / "out") == ["cat/0000000_photo_0.png", "dog/0000001_photo_1.png"]


def test_of_several_labels_a_person_names_one(tmp_path: Path) -> None:
    both = {name: {"names": NAMES, "_type": "ClassLabel"} for name in ("label", "coarse_label")}
    file = hub_file(tmp_path / "train.parquet", [0, 1], features=both, coarse_label=[1, 1])
    with pytest.raises(SourceError, match=r"may be the label: label, coarse_label\. Name one: --label COLUMN"):
        import_parquet(str(file), tmp_path / "out")
    assert import_parquet(str(file), tmp_path / "out", Columns(label="coarse_label")) == 2
    with pytest.raises(SourceError, match=r"has no column 'fine', but image, label, coarse_label"):
        import_parquet(str(file), tmp_path / "other", Columns(label="fine"))


@pytest.mark.parametrize(
    ("labels", "features", "told"),
    [
        ([0, 2], None, r"row 2, column 'label', is 2; there are 2 classes"),
        ([0.5, 1.5], {}, r"row 1, column 'label', is '0\.5': neither a number nor a text"),
        ([["a"], ["b"]], {}, r"row 1, column 'label', is .*neither a number nor a text"),
        (["a/b", "a:b"], {}, r"classes 'a/b' and 'a:b' would both be called 'a_b'"),
    ],
)
def test_labels_that_are_none_are_named(tmp_path: Path, labels: Any, features: Any, told: str) -> None:
    file = hub_file(tmp_path / "train.parquet", labels, features)
    with pytest.raises(SourceError, match=told):
        import_parquet(str(file), tmp_path / "out")


def test_pictures_that_are_elsewhere_are_named(tmp_path: Path) -> None:
    table = pyarrow.table({"image": [{"bytes": None, "path": "/home/x/cat.jpg"}], "label": ["cat"]})
    schema = pyarrow.schema(
        {"image": pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}), "label": pyarrow.string()}
    )
    parquet.write_table(table.cast(schema), tmp_path / "train.parquet")
    with pytest.raises(SourceError, match=r"row 1 has no bytes of a picture, only where it once was \(cat\.jpg\)"):
        import_parquet(str(tmp_path), tmp_path / "out")


def test_two_configurations_are_not_mixed(tmp_path: Path) -> None:
    hub_file(tmp_path / "digits/train-00000-of-00001.parquet", [0, 1])
    others = {"label": {"names": ["shirt", "bag"], "_type": "ClassLabel"}}
    hub_file(tmp_path / "fashion/train-00000-of-00001.parquet", [0, 1], others)
    with pytest.raises(SourceError, match=r"other columns or classes than digits/train-00000-of-00001\.parquet"):
        import_parquet(str(tmp_path), tmp_path / "out")


def test_a_file_of_no_split_is_not_mixed_in(tmp_path: Path) -> None:
    for name in ("train-00000-of-00001", "extra"):
        hub_file(tmp_path / f"{name}.parquet", [0, 1])
    with pytest.raises(SourceError, match=r"extra\.parquet says no split; rename it"):
        import_parquet(str(tmp_path), tmp_path / "out")


@pytest.mark.parametrize("cut", [0, 3, 100, -100, -8, -4])
def test_a_cut_parquet_file_is_named(tmp_path: Path, cut: int) -> None:
    file = hub_file(tmp_path / "train.parquet", [0, 1] * 20)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(SourceError, match=r"train\.parquet (cannot be read as parquet|is broken)"):
        import_parquet(str(tmp_path), tmp_path / "out")


@pytest.mark.parametrize("text", [b"tomcat", b"kind"])
def test_what_is_no_text_in_parquet_is_named(tmp_path: Path, text: bytes) -> None:
    """A value of the column, and its name."""
    table = pyarrow.table({"image": [picture(0), picture(1)], "kind": ["tomcat", "dog"]})
    parquet.write_table(table, tmp_path / "train.parquet", compression="NONE", store_schema=False)
    body = (tmp_path / "train.parquet").read_bytes()
    (tmp_path / "train.parquet").write_bytes(body.replace(text, b"\xff" * len(text)))
    with pytest.raises(SourceError, match=r"train\.parquet (cannot be read as parquet|is broken): .*can't decode"):
        import_parquet(str(tmp_path), tmp_path / "out", Columns(label="kind"))


def shard(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))


def test_shards_become_class_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shards = tmp_path / "wds"
    shard(
        shards / "pets-train-000000.tar",
        {"000.jpg": picture(0, "JPEG"), "000.cls": b"1", "001.jpg": picture(1, "JPEG"), "001.json": b'{"label": 0}'},
    )
    shard(shards / "pets-train-000001.tar", {"002.input.png": picture(2), "002.cls": b"0\n", "003.png": picture(3)})
    shard(shards / "pets-test-000000.tar", {"a/000.png": picture(4), "a/000.cls": b"1"})
    (shards / "classnames.txt").write_text("cat\ndog\n")
    assert import_webdataset(str(shards), tmp_path / "out") == 4
    assert written(tmp_path / "out") == [
        "test/dog/0000000_000.png", "train/cat/0000002_001.jpg", "train/cat/0000003_002_input.png",
        "train/dog/0000001_000.jpg",
    ]  # fmt: skip
    assert "Pictures left out: 1 (neither .cls nor .json tells the class)." in caplog.text


def test_unpacked_samples_are_read_alike(tmp_path: Path) -> None:
    for split, label in (("train", b"cat"), ("train", b"dog"), ("val", b"cat")):
        folder = tmp_path / "wds" / split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{label.decode()}.png").write_bytes(picture(0))
        (folder / f"{label.decode()}.cls").write_bytes(label)
    assert import_webdataset(str(tmp_path / "wds"), tmp_path / "out") == 3
    assert {name.rpartition("/")[0] for name in written(tmp_path / "out")} == {
        "train/cat", "train/dog", "validation/cat",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"0.png": b"x", "0.cls": b"7"}, r"is of the class 7; there are names of 2"),
        ({"0.png": b"x", "0.cls": b"\xff\xfe\xff"}, r"0\.cls is no text in UTF-8"),
        ({"0.png": b"x", "0.json": b"[" * 100_000}, r"is no JSON"),
        ({"0.png": b"x", "0.cls": b"1" * 2**21}, r"has more than 1048576 bytes"),
        ({"0.png": b"x"}, r"no sample of a picture and its class"),
    ],
)
def test_samples_without_a_class_are_named(tmp_path: Path, members: dict[str, bytes], told: str) -> None:
    shard(tmp_path / "wds/train-0.tar", members)
    (tmp_path / "wds/classes.txt").write_text("cat\ndog")
    with pytest.raises(SourceError, match=told):
        import_webdataset(str(tmp_path / "wds"), tmp_path / "out")


@pytest.mark.parametrize(("name", "kind"), [("train-00000-of-00001.parquet", "parquet"), ("000.cls", "webdataset")])
def test_a_refusal_names_the_importer(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"0")
    told = rf"python -m retraining\.dataset import {kind} "
    with pytest.raises(SourceError, match=told), open_source(str(tmp_path), s3=None):
        pass


@pytest.mark.parametrize(
    ("name", "body", "kind"), [("a.parquet", b"0", "parquet"), ("a.csv", b"label,pixels\n1,2\n", "pixels")]
)
def test_what_lies_in_s3_is_copied_first(s3: Any, bucket: str, name: str, body: bytes, kind: str) -> None:
    s3.put_object(Bucket=bucket, Key=f"set/{name}", Body=body)
    told = rf"aws s3 cp --recursive s3://{bucket}/set COPY\): python -m retraining\.dataset import {kind} COPY FOLDER"
    with pytest.raises(SourceError, match=told), open_source(f"s3://{bucket}/set", s3=s3):
        pass


def test_the_command_takes_columns(tmp_path: Path) -> None:
    hub_file(tmp_path / "hub/train.parquet", [0, 1], kind=["cat", "dog"])
    command = [
        sys.executable,
        "-m",
        "retraining.dataset",
        "import",
        "parquet",
        str(tmp_path / "hub"),
        str(tmp_path / "o"),
    ]
    told = subprocess.run(
        [*command, "--label", "kind"], cwd=PLUGINS, capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout == f"2 images in 2 classes in {tmp_path / 'o'}\n"
    assert {name.split("/")[1] for name in written(tmp_path / "o")} == {"cat", "dog"}
    command[4] = "webdataset"
    refused = subprocess.run([*command, "--label", "kind"], cwd=PLUGINS, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "webdataset has no such columns" in refused.stderr
