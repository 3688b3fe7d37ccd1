"""Tables as tools and hubs write them, and what they cannot tell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from retraining.dataset.layouts.proposed import line
from retraining.dataset.source_error import SourceError
from retraining.dataset.sync import sync_dataset
from retraining.plan import Plan
from tests.plugins.tabled import COCO, GROUND_TRUTH, LABEL_STUDIO, NAMES, found, label, lines, placed


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
