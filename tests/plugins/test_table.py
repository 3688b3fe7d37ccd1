"""A table beside the images tells their classes, as competitions and hubs hand data out."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retraining.dataset.layouts.by_table import understand_table
from retraining.dataset.layouts.table import Table, named, read_table
from retraining.dataset.processing.divide import divide
from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.source import open_source
from retraining.dataset.sync import sync_dataset
from retraining.plan import Plan
from retraining.recipe import RecipeError
from retraining.recipe.layout import Layout
from tests.plugins.test_sync import picture

PETS = [f"{number:03}" for number in range(12)]


def table(*rows: str, name: str = "labels.csv") -> Table:
    return read_table(name, "\n".join(rows))


def breeds(form: str, head: str = "id,breed", more: str = "") -> list[str]:
    """A row of each pet, every second of which is a pug."""
    return [head, *(f"{form.format(pet)},{'pug' if int(pet) % 2 else 'boxer'}{more}" for pet in PETS)]


def folder(root: Path, *files: str, **texts: str) -> Path:
    for number, name in enumerate(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(number))
    for name, text in texts.items():
        (root / name.replace("__", ".")).write_text(text)
    return root


def found(source: Path, **layout: str) -> dict[str, tuple[str | None, str]]:
    with open_source(str(source), s3=None, layout=Layout(**layout)) as files:
        return {file.name: (file.split, file.label) for file in files}


@pytest.mark.parametrize(
    ("place", "form"),
    [
        ("{}.jpg", "{}"),
        ("{}.jpg", "{}.jpg"),
        ("{}.JPG", "{}.jpg"),
        ("train/{}.jpg", "{}"),
        ("train/{}.jpg", "{}.jpg"),
        ("images/{}.jpg", "images/{}.jpg"),
        ("images/{}.jpg", "./images\\{}.jpg"),
        ("a.b/{}.tar.x", "{}.tar.x"),
        ("e\u0301te\u0301/{}.jpg", "\u00e9t\u00e9/{}.jpg"),
        ("images/IMG_{}.JPG", "img_{}.jpg"),  # Windows does not tell them apart
        ("images/my cat {}.jpg", "https://host/a%20b/my%20cat%20{}.jpg?signed=a/b.c"),
        ("images/{}.jpg", "/data/upload/1/abcd1{}-{}.jpg"),  # as Label Studio keeps what was uploaded
        ("images/0a1b2{}-my_cat_{}.jpg", "my cat ({}).jpg"),
    ],
)
def test_images_are_found_however_they_are_named(place: str, form: str) -> None:
    form, place = (text.replace("{}", "{0}") for text in (form, place))
    understood = understand_table(table(*breeds(form)), ["labels.csv", *(place.format(pet) for pet in PETS)])
    assert understood.places[place.format("003")] == (None, "", "pug")
    assert len(understood.places) == len(PETS) and not understood.left_out


@pytest.mark.parametrize(
    "text",
    [
        "id;breed\n{}",
        "\ufeffid,breed\r\n{}",
        "id\tbreed\n{}",
        'id,"breed"\n\n{}',
        "{}",
        "\n\r\nid,breed\n{}",
        "\ufeffsep=;\r\nid;breed\r\n{}",  # how Excel is told what stands between the cells
    ],
)
def test_tables_of_any_program_are_read(tmp_path: Path, text: str) -> None:
    separator = next((sign for sign in ";\t" if sign in text), ",")
    rows = "\n".join(breeds("{}")[1:]).replace(",", separator)
    folder(tmp_path, *(f"{pet}.png" for pet in PETS), labels__csv=text.format(rows))
    assert found(tmp_path)["004.png"] == (None, "boxer") and len(found(tmp_path)) == len(PETS)


def test_a_table_of_excel_is_read(tmp_path: Path) -> None:
    folder(tmp_path, *(f"{pet}.png" for pet in PETS))
    (tmp_path / "labels.csv").write_bytes("\n".join(breeds("{}")).replace(",", "\t").encode("utf-16"))
    assert found(tmp_path)["001.png"] == (None, "pug")


@pytest.mark.parametrize(
    ("head", "more", "column"),
    [
        ("id,Class Name,score", ",0.3", "Class Name"),
        ("image,label,caption", ",a dog that runs", "label"),
        ("path,breed,split", ",train", "breed"),
    ],
)
def test_the_column_of_the_class_is_known_by_its_name(head: str, more: str, column: str) -> None:
    understood = understand_table(table(*breeds("{}", head, more)), [f"{pet}.png" for pet in PETS])
    assert understood.tables["labels.csv"]["class"] == column


def test_a_classs_name_goes_before_its_number() -> None:
    rows = ["image,label,label_name", *(f"{pet},{int(pet) % 2},{'ba'[int(pet) % 2]}" for pet in PETS)]
    understood = understand_table(table(*rows), [f"{pet}.png" for pet in PETS])
    assert {label for _, _, label in understood.places.values()} == {"a", "b"}


def test_a_column_for_each_class_tells_it_too() -> None:
    hot = {"000": "0.0,1.0,0.0", "001": "True,False,False", "002": "0,0,0"}
    rows = [
        "image,split,MEL,NV,BCC",
        *(f"{pet},{'test' if pet > '008' else 'train'},{hot.get(pet, '0,0,1')}" for pet in PETS),
    ]
    understood = understand_table(table(*rows), [f"{pet}.png" for pet in PETS])
    told = [understood.places.get(f"{pet}.png") for pet in ("000", "001", "002", "011")]
    assert told == [("train", "", "NV"), ("train", "", "MEL"), None, ("test", "", "BCC")]
    several = [row.replace("0,0,1", "0,1,1") for row in rows]
    with pytest.raises(SourceError, match=r"which column tells the class is not clear of MEL, NV, BCC"):
        understand_table(table(*several), [f"{pet}.png" for pet in PETS])


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (breeds("other{}"), "no column names the images: at most 0 of 12, by 0% of its rows"),
        (breeds("{}", "id,size,shade", ",2"), "not clear of size, shade"),
        (["id,score", *(f"{pet},0.{pet}" for pet in PETS)], "'score' has 12 values in 12 rows, which are no classes"),
        (["id,breed", "000,pug", "001"], "row 3 has 1 cells, the first one has 2"),
        (["", ""], "is empty"),
    ],
)
def test_what_a_table_does_not_tell_is_said(tmp_path: Path, rows: list[str], reason: str) -> None:
    folder(tmp_path, *(f"{pet}.png" for pet in PETS), labels__csv="\n".join(rows))
    with pytest.raises(SourceError, match=r"no images in class folders") as caught:
        found(tmp_path)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"id,breed\n000,\xff\xfe", "no text in UTF-8"),
        (b"\xff\xfei\0d", "ends, or is broken, at byte 4"),
        (b"a,b\n" + b"x" * 26_214_400, "at most"),
    ],
)
def test_what_is_no_table_is_refused_in_words(tmp_path: Path, body: bytes, reason: str) -> None:
    folder(tmp_path, *(f"{pet}.png" for pet in PETS))
    (tmp_path / "labels.csv").write_bytes(body)
    with pytest.raises(SourceError, match=reason):
        found(tmp_path)


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("page", "labels"),
    [
        ("cp1252", ("Löwe", "chaîne bébé")),
        ("cp932", ("ネコ", "ソース 犬")),
        ("utf-16", ("Löwe", "猫")),
        ("utf-8-sig", ("Löwe", "猫")),
    ],
)
def test_a_table_that_excel_saved_is_read(
    tmp_path: Path, page: str, labels: tuple[str, str], sign: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder(tmp_path, *(f"{pet}.png" for pet in PETS))
    rows = [f"id{sign}breed", *(f"{pet}{sign}{labels[int(pet) % 2]}" for pet in PETS)]
    (tmp_path / "labels.csv").write_bytes("\r\n".join(rows).encode(page))
    assert found(tmp_path) == {f"{pet}.png": (None, labels[int(pet) % 2]) for pet in PETS}
    assert (f"labels.csv is no UTF-8 and is read as {page}" in caplog.text) == page.startswith("cp")


UNTOLD = {
    "cp1250": "pies żółty",
    "cp1251": "\u043a\u043e\u0448\u043a\u0430",
    "cp1255": "חתול",
    "gbk": "向日葵",
    "cp949": "강아지",
}


@pytest.mark.parametrize("page", UNTOLD)
def test_a_table_in_an_unknown_page_is_refused(tmp_path: Path, page: str) -> None:
    folder(tmp_path, *(f"{pet}.png" for pet in PETS))
    rows = ["id;breed", *(f"{pet};{UNTOLD[page]}" for pet in PETS)]
    (tmp_path / "labels.csv").write_bytes("\n".join(rows).encode(page))
    with pytest.raises(SourceError, match=r"labels\.csv is no text in UTF-8 .* iconv -f <its code page"):
        found(tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd"), Path.mkdir])
def test_only_a_plain_file_is_read_as_a_table(tmp_path: Path, make: Callable[[Path], object]) -> None:
    folder(tmp_path, *(f"{pet}.png" for pet in PETS))
    make(tmp_path / "labels.csv")
    with pytest.raises(SourceError, match=r"no images in class folders"):
        found(tmp_path)


def test_a_table_of_a_larger_set_tells_its_part() -> None:
    rows = ["id,breed", *(f"{number:03},{'pug' if number % 2 else 'boxer'}" for number in range(900))]
    assert len(understand_table(table(*rows), [f"{pet}.png" for pet in PETS]).places) == len(PETS)


def test_every_file_without_a_class_is_counted() -> None:
    rows = [*breeds("{}"), "gone,pug", "001,boxer", "012,"]
    understood = understand_table(table(*rows), [*(f"{n:03}.png" for n in range(14)), "notes.txt", "a/003.png"])
    counts = {why: some.files for why, some in understood.left_out.items()}
    assert counts == {
        "notes": 1,
        "named in labels.csv, and not there": 1,
        "without a class in labels.csv": 1,
        "in several classes or splits in labels.csv": 1,
        "not in labels.csv": 2,
    }
    assert "001.png" not in understood.places and understood.places["003.png"] == (None, "", "pug")


def test_several_files_of_one_name_are_nobodys() -> None:
    names = [*(f"a/{pet}.png" for pet in PETS), "b/003.png"]
    understood = understand_table(table(*breeds("{}")), names)
    assert "a/003.png" not in understood.places
    assert understood.left_out["named in labels.csv, and several files are called so"].examples == ["003"]


def test_splits_of_a_column_are_kept() -> None:
    rows = [
        f"{row},{word}"
        for row, word in zip(breeds("{}", "id,breed"), ["Set", *["train", "valid", "Test"] * 4], strict=True)
    ]
    understood = understand_table(table(*rows), [f"{pet}.png" for pet in PETS])
    assert [understood.places[f"{pet}.png"][0] for pet in PETS[:3]] == ["train", "validation", "test"]


def test_splits_of_folders_are_kept(tmp_path: Path) -> None:
    names = [f"{'train' if number < 8 else 'test'}/{pet}.png" for number, pet in enumerate(PETS)]
    folder(tmp_path, *names, labels__csv="\n".join(breeds("{}")))
    assert {split for split, _ in found(tmp_path).values()} == {"train", "test"}
    # Of a competition, where nobody tells the classes of the test set.
    (tmp_path / "labels.csv").write_text("\n".join(breeds("{}")[:9]))
    assert {split for split, _ in found(tmp_path).values()} == {None}


def test_tables_called_as_splits_are_splits(tmp_path: Path) -> None:
    head, *rows = breeds("{}")
    folder(
        tmp_path,
        *(f"images/{pet}.png" for pet in PETS),
        train__csv="\n".join([head, *rows[:8]]),
        test__csv="\n".join([head, *rows[7:]]),
    )
    by_name = found(tmp_path)
    assert by_name["images/000.png"] == ("train", "boxer") and by_name["images/009.png"] == ("test", "pug")
    assert "images/007.png" not in by_name  # in both
    (tmp_path / "valid.csv").write_text("\n".join([head, *rows[:8]]))
    (tmp_path / "test.csv").rename(tmp_path / "more.csv")
    with pytest.raises(
        SourceError, match=r"each of .* tells classes. Put into the recipe `layout: \{table: more.csv\}`"
    ):
        found(tmp_path)
    assert len(found(tmp_path, table="more.csv")) == 5


def test_class_folders_go_before_a_table(tmp_path: Path) -> None:
    folder(tmp_path, "cat/000.png", "dog/001.png", labels__csv="\n".join(breeds("{}")))
    assert {label for _, label in found(tmp_path).values()} == {"cat", "dog"}
    assert {label for _, label in found(tmp_path, table="labels.csv").values()} == {"boxer", "pug"}


def test_class_folders_in_doubt_are_not_passed_over(tmp_path: Path) -> None:
    folder(tmp_path, "cat/000.png", "dog/001.png", labels__csv="id,breed\n000,boxer\n001,pug")
    (tmp_path / "bird").mkdir()
    with pytest.raises(SourceError, match=r"there is no image in class folder 'bird'"):
        found(tmp_path)


def test_a_table_tells_of_flat_splits_and_of_images_with_masks(tmp_path: Path) -> None:
    rows = "\n".join(breeds("{}"))
    flat = [f"{'train' if number < 8 else 'val'}/{pet}.png" for number, pet in enumerate(PETS)]
    folder(tmp_path / "flat", *flat, labels__csv=rows)
    assert {split for split, _ in found(tmp_path / "flat").values()} == {"train", "validation"}
    masked = [f"{what}/{pet}.png" for pet in PETS for what in ("images", "masks")]
    folder(tmp_path / "masked", *masked, labels__csv=rows)
    assert set(found(tmp_path / "masked")) == {f"images/{pet}.png" for pet in PETS}


def test_a_table_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path, *(f"{pet}.png" for pet in PETS), labels__csv="\n".join(breeds("{}")))

    def forbidden(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)  # root may read all
    with pytest.raises(SourceError, match=r"labels.csv cannot be read \(Permission denied\)"):
        found(tmp_path)


def test_a_recipe_names_table_and_columns(tmp_path: Path) -> None:
    rows = [f"{number},{row}" for number, row in enumerate(breeds("{}", "file,kind,shade", ",2"))]
    folder(tmp_path / "pets", *(f"{pet}.png" for pet in PETS), what__ever="\n".join(rows))
    assert found(tmp_path, table="what.ever", class_column="kind")["pets/001.png"] == (None, "pug")
    with pytest.raises(SourceError, match=r"layout.class_column of the recipe is 'no', .* it has 0, file, kind, shade"):
        found(tmp_path, table="what.ever", class_column="no")
    with pytest.raises(SourceError, match=r"layout.table of the recipe is 'gone.csv', but no such file is there"):
        found(tmp_path, table="gone.csv")


@pytest.mark.parametrize(
    "said", [{"table": "../x.csv"}, {"table": "/x.csv"}, {"table": "x.csv", "classes": "."}, {"class_column": "breed"}]
)
def test_a_layout_that_contradicts_itself_is_refused(said: dict[str, str]) -> None:
    with pytest.raises(RecipeError):
        Layout(**said)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "s3"])
def test_a_table_tells_classes_week_after_week(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path, kind: str
) -> None:
    """Whatever is not read again, and a corrected row makes another version of the same images."""
    rows = breeds("{}")

    def written(text: str) -> str:
        pets = folder(tmp_path / "pets", *(f"images/{pet}.png" for pet in PETS), labels__csv=text)
        for each in pets.rglob("*"):
            os.utime(each, (1_700_000_000, 1_700_000_000 + len(text)))
        files = [each for each in pets.rglob("*") if each.is_file()]
        target = tmp_path / f"pets.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(target, "w") as packed:
                for each in files:
                    packed.write(each, each.relative_to(tmp_path))
        elif kind == "tar":
            with tarfile.open(target, "w") as packed_tar:
                packed_tar.add(pets, "pets")
        elif kind == "s3":
            for each in files:
                s3.upload_file(str(each), bucket, f"in/{each.relative_to(tmp_path)}")
            return f"s3://{bucket}/in"
        else:
            target = pets
        time.sleep(0.2)  # what was written just now is read again
        return str(target)

    plan = make_plan(bucket, source=written("\n".join(rows)))
    first, again = sync_dataset(plan, s3), sync_dataset(plan, s3)
    assert first.version.counts["train"].keys() == {"boxer", "pug"} and len(first.version.images) == len(PETS)
    assert (again.read, again.uploaded, again.version.fingerprint) == (0, 0, first.version.fingerprint)
    assert "layout" in first.version.document() and first.version.layout["tables"]
    written("\n".join([*rows[:-1], "011,boxer "]))
    corrected = sync_dataset(plan, s3).version
    assert sum(of_class["boxer"] for of_class in corrected.counts.values()) == 7
    assert {image.sha256 for image in corrected.images} == {image.sha256 for image in first.version.images}


def test_a_job_verifies_images_of_a_table(s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    """Which images are to be verified is known before the job; it needs no classes."""
    pets = folder(tmp_path, *(f"{pet}.png" for pet in PETS), labels__csv="\n".join(breeds("{}")))
    for each in pets.iterdir():
        s3.upload_file(str(each), bucket, f"in/{each.name}")
    division = divide(make_plan(bucket, source=f"s3://{bucket}/in", sync={"where": "processing"}), s3)
    assert (division.job, division.in_job) == (True, len(PETS))


def test_many_stars_hold_nobody_up() -> None:
    """In a recipe, and in what is made of files' names where these are full of words of splits."""
    script = (
        "from retraining.dataset.layouts.table import kinds, named\n"
        "assert named(['a' * 200 + '.csv'], '*a' * 12 + '*b.csv') == []\n"
        "words = '_'.join(['train'] * 40)\n"
        "kinds([f'{words}_{kind}.csv' for kind in 'ab'] + [f'{words}_{words}.csv'])\n"
    )
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": "plugins"}, timeout=60, check=True)


def test_brackets_of_a_tables_name_are_its_own() -> None:
    names = ["sets/labels [1].csv", "labels 1.csv", "sets/labels_train?.csv"]
    assert named(names, "labels [1].csv") == names[:1]
    assert named(names, "sets/labels_*?.csv") == names[2:]


def test_digits_without_end_hold_nobody_up() -> None:
    """A cell of a table without a heading, where the one column of words is looked for."""
    script = (
        "from retraining.dataset.layouts.table_columns import NUMBER\n"
        "assert not NUMBER.fullmatch('1' * 1_000_000 + 'x')\n"
        "assert all(map(NUMBER.fullmatch, ['', '1', '-1.5', '.5', '5.', '1e-3', 'NaN']))\n"
    )
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": "plugins"}, timeout=60, check=True)
