"""What a Debugger rule means and what to do about an issue: as its class in `ml/debugger/rules/` says, the one home.

`ml/` is another program and is never imported; it is read as it is shipped to SageMaker.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

RULES = "debugger/rules"
PROFILER = "profiler/report/advice.py"


def with_advice(rules: Sequence[Mapping[str, str]], source: Path) -> list[dict[str, str]]:
    """Verdicts, those of issues with `means` and `advice` where the code in `source` (`ml/`) knows the rule."""
    known = read_advice(source)
    return [{**rule, **(known.get(rule["rule"], {}) if rule["status"] == "IssuesFound" else {})} for rule in rules]


@functools.lru_cache(maxsize=4)
def read_advice(source: Path) -> Mapping[str, Mapping[str, str]]:
    """Rule → {"means": a sentence, "advice": another}; without those that cannot be read: nothing depends on them."""
    return {
        rule.name: {"means": means.splitlines()[0], "advice": advice}
        for path in sorted((source / RULES).glob("*.py"))
        for rule in _classes(path)
        if (means := ast.get_docstring(rule)) and (advice := _advice(rule))
    }


@functools.lru_cache(maxsize=4)
def read_profiler_advice(source: Path) -> Mapping[str, Mapping[str, str]]:
    """The same of the profiler's sub-rules, whose home is `ADVICE` of the report that they stand in."""
    try:
        tree = ast.parse((source / PROFILER).read_text(encoding="utf-8"))
        told = next(node.value for node in tree.body if isinstance(node, ast.Assign) and _names(node) == ["ADVICE"])
        return {name: {"means": means, "advice": advice} for name, (means, advice) in ast.literal_eval(told).items()}
    except (OSError, StopIteration, SyntaxError, TypeError, ValueError):
        return {}


def _names(node: ast.AST) -> list[str]:
    return [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]


def _classes(path: Path) -> Iterator[ast.ClassDef]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    yield from (node for node in tree.body if isinstance(node, ast.ClassDef))


def _advice(rule: ast.ClassDef) -> str:
    for node in rule.body:
        if isinstance(node, ast.Assign) and "ADVICE" in _names(node) and isinstance(node.value, ast.Constant):
            return str(node.value.value)
    return ""
