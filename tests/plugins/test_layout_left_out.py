"""What is no class: masks, drawings, notes, programs, empty folders; what is left out is said."""

from __future__ import annotations

import re

import pytest

from retraining.dataset.source_error import SourceError
from tests.plugins.foldered import TRAIN_TEST, classes, files, read


def test_masks_called_as_their_images_are_left_out() -> None:
    """The breast ultrasound images, with their masks in the folder of the class."""
    names = [
        f"D/{c}/{c} ({n}){m}.png" for c in ("benign", "normal") for n in range(3) for m in ("", "_mask", "_mask_1")
    ]
    found = read([*names, "D/benign/unmask.png", "D/benign/no_mask.png"])
    assert found.left_out["masks or labels beside their images"].files == 12 and len(found.places) == 8


def test_what_lies_beside_the_splits_is_left_out_and_said() -> None:
    names = files("train/cat", "train/dog", "test/cat", "test/dog") + files("seg_pred/seg_pred", "docs", count=2)
    found = read([*names, "README", "train/list", "labels.csv", ".DS_Store"])
    assert classes(found) == TRAIN_TEST
    assert {why: left.files for why, left in found.left_out.items()} == {
        "in seg_pred: no split of this source": 2,
        "in docs: no split of this source": 2,
        "beside the class folders": 2,
        "notes": 1,
        "hidden": 1,
    }
    assert found.as_dict()["ignored"]["notes"] == {"files": 1, "examples": ["labels.csv"]}


PROJECTS = [
    (
        [*files("dataset-resized/paper", "dataset-resized/glass"), *files("images", count=1)],
        r"dataset-resized holds folders of its own \(glass, paper\), images not: .*\{classes: dataset-resized\}`",
    ),
    (files("gestures/0", "gestures/1", "gestures/2", "tmp"), r"tmp not: .* recipe `layout: \{classes: gestures\}` if"),
    (files("pets/set/cat", "pets/set/dog", "results", "plots"), r"\{classes: pets/set\}` if all classes are in"),
    (
        files("faces/messi", "faces/federer", "model/dataset/messi", "model/dataset/ronaldo", "ui/images", "server"),
        r"faces holds folders of its own .*, beside model, server, ui: .* recipe `layout: \{classes: faces\}` if all",
    ),
    (
        files(*(f"birds/all/{split}/{name}" for split in ("train", "test") for name in ("owl", "jay")))
        + files("birds/more", "docs"),
        r"recipe `layout: \{train: birds/all/train, test: birds/all/test\}` if all classes are in there, or",
    ),
    ([*files("pets/cat", "pets/dog"), "camera/1.jpg", "train.py"], r"camera not: .*\{classes: pets\}` if all classes"),
    (
        [*files("pets/cat", "pets/dog"), *files("oaks/a", "oaks/b", "logs", count=1)],
        r"logs beside oaks, pets may be no",
    ),
    (
        files("work/data/with", "work/data/without", "shots", count=3)
        + files(*(f"work/x/{split}/{name}" for split in ("train", "test") for name in ("with", "without"))),
        r"shots not: one of them .*\{classes: work\}` \(which is not clear itself: check it alone\)",
    ),
    (files("src/pkg/data/images", "doc/images"), r"doc, src look like folders of a project, not like classes"),
    (files("img/doc", "img/gui"), r"doc, gui look like folders of a project, .*\{classes: img\}` if these are classes"),
    ([*files("VOC2007/JPEGImages", "docs", "output"), "train.py"], r"docs, output beside VOC2007 look like folders of"),
    ([*files("cat", "dog", "docs"), "main.ipynb"], r"docs beside cat, dog may be no class\. Move it away, or"),
]


@pytest.mark.parametrize(("names", "complaint"), PROJECTS)
def test_what_lies_beside_a_projects_data_is_no_class(names: list[str], complaint: str) -> None:
    for around in ("", "repo-main/"):
        wrapped = re.sub(r"(classes: |train: |test: )(?=\w)", rf"\g<1>{around}", complaint)
        with pytest.raises(SourceError, match=wrapped):
            read([f"{around}{name}" for name in names])


