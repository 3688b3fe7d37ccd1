"""`python -m retraining.dataset check` tells what a sync would say, and writes nothing anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins.test_near import WAYS, folder, photographs

PLUGINS = Path(__file__).parents[2] / "plugins"


def check(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "retraining.dataset", "check", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(PLUGINS), "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def pets(root: Path) -> Path:
    images = photographs()
    return folder(root, street=[*images[:20], WAYS["halved"](images[12])], field=images[20:])


def test_a_good_folder_is_told_with_its_doubts(tmp_path: Path) -> None:
    source = pets(tmp_path / "in")
    (source / "field" / "page.jpg").write_bytes(b"<html>")
    done = check(source)
    assert done.returncode == 0, done.stderr
    assert "Near-duplicates: 2 images in 1 clusters" in done.stdout
    assert "field/page.jpg: NOT_IMAGE" in done.stdout
    assert done.stdout.rstrip().endswith("Good: 41 images of 2 classes.")


def test_a_folder_of_all_classes_together_is_called_a_copy(tmp_path: Path) -> None:
    source, images = tmp_path / "in", photographs()
    folder(source, all=images[:30], bug=images[:14], fire=images[14:30])
    done = check(source)
    assert done.returncode == 1
    assert "Refused: All 30 images of 'all' lie in bug, fire as well, byte for byte: it is a copy" in done.stdout
    assert "Move the folder 'all' out of the source and run again." in done.stdout


def test_a_folder_that_would_be_refused_fails(tmp_path: Path) -> None:
    source = pets(tmp_path / "in")
    for number in range(6):
        (source / "field" / f"bad{number}.png").write_bytes(b"no image")
    done = check(source)
    assert done.returncode == 1
    assert "Refused: 6 of 47 files of the source cannot be used (NOT_IMAGE 6)" in done.stdout


def test_what_is_no_source_is_told_in_words(tmp_path: Path) -> None:
    done = check(tmp_path / "nowhere")
    assert (done.returncode, done.stderr) == (1, "")
    assert "does not exist on this machine" in done.stdout


def test_a_recipe_is_checked_with_its_own_layout(tmp_path: Path) -> None:
    images = photographs()
    source = folder(
        tmp_path / "in", A__street=images[:12], A__field=images[20:32], B__street=images[12:16], B__field=images[32:36]
    )
    text = (
        f"name: pets\nsource: {source}\nlayout: {{train: A, test: B}}\nhyperparameters: {{}}\n"
        "tuning: {ranges: {lr: {type: continuous, min: 0.001, max: 0.1}}}\n"
    )
    (tmp_path / "pets.yaml").write_text(text)
    done = check(tmp_path / "pets.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "A as train" in done.stdout
    (tmp_path / "pets.yaml").write_text("name: pets\n")
    broken = check(tmp_path / "pets.yaml")
    assert (broken.returncode, broken.stdout) == (2, "")
    assert "pets.yaml" in broken.stderr


@pytest.mark.slow
def test_a_proposed_layout_can_be_tried(tmp_path: Path) -> None:
    images = photographs()
    source = folder(
        tmp_path / "in", A__street=images[:12], A__field=images[20:32], B__street=images[12:16], B__field=images[32:36]
    )
    refused = check(source)
    assert refused.returncode == 1 and "`layout: {train: A, test: B}`" in refused.stdout
    for layout in ("layout: {train: A, test: B}", "{train: A, test: B}"):
        done = check(source, "--layout", layout, "--names")
        assert done.returncode == 0 and "A as train" in done.stdout, done.stdout + done.stderr
    alone = check(source, "--layout", "{classes: A}")
    assert "Good: 24 images of 2 classes" in alone.stdout
    for layout in ("A", "{classes: A", "{classes: 7}", "{folder: A}", ""):
        wrong = check(source, "--layout", layout)
        assert (wrong.returncode, wrong.stdout) == (2, "") and "--layout" in wrong.stderr, wrong


def test_a_contact_sheet_shows_strangers_text_as_text(tmp_path: Path) -> None:
    source = pets(tmp_path / "in")
    (source / "field" / "0.png").rename(source / "field" / "<script>alert(1)<.png")
    (source / "field" / "<img src=x>.jpg").write_bytes(b"<b>")
    done = check(source, "--html", tmp_path / "sheet.html")
    page = (tmp_path / "sheet.html").read_text()
    assert done.returncode == 0
    assert "To look at" in done.stdout
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count('<img src="data:image/jpeg;base64,') == 12 + 12 + 2
