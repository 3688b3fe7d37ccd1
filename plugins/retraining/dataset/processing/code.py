"""What a container needs of this package: the program of `part` and all that it reaches, as one archive."""

from __future__ import annotations

from pathlib import Path

from retraining.imports import reached
from retraining.source import Source

PACKAGES = Path(__file__).parents[3]
PACKAGE = Path(__file__).parents[2].name
PROGRAM = f"{PACKAGE}/dataset/processing/part.py"


def code() -> Source:
    """Python files alone: the container has Python, Pillow and NumPy, and nothing of this package."""
    paths = sorted((PACKAGES / PACKAGE).rglob("*.py"))
    files = {path.relative_to(PACKAGES).as_posix(): path.read_bytes() for path in paths}
    needed = reached(files, [PROGRAM])
    packages = {f"{folder}/__init__.py" for path in needed for folder in _folders(path)}
    return Source({path: body for path, body in files.items() if path in needed | packages})


def _folders(path: str) -> list[str]:
    return [str(folder) for folder in Path(path).parents][:-1]