def test_a_file_beside_the_classes_changes_nothing() -> None:
    found = read(
        [*files("flower_photos/daisy", "flower_photos/rose"), "flower_photos/LICENSE", "flower_photos/all.jpg"]
    )
    assert classes(found) == {(None, "daisy"), (None, "rose")}
    assert found.left_out["beside the class folders"].examples == ["flower_photos/LICENSE", "flower_photos/all.jpg"]


def test_an_empty_class_folder_is_refused_by_name() -> None:
    with pytest.raises(SourceError, match=r"no image in class folder 'pets/bird'. Add images or remove the folder"):
        read(files("pets/cat", "pets/dog"), empty=["pets/bird"])
    with pytest.raises(SourceError, match="no image in class folder 'train/bird'"):
        read(files("train/cat", "train/dog", "test/cat", "test/dog"), empty=["train/bird", "extra"])


def test_an_empty_class_folder_is_told_before_odd_ones() -> None:
    with pytest.raises(SourceError, match="no image in class folder 'img/paper' and 1 others"):
        read(files("img/doc", "img/gui"), empty=["img/rock", "img/paper"])


def test_class_folders_of_a_readme_alone_are_empty_ones() -> None:
    """Of a repository whose images are made by whoever clones it."""
    bare = [f"img/{label}/README.md" for label in ("rock", "paper", "scissors")]
    with pytest.raises(SourceError, match="no image in class folder 'img/paper' and 2 others"):
        read([*files("img/doc", "img/gui"), *bare])
    assert len(classes(read([*files("img/doc", "img/gui"), *bare], classes="img"))) == 2


@pytest.mark.parametrize(
    "notes",
    [
        ["bird/README.md"],
        ["docs/README.md", "scripts/readme.txt"],
        ["a/README.md", "a/list.csv", "b/README.md", "b/c/x.py"],
        ["cat/README.md", "dog/README.md"],
        ["cat/a/README.md", "dog/a/README.md"],
    ],
)
def test_folders_of_notes_are_no_empty_classes(notes: list[str]) -> None:
    assert classes(read([*files("cat", "dog"), *notes])) == {(None, "cat"), (None, "dog")}


def test_empty_folders_that_are_no_class_count_for_nothing() -> None:
    found = read(files("cat", "dog"), empty=["cat/new", ".cache", "@eaDir", "__MACOSX/cat"])
    assert classes(found) == {(None, "cat"), (None, "dog")}


@pytest.mark.parametrize(
    ("around", "images", "masks"),
    [
        ("{}", "{}/images", "{}/masks"),  # the COVID-19 radiography database
        ("{}", "{}", "{}/Masks"),
        ("train/{}", "train/{}/img", "train/{}/gt"),
        ("{}/train", "{}/train", "{}/train/annotations"),
    ],
)
def test_masks_beside_the_images_of_a_class_are_left_out(around: str, images: str, masks: str) -> None:
    names = [name for label in ("covid", "normal") for name in files(images.format(label), masks.format(label))]
    if "train" in around:
        names += files(*(around.replace("train", "test").format(label) for label in ("covid", "normal")))
    found = read(names, **({} if "train" in around else {"classes": "."}))
    assert {label for _, label in classes(found)} == {"covid", "normal"}
    assert found.left_out["masks or labels beside their images"].files == 6
    assert len(found.places) == len(names) - 6


@pytest.mark.parametrize(
    ("images", "beside"),
    [
        ("images/Images/{}", [f"annotations/Annotation/{label}/{n}" for label in ("cat", "dog") for n in range(3)]),
        ("CUB_200_2011/images/{}", files("segmentations/cat", "segmentations/dog")),
    ],
)
def test_what_is_drawn_or_written_beside_is_left_out(images: str, beside: list[str]) -> None:
    found = read(files(images.format("cat"), images.format("dog")) + beside)
    assert classes(found) == {(None, "cat"), (None, "dog")} and len(found.places) == 6
    assert found.left_out["masks or labels beside their images"].files == 6


