"""docs/architecture.md has the tree by folder; what a file is for stands in its own first line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests import shipped

ROOT = Path(__file__).parents[2]
PROGRAMS = ("dags", "plugins", "ml", "local_sagemaker", "stack")


def tree() -> dict[str, str]:
    """Folder → its note."""
    block = re.search(r"```tree\n(.*?)```", (ROOT / "docs/architecture.md").read_text(), re.DOTALL)
    assert block
    folders: list[str] = []
    notes = {}
    for line in block.group(1).splitlines():
        name, _, note = line.strip().partition("  ")
        folders[(len(line) - len(line.lstrip())) // 2 :] = [name.rstrip("/")]
        notes["/".join(folders)] = note.strip()
    return notes


def sources() -> list[Path]:
    return [path for program in PROGRAMS for path in shipped.files(program) if path.suffix in (".py", ".yaml")]


def test_every_folder_has_its_line_in_the_tree() -> None:
    folders = {str(path.parent.relative_to(ROOT)) for path in sources()}
    assert folders - set(tree()) == set()


def test_the_tree_names_nothing_that_is_not_there() -> None:
    assert [folder for folder in tree() if not (ROOT / folder).is_dir()] == []


def test_every_line_of_the_tree_says_what_the_folder_is_for() -> None:
    assert [folder for folder, note in tree().items() if not note] == []


def test_every_file_says_first_what_it_is_for() -> None:
    python = [path for path in sources() if path.suffix == ".py"]
    silent = [path for path in python if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []
