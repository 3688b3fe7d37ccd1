"""What a recipe may cut the test set by: names of the source, and what the pixels are."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from retraining.dataset.layouts.groups import groups_of
from retraining.dataset.split import SPLITS
from retraining.dataset.sync import sync_dataset
from retraining.plan import Plan
from retraining.promotion import traits as looked
from retraining.promotion.traits import measure, measure_all, traits
from retraining.recipe import Promotion, RecipeError, read_recipe
from retraining.recipe.slices import Traits, read_slice
from tests.plugins.test_sync import read_json, write_classes

SMALL_AND_DARK = Traits(file="cat/x_night_1.png", folder="train/scanner-b/cat", group="p7", side=40, brightness=0.1)


def picture(mode: str, size: tuple[int, int], colour: Any, kind: str = "PNG") -> bytes:
    body = io.BytesIO()
    Image.new(mode, size, colour).save(body, kind)
    return body.getvalue()


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("*_night_*", True),
        ("cat/*", True),
        ("dog/*", False),
        ("folder = *scanner-b*", True),
        ("folder=*scanner-a*", False),
        ("file = *_night_*", True),
        ("*side=64*", False),
        ("group = p7", True),
        ("group = p*", True),
        ("group=p8", False),
        ("side < 64", True),
        ("side >= 40", True),
        ("side > 40", False),
        ("brightness <= 0.1", True),
        ("brightness>0.5", False),
    ],
)
def test_a_slice_is_a_pattern_or_a_bound(text: str, holds: bool) -> None:
    assert read_slice("s", text).holds(SMALL_AND_DARK) is holds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs a name and a pattern"),
        ("side = 64", "is no condition. Write side < 64"),
        ("side", "is no condition"),
        ("brightness < dark", "is no condition"),
        ("brightness < 30", "brightness is measured from 0, black, to 1, white"),
        ("folder =", "needs a pattern for the folder"),
        ("group =", "needs a pattern for the group"),
        ("group < 3", "is no condition"),
        ("width < 64", "is no condition. Write side < 64"),
        ("Side < 64", "is no condition"),
        ("0.1 < side", "is no condition"),
        ("class = cat", "is no condition"),
        ("file =", "needs a pattern for the file"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Promotion(slices={"s": text})


def test_what_was_not_measured_is_in_no_slice_of_it() -> None:
    assert not read_slice("s", "side < 9999").holds(Traits(file="cat/x.png"))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (picture("RGB", (80, 40), "white"), (40, 1.0)),
        (picture("L", (16, 99), 51), (16, 0.2)),
        (picture("I;16", (20, 20), 257 * 51), (20, 0.2)),
        (picture("RGB", (1600, 900), "black", "JPEG"), (900, 0.0)),
        (picture("RGBA", (20, 20), (0, 0, 0, 0)), (20, 1.0)),
        (picture("LA", (20, 20), (0, 255)), (20, 0.0)),
    ],
)
def test_an_image_has_a_side_and_a_brightness(body: bytes, found: tuple[int, float]) -> None:
    assert measure(body) == found


def test_a_slice_of_groups_needs_groups(recipe_data: dict[str, Any]) -> None:
    recipe_data["promotion"] = {"slices": {"children": "group = c*"}}
    with pytest.raises(RecipeError, match=r"'children': 'group = c\*'.* goes by groups, and split.group_by"):
        read_recipe(recipe_data, where="test")
    recipe_data["split"] = {"group_by": "^(.*)_"}
    assert read_recipe(recipe_data, where="test").promotion.cuts["children"].of == "group"


def test_a_group_is_what_the_pattern_finds_in_a_files_own_name() -> None:
    names = {"cat/0f.png": "p9_all/cat/p7_1.png", "cat/1f.png": "cat/p8_1.png", "cat/2f.png": "cat/alone.png"}
    groups = groups_of(names, "^(p[0-9]+)_")
    assert groups == {"cat/0f.png": "p7", "cat/1f.png": "p8"}
    found = traits(names, names, {}, groups)
    assert [found[entry].group for entry in names] == ["p7", "p8", ""]


def test_a_large_test_set_is_drawn_from(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    entries = [f"{label}/{random.Random(label + str(n)).getrandbits(80):020x}.png" for label in "ab" for n in range(50)]
    monkeypatch.setattr(looked, "MAX_IMAGES", 40)
    measured = measure_all(lambda _: picture("L", (20, 20), 0), entries)
    assert len(measured) == 40
    assert 10 < sum(entry.startswith("a/") for entry in measured) < 30
    assert "judged by 40 of 100 test images" in caplog.text


def test_large_images_end_the_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looked, "TOGETHER", 10)
    monkeypatch.setattr(looked, "MAX_BYTES", 1)
    assert len(measure_all(lambda _: picture("L", (20, 20), 0), [f"a/{n}.png" for n in range(50)])) == 10


def test_an_image_is_known_by_its_name_in_the_source() -> None:
    found = traits(["cat/0f.png", "cat/1f.png"], {"cat/0f.png": "all/scanner-b/cat/x_night_1.png"}, {})
    assert found["cat/0f.png"] == Traits(file="cat/x_night_1.png", folder="all/scanner-b/cat")
    assert found["cat/1f.png"].file == "cat/1f.png"  # of a version that kept no names


def test_a_sync_keeps_the_names_that_slices_go_by(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = make_plan(bucket, source=str(write_classes(tmp_path / "in", {"cat": 20, "dog": 20})))
    fingerprint = sync_dataset(plan, s3).version.fingerprint
    names = read_json(s3, bucket, plan.names_key(fingerprint))
    manifests = [read_json(s3, bucket, plan.manifest_key(fingerprint, split))[1:] for split in SPLITS]
    assert sorted(names) == sorted(entry for entries in manifests for entry in entries)
    assert {Path(name).parts[-2] for name in names.values()} == {"cat", "dog"}
    assert len(set(names.values())) == len(names) == 40
