"""An operation takes what it uses: its signature says all that an answer depends on."""

from __future__ import annotations

import ast
import inspect
import typing
from pathlib import Path

import pytest

from local_sagemaker import app
from local_sagemaker.operations import admin
from local_sagemaker.platform import Platform

ROOT = Path(app.__file__).parent
FUNCTIONS = [function for found in (*app.operations().values(), admin.OPERATIONS) for function in found.values()]
PARTS = typing.get_type_hints(Platform) | typing.get_type_hints(app.Hosting) | {"platform": Platform}
#: What carries jobs and endpoints to their end, and so uses nearly all parts.
CARRIERS = ("jobs", "tuning", "transform", "hosting")


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_operation_asks_for_parts_that_are_there(function: app.Operation) -> None:
    request, *names = inspect.signature(function).parameters
    hints = typing.get_type_hints(function)
    assert request == "request"
    assert {name: hints[name] for name in names} == {name: PARTS[name] for name in names}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_operation_uses_what_it_asks_for(function: app.Operation) -> None:
    _, *names = inspect.signature(function).parameters
    (defined,) = ast.parse(inspect.getsource(function)).body
    used = {node.id for node in ast.walk(defined) if isinstance(node, ast.Name)}
    assert [name for name in names if name not in used] == []


def test_only_creating_a_job_takes_everything() -> None:
    whole = [function.__name__ for function in FUNCTIONS if "platform" in inspect.signature(function).parameters]
    assert all(name.startswith("create_") and name.endswith("_job") for name in whole), whole


def test_only_carriers_hold_the_platform() -> None:
    holders = {
        path.relative_to(ROOT).parts[0]
        for path in ROOT.rglob("*.py")
        if "from local_sagemaker.platform import" in path.read_text()
    }
    assert holders <= {*CARRIERS, "operations", "app.py"}
