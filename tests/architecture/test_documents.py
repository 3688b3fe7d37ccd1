"""The documents are held to what they name: keys, defaults, commands, tasks, files."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from retraining.recipe import Recipe, read_recipe
from retraining.recipe.hyperparameters import HYPERPARAMETERS
from tests import shipped

ROOT = Path(__file__).parents[2]
DOCUMENTS = [path for path in shipped.files(".") if path.suffix == ".md"]
RECIPE = ROOT / "docs/recipe.md"


def keys(section: type, above: str = "") -> Iterator[tuple[str, object]]:
    """Every key that a recipe may have → its default; MISSING where there is none."""
    hints = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        path, of = f"{above}{field.name}", hints[field.name]
        inner = [kind for kind in (of, *typing.get_args(of)) if dataclasses.is_dataclass(kind)]
        if inner and typing.get_origin(of) is dict:
            yield path, {}
            yield from keys(inner[0], f"{path}.<hyperparameter>.")
        elif inner:
            if isinstance(of, types.UnionType):  # a section that may be left out
                yield path, field.default
            yield from keys(inner[0], f"{path}.")
        elif path != "hyperparameters":
            made = field.default_factory is not dataclasses.MISSING
            yield path, field.default_factory() if made else field.default  # type: ignore[misc]


def rows(text: str) -> dict[str, str]:
    """The tables' first column → their second."""
    return {key: second.strip() for key, second in re.findall(r"^\| `([^`]+)` \|([^|]*)\|", text, re.MULTILINE)}


def spelt(default: object) -> str:
    if default is dataclasses.MISSING or default == "":
        return ""
    value = list(default) if isinstance(default, tuple) else default
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip().strip("'")
    return f"`{text}`"


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_key_of_a_recipe_is_documented() -> None:
    told = rows(RECIPE.read_text().partition("### Hyperparameters")[0])
    assert {key: told.get(key, "not there") for key, _ in keys(Recipe)} == {
        key: spelt(default) for key, default in keys(Recipe)
    }
    assert set(told) == {key for key, _ in keys(Recipe)}


def test_every_hyperparameter_is_documented() -> None:
    told = rows(RECIPE.read_text().partition("### Hyperparameters")[2])
    rules = {name: one.rule.removeprefix("must be ") for name, one in HYPERPARAMETERS.items()}
    assert told == rules


@pytest.mark.parametrize("document", ["README.md", "docs/recipe.md"])
def test_the_recipe_shown_is_one(document: str) -> None:
    (block,) = [text for text in re.findall(r"```yaml\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)]
    assert read_recipe(yaml.safe_load(block), document).name == "flowers"


@pytest.mark.parametrize("document", [str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_every_link_leads_somewhere(document: str) -> None:
    path = ROOT / document
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        target, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        there = path.parent / target if target else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            lost.append(link)
    assert lost == []


def test_every_command_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    targets |= set(re.findall(r"bench-[a-z]+", (ROOT / "Makefile").read_text()))
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in DOCUMENTS
        for code in re.findall(r"`([^`\n]*)`|```sh\n(.*?)```", path.read_text(), re.DOTALL)
        for name in re.findall(r"\bmake (?:-s )?([a-z][a-z0-9-]*)", "\n".join(code))
    }
    assert {(document, name) for document, name in named if name not in targets} == set()


def test_the_site_has_every_document() -> None:
    """`make docs` builds strictly, and says the same of a page that is left out; here without its environment."""

    def pages(entries: object) -> Iterator[str]:
        if isinstance(entries, str):
            yield entries
        for entry in entries.values() if isinstance(entries, dict) else entries if isinstance(entries, list) else ():
            yield from pages(entry)

    listed = set(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert listed == {str(path.relative_to(ROOT)) for path in DOCUMENTS}


def test_every_hook_before_a_commit_is_a_target_of_make() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    entries = [hook["entry"].split() for hook in repository["hooks"]]
    assert repository["repo"] == "local"
    assert all(words[:2] == ["make", "-s"] and words[2] in targets for words in entries)


def test_every_task_of_a_run_is_told() -> None:
    first_column = re.findall(r"^\| (`[^|]+`) \|", (ROOT / "docs/operating.md").read_text(), re.MULTILINE)
    told = re.findall(r"`(\w+)`", " ".join(first_column))
    source = (ROOT / "dags/retrain_classifier.py").read_text()
    made = set(re.findall(r"step\(\s*recipe, (?:while_serving\()?steps\.(\w+)", source))
    made |= set(re.findall(r'sagemaker\(\s*\w+,\s*"(\w+)"', source)) | set(re.findall(r'task_id="(\w+)"', source))
    assert sorted(told) == sorted(made)
