"""The folders of a source are splits or classes, as people call them; what is left out is said."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable

import pytest
import yaml

from retraining.dataset.layouts.folder_names import split_words
from retraining.dataset.layouts.layout import Understood, understand
from retraining.dataset.source_error import SourceError
from retraining.dataset.summary import notes_on
from retraining.recipe.layout import Layout


def files(*folders: str, count: int = 3) -> list[str]:
    return [f"{folder}/{number}.jpg" for folder in folders for number in range(count)]


def read(names: Iterable[str], empty: Iterable[str] = (), **layout: str) -> Understood:
    return understand("here", names, empty, Layout(**layout))


def classes(found: Understood) -> set[tuple[str | None, str]]:
    return {(split, label) for split, _, label in found.places.values()}


TRAIN_TEST = {("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("training_set/training_set", "test_set/test_set"),
        ("train_set", "test_set"),
        ("trainset", "testset"),
        ("TrainData", "TestData"),
        ("images/train", "images/test"),
        ("pets/v2/train", "pets/v2/test"),
        ("train/images", "test/images"),
        ("train_images", "test_images"),
        ("1. Train", "2. Test"),
        ("train2017", "test2017"),
        ("flowers-train", "flowers-test"),
        ("asl_alphabet_train/asl_alphabet_train", "asl_alphabet_test/asl_alphabet_test"),
        ("trn", "tst"),
        ("trainval", "test"),
        ("train_val", "test"),
        ("Train+Valid", "Test"),
        ("entrenamiento", "prueba"),
        ("Trainingsdaten", "Testdaten"),
        ("entra\u00eenement", "test"),
        ("\u8bad\u7ec3\u96c6", "\u6d4b\u8bd5\u96c6"),
        ("Training", "PublicTest"),
        ("train", "private_test"),
        ("train", "hold-out"),
        ("Training", "HoldOutData"),
    ],
)
def test_the_names_people_give_to_splits_are_known(train: str, test: str) -> None:
    found = read(files(f"{train}/cat", f"{train}/dog", f"{test}/cat", f"{test}/dog"))
    assert classes(found) == TRAIN_TEST
    assert found.splits == {train: "train", test: "test"}


@pytest.mark.parametrize("name", ["val", "Valid", "VALIDATION", "dev", "eval", "val_set", "Validation Data", "valset"])
def test_every_name_of_validation_is_known(name: str) -> None:
    found = read(files("train/cat", "train/dog", f"{name}/cat", f"{name}/dog"))
    assert ("validation", "dog") in classes(found)


def test_splits_within_each_class_are_kept() -> None:
    found = read(files("cat/train", "cat/test", "dog/train", "dog/test"))
    assert classes(found) == TRAIN_TEST
    assert found.splits == {"*/train": "train", "*/test": "test"}


def test_a_split_divided_once_more_is_kept() -> None:
    found = read(files("train/train/cat", "train/train/dog", "train/val/cat", "train/val/dog", "test/cat", "test/dog"))
    assert classes(found) == {*TRAIN_TEST, ("validation", "cat"), ("validation", "dog")}


def test_a_trainval_beside_its_parts_is_left_out() -> None:
    found = read(files(*(f"{split}/{name}" for split in ("train", "val", "trainval") for name in ("cat", "dog"))))
    assert found.splits == {"train": "train", "val": "validation"}
    assert found.left_out["in trainval: no split of this source"].files


def test_splits_in_one_of_several_folders_are_found() -> None:
    found = read(files("X(Aug)/X(Aug)/train/cat", "X(Aug)/X(Aug)/train/dog", "X(Aug)/X(Aug)/valid/dog", "test/test"))
    assert classes(found) == {("train", "cat"), ("train", "dog"), ("validation", "dog")}
    assert found.left_out["in test: images without a class"].files == 3


def test_a_few_stray_images_hide_no_splits() -> None:
    found = read([*files("cat/train", "cat/test", "dog/train", "dog/test"), "cat/cover.jpg", "dog/cover.jpg"])
    assert classes(found) == TRAIN_TEST
    assert found.left_out["beside the class folders"].files == 2


def test_splits_without_a_class_in_common_are_refused() -> None:
    names = files("a/cat", "a/dog", "b/oak", "b/fir")
    with pytest.raises(SourceError, match=r"has the classes cat, dog, and none of those of test \(fir, oak\)"):
        read(names, train="a", test="b")


def test_masks_called_as_their_images_are_left_out() -> None:
    """The breast ultrasound images, with their masks in the folder of the class."""
    names = [
        f"D/{c}/{c} ({n}){m}.png" for c in ("benign", "normal") for n in range(3) for m in ("", "_mask", "_mask_1")
    ]
    found = read([*names, "D/benign/unmask.png", "D/benign/no_mask.png"])
    assert found.left_out["masks or labels beside their images"].files == 12 and len(found.places) == 8


FOLDERS = (
    "train", "test", "val", "cat", "dog", "images", "masks", "part_1", "part_2", "data", "0", "1", "X (Aug)", "no",
    "\u6d4b\u8bd5\u96c6", "new folder", "cat - Copy", "*", "..", ".", "", "trainA", "testA", "a, b", "it's #1",
)  # fmt: skip
FILES = ("1.jpg", "2.png", "x", "a_mask.png", "a.png", "notes.txt", "LICENSE", ".DS_Store", "3.JPG")


@pytest.mark.slow
def test_any_tree_is_read_or_refused() -> None:
    """And each line that a refusal proposes is one that a recipe takes."""
    refused = 0
    for _ in range(4_000):
        folders = random.sample(FOLDERS, random.randint(2, 6))
        names = ["/".join([*random.choices(folders, k=random.randint(0, 4)), random.choice(FILES)]) for _ in range(30)]
        try:
            read(names)
        except SourceError as error:
            refused += 1
            for proposed in re.findall(r"`(layout: \{.*?\})`", str(error)):
                Layout(**yaml.safe_load(proposed)["layout"])
    assert 100 < refused < 3_900


@pytest.mark.slow
def test_many_folders_are_read_in_no_time() -> None:
    names = [f"class{n}/part{part}{n}/1.jpg" for n in range(20_000) for part in range(2)]
    began = time.process_time()
    assert len(read([*names, *(f"{n}.jpg" for n in range(2_000))]).places) == 40_000
    assert time.process_time() - began < 20  # the square would be minutes


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


@pytest.mark.parametrize(
    "names",
    [
        files("cat/2021", "cat/2022", "dog"),
        files("normal/p1", "normal/p2", "normal/p3", "ill", count=9),
        [*files("cat/studio", "cat/street", "dog", "bird", "owl"), "train.py"],
        [*files("cat/studio", "cat/street", "dog/anna", "dog/ben"), "train.py", "README.md"],
        files("models/anna", "models/ben", "streets/carl", "streets/dan", "parks/x", "parks/y")[:9] + files("trees"),
        files("graph", "figure", "plot"),
        files("photos", "screenshots"),
        files("model 1", "model 2"),
        files("cat", "dog", "docs"),
        [*files("cat", "dog"), "main.ipynb", "src/a.py", "docs/a.md"],
        [*files("photo", "painting"), "code/train.py"],
    ],
)
def test_class_folders_with_folders_of_their_own_are_read(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names if name.endswith(".jpg")}
    assert {label for _, label in classes(read(names))} == tops


def test_a_test_folder_without_classes_is_left_out_and_said() -> None:
    found = read(files("train/cat", "train/dog", "test1", count=4))
    assert classes(found) == {("train", "cat"), ("train", "dog")}
    assert found.left_out["in test1: images without a class"].files == 4


def test_a_file_beside_the_classes_changes_nothing() -> None:
    found = read(
        [*files("flower_photos/daisy", "flower_photos/rose"), "flower_photos/LICENSE", "flower_photos/all.jpg"]
    )
    assert classes(found) == {(None, "daisy"), (None, "rose")}
    assert found.left_out["beside the class folders"].examples == ["flower_photos/LICENSE", "flower_photos/all.jpg"]


def test_vehicles_may_be_called_train() -> None:
    assert classes(read(files("train", "car", "bus"))) == {(None, "train"), (None, "car"), (None, "bus")}
    assert classes(read(files("train", "train/steam", "car"))) == {(None, "train"), (None, "car")}


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (
            files("Set A/cat", "Set A/dog", count=5) + files("Set B/cat", "Set B/dog"),
            r"Set A and Set B both hold cat, dog: they look like splits.*`layout: \{train: Set A, test: Set B\}`",
        ),
        (
            files("in/fold1/cat", "in/fold1/dog", "in/fold2/cat", "in/fold2/dog", "in/fold3/cat", "in/fold3/dog"),
            r"layout: \{train: in/fold1, test: in/fold2\}` if they are, or .*layout: \{classes: in\}",
        ),
        (
            files("train/steam", "train/electric", "car/red"),
            r"train may be a split, or a class beside car.*\{train: train\}",
        ),
        (
            files("test/cat", "test/dog", "uczenie/cat", "uczenie/dog"),
            r"test may be a split, or a class beside uczenie.*\{train: uczenie, test: test\}` if it is",
        ),
        (
            files("Training/cat", "Training/dog", "Pruefung/cat", "Pruefung/dog"),
            r"\{train: Training, test: Pruefung\}` if it is",
        ),
        (files("val/cat", "val/dog", "bird/x"), r"\{train: <the folder to train on>, validation: val\}` if it is"),
        (
            files("plants/color/oak", "plants/color/fir", count=5) + files("plants/grey/x/oak", "plants/grey/x/fir"),
            r"train: plants/color, test: plants/grey/x\}` if they are, or .*\{classes: plants/color\}` to take one",
        ),
        (
            files("fold_1/cat", "fold_1/dog", "fold_2/cat", "fold_2/dog"),
            r"`layout: \{classes: '\*'\}` if they are parts of one set",
        ),
        (files("images_001/images", "images_002/images"), r"look like parts of one set, .*\{classes: \.\}`"),
        (files("photos part 1", "photos part 2"), r"look like parts of one set, not like classes"),
        (
            files("simpsons_dataset/homer", "simpsons_dataset/bart", "kaggle_simpson_testset"),
            r"kaggle_simpson_testset not: .*\{classes: simpsons_dataset\}` if all classes are in there, or ",
        ),
        (files("data/cat", "data/dog", "new", "odd"), r"data holds folders of its own \(cat, dog\), new, odd not"),
        (
            files("s/homer", "s/bart", "s/s/homer", "s/s/bart", "s/s/lisa"),
            r"s/s holds folders that lie beside it, too.*`layout: \{classes: s/s\}` to take it alone",
        ),
        (
            files("data/homer", "data/bart", "data/data/homer", "data/data/bart", "tests"),
            r"`layout: \{classes: data/data\}` if all classes are in there",
        ),
        (
            files("fold1/train/cat", "fold1/train/dog", "fold1/test/cat", "fold1/test/dog")
            + files("fold2/train/cat", "fold2/train/dog", "fold2/test/cat", "fold2/test/dog"),
            r"\{train: '\*/train', test: '\*/test'\}` if they are parts of one set, or .*\{classes: 'fold1/\*'\}",
        ),
        (
            [
                f"{split}/{camera}/{name}/1.jpg"
                for split in ("train", "test")
                for camera in "12"
                for name in ("cat", "dog")
            ],
            r"in train, 1 and 2 both hold cat, dog.*\{train: 'train/\*', test: 'test/\*'\}",
        ),
        (
            files("data/train/cat", "data/train/dog", "data/val/cat", "data/val/dog", "test/cat", "test/dog"),
            r"\{train: data/train, validation: data/val, test: test\}` if it is the split",
        ),
        (files("cat/train", "cat/test", "dog/train", "dog/test", "bird"), r"cat, dog divided into .*and bird not"),
        (files("cat/train", "cat/test", "dog"), r"cat divided into test, train, and dog not.*\{classes: \.\}"),
        ([*files("a/Benign", "a/Bad", "b/benign", "b/bad"), "a/x.jpg", "b/y.jpg"], r"a and b both hold Bad, Benign"),
        (files("set-1/d/cat", "set-1/d/dog", "set-2/d/cat", "set-2/d/bird"), r"set-1 and set-2 both hold cat: "),
        (files("cat", "dog", "unlabeled"), r"unlabeled beside cat, dog may be no class.*\{classes: \.\}"),
        (files("cat", "dog", "test"), r"test beside cat, dog may be no class"),
        (files("cat", "dog", "cat - Copy", "dog (1)"), r"cat - Copy, dog \(1\) beside cat, dog may be no class"),
        (files("trainA", "trainB", "testA", "testB"), r"look like a class and a split in one name"),
        (
            files("cat", "dog", "val/cat", "val/dog", "test/cat", "test/dog"),
            r"val holds folders that lie beside it, too.*folder train beside it",
        ),
        (files("8863/0", "8863/1", "8864/0", "8864/1"), r"\{train: '8863', test: '8864'\}"),
        (files("yes/cat", "yes/dog", "no, or/cat", "no, or/dog"), r"\{train: 'yes', test: 'no, or'\}"),
        (files("train", "test"), "test, train hold images themselves, without class folders"),
        (files("train_images", "test_images", "train_tfrecords"), "test_images, train_images hold images themselves"),
        (files("cat", "dog", "no_label"), r"no_label beside cat, dog may be no class"),
        (
            files("d/d/train/ok", "d/d/train/bad", "d/d/test/ok", "d/d/test/bad", "d512/d512/ok", "d512/d512/bad"),
            r"d holds test, train, with folders of classes in them \(bad, ok\): it is a whole data set, and no class "
            r"beside d512\. .*`layout: \{train: d/d/train, test: d/d/test\}` to take it alone",
        ),
        (
            files("s/train/ok", "s/train/bad", "s/test/ok", "s/test/bad", count=4)
            + files("t/train/good", "t/train/worn", "t/test/good", "t/test/worn"),
            r"s holds test, train, .*a whole data set, and no class beside t\. .*\{train: s/train, test: s/test\}`",
        ),
        (
            files("a/x/train/ok", "a/x/train/bad", "a/x/val/ok", "a/x/val/bad", count=4)
            + files("b/y/train/ok", "b/y/train/bad"),
            r"\{train: a/x/train, validation: a/x/val\}` to take it alone",
        ),
    ],
)
def test_what_is_unclear_is_refused_with_the_line_for_the_recipe(names: list[str], complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        read(names)


def test_the_recipe_says_what_the_names_do_not() -> None:
    names = files("Set A/cat", "Set A/dog", "Set B/cat", "Set B/dog", "extra/cat")
    assert classes(read(names, train="Set A", test="./Set B/")) == TRAIN_TEST
    wrapped = [f"pets/{name}" for name in names]
    assert classes(read(wrapped, train="Set A", test="pets/Set B")) == TRAIN_TEST
    assert classes(read(names, classes=".")) == {(None, "Set A"), (None, "Set B"), (None, "extra")}
    assert classes(read(names, classes="Set A")) == {(None, "cat"), (None, "dog")}


def test_a_star_in_a_layout_is_every_folder() -> None:
    names = files("fold_1/cat", "fold_1/dog", "fold_2/cat", "fold_2/dog/puppies")
    assert classes(read([f"pets/{name}" for name in names], classes="*")) == {(None, "cat"), (None, "dog")}
    halves = files("a/train/cat", "a/train/dog", "b/train/cat", "a/test/cat", "b/test/dog", "c/other")
    found = read(halves, train="*/train", test="*/test")
    assert classes(found) == TRAIN_TEST
    assert found.left_out["in c: no split of this source"].files == 3


def test_folders_within_class_folders_are_told() -> None:
    found = read(files("animals/cats", "animals/dogs", "vehicles/cars", "vehicles/trucks"))
    assert classes(found) == {(None, "animals"), (None, "vehicles")}
    assert found.as_dict()["within"] == {"folders": 4, "examples": ["animals/cats", "animals/dogs", "vehicles/cars"]}
    (note,) = notes_on({"layout": found.as_dict()})
    assert note.startswith("Folders within class folders are no classes: 4 (animals/cats, animals/dogs, vehicles/cars)")
    assert "within" not in read(files("cats/a", "dogs", "dogs/b")).as_dict()


@pytest.mark.parametrize("named", ["set", "."])
def test_splits_named_as_class_folders_are_refused(named: str) -> None:
    names = files("set/train/images/cat", "set/train/images/dog", "set/val/images/cat", "set/val/images/dog")
    with pytest.raises(SourceError, match=r"train, val in there are splits.*\{train: set/train/images, "):
        read(names, classes=named)
    assert classes(read(names, classes="set/*/images")) == {(None, "cat"), (None, "dog")}


def test_splits_deeper_in_each_class_are_kept() -> None:
    found = read(files("cat/raw/train", "cat/raw/test", "dog/raw/train", "dog/raw/test"))
    assert classes(found) == TRAIN_TEST and found.splits == {"*/raw/train": "train", "*/raw/test": "test"}


def test_a_layout_of_folders_that_are_not_there_is_refused() -> None:
    with pytest.raises(
        SourceError, match=r"layout.test of the recipe is 'Tset', but no such folder .*it has Test, Train"
    ):
        read(files("Train/cat", "Test/cat"), train="Train", test="Tset")


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


def test_a_summary_stays_small_however_odd_the_source() -> None:
    names = files("train/cat", "train/dog", "test/cat", *(f"extra{number}" for number in range(300)))
    assert len(found := read(names).as_dict()["ignored"]) <= 13
    assert sum(left["files"] for left in found.values()) == 900


@pytest.mark.parametrize("name", ["cat", "Retrain", "contest", "valley", "steam train car", "set", "2", "protest_data"])
def test_other_names_are_no_splits(name: str) -> None:
    assert split_words([name, "other"]) == {}
