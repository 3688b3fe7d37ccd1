"""What the page of a run advises about a rule is what the rule itself says, in words that a recipe takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from retraining.debugger.advice import read_advice, with_advice
from retraining.recipe.debugger import DEBUGGER_RULES, OWN_RULES

ML = Path(__file__).parents[2] / "ml"
FLAGS = set(re.findall(r'"--([a-z-]+)"', (ML / "training/flags.py").read_text()))


@pytest.mark.parametrize("rule", sorted({*DEBUGGER_RULES, *OWN_RULES}))
def test_every_rule_of_a_recipe_is_explained(rule: str) -> None:
    told = read_advice(ML)[rule]
    assert told["means"].endswith(".") and told["advice"]


def test_what_is_advised_can_be_set_in_a_recipe() -> None:
    named = {name for told in read_advice(ML).values() for name in re.findall(r"`([^`]+)`", told["advice"])}
    assert named and named <= FLAGS


def test_only_an_issue_has_advice() -> None:
    rules = [{"rule": "Overfit", "status": status} for status in ("IssuesFound", "NoIssuesFound", "Error")]
    assert ["advice" in rule for rule in with_advice(rules, ML)] == [True, False, False]


def test_code_of_another_kind_advises_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "debugger/rules"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("class Overfit(:\n")
    (folder / "b.py").write_text("class Other:\n    '''It is.'''\n    ADVICE = open('x').read()\n")
    rule = {"rule": "Other", "status": "IssuesFound"}
    assert with_advice([rule], tmp_path) == [rule] == with_advice([rule], tmp_path / "absent")
