"""What is installed, on a laptop and in an image, are the very files that the pins name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINS = sorted((ROOT / "requirements").glob("*.txt"))
RECIPES = [ROOT / "Makefile", *sorted((ROOT / "docker").glob("*.Dockerfile"))]
TAKES_A_WORD = {"--python", "--constraints", "--requirement"}


def pinned(path: Path) -> dict[str, int]:
    """Each package with the number of its hashes; what is no pin counts as one of none."""
    entries = re.split(r"\n(?=[^\s#])", path.read_text().replace("\\\n", " "))
    found = {}
    for entry in filter(None, map(str.strip, entries)):
        name = re.match(r"([A-Za-z0-9._-]+)(\[[^\]]*\])?==[0-9]", entry)
        found[name[1].lower() if name else entry] = len(re.findall(r"--hash=sha256:[0-9a-f]{64}", entry)) if name else 0
    return found


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.name)
def test_every_pin_has_hashes(path: Path) -> None:
    found = pinned(path)
    assert found and min(found.values()) > 0, [name for name, hashes in found.items() if not hashes]


def installs() -> list[tuple[str, list[str]]]:
    """The words behind each `pip install` and `pip sync`, by the file that has it."""
    found = []
    for path in RECIPES:
        lines = [line for line in path.read_text().replace("\\\n", " ").splitlines() if not line.startswith("#")]
        for command in re.split(r"&&|;", "\n".join(lines)):
            if match := re.search(r"pip (?:install|sync) (.*)", command):
                found.append((path.name, match[1].split(">")[0].split()))
    return found


@pytest.mark.parametrize(("where", "words"), installs(), ids=lambda value: value if isinstance(value, str) else "")
def test_nothing_is_installed_that_has_no_hash(where: str, words: list[str]) -> None:
    """All of a file of pins, or packages out of one, of which uv checks the hashes."""
    if "--require-hashes" in words:
        return
    named = {word.split("[")[0].strip('"') for at, word in enumerate(words) if is_package(words, at)}
    files = [Path(words[at + 1]).name for at, word in enumerate(words) if word == "--constraints"]
    known = {name for file in files for name in pinned(ROOT / "requirements" / file)}
    assert named and named <= known


def is_package(words: list[str], at: int) -> bool:
    # ALSO: what who builds the serving image adds, out of the same pins.
    return not words[at].startswith(("-", "$")) and words[at - 1] not in TAKES_A_WORD


def test_all_installations_are_found() -> None:
    assert len(installs()) == 2 + 4 + 4 + 1 + 2
