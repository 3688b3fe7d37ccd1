"""What the Debugger rules found, and whether the run may go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from retraining.job_kinds import RULES_DONE


@dataclass(frozen=True, kw_only=True)
class RuleVerdict:
    """One rule about one training job."""

    rule: str
    status: str
    details: str
    policy: str
    """fail, warn or ignore, from the recipe; the profiler report never stops a run."""

    @property
    def stops(self) -> bool:
        """Only an issue that was found stops a run. A rule that could not be evaluated says nothing about the model."""
        return self.status == "IssuesFound" and self.policy == "fail"

    @property
    def warns(self) -> bool:
        return self.status != "NoIssuesFound" and self.policy != "ignore" and not self.stops

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        details = f": {self.details.strip()}" if self.details else ""
        return f"{self.rule} {self.status}{details}"


def stopping_rules(training_job: Mapping[str, Any]) -> list[str]:
    """The rules that were to stop this training when they find an issue."""
    return [
        rule["RuleConfigurationName"]
        for rule in training_job.get("DebugRuleConfigurations") or []
        if "stoptraining" in (given := rule.get("RuleParameters", {})).get("action_json", "")
        or given.get("stop_training_on_fire", "").lower() == "true"
    ]


def rule_verdicts(training_job: Mapping[str, Any], policies: Mapping[str, str]) -> list[RuleVerdict]:
    """The verdicts in one DescribeTrainingJob answer, debug rules first."""
    return [
        RuleVerdict(
            rule=entry["RuleConfigurationName"],
            # Still running when nobody waits any longer: as little known as after an error of the rule.
            status=entry["RuleEvaluationStatus"] if entry["RuleEvaluationStatus"] in RULES_DONE else "Error",
            details=entry.get("StatusDetails", ""),
            policy=policies.get(entry["RuleConfigurationName"], "warn"),
        )
        for key in ("DebugRuleEvaluationStatuses", "ProfilerRuleEvaluationStatuses")
        for entry in training_job.get(key) or []
    ]