def test_a_file_that_is_no_image_makes_no_class() -> None:
    """Caltech-101: what is beside the one folder of classes is a program."""
    found = read([*files("caltech-101/101_Objects/ant", "caltech-101/101_Objects/bee"), "caltech-101/show.m"])
    assert classes(found) == {(None, "ant"), (None, "bee")}
    assert classes(read([f"in/{label}/{n}" for label in "ab" for n in range(3)])) == {(None, "a"), (None, "b")}


def test_a_folder_of_programs_is_no_class() -> None:
    found = read([*files("cat", "dog"), "apps/main.c", "apps/net.prototxt", "logs/events.out.tfevents.15737.host"])
    assert classes(found) == {(None, "cat"), (None, "dog")}
    assert found.left_out["notes"].files == 3


@pytest.mark.parametrize("name", ["1.dcm", "1.heic", "1.pgm", "1.svg", "1"])
def test_pictures_that_cannot_be_read_stay_a_class(name: str) -> None:
    assert (None, "bird") in classes(read([*files("cat", "dog"), f"bird/{name}"]))


def test_a_class_may_be_called_mask() -> None:
    found = read(files("mask", "no mask/labels", "hats/masks", "hats/caps"))
    assert classes(found) == {(None, "mask"), (None, "no mask"), (None, "hats")} and len(found.places) == 12


@pytest.mark.parametrize(
    "folders",
    [
        ("images", "masks"),
        ("train/img", "train/gt", "val/img", "val/gt"),
        ("Images", "Masks", "Source Image Samples"),
        ("image", "seg"),
        ("images", "groundTruth"),
        ("images", "ground_truth", "splits"),
    ],
)
def test_images_and_their_masks_are_no_two_classes(folders: tuple[str, ...]) -> None:
    with pytest.raises(SourceError, match=r"look like images and what is drawn over them.*`layout: \{classes: <the"):
        read(files(*folders))
    assert len(classes(read(files("images", "masks"), classes="."))) == 2


@pytest.mark.parametrize("folder", ["{}", "{}/Imgs", "train/{}"])
def test_masks_of_the_same_name_are_left_out(folder: str) -> None:
    """The defects of magnetic tiles: each photo is a JPEG, its mask a PNG of the same name."""
    names = [f"{folder.format(label)}/exp{n}.{end}" for label in ("blow", "free") for n in range(4) for end in KINDS]
    found = read([*names, *files("free/more", count=1)] if folder == "{}" else names)
    assert {label for _, label in classes(found)} == {"blow", "free"}
    assert not [name for name in found.places if name.endswith(".png")]
    (why,) = [why for why in found.left_out if "give them other names" in why]
    assert found.left_out[why].files == 8


KINDS = ("jpg", "png")


@pytest.mark.parametrize(
    "names",
    [
        [f"{label}/{n}.{end}" for label in ("a", "b") for n in range(2) for end in KINDS],
        [f"{label}/{n}.{end}" for label in ("a", "b") for end in KINDS for n in range(5 if end == "png" else 9)],
        [f"a/{n}.{end}" for end in KINDS for n in range(4)] + [f"b/{n}.jpg" for n in range(40)],
        [f"{label}/{n}.{end}" for label in ("a", "b") for n in range(5) for end in ("jpg", "webp")],
    ],
)
def test_pictures_in_two_formats_stay(names: list[str]) -> None:
    assert len(read(names).places) == len(names)


def test_caches_of_shares_and_notebooks_are_no_classes() -> None:
    found = read(
        files("cat", "dog", "@eaDir/cat", ".ipynb_checkpoints", "#recycle/dog", "$RECYCLE.BIN/x", "cat/@eaDir")
    )
    assert classes(found) == {(None, "cat"), (None, "dog")}
    assert found.left_out["of a system"].files == 12


def test_odd_keys_of_object_stores_are_no_classes() -> None:
    """Some end in two slashes, begin with one, or are nothing else."""
    found = read([*files("cat", "dog"), "/1.png", "//", "cat//2.png", "../3.png", "./4.png", ""])
    assert classes(found) == {(None, "cat"), (None, "dog")}
    assert "cat//2.png" in found.places
