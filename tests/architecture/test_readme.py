"""The READMEs are held to what the repository is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests import shipped

ROOT = Path(__file__).parents[2]
PROGRAMS = ("dags", "plugins", "ml", "local_sagemaker", "stack")


#: READMEs with a tree; each tree's paths are relative to its README.
READMES = ("README.md", "local_sagemaker/README.md")


def tree() -> dict[str, str]:
    """The READMEs' trees as one: path → its note."""
    return {path: note for readme in READMES for path, note in entries(ROOT / readme)}


def entries(readme: Path) -> Iterator[tuple[str, str]]:
    block = re.search(r"```tree\n(.*?)```", readme.read_text(), re.DOTALL)
    assert block, f"{readme} has no ```tree block"
    folders = [str(readme.parent.relative_to(ROOT))] if readme.parent != ROOT else []
    above = len(folders)
    for line in block.group(1).splitlines():
        entry, _, note = line.strip().partition("  ")
        depth = above + (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [entry.rstrip("/")] if entry.endswith("/") else []
        yield "/".join([*folders[:depth], entry]), note.strip()


def test_every_source_file_has_its_line_in_the_tree() -> None:
    paths = [path for program in PROGRAMS for path in shipped.files(program) if path.suffix == ".py"]
    files = {str(path.relative_to(ROOT)) for path in paths}
    missing = {path for path in files - set(tree()) if not path.endswith("__init__.py")}
    assert missing == set()


def test_the_tree_names_nothing_that_is_not_there() -> None:
    gone = [path for path in tree() if not (ROOT / path).exists()]
    assert gone == []


def test_every_line_of_the_tree_says_what_the_file_is_for() -> None:
    assert [path for path, note in tree().items() if not note] == []
