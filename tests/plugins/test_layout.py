"""The folders of a source are splits or classes, as people call them; what is left out is said."""

from __future__ import annotations

import random
import re
import time

import pytest
import yaml

from retraining.dataset.layouts.folder_names import split_words
from retraining.dataset.source_error import SourceError
from retraining.dataset.summary import notes_on
from retraining.recipe.layout import Layout
from tests.plugins.foldered import TRAIN_TEST, classes, files, read


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


def test_a_summary_stays_small_however_odd_the_source() -> None:
    names = files("train/cat", "train/dog", "test/cat", *(f"extra{number}" for number in range(300)))
    assert len(found := read(names).as_dict()["ignored"]) <= 13
    assert sum(left["files"] for left in found.values()) == 900


@pytest.mark.parametrize("name", ["cat", "Retrain", "contest", "valley", "steam train car", "set", "2", "protest_data"])
def test_other_names_are_no_splits(name: str) -> None:
    assert split_words([name, "other"]) == {}
