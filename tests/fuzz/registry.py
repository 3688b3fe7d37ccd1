"""All targets, by the interpreter that they need."""

from __future__ import annotations

import importlib

from tests.fuzz.target import Target

MODULES = {"airflow": ("tests.fuzz.data_step", "tests.fuzz.local_server"), "ml": ("tests.fuzz.model_server",)}


def targets(interpreter: str) -> dict[str, Target]:
    found = [target for module in MODULES[interpreter] for target in importlib.import_module(module).TARGETS]
    return {target.name: target for target in found}
