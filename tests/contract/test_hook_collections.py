"""A recipe's collections of tensors are refused where the hook could not follow them, and nowhere else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from retraining.recipe import RecipeError
from retraining.recipe.hook_collection import check_collection

ROOT = Path(__file__).parents[2]
PROBES: tuple[tuple[str, dict[str, str]], ...] = (
    ("a", {}),
    ("a", {"include_regex": ".*relu"}),
    ("a", {"include_regex": "("}),
    ("a", {"include_regex": " , "}),
    ("gradients", {}),
    ("weights", {"save_interval": "0"}),
    ("weights", {"save_interval": "5", "end_step": "-1"}),
    ("weights", {"train.save_interval": "x"}),
    ("weights", {"eval.start_step": "3"}),
    ("weights", {"save_steps": "1, 2,3"}),
    ("weights", {"save_steps": "1,two"}),
    ("weights", {"reductions": "min,abs_mean"}),
    ("weights", {"reductions": "min,median"}),
    ("weights", {"reductions": "min", "save_raw_tensor": "maybe"}),
    ("weights", {"save_raw_tensor": "maybe"}),
    ("losses", {"reductions": "median"}),
)
ASK = """
import json, sys
sys.path.insert(0, "ml")
from debugger.hook_config import BadHookConfig, HookConfig
def follows(name, parameters):
    try:
        HookConfig.of({"CollectionConfigurations": [{"CollectionName": name, "CollectionParameters": parameters}]})
    except BadHookConfig:
        return False
    return True
print(json.dumps([follows(*probe) for probe in json.loads(sys.argv[1])]))
"""


@pytest.fixture(scope="module")
def followed() -> Any:
    python = ROOT / ".venv/ml/bin/python"
    asked = [python, "-c", ASK, json.dumps(PROBES)]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


def accepts(name: str, parameters: dict[str, str]) -> bool:
    try:
        check_collection(name, parameters)
    except RecipeError:
        return False
    return True


def test_collections_are_read_alike(followed: list[bool]) -> None:
    assert [accepts(*probe) for probe in PROBES] == followed
    assert {True, False} == set(followed)
