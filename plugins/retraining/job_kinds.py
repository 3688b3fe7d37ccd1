"""What the job types of SageMaker have in common, as data: how each is described, stopped and judged.

One operator and one trigger wait for all of them; what differs is in this table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

Description = Mapping[str, Any]

# Jobs made for one purpose: the first, and others only after a failure of the platform.
MAX_GENERATIONS = 3
# What SageMaker may take to find a machine, on top of the job's own limit.
QUEUE_ALLOWANCE_SECONDS = 2 * 3600
# SageMaker gives a transform job no time limit of its own: this is ours.
TRANSFORM_LIMIT_SECONDS = 4 * 3600
# Longer than any healthy blue/green update of these small containers.
UPDATE_LIMIT_SECONDS = 3600

# What a service says to whoever may not ask.
DENIED = ("AccessDenied", "AccessDeniedException")

RULES_DONE = ("NoIssuesFound", "IssuesFound", "Error", "Stopped")

# The last one is the registry's, of a package or a group of them.
ABSENT = re.compile(r"Requested resource not found|Could not find|Model ?Package.* does not exist")

# Failures of the platform, not of what it ran: worth another job. (The beginning of AWS's FailureReason.)
PLATFORM_FAILURES = ("InternalServerError", "CapacityError", "ServiceUnavailable", "ThrottlingException")


@dataclass(frozen=True, kw_only=True)
class JobKind:
    """One type of long-running SageMaker thing. Operation names are boto3's."""

    name: str
    name_key: str
    describe: str
    status_key: str
    create: str | None = None
    stop: str | None = None
    log_group: str | None = None
    own_log_group: bool = False
    """Whether each has a log group of its own in that one, with a stream for each instance, and not streams in it."""

    def status(self, description: Description) -> str:
        """SageMaker's own status word. For rules, whose statuses are a list, Completed once all have ended."""
        if self.name == "rules":
            return "Completed" if all(s in RULES_DONE for s in rule_statuses(description).values()) else "InProgress"
        return str(description[self.status_key])

    def in_progress(self, description: Description) -> bool:
        return self.status(description) in IN_PROGRESS

    def log_streams(self, name: str) -> dict[str, Any]:
        """DescribeLogStreams: the newest ones of an endpoint, which has those of all its instances ever."""
        if self.own_log_group:
            return {"logGroupName": f"{self.log_group}/{name}", "orderBy": "LastEventTime", "descending": True}
        return {"logGroupName": self.log_group, "logStreamNamePrefix": f"{name}/"}

    def generation(self, name: str, number: int) -> str:
        """The name of the n-th job made for one purpose; only failures of the platform lead to a second."""
        return name if number == 1 else f"{name}-g{number}"


IN_PROGRESS = ("InProgress", "Stopping", "Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")

KINDS: dict[str, JobKind] = {
    kind.name: kind
    for kind in (
        JobKind(
            name="tuning",
            name_key="HyperParameterTuningJobName",
            describe="describe_hyper_parameter_tuning_job",
            status_key="HyperParameterTuningJobStatus",
            create="create_hyper_parameter_tuning_job",
            stop="stop_hyper_parameter_tuning_job",
        ),
        JobKind(
            name="training",
            name_key="TrainingJobName",
            describe="describe_training_job",
            status_key="TrainingJobStatus",
            create="create_training_job",
            stop="stop_training_job",
            log_group="/aws/sagemaker/TrainingJobs",
        ),
        JobKind(
            name="transform",
            name_key="TransformJobName",
            describe="describe_transform_job",
            status_key="TransformJobStatus",
            create="create_transform_job",
            stop="stop_transform_job",
            log_group="/aws/sagemaker/TransformJobs",
        ),
        JobKind(
            name="processing",
            name_key="ProcessingJobName",
            describe="describe_processing_job",
            status_key="ProcessingJobStatus",
            create="create_processing_job",
            stop="stop_processing_job",
            log_group="/aws/sagemaker/ProcessingJobs",
        ),
        # An endpoint is waited for, but never stopped by us: it serves.
        JobKind(
            name="endpoint",
            name_key="EndpointName",
            describe="describe_endpoint",
            status_key="EndpointStatus",
            log_group="/aws/sagemaker/Endpoints",
            own_log_group=True,
        ),
        # The rule evaluations of a training job, which end minutes after the job itself.
        JobKind(
            name="rules", name_key="TrainingJobName", describe="describe_training_job", status_key="TrainingJobStatus"
        ),
    )
}


def rule_statuses(description: Description) -> dict[str, str]:
    """Rule → status, from both lists of DescribeTrainingJob."""
    both = (description.get(key) or [] for key in ("DebugRuleEvaluationStatuses", "ProfilerRuleEvaluationStatuses"))
    return {rule["RuleConfigurationName"]: rule["RuleEvaluationStatus"] for rules in both for rule in rules}


def is_missing(error: ClientError) -> bool:
    """Whether an error of a call about one thing means that the thing does not exist.

    SageMaker answers most of these with ValidationException, which also means many other things, so the text decides.
    """
    code, message = (str(error.response["Error"].get(key, "")) for key in ("Code", "Message"))
    if code == "ResourceNotFound":
        return True
    return code == "ValidationException" and ABSENT.match(message) is not None


def already_exists(error: ClientError) -> bool:
    """Whether an error of a Create call means that somebody, probably our earlier attempt, has made it already."""
    code, message = (str(error.response["Error"].get(key, "")) for key in ("Code", "Message"))
    return code == "ResourceInUse" or message.startswith(
        ("Cannot create already existing", "Model Package Group already")
    )


def is_platform_failure(failure_reason: str) -> bool:
    return failure_reason.startswith(PLATFORM_FAILURES)
