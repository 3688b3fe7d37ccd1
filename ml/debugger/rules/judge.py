"""Judges one training by one rule configuration: steps in, one verdict document out, whatever goes wrong."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from debugger.rules.catalogue import NOT_FOR_CLASSIFIERS, RULES
from debugger.rules.parameters import InvalidParameter
from debugger.rules.verdicts import document, issue_document, read_actions
from debugger.tensors.records import CorruptTensors
from debugger.tensors.steps import MissingTensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from debugger.rules.rule import Rule, Verdict
    from debugger.tensors.steps import Step
    from debugger.tensors.stream import TensorStream

REASONS = {MissingTensors: "TensorUnavailable", InvalidParameter: "InvalidParameter", CorruptTensors: "CorruptTensors"}
NO_TENSORS = "the training saved no tensors at all; its image must have smdebug, and its script must create the hook"


class Judge:
    """`document` is None until there is a verdict; then it stays, and further steps are not looked at."""

    def __init__(self, name: str, given: Mapping[str, str], stream: TensorStream, no_tensors: str = NO_TENSORS) -> None:
        self.name, self.given, self.stream, self.no_tensors = name, given, stream, no_tensors
        self.kind = given.get("rule_to_invoke", name)
        self.document: dict[str, Any] | None = None
        self.rule: Rule | None = None
        self.actions: list[dict[str, Any]] = []
        self.attempt(self.begin)

    def begin(self) -> None:
        if self.kind not in RULES:
            unfit = "; this one is not for image classifiers" if self.kind in NOT_FOR_CLASSIFIERS else ""
            known = ", ".join([*RULES, "ProfilerReport"])
            self.document = document(
                self.name, "Error", f"unknown rule '{self.kind}'; this engine knows {known}{unfit}"
            )
            return None
        self.actions = read_actions(self.kind, self.given.get("action_json"))
        self.rule = RULES[self.kind](self.stream, self.given)
        return None

    @property
    def advice(self) -> str:
        return RULES[self.kind].ADVICE if self.kind in RULES else ""

    def anew(self, stream: TensorStream) -> Judge:
        """The same judge before its first step."""
        return Judge(self.name, self.given, stream, self.no_tensors)

    def look(self, step: Step) -> None:
        assert self.rule is not None
        self.attempt(self.rule.look, step)

    def idle(self, now: float) -> None:
        assert self.rule is not None
        self.attempt(self.rule.idle, now)

    def end(self, incomplete: str = "") -> None:
        """No more steps will come. `incomplete` says why there may have been more than were seen, else is empty."""
        self.attempt(self.conclude, incomplete)

    def conclude(self, incomplete: str) -> Verdict | None:
        if self.stream.collections is None:
            raise MissingTensors(self.no_tensors)
        assert self.rule is not None
        verdict = self.rule.end()
        if verdict.issue:
            return verdict
        if notes := self.stream.failure_notes():
            raise MissingTensors(f"recording stopped before the training ended: {'; '.join(notes)}")
        if incomplete:
            raise MissingTensors(incomplete)
        self.document = document(self.name, "NoIssuesFound", "", verdict.evidence)
        return None

    def attempt(self, action: Callable[..., Verdict | None], *arguments: object) -> None:
        """Do something of the rule's; its verdict, or what stopped it, becomes the document."""
        try:
            verdict = action(*arguments)
            if verdict is not None:
                actions = [*self.actions, *getattr(self.rule, "actions", [])]
                curve = self.rule.judged_last if self.rule else None
                self.document = issue_document(self.name, self.kind, verdict, actions, curve)
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        reason = REASONS.get(type(error))
        if reason is None:
            traceback.print_exception(type(error), error, error.__traceback__)
        self.document = document(self.name, "Error", f"{reason or type(error).__name__}: {error}")
