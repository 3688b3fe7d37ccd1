"""What is written down for a job, and what of its words is believed."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from retraining.dataset.pictures.rules import rules
from retraining.dataset.pictures.verdict import Original, Rejected, VerifiedImage
from retraining.dataset.pictures.verify import verify_image
from retraining.dataset.processing.code import code
from retraining.dataset.processing.verdicts import Row, VerdictsError, read, written
from retraining.dataset.processing.work import Work, WorkError
from retraining.dataset.sources.bucket import ObjectSource
from retraining.dataset.sources.source import SourceFile
from retraining.recipe import RecipeError, read_recipe
from tests.architecture.test_imports import imports
from tests.plugins.spread import RECIPE
from tests.plugins.test_sync import picture


def listed(stamps: dict[str, str]) -> list[SourceFile]:
    return [
        SourceFile(path=Path("/nowhere"), label="a", split=None, name=name, key=name, stamp=stamp)
        for name, stamp in stamps.items()
    ]


NAMES = ("a/1.png", "a/ü +%.png", "a/6/7.png")
ODD = ("a//2.png", "a/../3.png", "/a/4.png", "a/\n5.png", "a/6", "a/" + "8" * 256, "a/\udc80.png", "./a/10.png")


def test_names_that_no_folder_can_hold_stay_with_the_worker() -> None:
    files = listed({name: "9:etag" for name in NAMES + ODD} | {"a/empty.png": "0:etag"})
    work = Work.of(ObjectSource.of("s3://b/in/"), files)
    assert (set(work.files), work.size_bytes) == (set(NAMES), 27)
    assert json.loads(work.manifest()) == [{"prefix": "s3://b/in/"}, *sorted(NAMES)]


def test_work_that_was_written_down_is_read_as_it_was() -> None:
    work = Work.of(ObjectSource.of("s3://b/in/"), listed(dict.fromkeys(NAMES, "9:etag")))
    assert Work.unpacked(work.packed()) == work
    with pytest.raises(WorkError, match="trigger a new run"):
        Work.unpacked(work.packed()[:-9])


def test_other_files_or_other_code_are_other_work() -> None:
    source, files = ObjectSource.of("s3://b/in/"), dict.fromkeys(NAMES, "9:etag")
    work, other = (Work.of(source, listed(each)) for each in (files, files | {"a/1.png": "9:new"}))
    assert len({work.digest("code"), work.digest("new code"), other.digest("code")}) == 3
    assert work.digest("code") == Work.of(source, listed(dict(reversed(files.items())))).digest("code")


@pytest.mark.parametrize("source", ["/images", "s3://b/images.zip", "https://host/images.zip", "bundled://digits"])
def test_what_cannot_be_divided_is_refused_with_a_way_out(source: str) -> None:
    data = RECIPE | {"name": "x", "source": source, "sync": {"where": "processing"}}
    with pytest.raises(RecipeError, match=r"sync\.where = 'processing'.*s3:// prefix.*aws s3 sync"):
        read_recipe(data, where="test")
    assert not read_recipe(data | {"sync": {"where": "auto"}}, where="test").may_verify_in_a_job


# --- the code that a container gets ---------------------------------------------------------------------------------


def test_a_container_needs_python_pillow_and_numpy_alone(tmp_path: Path) -> None:
    shipped = code().files
    assert {"retraining/dataset/processing/part.py", "retraining/dataset/pictures/worker.py"} <= shipped.keys()
    for path, body in shipped.items():
        (tmp_path / "one.py").write_bytes(body)
        foreign = imports(tmp_path / "one.py", top_level_only=True) - {"retraining"}
        assert foreign == set(), path
        # What is imported only where it is used: also the bar at a terminal, which a container has none of.
        assert imports(tmp_path / "one.py") <= {"retraining", "PIL", "numpy", "rich"}, path
    modules = {name for body in shipped.values() for name in imported(body) if name.startswith("retraining.")}
    files = {f"{name.replace('.', '/')}{end}" for name in modules for end in (".py", "/__init__.py")}
    assert len(files & shipped.keys()) == len(modules)


def imported(body: bytes) -> set[str]:
    """The modules that a file's imports name, as far as they are whole modules."""
    found = set[str]()
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.ImportFrom) and node.module == "retraining.dataset":
            found |= {f"retraining.dataset.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_the_same_code_is_the_same_archive() -> None:
    assert (code().digest, code().packed()) == (code().digest, code().packed())


# --- verdicts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> VerifiedImage:
    (tmp_path / "a.png").write_bytes(picture(7))
    found = verify_image(tmp_path / "a.png")
    assert isinstance(found, VerifiedImage)
    return found


def test_verdicts_are_read_as_they_were_written(image: VerifiedImage) -> None:
    original = Original(format="WebP", sha256="a" * 64, rules="png-1")
    rejected = Rejected(code="CORRUPT", detail="ü\u2028\udc80\x00", sha256="b" * 64)
    found = [
        Row(name="a/1.png", size_bytes=70, verdict=image),
        Row(name="ü\u2028/2.webp", size_bytes=70, verdict=replace(image, original=original)),
        Row(name="3.png", size_bytes=None, verdict=rejected),
    ]
    assert read(written(rules(), found), rules()) == found
    assert [asdict(row) for row in read(written(rules(), found), rules())] == [asdict(row) for row in found]
    assert read(written("x", []), "x") == []


@pytest.mark.parametrize(
    "changed",
    [
        {"sha256": "../../champion.json"}, {"sha256": "A" * 64}, {"sha256": 7}, {"extension": "exe"},
        {"extension": None},
        {"size_bytes": 26 * 2**20}, {"size_bytes": -1}, {"size_bytes": 1.5}, {"size_bytes": True}, {"frames": 0},
        {"frames": 10**12}, {"thumb": ""}, {"thumb": "AAAA"}, {"thumb": "ß" * 40}, {"thumb": None}, {"more": 1},
        {"original": {}}, {"original": {"format": "WebP", "sha256": "a" * 64, "rules": "png-9"}},
        {"original": {"format": "HEIC", "sha256": "a" * 64, "rules": "png-1"}},
        {"original": {"format": "WebP", "sha256": "a", "rules": "png-1"}}, {"original": "WebP"},
    ],
    ids=str,
)  # fmt: skip
def test_an_image_that_is_none_is_not_believed(image: VerifiedImage, changed: dict[str, Any]) -> None:
    line = {"name": "a", "size": 70, "image": asdict(image) | changed}
    with pytest.raises(VerdictsError):
        read(a_file(line), "x")


@pytest.mark.parametrize(
    "line",
    [
        {}, [], 7, None, {"name": "a", "size": 70}, {"name": "a", "size": 70, "image": None, "rejected": None},
        {"name": 7, "size": 70, "rejected": {"code": "EMPTY", "detail": "", "sha256": None}},
        {"name": "a", "size": "70", "rejected": {"code": "EMPTY", "detail": "", "sha256": None}},
        {"name": "a", "size": 70, "rejected": {"code": "../x", "detail": "", "sha256": None}},
        {"name": "a", "size": 70, "rejected": {"code": "EMPTY", "detail": 7, "sha256": None}},
        {"name": "a", "size": 70, "rejected": {"code": "EMPTY", "detail": "a" * 9000, "sha256": None}},
        {"name": "a", "size": 70, "rejected": {"code": "EMPTY", "detail": "", "sha256": "../x"}},
        {"name": "a", "size": 70, "rejected": {"code": "EMPTY"}}, {"name": "a", "size": 70, "other": {}},
    ],
    ids=str,
)  # fmt: skip
def test_a_line_that_is_no_verdict_is_not_believed(line: Any) -> None:
    with pytest.raises(VerdictsError):
        read(a_file(line), "x")


def a_file(line: Any) -> bytes:
    """One with a right digest: only its line is wrong."""
    body = b'{"format":1,"rules":"x"}\n' + f"{json.dumps(line)}\n".encode()
    return body + f"{json.dumps({'count': 1, 'sha256': hashlib.sha256(body).hexdigest()})}\n".encode()


@pytest.mark.parametrize(
    "change",
    [lambda body: body[:-2], lambda body: body[:40], lambda body: b"", lambda body: body * 2, lambda body: b" " + body],
    ids=["without its end", "its beginning", "nothing", "twice", "with another beginning"],
)
def test_a_file_that_is_not_whole_is_not_believed(image: VerifiedImage, change: Callable[[bytes], bytes]) -> None:
    body = written("x", [Row(name="a", size_bytes=70, verdict=image)])
    with pytest.raises(VerdictsError, match="cut, or changed"):
        read(change(body), "x")


def test_verdicts_of_other_rules_are_not_believed() -> None:
    with pytest.raises(VerdictsError, match="other rules than x"):
        read(written("y", []), "x")
