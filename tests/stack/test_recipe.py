import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stack import recipe
from stack.errors import StackError
from tests import shipped

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "My: pets #1"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.JPG").write_bytes(b"image")
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The DAG folder and the package that reads recipes, with no recipe in it."""
    root = tmp_path / "checkout"
    (root / "dags" / "recipes").mkdir(parents=True)
    shutil.copy(ROOT / "dags" / "recipe_errors.py", root / "dags")
    (root / "plugins").symlink_to(ROOT / "plugins")
    return root


def test_a_recipe_made_for_a_folder_passes_the_products_own_check(images: Path, checkout: Path) -> None:
    recipes = checkout / "dags" / "recipes"
    assert recipe.ensure(recipes, data=str(images), name="pets") == "pets"
    recipe.require_valid(checkout, "pets")
    made = yaml.safe_load((recipes / "pets.yaml").read_text())
    assert made["source"] == str(images)
    assert made["name"] == "pets"


def test_the_template_has_the_sections_of_the_default_recipe(images: Path) -> None:
    default = yaml.safe_load((ROOT / "dags" / "recipes" / "digits.yaml").read_text())
    made = yaml.safe_load(recipe.text("pets", str(images)))
    assert set(made) == set(default) - {"endpoint"}
    for section in ("training", "serving", "tuning", "debugger", "promotion"):
        assert set(made[section]) <= set(default[section])


def test_without_anything_it_is_the_digits(tmp_path: Path) -> None:
    assert recipe.ensure(tmp_path, data="", name="") == "digits"


def test_an_edited_recipe_is_kept(images: Path, tmp_path: Path) -> None:
    recipe.ensure(tmp_path, data=str(images), name="pets")
    path = tmp_path / "pets.yaml"
    path.write_text(path.read_text().replace("epochs: 8", "epochs: 20"))
    recipe.ensure(tmp_path, data=str(images), name="pets")
    assert "epochs: 20" in path.read_text()


ODD = [
    "plain", "dogs'", 'so-called "pets"', "ünï", "a: b # c", "back\\slash", "tab\there", "new\nline", "猫🐱", "{x}",
    "50% off", "- a", "!tag", "a\x7f", "\x85next", "\u2028line", "cost $5", "$(id)", "`id`", "trailing ", "~", "*",
    "caf\udce9", "null",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_path_of_any_characters_works_twice(tmp_path: Path, checkout: Path, name: str) -> None:
    data, recipes = tmp_path / "in" / name, checkout / "dags" / "recipes"
    for label in ("cat", "dog"):
        (data / label).mkdir(parents=True)
        (data / label / "1.png").write_bytes(b"x")
    for _ in range(2):
        assert recipe.ensure(recipes, data=str(data), name="pets") == "pets"
    made = yaml.safe_load((recipes / "pets.yaml").read_text(encoding="utf-8"))
    assert made["source"] == str(data)
    assert Path(made["source"]).is_dir()
    recipe.require_valid(checkout, "pets")


@pytest.mark.parametrize("name", [name for name in ODD if "\n" not in name], ids=ascii)
def test_make_passes_a_path_as_it_was_typed(tmp_path: Path, name: str) -> None:
    """Through make and its shell, to the words that the stack would see."""
    (tmp_path / "show").write_text(
        f"#!{sys.executable}\nimport os, sys\nsys.stdout.buffer.write(os.fsencode(sys.argv[2]))\n"
    )
    (tmp_path / "show").chmod(0o755)
    command = ["make", "-s", "-o", "setup", "retrain", f"STACK={tmp_path}/show", f"DATA={name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert os.fsdecode(done.stdout) == f"--data={name}"


def test_one_folder_around_all_is_looked_through(images: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    shutil.copytree(images, outer / "pets" / "v2")
    assert recipe.refusal(str(outer)) == ""


def test_classes_may_be_links(images: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("cat", "dog"):
        (linked / name).symlink_to(images / name)
    assert recipe.refusal(str(linked)) == ""


def test_a_name_that_stands_for_other_data_is_refused(images: Path, tmp_path: Path) -> None:
    recipe.ensure(tmp_path, data=str(images), name="pets")
    with pytest.raises(StackError, match=r"pets\.yaml exists and its source is not s3://other/images"):
        recipe.ensure(tmp_path, data="s3://other/images", name="pets")


def test_an_unknown_name_without_data_lists_the_recipes(images: Path, tmp_path: Path) -> None:
    recipe.ensure(tmp_path, data=str(images), name="pets")
    with pytest.raises(StackError, match=r"no recipe .*birds\.yaml \(recipes: pets\)"):
        recipe.ensure(tmp_path, data="", name="birds")


@pytest.mark.parametrize("name", ["Pets", "p", "9lives", "cats--dogs", "pets-", "pets_2", "../pets", "p" * 33])
def test_a_name_that_cannot_be_a_classifiers_is_refused(name: str) -> None:
    with pytest.raises(StackError, match="lower-case letters, digits and single hyphens"):
        recipe.name_for("x", name)


@pytest.mark.parametrize(
    ("data", "name"), [("/a/Dog Breeds/", "dog-breeds"), ("s3://b/x_rays", "x-rays"), ("pets.tar.gz", "pets")]
)
def test_a_missing_name_comes_from_the_data(data: str, name: str) -> None:
    assert recipe.name_for(data, "") == name


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"DATA=.*/nowhere: there is no"):
        recipe.source_for(str(tmp_path / "nowhere"))


def test_a_folder_with_one_class_becomes_no_recipe(images: Path, tmp_path: Path) -> None:
    shutil.rmtree(images / "dog")
    with pytest.raises(StackError, match=r"DATA=.* holds one class only, 'cat'.*Each class needs a folder of its own"):
        recipe.ensure(tmp_path, data=str(images), name="pets")
    assert not (tmp_path / "pets.yaml").exists()


def test_what_only_a_person_knows_is_asked_for_in_the_recipe(images: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds"
    for fold in ("one", "two"):
        shutil.copytree(images, folds / fold)
    with pytest.raises(
        StackError, match=r"look like splits.*layout: \{classes: \.\}[^\0]*run `make retrain NAME=pets`"
    ):
        recipe.ensure(tmp_path, data=str(folds), name="pets")
    assert yaml.safe_load((tmp_path / "pets.yaml").read_text())["source"] == str(folds)


def test_classes_may_stand_in_a_table(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text("id,breed\n0,pug\n1,pug\n2,boxer\n3,boxer\n")
    assert recipe.refusal(str(tmp_path)) == ""


def test_classes_may_lie_in_train_and_test_folders(images: Path, tmp_path: Path) -> None:
    split = tmp_path / "split"
    shutil.copytree(images, split / "train")
    shutil.copytree(images, split / "test")
    assert recipe.refusal(str(split)) == ""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("epochs: 8", "epochz: 8", "epochz"),
        ("min: 0.0003, max: 0.01", "min: 0.01, max: 0.0003", "must be smaller than max"),
        ("approval: false", "aproval: false", "Did you mean approval"),
    ],
)
def test_a_recipe_with_a_mistake_is_refused_in_one_line(
    images: Path, checkout: Path, before: str, after: str, said: str
) -> None:
    recipes = checkout / "dags" / "recipes"
    recipe.ensure(recipes, data=str(images), name="pets")
    path = recipes / "pets.yaml"
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(StackError) as refusal:
        recipe.require_valid(checkout, "pets")
    assert str(refusal.value).startswith(str(path))
    assert said in str(refusal.value)
    recipe.require_valid(checkout, "digits")


def test_all_that_is_wrong_is_told_before_a_run(checkout: Path) -> None:
    path = checkout / "dags/recipes/pets.yaml"
    path.write_text("name: pets\nsource: x\nhyperparameters: {}\napproval: perhaps\ntuning: {max_jobs: 0}\n")
    with pytest.raises(StackError) as refusal:
        recipe.require_valid(checkout, "pets")
    first, second = str(refusal.value).splitlines()
    assert first.startswith(f"{path}: tuning.max_jobs = 0: must be 1 to 750")
    assert second == "  also approval = 'perhaps': must be true or false."


def test_what_is_written_is_the_users_and_not_a_change_of_the_product() -> None:
    def git(*arguments: str) -> list[str]:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()

    assert git("check-ignore", "dags/recipes/pets.yaml") == ["dags/recipes/pets.yaml"]
    assert [ROOT / name for name in git("ls-files", "dags/recipes/*.yaml")] == list(shipped.RECIPES)
