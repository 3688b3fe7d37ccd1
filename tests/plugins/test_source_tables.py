"""Tables as tools and hubs write them, and what folders of known sets leave open for them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from retraining.dataset.check import check
from retraining.dataset.layouts.proposed import line
from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.source import open_source
from retraining.dataset.sync import sync_dataset
from retraining.plan import Plan
from retraining.recipe.layout import Layout
from tests.plugins.test_sync import picture

NAMES = [f"{number:02}.jpg" for number in range(12)]


def label(name: str) -> str:
    return "dog" if int(name[:2]) % 2 else "cat"


def lines(*records: Any) -> str:
    return "\n".join(map(json.dumps, records))


def placed(root: Path, files: dict[str, str | None]) -> Path:
    """Texts, and for None a picture."""
    for number, (name, text) in enumerate(files.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(number) if text is None else text.encode())
    return root


def found(source: Path, **layout: str) -> dict[str, tuple[str | None, str]]:
    with open_source(str(source), s3=None, layout=Layout(**layout)) as files:
        return {file.name: (file.split, file.label) for file in files}


GROUND_TRUTH = [
    {
        "source-ref": f"s3://bucket/upload/{name}",
        "animals": int(label(name) == "dog"),
        "animals-metadata": {"class-name": label(name), "confidence": 0.98, "human-annotated": "yes"},
    }
    for name in NAMES
]
LABEL_STUDIO = [
    {
        "id": number,
        "annotations": [
            {"was_cancelled": True, "result": [{"from_name": "pet", "type": "choices", "value": {"choices": ["x"]}}]},
            {"result": [{"from_name": "pet", "type": "choices", "value": {"choices": [label(name)]}}]},
            {"result": [{"from_name": "pet", "type": "rectanglelabels", "value": {"rectanglelabels": [label(name)]}}]},
        ],
        "file_upload": f"abcd12{name[:2]}-{name}",
        "data": {"image": f"/data/upload/1/abcd12{name[:2]}-{name}"},
    }
    for number, name in enumerate(NAMES)
]
COCO = {
    "images": [{"id": number, "file_name": f"images/{name}"} for number, name in enumerate(NAMES)],
    "annotations": [{"image_id": number, "category_id": 7 + number % 2} for number in range(len(NAMES))] * 2,
    "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}],
}


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("output.manifest", lines(*GROUND_TRUTH)),
        ("metadata.jsonl", lines(*({"file_name": name, "label": label(name)} for name in NAMES))),
        ("labels.json", json.dumps({name: label(name) for name in NAMES})),
        ("labels.json", json.dumps({name: {"width": 9, "label": label(name)} for name in NAMES})),
        ("project.json", json.dumps([{"image": f"/data/upload/1/{n}", "choice": label(n), "id": 4} for n in NAMES])),
        ("project.json", json.dumps(LABEL_STUDIO)),
        ("azure.jsonl", lines(*({"image_url": f"azureml://a/{name}", "label": [label(name)]} for name in NAMES))),
        ("annotations/instances.json", json.dumps(COCO)),
        ("train.lst", "\n".join(f"{n}\t{label(name)}\timages/{name}" for n, name in enumerate(NAMES))),
        ("list.txt", "\n".join(f"images/{name} {label(name)}" for name in NAMES)),
        ("import.csv", "\n".join(f"gs://b/images/{name},{label(name)}" for name in NAMES)),
        ("meta/ham.csv", "\n".join(["image_id,dx,age", *(f"{n[:2]},{label(n)},{80 - int(n[:2])}" for n in NAMES)])),
    ],
)  # fmt: skip
def test_tables_of_other_tools_are_read(tmp_path: Path, table: str, text: str) -> None:
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "README.txt": "cats and dogs\n", table: text})
    assert found(tmp_path) == {f"images/{name}": (None, label(name)) for name in NAMES}


def test_an_image_of_several_labels_is_left_out(tmp_path: Path) -> None:
    """Two annotators who disagree, and a list of labels."""
    tasks = json.loads(json.dumps(LABEL_STUDIO))
    tasks[3]["annotations"].append(LABEL_STUDIO[4]["annotations"][1])
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "project.json": json.dumps(tasks)})
    assert set(found(tmp_path)) == {f"images/{name}" for name in NAMES if name != "03.jpg"}
    listed = [{"image": name, "labels": ["cat", "dog"] if name == "03.jpg" else [label(name)]} for name in NAMES]
    placed(tmp_path, {"project.json": "", "labels.jsonl": lines(*listed)})
    assert set(found(tmp_path)) == {f"images/{name}" for name in NAMES if name != "03.jpg"}


def test_questions_of_a_label_studio_are_columns(tmp_path: Path) -> None:
    tasks = json.loads(json.dumps(LABEL_STUDIO))
    for task in tasks:
        task["annotations"][2]["result"][0] |= {"from_name": "light", "value": {"rectanglelabels": ["day"]}}
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "p.json": json.dumps(tasks)})
    assert found(tmp_path, table="p.json", class_column="pet")["images/03.jpg"] == (None, "dog")


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
    ("name", "text"),
    [
        ("a.jsonl", "[" * 100_000),
        ("a.jsonl", '{"a": ' * 5_000 + "1" + "}" * 5_000),
        ("a.jsonl", '{"file": ' + "9" * 10_000 + "}"),
        ("a.jsonl", "[1, 2]\n3"),
        ("a.manifest", "{"),
        ("a.jsonl", lines({str(key): 1 for key in range(3_000)})),
        ("a.jsonl", lines({str(key): 1 for key in range(1_500)}, *[{}] * 20_000)),
    ],
)
def test_json_that_is_no_table_is_told(tmp_path: Path, name: str, text: str) -> None:
    placed(tmp_path, {**{f"images/{each}": None for each in NAMES}, name: text})
    with pytest.raises(
        SourceError, match=rf"{name} (cannot be read as JSON|is no table|has 3000 keys|has 20001 records)"
    ):
        found(tmp_path)


@pytest.mark.parametrize("text", ['{"images": [1], "annotations": [{}], "categories": []}', "3", "[]", '{"a": [1]}'])
def test_documents_that_are_no_table_are_passed_over(tmp_path: Path, text: str) -> None:
    labels = "\n".join(["id,breed", *(f"{name},{label(name)}" for name in NAMES)])
    placed(tmp_path, {**{f"images/{each}": None for each in NAMES}, "a.json": text, "in/labels.csv": labels})
    assert len(found(tmp_path)) == len(NAMES)
    shutil.rmtree(tmp_path / "in")
    with pytest.raises(SourceError, match=r"holds one class only") as told:
        found(tmp_path)
    assert "a.json cannot" not in str(told.value)  # most are of something else


@pytest.mark.parametrize("told", ["instances.json", "boxes.csv"])
def test_boxes_of_several_classes_are_refused_by_picture(tmp_path: Path, told: str) -> None:
    notes = [{"image_id": number, "category_id": pet} for number in range(len(NAMES)) for pet in (7, 8)]
    rows = [f"{name},{pet},1,2,3,4" for name in NAMES for pet in ("cat", "dog")]
    text = (
        json.dumps(COCO | {"annotations": notes}) if told.endswith("json") else "\n".join(["file,label,a,b,c,d", *rows])
    )
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, told: text})
    with pytest.raises(
        SourceError, match=rf"{told} has several classes for 12 images \(images/00\.jpg, .* cut the boxes"
    ):
        found(tmp_path)


@pytest.mark.parametrize("folders", [("images", "."), ("train", "train")])
def test_a_word_behind_a_box_is_the_class(tmp_path: Path, folders: tuple[str, str]) -> None:
    """Of Keras-RetinaNet, without a heading; an image without boxes has a row of its name alone."""
    images, beside = folders
    rows = [f"{name},{n},{n + 1.5},{n + 40},{n + 50},{label(name)}" for n, name in enumerate(NAMES)]
    text = "\n".join([*rows, f"{NAMES[0]},7,7,9,9,cat", f"{NAMES[3]},1,2,3,4,cat", "empty.jpg,,,,,"])
    placed(tmp_path, {f"{images}/{name}": None for name in [*NAMES, "empty.jpg"]} | {f"{beside}/boxes.csv": text})
    read = found(tmp_path)
    assert {Path(name).name: kind for name, (_, kind) in read.items()} == {
        name: label(name) for name in NAMES if name != NAMES[3]
    }


@pytest.mark.parametrize("cells", ["3,cat,red", "3,4,5"])
def test_words_in_no_or_several_columns_are_unclear(tmp_path: Path, cells: str) -> None:
    text = "\n".join(f"{name},{cells}" for name in NAMES)
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "boxes.csv": text})
    with pytest.raises(SourceError, match="not clear of 2, 3, 4"):
        found(tmp_path)


def test_a_column_may_be_called_finding(tmp_path: Path) -> None:
    """The chest X-rays of COVID-19, with ages and views beside."""
    rows = [f"{n},{n + 30},PA,{label(name)},{name}" for n, name in enumerate(NAMES)]
    placed(tmp_path, {f"images/{name}": None for name in NAMES})
    placed(tmp_path, {"metadata.csv": "\n".join(["patientid,age,view,finding,filename", *rows])})
    assert found(tmp_path) == {f"images/{name}": (None, label(name)) for name in NAMES}
    placed(tmp_path, {"metadata.csv": "\n".join(["patientid,age,material,finding,filename", *rows])})
    with pytest.raises(SourceError, match="not clear of patientid, age, material, finding"):
        found(tmp_path)


def test_two_spellings_in_a_table_are_merged_as_told(tmp_path: Path) -> None:
    """Thousands of rows are not to be written anew by hand."""
    rows = [f"628,ANGER {name},{'anger' if n % 2 else 'joy'}" for n, name in enumerate(NAMES)]
    text = "\n".join(["user,image,emotion", *rows[:-1], f"628,ANGER {NAMES[-1]},ANGER"])
    placed(tmp_path, {**{f"ANGER {name}": None for name in NAMES}, "data/the legend.csv": text})
    with pytest.raises(SourceError, match=r"'ANGER' has 1 images, 'anger' 5\. To write all as 'anger': perl") as told:
        found(tmp_path)
    subprocess.run(str(told.value).partition("'anger': ")[2], shell=True, check=True, cwd=tmp_path, timeout=20)
    assert len(found(tmp_path)) == len(NAMES)
    assert (tmp_path / "data/the legend.csv").read_text() == text.replace(",ANGER\n", ",anger\n")[:-5] + "anger"


def test_a_table_left_to_git_lfs_is_told(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3175072\n"
    placed(tmp_path, {f"{split}/{name}": None for split in ("train", "test") for name in NAMES})
    placed(tmp_path, {f"{split}/labels.csv": pointer for split in ("train", "test")})
    with pytest.raises(SourceError, match=r"train/labels\.csv: Git LFS keeps the table elsewhere.* git lfs pull"):
        found(tmp_path)
    with pytest.raises(SourceError, match="git lfs pull"):
        found(tmp_path, table="train/labels.csv")


def test_a_table_of_one_class_is_told(tmp_path: Path) -> None:
    text = "\n".join(["file,label", *(f"{name},cat" for name in NAMES)])
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "labels.csv": text})
    with pytest.raises(SourceError, match=r"labels\.csv tells no two classes: cat\."):
        found(tmp_path)


@pytest.mark.parametrize("image", ["train/images/{}", "images/train/{}", "train/{}", "JPEGImages/{}", "{}"])
@pytest.mark.parametrize("note", ["labels/train/{}.txt", "Annotations/{}.xml", "train/labels/{}.txt", "{}.txt"])
def test_a_file_of_boxes_for_each_image_is_told(tmp_path: Path, image: str, note: str) -> None:
    placed(tmp_path, {image.format(name): None for name in NAMES})
    placed(tmp_path, {note.format(name[:2]): "0 0.5 0.5 0.1 0.1\n" for name in NAMES})
    with pytest.raises(
        SourceError, match=rf"{note.format('00')} and 11 others .* are not read\. Have their tool export"
    ):
        found(tmp_path)


def test_a_number_of_split_folders_is_no_class_in_names(tmp_path: Path) -> None:
    placed(tmp_path, {f"{split}/{split}{n}.png": None for split in ("train", "test") for n in range(9)})
    with pytest.raises(SourceError, match=r"hold images themselves") as told:
        found(tmp_path)
    assert "class_pattern" not in str(told.value)


def test_texts_of_an_archive_are_not_read_again(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    """Neither the one that told, nor those that did not; and one that a recipe names is."""
    text = "\n".join(f"images/{name} {label(name)}" for name in NAMES)
    files = {**{f"images/{name}": None for name in NAMES}, "README.txt": "of cats\nand dogs", "list.txt": text}
    source = placed(tmp_path / "in", files)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as packed:
        for each in (each for each in source.rglob("*") if each.is_file()):
            packed.write(each, each.relative_to(source))
    os.utime(tmp_path / "in.zip", (1_700_000_000, 1_700_000_000))
    time.sleep(0.2)  # what was written just now is read again
    plan = make_plan(bucket, source=str(tmp_path / "in.zip"))
    first, again = sync_dataset(plan, s3), sync_dataset(plan, s3)
    assert (again.read, again.version.fingerprint) == (0, first.version.fingerprint)
    named = make_plan(bucket, source=str(tmp_path / "in.zip"), layout={"table": "README.txt"})
    with pytest.raises(SourceError, match=r"README.txt: no column names the images"):
        sync_dataset(named, s3)


FLAT_TEST: dict[str, str | None] = {f"train/{name}/{n}.jpg": None for name in ("cat", "dog") for n in range(3)} | {
    f"test/{name}": None for name in NAMES
}


@pytest.mark.parametrize(
    ("table", "label_of"),
    [("sample_submission.csv", label), ("my_predictions.csv", label), ("answers.csv", lambda name: "cat")],
)
def test_guesses_are_no_labels(tmp_path: Path, table: str, label_of: Callable[[str], str]) -> None:
    """A competition's dummy, somebody's predictions, and the same for all."""
    placed(tmp_path, FLAT_TEST | {table: "\n".join(["id,label", *(f"{name},{label_of(name)}" for name in NAMES)])})
    assert len(found(tmp_path)) == 6


@pytest.mark.parametrize("head", [",id,label", "row,image_id,label", "age,file,label"])
def test_a_number_of_the_row_is_no_image(tmp_path: Path, head: str) -> None:
    shuffled = [NAMES[(7 * number) % len(NAMES)] for number in range(len(NAMES))]
    rows = [f"{number:02},{name if 'file' in head else name[:2]},{label(name)}" for number, name in enumerate(shuffled)]
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "labels.csv": "\n".join([head, *rows])})
    assert found(tmp_path) == {f"images/{name}": (None, label(name)) for name in NAMES}


def test_a_column_without_a_name_is_no_image(tmp_path: Path) -> None:
    rows = [f"{name[:2]},{label(name)}" for name in NAMES]
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "labels.csv": "\n".join([",label", *rows])})
    with pytest.raises(SourceError, match=r"only the column without a name, which counts the rows"):
        found(tmp_path)


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


@pytest.mark.parametrize(
    ("head", "cells", "reason"),
    [
        ("image_id,partition", ["0", "1", "2"], "not clear of none"),
        ("file,has_tumor,is_new", ["1,0", "0,1", "0,0"], "not clear of has_tumor, is_new"),
    ],
)
def test_what_is_no_class_is_not_taken_for_one(tmp_path: Path, head: str, cells: list[str], reason: str) -> None:
    rows = [f"{name},{cells[number % 3]}" for number, name in enumerate(NAMES)]
    placed(tmp_path, {**{f"images/{name}": None for name in NAMES}, "list.csv": "\n".join([head, *rows])})
    with pytest.raises(SourceError, match=reason):
        found(tmp_path)


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


def test_a_class_may_be_called_none(tmp_path: Path) -> None:
    rows = [f"{name},{'none' if label(name) == 'cat' else 'NaN' if name == '01.jpg' else 'dent'}" for name in NAMES]
    placed(tmp_path, {**{f"i/{name}": None for name in NAMES}, "a.csv": "\n".join(["file,label", *rows])})
    assert Counter(each for _, each in found(tmp_path).values()) == {"none": 6, "dent": 5}


def test_a_label_goes_before_flags(tmp_path: Path) -> None:
    rows = [f"{name},{number % 2},{int(number == 2)}" for number, name in enumerate(NAMES)]
    placed(tmp_path, {**{f"i/{name}": None for name in NAMES}, "a.csv": "\n".join(["image_id,label,blurry", *rows])})
    assert {each for _, each in found(tmp_path).values()} == {"0", "1"} and len(found(tmp_path)) == len(NAMES)


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


def test_folders_of_patients_do_not_go_before_a_table(tmp_path: Path) -> None:
    folders = {name: f"p{int(name[:2]) // 3}/{name}" for name in NAMES}
    rows = [f"{folder},{label(name)}" for name, folder in folders.items()]
    placed(tmp_path, {**dict.fromkeys(folders.values()), "labels.csv": "\n".join(["file,diagnosis", *rows])})
    with pytest.raises(
        SourceError,
        match=r"tells other classes than the folders do.*\{table: labels.csv\}` if it is right, or .*\{classes: \.\}",
    ):
        found(tmp_path)
    assert {each for _, each in found(tmp_path, table="labels.csv").values()} == {"cat", "dog"}
    assert len({each for _, each in found(tmp_path, classes=".").values()}) == 4


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


def test_a_table_tells_of_its_own_folder_first(tmp_path: Path) -> None:
    files: dict[str, str | None] = {}
    for split in ("train", "val"):
        files |= {f"{split}/images/{name}": None for name in NAMES}
        other = {"cat": "dog", "dog": "cat"} if split == "val" else {"cat": "cat", "dog": "dog"}
        files[f"{split}/labels.csv"] = "\n".join(["file,label", *(f"{n},{other[label(n)]}" for n in NAMES)])
    by_name = found(placed(tmp_path, files))
    assert (by_name["train/images/03.jpg"], by_name["val/images/03.jpg"]) == (("train", "dog"), ("validation", "cat"))


def test_a_line_for_the_recipe_is_yaml() -> None:
    for name in (
        "8863",
        "1.5",
        "2023-01-01",
        "no",
        "a, b",
        "a #1",
        "a: b",
        "[new]",
        "it's",
        "a ",
        "*",
        "Set A",
        "x/y.csv",
    ):
        text = line(train=name, test=".").removeprefix("Put into the recipe `").removesuffix("`")
        assert yaml.safe_load(text) == {"layout": {"train": name, "test": "."}}


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("train_images", "test_images"), ("in/train", "in/test")]
)
def test_a_table_of_a_split_tells_of_its_folder_first(tmp_path: Path, train: str, test: str) -> None:
    """As competitions hand out a test set whose files are called as those to train on."""
    rows = "\n".join(["id,label", *(f"{name[:2]},{label(name)}" for name in NAMES)])
    placed(tmp_path, {f"{folder}/{name}": None for folder in (train, test) for name in NAMES})
    placed(tmp_path, {"train.csv": rows, "sample_submission.csv": rows})
    assert found(tmp_path) == {f"{train}/{name}": (None, label(name)) for name in NAMES}


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("labels.xlsx", "save it as CSV UTF-8"),
        ("data-00000-of-00001.arrow", "write it as parquet"),
        ("pets-train.tfrecord-00000-of-00002", "write its pictures as class folders"),
        ("pets.h5", "by numpy.savez, for `import npz`"),
        ("cars_annos.mat", "scipy.io.loadmat reads it"),
    ],
)
def test_a_file_that_nothing_opens_is_told(tmp_path: Path, name: str, way_out: str) -> None:
    placed(tmp_path, {**{f"images/{each}": None for each in NAMES}, name: "x"})
    with pytest.raises(SourceError, match=f"{name} is not read: if it tells classes, .*{way_out}"):
        found(tmp_path)


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
