"""A recipe takes of a Debugger rule's parameters what the rule takes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from retraining.recipe import RecipeError
from retraining.recipe.debugger import ALL_RULES, Debugger
from retraining.recipe.rule_parameters import RULE_PARAMETERS

ROOT = Path(__file__).parents[2]
PROBES = (
    "0",
    "-1",
    "1",
    "2",
    "0.5",
    "100",
    "101",
    "1e-4",
    "1_0",
    " 3 ",
    "nan",
    "inf",
    "abc",
    "True",
    "train",
    "(",
    "a{1,2},b",
)
ASK = """
import json, sys
sys.path.insert(0, "ml")
from debugger.rules.catalogue import RULES
from debugger.rules.parameters import InvalidParameter, read_parameters
probes = json.loads(sys.argv[1])
def takes(name, rule, parameter, text):
    try:
        read_parameters(name, [parameter], {parameter.name: text})
    except InvalidParameter:
        return False
    return True
print(json.dumps({
    name: {each.name: [each.kind.says, [takes(name, rule, each, text) for text in probes]] for each in rule.PARAMETERS}
    for name, rule in RULES.items()
}))
"""  # fmt: skip


@pytest.fixture(scope="module")
def rules() -> Any:
    python = ROOT / ".venv/ml/bin/python"
    asked = subprocess.run(
        [python, "-c", ASK, json.dumps(PROBES)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(asked.stdout)


def test_each_parameter_is_read_alike(rules: Mapping[str, Any]) -> None:
    assert set(rules) == set(ALL_RULES) == set(RULE_PARAMETERS)
    ours = {
        rule: {name: [kind.says, [kind.accepts(text.strip()) for text in PROBES]] for name, kind in known.items()}
        for rule, known in RULE_PARAMETERS.items()
    }
    assert ours == rules


@pytest.mark.parametrize(
    ("rule", "given", "told"),
    [
        ("LossNotDecreasing", {"num_step": 80}, r"rule_parameters\.LossNotDecreasing = 'num_step'.*mean num_steps"),
        ("LossNotDecreasing", {"num_steps": 0}, r"num_steps = '0': must be a whole number of at least 1"),
        ("LossNotDecreasing", {"num_steps": "9" * 5000}, r"must be a whole number of at least 1"),
        ("LossNotDecreasing", {"num_steps": "abc"}, r"must be a whole number of at least 1"),
        ("TensorVariance", {"tensor_regex": ".*"}, r"rules = 'TensorVariance': needs max_threshold or min_threshold"),
        ("AllZero", {}, r"needs collection_names or tensor_regex"),
        ("ExplodingTensor", {"tensor_regex": "(" * 101 + ")" * 101}, r"must be one or several regular expressions"),
        ("ExplodingTensor", {"tensor_regex": "a{99999999999}"}, r"must be one or several regular expressions"),
        ("ExplodingTensor", {"tensor_regex": "("}, r"must be one or several regular expressions"),
    ],
)  # fmt: skip
def test_what_no_rule_takes_makes_no_dag(rule: str, given: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Debugger(rules={rule: "fail"}, rule_parameters={rule: given})
