"""docker/processing.Dockerfile against what its jobs start and import. Builds nothing: that takes Docker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import PIL

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker/processing.Dockerfile").read_text()
PINS = (ROOT / "requirements/airflow.txt").read_text()


def installed() -> set[str]:
    return set(TEXT.partition("--constraints /pins/airflow.txt")[2].partition("\n")[0].split())


def test_the_image_has_the_workers_pillow() -> None:
    assert re.search(r"^pillow==(\S+)", PINS, re.MULTILINE)[1] == PIL.__version__  # type: ignore[index]
    assert [package for package in installed() if not re.search(rf"^{package}==", PINS, re.MULTILINE)] == []


def test_what_verifies_finds_what_it_imports() -> None:
    """tests/plugins/test_spread_work.py holds that it needs no more."""
    assert installed() == {"numpy", "pillow"}


def test_what_judges_finds_what_it_imports() -> None:
    """All that it loads besides, when no tensors are read from S3."""
    program = "import sys; before = set(sys.modules); import evaluate_rules; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT / "ml", capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    own = {path.stem for path in (ROOT / "ml").iterdir()}
    assert loaded - own - set(sys.stdlib_module_names) <= installed()


def test_the_image_is_of_the_workers_python() -> None:
    assert "ARG PYTHON_IMAGE=python:3.11-" in TEXT and "FROM ${PYTHON_IMAGE}" in TEXT
