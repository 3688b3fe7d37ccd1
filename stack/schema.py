"""`make schema`: dags/recipes/recipe.schema.json, from the rules in the code and the meanings in docs/recipe.md."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

SCHEMA = Path("dags/recipes/recipe.schema.json")
DOCUMENT = Path("docs/recipe.md")
#: plugins/ is not on this package's path: what it has to say of recipes, it says in a process of its own.
PROGRAM = """
import json, sys
from retraining.recipe.schema import recipe_schema
json.dump(recipe_schema(json.load(sys.stdin)), sys.stdout, indent=2, ensure_ascii=False)
"""


def meanings(document: str) -> dict[str, str]:
    """The last column of each table of keys, as plain text; hyperparameters under `hyperparameters.`."""
    sections, _, hyperparameters = document.partition("### Hyperparameters")
    return dict(_rows(sections)) | {f"hyperparameters.{key}": text for key, text in _rows(hyperparameters)}


def _rows(text: str) -> list[tuple[str, str]]:
    found = re.findall(r"^\| `([^`]+)` \|[^|]*\|(.*)\|$", text, re.MULTILINE)
    return [(key, _plain(meaning)) for key, meaning in found if meaning.strip()]


def _plain(markdown: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "").strip()


def text(root: Path) -> str:
    """What the file should hold."""
    made = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(meanings((root / DOCUMENT).read_text(encoding="utf-8"))),
        env={**os.environ, "PYTHONPATH": str(root / "plugins")},
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout + "\n"


def write(root: Path) -> Path:
    path = root / SCHEMA
    path.write_text(text(root), encoding="utf-8")
    return path
