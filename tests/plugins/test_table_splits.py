"""Which split an image belongs to, where a table says it, or several do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from retraining.dataset.check import check
from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.source import open_source
from tests.plugins.tabled import GROUND_TRUTH, NAMES, found, label, lines, placed


def test_a_table_in_each_split_is_one_table(tmp_path: Path) -> None:
    """As Roboflow and Hugging Face write them."""
    files: dict[str, str | None] = {}
    for split, names in {"train": NAMES[:6], "valid": NAMES[6:9], "test": NAMES[9:]}.items():
        files |= {f"{split}/{name}": None for name in names}
        rows = (f"{name}, {int(label(name) == 'cat')}, {int(label(name) == 'dog')}" for name in names)
        files[f"{split}/_classes.csv"] = "\n".join(["filename, cat, dog", *rows])
    by_name = found(placed(tmp_path, files))
    assert (by_name["valid/07.jpg"], by_name["test/11.jpg"]) == (("validation", "dog"), ("test", "dog"))
    assert len(by_name) == len(NAMES)


@pytest.mark.parametrize(
    "beside",
    [
        [
            "outputs/confusion/1.png",
            "outputs/predictions/1.png",
            "assets/logo.png",
            "venv/Lib/a/x.typed",
            "venv/Scripts/a",
        ],
        ["assets/logo.png", "docs/1.png"],
        ["outputs/train/1.png", "outputs/test/1.png"],
    ],
)
@pytest.mark.parametrize("splits", [("train", "valid", "test"), ("train", "valid"), ("in/train", "in/test")])
@pytest.mark.parametrize("images", ["", "images/"])
def test_tables_of_splits_go_before_folders_beside_them(
    tmp_path: Path, beside: list[str], splits: tuple[str, ...], images: str
) -> None:
    rows = "\n".join(["filename,label", *(f"{name},{label(name)}" for name in NAMES)])
    placed(tmp_path, {f"{split}/{images}{name}": None for split in splits for name in NAMES})
    placed(tmp_path, dict.fromkeys((f"{split}/_classes.csv" for split in splits), rows) | dict.fromkeys(beside))
    read = found(tmp_path)
    assert {kind for _, kind in read.values()} == {"cat", "dog"} and len(read) == len(splits) * len(NAMES)
    assert len({split for split, _ in read.values()}) == len(splits)


def test_class_folders_in_splits_go_before_their_tables(tmp_path: Path) -> None:
    kinds = {f"{split}/{label(name)}/{name}": None for split in ("train", "test") for name in NAMES}
    rows = "\n".join(["filename,shade", *(f"{name},{int(name[:2]) // 6}" for name in NAMES)])
    placed(tmp_path, kinds | {"train/_shades.csv": rows, "test/_shades.csv": rows, "docs/1.png": None})
    assert {kind for _, kind in found(tmp_path).values()} == {"cat", "dog"}


def test_splits_of_a_table_without_a_heading_are_kept(tmp_path: Path) -> None:
    splits = ["training"] * 6 + ["validation"] * 3 + ["test"] * 3
    rows = (f"{split},gs://b/{name},{label(name)}" for split, name in zip(splits, NAMES, strict=True))
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "import.csv": "\n".join(rows)})
    assert found(tmp_path)["images/07.jpg"] == ("validation", "dog")


TINY = {
    "val/val_annotations.txt": "\n".join(f"{name}\t{label(name)}\t0\t32\t44\t62" for name in NAMES),
    "words.txt": "n01\tfish\nn02\tbird",
}
GTSRB = {
    "Test.csv": "\n".join(["Width,Label,Path", *(f"30,{label(name)},val/images/{name}" for name in NAMES)]),
    "Meta.csv": "Path,Label\nMeta/0.png,cat\nMeta/1.png,dog",
}


@pytest.mark.parametrize("tables", [TINY, GTSRB, {"tables/all.jsonl": lines(*GROUND_TRUTH)}])
def test_a_table_tells_the_classes_of_a_flat_split(tmp_path: Path, tables: dict[str, str]) -> None:
    """tiny-imagenet's val/, GTSRB's Test/: where train/ has class folders."""
    folders = {f"train/{name}/{n}.jpg": None for name in ("cat", "dog") for n in range(3)}
    source = placed(tmp_path, {**folders, **{f"val/images/{name}": None for name in NAMES}, **tables})
    by_name = found(source)
    assert by_name["train/cat/0.jpg"] == ("train", "cat") and by_name["val/images/03.jpg"] == ("validation", "dog")
    assert len(by_name) == 6 + len(NAMES)
    with open_source(str(source), s3=None) as files:
        assert files.understood.splits == {"train": "train", "val": "validation"}
        assert "in val: images without a class" not in files.understood.left_out
    assert "val/images/03.jpg" not in found(source, train="train")  # the recipe says what there is


def test_a_table_of_other_classes_tells_nothing_of_a_split(tmp_path: Path) -> None:
    folders = {f"train/{name}/{n}.jpg": None for name in ("cat", "dog") for n in range(3)}
    other = "\n".join(["Path,Label", *(f"{name},{'fox' if name > '03' else 'cat'}" for name in NAMES)])
    few = "\n".join(["Path,Label", *(f"{name},cat" for name in NAMES[:5])])
    placed(tmp_path, {**folders, **{f"test/{name}": None for name in NAMES}, "a.csv": other, "test/b.csv": few})
    assert len(found(tmp_path)) == 6


@pytest.mark.parametrize(
    ("column", "values", "kept"),
    [
        ("split", ["train", "test", "extra"], {"train": 4, "test": 4}),
        ("phase", ["train", "test", "test"], {"train": 4, "test": 8}),
        ("Usage", ["Training", "PublicTest", "PrivateTest"], {"train": 4, "test": 8}),
        ("where", ["entrenamiento", "prueba", "prueba"], {"train": 4, "test": 8}),
        ("is_test", ["True", "False", "False"], {"train": 8, "test": 4}),
        ("is_train", ["1", "0", "1"], {"train": 8, "test": 4}),
        ("is_valid", ["True", "False", "False"], {"train": 8, "validation": 4}),
        ("is_valid", ["0", "1", "0"], {"train": 8, "validation": 4}),
        ("is_valid", ["1", "1", "0"], {None: 12}),  # most are: it is the label that is
        ("ml_use", ["TRAIN", "UNASSIGNED", "TEST"], {"train": 8, "test": 4}),
        ("use", ["TRAIN", "UNASSIGNED", "TEST"], {"train": 8, "test": 4}),
        ("use", ["TRAIN", "", "TEST"], {"train": 4, "test": 4}),
        ("site", ["A", "B", "C"], {None: 12}),
    ],
)
def test_a_split_is_known_by_its_values(
    tmp_path: Path, column: str, values: list[str], kept: dict[str | None, int]
) -> None:
    rows = [f"{name},{label(name)},{values[number % 3]}" for number, name in enumerate(NAMES)]
    placed(
        tmp_path, {**{f"i/{name}": None for name in NAMES}, "labels.csv": "\n".join([f"file,label,{column}", *rows])}
    )
    assert Counter(split for split, _ in found(tmp_path).values()) == kept


@pytest.mark.parametrize("column", ["fold", "kfold", "test_fold", "split", "list_partition", "is_valid"])
def test_a_split_that_nothing_says_is_told(tmp_path: Path, column: str) -> None:
    rows = [f"{name},{label(name)},{5 if column == 'is_valid' else number % 5}" for number, name in enumerate(NAMES)]
    table = "\n".join([f"file,label,{column}", *rows])
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "labels.csv": table})
    said = check(str(tmp_path), names=True).text
    assert f"Not divided by column {column} of labels.csv: its values are not train, validation and test." in said
    assert (
        "Not divided"
        not in check(str(placed(tmp_path, {"labels.csv": table.replace(column, "site")})), names=True).text
    )


def test_a_rare_split_of_a_long_table_is_known(tmp_path: Path) -> None:
    rows = [f"{n},cat,{'train' if n % 2 else 'test'}" for n in range(90_001)]
    rows += [f"{name},{label(name)},{'val' if name == NAMES[5] else 'train'}" for name in NAMES]
    text = "\n".join(["file,label,split", *rows])
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "labels.csv": text})
    assert found(tmp_path, table="labels.csv", image_column="file")["images/05.jpg"] == ("validation", "dog")


def test_a_test_table_of_other_classes_is_left_out(tmp_path: Path) -> None:
    files: dict[str, str | None] = {f"images/{name}": None for name in NAMES}
    files["train.csv"] = "\n".join(["id,label", *(f"{name},{label(name)}" for name in NAMES[:8])])
    files["test.csv"] = "\n".join(["id,site", *(f"{name},{'AB'[int(name[:2]) % 2]}" for name in NAMES[8:])])
    with open_source(str(placed(tmp_path, files)), s3=None) as read:
        assert {(file.split, file.label) for file in read} == {("train", "cat"), ("train", "dog")}
        assert read.understood.left_out["in test.csv, which tells other classes (A, B)"].files == 4


def test_a_test_table_may_have_one_class(tmp_path: Path) -> None:
    files: dict[str, str | None] = {f"images/{name}": None for name in NAMES}
    files["train.csv"] = "\n".join(["id,label", *(f"{name},{label(name)}" for name in NAMES[:8])])
    files["test.csv"] = "\n".join(["id,label", *(f"{name},cat" for name in NAMES[8::2])])
    assert found(placed(tmp_path, files))["images/08.jpg"] == ("test", "cat")


def test_a_table_divides_class_folders(tmp_path: Path) -> None:
    folders = {name: f"{label(name)}/{name}" for name in NAMES}
    words = ["train", "train", "val", "test"]
    rows = [f"{folder},{label(name)},{words[n // 3]}" for n, (name, folder) in enumerate(folders.items())]
    text = "\n".join(["path,label,split", *rows[:-1]])
    placed(tmp_path, {**dict.fromkeys(folders.values()), "split.csv": text})
    by_name = found(tmp_path)
    assert (by_name["cat/00.jpg"], by_name["dog/07.jpg"]) == (("train", "cat"), ("validation", "dog"))
    assert Counter(split for split, _ in by_name.values()) == {"train": 6, "validation": 3, "test": 2}
    assert {split for split, _ in found(tmp_path, classes=".").values()} == {None}


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("train_images", "test_images"), ("in/train", "in/test")]
)
def test_a_table_of_a_split_tells_of_its_folder_first(tmp_path: Path, train: str, test: str) -> None:
    """As competitions hand out a test set whose files are called as those to train on."""
    rows = "\n".join(["id,label", *(f"{name[:2]},{label(name)}" for name in NAMES)])
    placed(tmp_path, {f"{folder}/{name}": None for folder in (train, test) for name in NAMES})
    placed(tmp_path, {"train.csv": rows, "sample_submission.csv": rows})
    assert found(tmp_path) == {f"{train}/{name}": (None, label(name)) for name in NAMES}


AIRCRAFT = [f"{number:02}" for number in range(48)]
KINDS = {"variant": ["707-320", "Model B200"], "family": ["Boeing 707", "A300"], "maker": ["Boeing", "Beech"]}
PARTS = {"train": AIRCRAFT[:16], "val": AIRCRAFT[16:32], "trainval": AIRCRAFT[:32], "test": AIRCRAFT[32:]}


def aircraft(root: Path) -> Path:
    """FGVC-Aircraft: lists of each split for each of three kinds of classes, and others."""
    texts = {
        f"data/images_{kind}_{part}.txt": "\n".join(f"{name} {classes[int(name) % 2]}" for name in names)
        for kind, classes in KINDS.items()
        for part, names in PARTS.items()
    }
    texts |= {f"data/images_{part}.txt": "\n".join(names) for part, names in PARTS.items()}
    texts |= {f"data/{kind}s.txt": "\n".join(classes) for kind, classes in KINDS.items()}
    texts["data/images_box.txt"] = "\n".join(f"{name} 1 2 30 40" for name in AIRCRAFT)
    return placed(root, {**{f"data/images/{name}.jpg": None for name in AIRCRAFT}, **texts})


def test_lists_of_several_kinds_of_classes_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"data/images_family_\*\.txt, data/images_maker_\*\.txt") as told:
        found(aircraft(tmp_path))
    assert "`layout: {table: 'data/images_family_*.txt'}`, or another of them" in str(told.value)


def test_a_star_in_a_table_is_every_split(tmp_path: Path) -> None:
    by_name = found(aircraft(tmp_path), table="images_family_*.txt")
    assert len(by_name) == len(AIRCRAFT)
    assert by_name["data/images/03.jpg"] == ("train", "A300")
    assert by_name["data/images/20.jpg"] == ("validation", "Boeing 707")
    assert by_name["data/images/40.jpg"] == ("test", "Boeing 707")


@pytest.mark.parametrize(("table", "reason"), [("images_*_train.txt", "are not called as one"), ("*.csv", "no such")])
def test_a_star_that_names_no_splits_is_refused(tmp_path: Path, table: str, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        found(aircraft(tmp_path), table=table)


def test_a_test_set_without_classes_hides_no_table_of_val(tmp_path: Path) -> None:
    """tiny-imagenet as it is unpacked: nobody tells the classes of its test/."""
    folders = {f"train/{name}/{n}.jpg": None for name in ("cat", "dog") for n in range(3)}
    unknown = {f"test/images/test_{n}.jpg": None for n in range(4)}
    source = placed(tmp_path, {**folders, **unknown, **{f"val/images/{name}": None for name in NAMES}, **TINY})
    assert found(source)["val/images/03.jpg"] == ("validation", "dog")
