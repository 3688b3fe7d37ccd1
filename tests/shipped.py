"""What the project ships, as against what else lies in a clone: a user's own recipes, plugins and DAGs.

A test that means the product reads it by these; then it says the same in a clone that somebody works in.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPES = tuple(
    ROOT / "dags" / "recipes" / f"{name}.yaml"
    for name in ("chest_xray", "cifar100", "cifar100_frozen", "digits", "dogs")
)


def copy_dags(target: Path, recipes: Iterable[Path] = RECIPES) -> Path:
    """dags/ with the shipped recipes only, or with the given ones, in a new folder."""
    (target / "recipes").mkdir(parents=True)
    for path in files("dags"):
        if path.suffix == ".py":
            shutil.copy(path, target)
    for path in recipes:
        shutil.copy(path, target / "recipes")
    return target


def files(folder: str) -> list[Path]:
    """The files below a folder that git knows; all of them where there is no git, as in an unpacked archive."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--", folder]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        return sorted(path for path in (ROOT / folder).rglob("*") if path.is_file())
    return sorted(path for name in listed if name and (path := ROOT / name).is_file())
