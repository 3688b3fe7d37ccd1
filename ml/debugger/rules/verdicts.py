"""Verdict documents: what a rule found, as the pipeline and SageMaker's statuses need it; and as a table for people.

    RuleConfigurationName
    RuleEvaluationStatus     NoIssuesFound, IssuesFound or Error
    StatusDetails            at most 1024 characters; empty without issues
    Evidence                 step, tensor, value, threshold, and what else the rule can tell
    Series                   of an issue, where the rule follows numbers over steps: see `Curve.as_dict`
    Actions                  [{"name": "stoptraining" | "email" | "sms", …}] of an issue, as the configuration asks
    RuleParameters, Tensors  what was judged with what

Whoever runs the engine carries out the actions, once, when a verdict with any appears; the engine itself stops nothing.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from debugger.rules.parameters import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from debugger.rules.curve import Curve
    from debugger.rules.rule import Verdict

DETAILS_LIMIT = 1024
# AWS's own sentence, which clients look for; ours follows on the next line.
CONDITION_MET = "RuleEvaluationConditionMet: Evaluation of the rule {rule}{where} resulted in the condition being met"
ACTIONS = {"stoptraining": (), "email": ("endpoint",), "sms": ("endpoint",)}  # name -> what it must tell


def document(
    name: str,
    status: str,
    details: str,
    evidence: Mapping[str, Any] | None = None,
    actions: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    return {
        "RuleConfigurationName": name,
        "RuleEvaluationStatus": status,
        "StatusDetails": details[:DETAILS_LIMIT],
        "Evidence": plain(evidence or {}),
        "Actions": list(actions),
    }


def issue_document(
    name: str, rule: str, verdict: Verdict, actions: Iterable[Mapping[str, Any]], curve: Curve | None = None
) -> dict[str, Any]:
    """Of a rule that fired; `curve` is what it judged last."""
    condition = CONDITION_MET.format(rule=rule, where=f" at step {verdict.step}")
    evidence = {"step": verdict.step, **verdict.evidence}
    found = document(name, "IssuesFound", f"{condition}\n{verdict.issue}", evidence, actions)
    return found | {"Series": curve.as_dict()} if curve else found


def plain(value: Any) -> Any:
    """What JSON can say: it knows no NaN, no infinity and none of numpy's numbers."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_actions(rule: str, text: str | None) -> list[dict[str, Any]]:
    """The actions of `action_json`: one object or a list of them.

    The SDK writes the text with backslashes before its quotes, so that it is not JSON until they are gone.
    """
    if not text:
        return []
    try:
        try:
            found = json.loads(text)
        except ValueError:
            found = json.loads(text.replace('\\"', '"'))
        actions = found if isinstance(found, list) else [found]
        for action in actions:
            missing = [member for member in ACTIONS[action["name"]] if not action.get(member)]
            if missing:
                raise ValueError(f"'{action['name']}' without {missing[0]}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        known = ", ".join(ACTIONS)
        message = (
            f"{rule}: action_json='{text}' is not a list of actions ({known}; email and sms with endpoint): {error}"
        )
        raise InvalidParameter(message) from error
    return actions


def write(path: Path, text: str) -> None:
    """Whole or not at all: others poll for these files."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def line(verdict: Mapping[str, Any]) -> str:
    """One line of a log."""
    return f"{verdict['RuleConfigurationName']}: {verdict['RuleEvaluationStatus']} {verdict['StatusDetails']}".strip()


def table(verdicts: Sequence[Mapping[str, Any]], advice: Mapping[str, str]) -> str:
    """What was found, for people. `advice` is rule configuration name -> what to do about an issue."""
    width = max([len(verdict["RuleConfigurationName"]) for verdict in verdicts] + [4])
    columns = max(60, min(shutil.get_terminal_size((120, 24)).columns, 160))
    rows = [f"{'rule':{width}}  {'status':13}  {'step':>7}  what was found"]
    for verdict in verdicts:
        status, evidence = verdict["RuleEvaluationStatus"], verdict["Evidence"]
        step = evidence.get("step") if status == "IssuesFound" else None
        start = f"{verdict['RuleConfigurationName']:{width}}  {status:13}  {'' if step is None else step:>7}  "
        found = verdict["StatusDetails"].rpartition("\n")[2] or "nothing wrong"
        lines = textwrap.wrap(found, columns - len(start), break_on_hyphens=False) or [""]
        if status == "IssuesFound" and (text := advice.get(verdict["RuleConfigurationName"])):
            lines += textwrap.wrap(f"-> {text}", columns - len(start), subsequent_indent="   ")
        rows += [start + lines[0]] + [" " * len(start) + more for more in lines[1:]]
    return "\n".join(rows)
