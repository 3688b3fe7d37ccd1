"""A recipe file that asks for more than a machine has is refused by name, soon, and costs its own DAG alone."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from retraining.recipe import RecipeError, find_recipes, load_recipe, read_recipe
from retraining.recipe.file import mentions, read_yaml

ROOT = Path(__file__).parents[2]
LETTERS = "abcdefghijklmnop"


def doubling(line: str) -> str:
    """Each line repeats the one before nine times."""
    lines = [line.format(name="a", nine="x, " * 9)]
    for before, name in itertools.pairwise(LETTERS):
        lines.append(line.format(name=name, nine=f"*{before}, " * 9))
    return "\n".join(lines)


BOMBS = {
    "lists that double": (doubling("{name}: &{name} [{nine}]"), "what repeats"),
    "sections that double": (doubling("{name}: &{name} {{x: [{nine}]}}"), "what repeats"),
    "merge keys that double": (doubling("{name}: &{name} {{<<: [{nine}]}}").replace("x, ", "{k: v}, "), "what repeats"),
    "a list in itself": ("a: &a [*a]", "what repeats"),
    "many repetitions": ("a: &a [x]\nb: [" + "*a, " * 101 + "]", "more than 100 times"),
    "lists in lists": ("a: " + "[" * 5000, "more than 20 deep"),
    "sections in sections": ("\n".join(" " * level + f"k{level}:" for level in range(300)), "more than 20 deep"),
    "a long number": ("epochs: " + "9" * 5000, "4300 digits"),
    "no date": ("a: 2026-99-99", "is not valid YAML"),
    "no time": ("a: 2026-01-01 99:00:00", "is not valid YAML"),
    "no text": ("a: \x00", "is not valid YAML"),
    "an object": ("a: !!python/object:os.system x", "is not valid YAML"),
    "a key that is a list": ("? [a]\n: b", "is not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2", "is not valid YAML"),
    "a large file": ("# " + "x" * 65_536, "more than 65536 bytes"),
    "another encoding": ("a: \udcff", "is not valid YAML"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_has_no_end_is_refused(tmp_path: Path, bomb: str) -> None:
    text, words = BOMBS[bomb]
    path = tmp_path / "bad.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    began = time.process_time()
    with pytest.raises(RecipeError, match=words) as refused:
        load_recipe(path)
    assert time.process_time() - began < 3
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize("text", ["a: 1\nb: 2\n{}: 3\n", "b:\n- {{a: 1,\n   {}: 2}}\n", "b: &b {{a: 1, {}: 3}}\n"])
@pytest.mark.parametrize("key", ["a", "'a'"])
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(text.format(key))
    with pytest.raises(RecipeError, match=r"the key 'a' twice in one section, in lines \d and \d\. Keep one"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ("010", "by eights"),
        ("-0100", "by eights"),
        ("1:00", "by sixties"),
        ("12:30:00", "by sixties"),
        ("1:30.5", "six"),
    ],
)
def test_numbers_that_yaml_counts_otherwise_are_told(tmp_path: Path, number: str, told: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(f"a: 1\nb: [{{c: {number}}}]\n")
    with pytest.raises(RecipeError, match=f"has the number '{number}' in line 2, which YAML counts .*{told}"):
        read_yaml(path)


def test_other_numbers_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text("a: [0, 10, -0.5, 0.001, 1_000]\nb: '010'\nc: \"1:00\"\nd: 0 3 * * 1\ne: 099\n")
    found = {"a": [0, 10, -0.5, 0.001, 1000], "b": "010", "c": "1:00", "d": "0 3 * * 1", "e": "099"}
    assert read_yaml(path) == found


def test_a_recipe_of_another_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    path.write_bytes("name: käfer\n".encode("utf-16"))
    assert read_yaml(path) == {"name": "käfer"}
    (tmp_path / "other.yaml").write_text("name: other  # as kafer was")
    assert path in find_recipes([tmp_path], "kafer")
    path.write_text("\n \n")
    with pytest.raises(RecipeError, match=r"is empty\. A recipe has a name and a source"):
        load_recipe(path)


@pytest.mark.parametrize(("text", "rule"), [("# flowers\n", "is empty"), ("- name: x\n", "is a list, not keys with")])
def test_a_file_without_keys_is_told_as_such(tmp_path: Path, text: str, rule: str) -> None:
    (tmp_path / "flowers.yaml").write_text(text)
    with pytest.raises(RecipeError, match=rf"file = 'flowers\.yaml': {rule}"):
        load_recipe(tmp_path / "flowers.yaml")


def test_repetitions_of_plain_parts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("a: &a {k: [1, 2]}\nb: *a\nc: &c {m: 3}\nd: {<<: *a, <<: *c, m: 4}\n")
    found = {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}, "c": {"m": 3}, "d": {"k": [1, 2], "m": 4}}
    assert read_yaml(path) == found


@pytest.mark.parametrize("path", sorted((ROOT / "dags/recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_our_recipes_are_within_the_bounds(path: Path) -> None:
    assert load_recipe(path).name.replace("-", "_") == path.stem


ODD = (
    10**400, -(10**400), float("inf"), float("nan"), "9" * 400, "(" * 5000, "x" * 60_000, "{{ 1 }}", "a\nb",
    "(a{99999999999})",
    "\U000e0001", "", None, True, -1, [], {}, [[]], {"a": {"b": [1]}},
)  # fmt: skip
MORE = (
    "split.group_by", "budget.max_cost", "budget.prices", "debugger.rules", "training.instance_type", "tuning.max_jobs",
    "promotion.confidence", "layout.train", "serving.instance_count", "tracking.experiment", "schedule", "endpoint",
    "pretrained",
)  # fmt: skip


LETTERS_OF_ALL_LANGUAGES = "".join(f"[{chr(0x4E00 + number)}-\U0010ffff]" for number in range(5000))


@pytest.mark.parametrize("flags", ["", "(?i)"])
def test_a_pattern_that_is_long_to_compile_is_refused_at_once(flags: str) -> None:
    """At every parse it would take seconds, and all DAGs of the file with it when there are a few."""
    data = yaml.safe_load((ROOT / "dags/recipes/digits.yaml").read_text())
    data["split"] = {"group_by": f"{flags}({LETTERS_OF_ALL_LANGUAGES})"}
    began = time.process_time()
    with pytest.raises(RecipeError, match=r"split\.group_by = .* one \(group\), and have at most 500 characters"):
        read_recipe(data, where="test")
    assert time.process_time() - began < 2


def keys(data: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in data.items():
        yield f"{above}{key}"
        if isinstance(value, dict):
            yield from keys(value, f"{above}{key}.")


@pytest.mark.slow
def test_no_value_of_any_key_stops_more_than_its_recipe() -> None:
    base = yaml.safe_load((ROOT / "dags/recipes/digits.yaml").read_text())
    for key in (*keys(base), *MORE):
        for value in ODD:
            data = copy.deepcopy(base)
            *sections, last = key.split(".")
            at = data
            for section in sections:
                at = at.setdefault(section, {})
            at[last] = value
            with contextlib.suppress(RecipeError):  # nothing else
                read_recipe(data, where="test")


def test_what_is_no_file_is_refused_unopened(tmp_path: Path) -> None:
    """A pipe that nobody writes to, and a device that never ends."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "device.yaml").symlink_to("/dev/zero")
    for name in ("pipe.yaml", "device.yaml"):
        assert mentions(tmp_path / name, "source")
        with pytest.raises(RecipeError, match="is no file"):
            load_recipe(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    [
        '"na\\x1b[2Jme": pets',
        '"\\u202estep": 1',
        'tuning: {"\\x1b]0;me\\x07": 1}',
        'name: pets\n"\\x1b[1A": 1\n"\\x1b[1A": 2',
        "name: [pets\u202e",
        "name: pets\n\u2066",
    ],
)
def test_a_refusal_moves_no_cursor(tmp_path: Path, text: str) -> None:
    """It is printed by terminals, and shown as an import error."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as refused:
        load_recipe(path)
    assert all(line.isprintable() for line in str(refused.value).splitlines()), repr(str(refused.value))
