"""Who watches a training: SageMaker Debugger (managed), this package itself (self_hosted), or nobody (off).

A recipe that says auto is decided twice: before anything is paid for, by what is known, and when SageMaker refuses the
training because of Debugger. What a created job really has is read from the job, never from what was planned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from retraining.recipe import Recipe
from retraining.recipe.debugger import Mode

HOOK_HYPERPARAMETER = "debug-hook-config"
PROFILE_HYPERPARAMETER = "profile"

MANAGED_MEMBERS = ("DebugHookConfig", "DebugRuleConfigurations", "ProfilerRuleConfigurations")

# AWS does not say how an account is refused that Debugger is closed to: these kinds of error, and its name in the text.
REFUSALS = re.compile(r"Validation|AccessDenied|Unsupported|NotAuthorized|Unauthorized|Subscription|OptIn")
NAMED = re.compile(r"\bDebugger\b|\bDebugHookConfig|\bDebugRuleConfiguration|\bProfilerRuleConfiguration")
# The wording of values that break the service model: a mistake in the request, and no word about the account.
CONSTRAINT = "failed to satisfy constraint"

OTHER_MODES = "Set debugger.mode to self_hosted (the same rules, evaluated by this package) or to auto"


class DebuggerUnavailable(ValueError):
    """The recipe insists on SageMaker Debugger, and it cannot be had."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The mode of a run and why; the reason is for people."""

    mode: Mode
    reason: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What is known about an account that Debugger is closed to."""

    account: str
    reason: str
    noticed: str
    """ISO 8601 time."""
    uri: str
    """Where it is remembered; without that object it is forgotten."""

    def __str__(self) -> str:
        return (
            f"SageMaker refused Debugger to account {self.account} on {self.noticed}: {self.reason} "
            f"(To have it tried again: aws s3 rm {self.uri})"
        )


def decide_mode(recipe: Recipe, region: str, *, rule_image: str | None, refusal: Refusal | None) -> Decision:
    """The mode a run starts with. DebuggerUnavailable when the recipe insists on what cannot be had."""
    wanted = recipe.debugger.mode
    if wanted in ("off", "self_hosted"):
        return Decision(mode=wanted, reason="the recipe says so")
    if refusal is not None:
        obstacle = str(refusal)
    elif rule_image is None:
        obstacle = f"SageMaker Debugger has no rules in region {region}"
    elif recipe.debugger_obstacle:
        obstacle = recipe.debugger_obstacle
    else:
        return Decision(mode="managed", reason="nothing speaks against it")
    if wanted == "managed":
        raise DebuggerUnavailable(f"debugger.mode = 'managed': {obstacle}. {OTHER_MODES}.")
    return Decision(mode="self_hosted", reason=obstacle)


def in_mode(recipe: Recipe, mode: Mode) -> Recipe:
    """The recipe with its decided mode in the place of auto."""
    debugger = recipe.debugger
    # Nobody is there to stop a training whose rules are evaluated after it.
    stopping = debugger.stop_training if mode == "managed" else ()
    return replace(recipe, debugger=replace(debugger, mode=mode, stop_training=stopping))


def mode_of(training_job: Mapping[str, Any]) -> Mode:
    """How a training is watched, from its DescribeTrainingJob answer."""
    if any(training_job.get(member) for member in MANAGED_MEMBERS):
        return "managed"
    given = training_job.get("HyperParameters") or {}
    return "self_hosted" if {HOOK_HYPERPARAMETER, PROFILE_HYPERPARAMETER} & given.keys() else "off"


def is_refusal(code: str, message: str) -> bool:
    """Whether an error of CreateTrainingJob says that this account cannot have SageMaker Debugger."""
    # A role or a bucket may have the word in its name.
    said = re.sub(r"arn:\S+|s3://\S+", "", message)
    return bool(REFUSALS.search(code) and NAMED.search(said)) and CONSTRAINT not in said
