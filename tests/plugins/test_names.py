"""A stranger's name is carried whole to the end, or refused by name before anything is written."""

from __future__ import annotations

import contextlib
import os
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retraining.dataset.names import class_name, require_class_names
from retraining.dataset.source_error import SourceError
from retraining.dataset.sync import sync_dataset
from retraining.plan import Plan
from retraining.printable import printable
from tests.plugins.test_sync import keys, picture, read_json

LANGUAGES = [
    "बिल्ली", "แมว", "பூனை", "قطة", "می‌خواهم", "ねこ", "猫", "고양이", "Кошка", "Écureuil", "γάτα", "חתול", "ድመት",
    "བྱི་ལ", "မြန်မာ", "St. John's wort", "Queen Anne\u2019s lace", "col·lecció", "50-60 (old), new & used!", "3", "a=b@c",
]  # fmt: skip
REFUSED = [
    "a\n", "tab\there", "cat ", " cat", "a\u202eb", "<b>", "100%", "#1", "a\\b", 'say "x"', "a*", "x" * 101,
    "क" * 90, "🐱", "_x", "-x", "a\x7f", "caf\udce9", "a{b}", "a|b", "a?b", "zero\u200bwidth",
]  # fmt: skip


def label(name: str) -> None:
    require_class_names("here", [("", name), ("", "other class")])


@pytest.mark.parametrize("name", LANGUAGES)
def test_names_of_living_languages_are_classes(name: str) -> None:
    label(name)
    label(unicodedata.normalize("NFD", name))


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_a_name_that_cannot_be_carried_is_refused_by_name(name: str) -> None:
    with pytest.raises(SourceError, match="cannot be a class name; use up to 100 letters") as caught:
        label(name)
    str(caught.value).encode()  # no half character in it
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "complaint"),
    [
        ("Cat", "cat", "differ only in case"),
        ("Straße", "STRASSE", "differ only in case"),
        ("ﬁn", "fin", "differ only in case"),
        (
            unicodedata.normalize("NFC", "é"),
            unicodedata.normalize("NFD", "é"),
            r"'e\\u0301' and '\\xe9' spell one name",
        ),
    ],
)
def test_two_spellings_of_one_name_are_refused(one: str, other: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        require_class_names("here", [("", one), ("", other)])


def test_spellings_may_differ_between_splits() -> None:
    """Train was packed on Linux, test on a Mac."""
    require_class_names("here", [("train", "\xe9"), ("test", "e\u0301"), ("train", "a"), ("test", "a")])
    assert class_name("e\u0301") == "\xe9"


def test_a_files_name_is_shown_on_one_line_of_text() -> None:
    assert printable("cat/caf\udce9 \n\x1b[31m\u202e.png") == "cat/caf\\xe9 \\n\\x1b[31m\\u202e.png"
    assert printable("猫/é.png") == "猫/é.png"


def test_any_bytes_as_file_names_end_in_the_quarantine(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    """Random bytes, 255 of them, spellings and cases of one name: none is lost, none ends the run."""
    chance, folder = random.Random(4), os.fsencode(tmp_path)
    names = {bytes(b for b in chance.randbytes(chance.randrange(1, 255)) if b not in b"/\0") + b"x" for _ in range(40)}
    names |= {b"n" * 255, "é".encode(), "e\u0301".encode(), b"A.png", b"a.png", b"new\nline", "क".encode() * 85}
    for shade, (kind, count) in enumerate((("कुत्ता", 2500), ("Queen Anne\u2019s lace", 12))):
        (tmp_path / kind).mkdir()
        for number in range(count):
            (tmp_path / kind / f"{number}.png").write_bytes(picture(number + 3000 * shade, size=16))
    names = {name for name in names if not name.startswith((b".", b"~$"))}
    for name in names:
        with open(os.path.join(folder, "कुत्ता".encode(), name), "wb") as file:
            file.write(name)
    plan = make_plan(bucket, source=str(tmp_path))
    version = sync_dataset(plan, s3).version
    assert len(version.quarantined) == len(names)
    document = read_json(s3, bucket, f"{plan.version_key(version.fingerprint)}/dataset.json")
    assert len({entry["name"] for entry in document["quarantined"]}) == len(names)
    assert document["classes"] == ["Queen Anne\u2019s lace", "कुत्ता"]


def test_classes_of_any_script_are_found_again_in_s3(
    s3: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    for place, name in enumerate(LANGUAGES):
        (tmp_path / name).mkdir()
        for number in range(4):
            (tmp_path / name / f"{number}.png").write_bytes(picture(place * 10 + number, size=16))
    plan = make_plan(bucket, source=str(tmp_path))
    version = sync_dataset(plan, s3).version
    assert version.classes == sorted(unicodedata.normalize("NFC", name) for name in LANGUAGES)
    stored = {key.removeprefix(plan.images_key) for key in keys(s3, bucket) if key.startswith(plan.images_key)}
    named: set[str] = set()
    for split in ("train", "validation", "test"):
        named |= set(read_json(s3, bucket, plan.manifest_key(version.fingerprint, split))[1:])
    assert stored == named == {image.entry for image in version.images}
    assert sync_dataset(plan, s3).uploaded == 0


@pytest.mark.parametrize("odd", ["//1.png", "/", "./1.png", "../1.png", "//", "cat//", "cat//9.png", "cat/./8.png"])
def test_odd_keys_of_s3_end_no_run(s3: Any, bucket: str, make_plan: Callable[..., Plan], odd: str) -> None:
    for place, name in enumerate(("cat", "dog")):
        for number in range(4):
            s3.put_object(Bucket=bucket, Key=f"in/{name}/{number}.png", Body=picture(place * 10 + number))
    with contextlib.suppress(s3.exceptions.ClientError):  # this store takes no such key
        s3.put_object(Bucket=bucket, Key=f"in/{odd}", Body=b"" if odd.endswith("/") else picture(77))
    assert sync_dataset(make_plan(bucket, source=f"s3://{bucket}/in"), s3).version.classes == ["cat", "dog"]
