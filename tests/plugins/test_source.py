"""sourcedir.tar.gz: the same code is the same bytes, and all of it is in there."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retraining import source
from retraining.environment import ConfigurationError
from retraining.source import Source, SourceError
from retraining.steps import package_source

ML = Path(__file__).parents[2] / "ml"


def scripts(folder: Path) -> Path:
    folder.mkdir()
    for name in ("train.py", "model.py", "requirements.txt", "notes.md"):
        (folder / name).write_text(f"# {name}\n")
    (folder / "helpers" / "data").mkdir(parents=True)
    (folder / "helpers" / "layers.py").write_text("WIDTH = 64\n")
    (folder / "helpers" / "data" / "labels.txt").write_text("cat\n")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "train.cpython-311.pyc").write_bytes(b"x")
    return folder


def members(packed: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        return tar.getmembers()


def test_the_same_code_is_the_same_bytes_anywhere(tmp_path: Path) -> None:
    one, two = scripts(tmp_path / "one"), scripts(tmp_path / "two")
    os.utime(two / "train.py", (1, 1))
    (two / "train.py").chmod(0o700)
    assert Source.read(one).packed() == Source.read(two).packed()
    assert Source.read(one).digest == Source.read(two).digest


@pytest.mark.parametrize("name", ["model.py", "helpers/layers.py", "helpers/data/labels.txt", "notes.md"])
def test_a_changed_line_is_another_digest(tmp_path: Path, name: str) -> None:
    folder = scripts(tmp_path / "code")
    before = Source.read(folder).digest
    (folder / name).write_text("# other\n")
    assert Source.read(folder).digest != before


def test_the_whole_tree_is_shipped(tmp_path: Path) -> None:
    found = members(Source.read(scripts(tmp_path / "code")).packed())
    assert [member.name for member in found] == [
        *("helpers/data/labels.txt", "helpers/layers.py"),
        *("model.py", "notes.md", "requirements.txt", "train.py"),
    ]
    assert {(member.uid, member.mtime, member.mode) for member in found} == {(0, 0, 0o644)}


@pytest.mark.parametrize(
    "name",
    [
        *(".git/HEAD", ".env", ".ipynb_checkpoints/train.py", "helpers/.DS_Store", "helpers/__pycache__/a.pyc"),
        *("old.pyc", "train.py~", "x.egg-info/PKG-INFO", "node_modules/x.js", "Thumbs.db", "__MACOSX/train.py"),
    ],
)
def test_caches_and_hidden_files_are_left_out(tmp_path: Path, name: str) -> None:
    folder = scripts(tmp_path / "code")
    before = Source.read(folder).packed()
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x")
    assert Source.read(folder).packed() == before


def test_an_environment_is_left_out(tmp_path: Path) -> None:
    folder = scripts(tmp_path / "code")
    before = Source.read(folder).packed()
    (folder / "my-env" / "lib").mkdir(parents=True)
    (folder / "my-env" / "pyvenv.cfg").write_text("home = /usr\n")
    (folder / "my-env" / "lib" / "torch.py").write_text("x")
    assert Source.read(folder).packed() == before


def test_links_are_shipped_as_what_they_lead_to(tmp_path: Path) -> None:
    folder = scripts(tmp_path / "code")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "losses.py").write_text("x = 1\n")
    (folder / "losses.py").symlink_to(tmp_path / "shared" / "losses.py")
    (folder / "shared").symlink_to(tmp_path / "shared")
    with tarfile.open(fileobj=io.BytesIO(Source.read(folder).packed())) as tar:
        for name in ("losses.py", "shared/losses.py"):
            file = tar.extractfile(name)
            assert tar.getmember(name).isfile() and file is not None and file.read() == b"x = 1\n"


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    folder = scripts(tmp_path / "code")
    (folder / "gone.py").symlink_to(tmp_path / "gone.py")
    with pytest.raises(SourceError, match=r"The link .*gone\.py leads nowhere; remove it"):
        Source.read(folder)


def test_a_link_to_a_folder_above_is_refused(tmp_path: Path) -> None:
    folder = scripts(tmp_path / "code")
    (folder / "helpers" / "again").symlink_to(folder)
    with pytest.raises(SourceError, match="again leads to a folder above itself"):
        Source.read(folder)


def test_a_pipe_is_refused_by_name(tmp_path: Path) -> None:
    folder = scripts(tmp_path / "code")
    os.mkfifo(folder / "queue")
    with pytest.raises(SourceError, match="queue is neither a file nor a folder"):
        Source.read(folder)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = scripts(tmp_path / "code")
    with open(os.fsencode(folder) + b"/caf\xe9.py", "w"):
        pass
    with pytest.raises(SourceError, match="is not UTF-8; rename it"):
        Source.read(folder)


def test_a_folder_with_data_is_refused_by_its_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = scripts(tmp_path / "code")
    (folder / "images.tar").write_bytes(bytes(3 * 2**20))
    monkeypatch.setattr(source, "MAX_BYTES", 2**20)
    with pytest.raises(SourceError, match=r"more than 1 MiB .* images\.tar \(3\.0 MiB\)"):
        Source.read(folder)


def test_a_folder_without_a_training_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no train\.py\. Set RETRAINING_SOURCE_DIR"):
        Source.read(tmp_path).packed()


@pytest.mark.slow
def test_only_what_makes_a_model_is_in_its_code_digest(tmp_path: Path) -> None:
    """An edit of the profiler's report or of a rule does not retrain; one of the network does, and so do pins."""
    folder = shutil.copytree(ML, tmp_path / "ml", ignore=shutil.ignore_patterns("__pycache__"))
    before = Source.read(folder)
    for name in (
        *("profiler/report/page.py", "evaluate_rules.py", "debugger/rules/loss.py", "debugger/rules/new.py"),
        *("serve.py", "server/app.py", "profiler/report/page.css", "README.md"),
    ):
        with (folder / name).open("a") as file:
            file.write("\n# edited\n")
    after = Source.read(folder)
    assert after.code_digest == before.code_digest and after.digest != before.digest
    for name in (
        *("train.py", "network/resnet.py", "training/trackers.py", "pictures/request.py", "requirements.txt"),
        "network/__init__.py",
    ):
        with (folder / name).open("a") as file:
            file.write("\n# edited\n")
        edited = Source.read(folder)
        assert edited.code_digest != after.code_digest, name
        after = edited


def test_code_that_changes_during_a_run_is_not_shipped(tmp_path: Path) -> None:
    """Not even where only the report changes: one run is of one code."""
    folder = scripts(tmp_path / "code")
    known, stored = {"source": Source.read(folder).digest}, []
    run: Any = SimpleNamespace(
        environment=SimpleNamespace(source_dir=folder, bucket="b"),
        fact=lambda task: known,
        plan=SimpleNamespace(source_key=str, uri=str),
        s3=SimpleNamespace(put_object=lambda **request: stored.append(request)),
    )
    assert package_source(run)["digest"] == known["source"] and len(stored) == 1
    (folder / "helpers" / "layers.py").write_text("WIDTH = 128\n")
    with pytest.raises(ConfigurationError, match="changed while this run was under way; trigger a new run"):
        package_source(run)
    assert len(stored) == 1
