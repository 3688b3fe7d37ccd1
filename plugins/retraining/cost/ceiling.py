"""What a run may cost at most, known before anything is paid for: its jobs' own time limits times their machines.

Counted is what SageMaker bills by the instance-hour: the verification of images where a job may do it, all trials, the
final training and its warm pool, the evaluation of the rules where it may be ours (SageMaker's own evaluators of
built-in rules are free), and all batch transforms.
Spot capacity counts at the full price. A training or processing job is ended by SageMaker at its MaxRuntimeInSeconds;
a transform job has no limit of its own, and is stopped by the task that waits for it, if Airflow lives.

Not bounded by anything, and not counted: what a training takes to fetch its image and data before its clock starts and
to upload its model after it, another job in the place of one that failed because of the platform, storage, requests
and logs. The endpoint is no job; it costs as long as it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retraining.container_images import Images
from retraining.job_kinds import QUEUE_ALLOWANCE_SECONDS, TRANSFORM_LIMIT_SECONDS
from retraining.plan import Plan
from retraining.recipe.budget import Budget
from retraining.requests import debugger as debugger_requests
from retraining.requests import sagemaker as requests
from retraining.requests import verification as verification_requests

# What SageMaker gives a training or processing job to end once its limit has passed (API reference, StoppingCondition).
STOPPING_SECONDS = 120
SHOWN_ITEMS = 3


class BudgetExceeded(ValueError):
    """The jobs of this run could cost more than the recipe allows."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """Some jobs of one task, and how long each may run."""

    task: str
    jobs: int
    instances: int
    """Of each job."""
    instance_type: str
    seconds: int
    """Of each job, at most."""

    @property
    def hours(self) -> float:
        return self.jobs * self.instances * self.seconds / 3600

    def __str__(self) -> str:
        jobs = f"{self.jobs} jobs of " if self.jobs > 1 else ""
        return f"{self.task} {jobs}{self.instances} x {self.instance_type} for {self.seconds / 3600:.2f} h"


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """An upper bound of one run."""

    items: tuple[Item, ...]
    endpoint: tuple[int, str]
    """Instances and type of what serves, as long as it serves."""
    budget: Budget

    @property
    def hours(self) -> float:
        return sum(item.hours for item in self.items)

    @property
    def unpriced(self) -> list[str]:
        return self.budget.unpriced(item.instance_type for item in self.items)

    @property
    def usd(self) -> float | None:
        """None where a price is missing."""
        return None if self.unpriced else sum(self.usd_of(item) for item in self.items)

    @property
    def endpoint_usd_per_day(self) -> float | None:
        instances, instance_type = self.endpoint
        price = self.budget.usd_per_hour.get(instance_type)
        return None if price is None else 24 * instances * price

    def usd_of(self, item: Item) -> float:
        """KeyError for a type without a price."""
        return item.hours * self.budget.usd_per_hour[item.instance_type]

    def as_dict(self) -> dict[str, Any]:
        items = [
            {
                "task": item.task,
                "jobs": item.jobs,
                "instances": item.instances,
                "instance_type": item.instance_type,
                "seconds": item.seconds,
                "instance_hours": round(item.hours, 4),
            }
            for item in self.items
        ]
        return {
            "instance_hours": round(self.hours, 4),
            "usd": None if self.usd is None else round(self.usd, 4),
            "items": items,
            "endpoint_usd_per_day": self.endpoint_usd_per_day,
            "usd_per_hour": dict(self.budget.usd_per_hour),
            "max_usd": self.budget.max_usd,
            "max_instance_hours": self.budget.max_instance_hours,
        }

    def __str__(self) -> str:
        usd = "" if self.usd is None else f", {self.usd:.2f} USD"
        return f"{self.hours:.2f} instance-hours{usd}"


def ceiling(plan: Plan, images: Images) -> Ceiling:
    """What the requests of this run allow; whatever the trigger form changed is in its plan."""
    # Neither data nor code is known yet, and neither is a limit.
    tuning = requests.tuning_job(plan, images, "", "")
    training = requests.training_job(plan, images, "", "", {})
    scoring = requests.transform_job(plan, plan.candidate_scoring_job, plan.model, "")
    items = []
    if plan.recipe.may_verify_in_a_job:
        verification = verification_requests.verification_job(plan, images, None)
        limit = verification["StoppingCondition"]["MaxRuntimeInSeconds"] + STOPPING_SECONDS
        items.append(_item("verify_images", 1, verification["ProcessingResources"]["ClusterConfig"], limit))
    trials = tuning["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxNumberOfTrainingJobs"]
    items += [_training("tune", trials, tuning["TrainingJobDefinition"]), _training("train", 1, training)]
    if kept_warm := training["ResourceConfig"].get("KeepAlivePeriodInSeconds"):
        items.append(_item("train (kept warm)", 1, training["ResourceConfig"], kept_warm))
    if plan.recipe.may_evaluate_rules:
        evaluation = debugger_requests.evaluation_job(plan, images, "", plan.training_job)
        limit = evaluation["StoppingCondition"]["MaxRuntimeInSeconds"] + STOPPING_SECONDS
        items.append(_item("evaluate_rules", 1, evaluation["ProcessingResources"]["ClusterConfig"], limit))
    shadow = ("shadow_candidate", "shadow_champion") if plan.recipe.in_captured_shadow else ()
    for task in ("score_candidate", "score_champion", *shadow):
        limit = TRANSFORM_LIMIT_SECONDS + QUEUE_ALLOWANCE_SECONDS
        items.append(_item(task, 1, scoring["TransformResources"], limit))
    (served,) = requests.endpoint_config(plan)["ProductionVariants"]
    endpoint = (served["InitialInstanceCount"], served["InstanceType"])
    return Ceiling(items=tuple(items), endpoint=endpoint, budget=plan.recipe.budget)


def require_within_budget(found: Ceiling) -> None:
    """BudgetExceeded names what the run could cost, what it may, the largest items and the way out."""
    budget = found.budget
    if budget.max_usd is not None and found.unpriced:
        raise BudgetExceeded(
            f"Whether budget.max_usd = {budget.max_usd:g} is kept cannot be told: budget.usd_per_hour has no price for "
            f"{', '.join(found.unpriced)}. Add what an hour of it costs in your region, also where "
            "RETRAINING_TRAINING_INSTANCE_TYPE or RETRAINING_SERVING_INSTANCE_TYPE names it. No job has been started."
        )
    usd = found.usd
    if budget.max_usd is not None and usd is not None and usd > budget.max_usd:
        largest = sorted(found.items, key=found.usd_of, reverse=True)
        raise BudgetExceeded(_refusal(f"{usd:.2f} USD", "budget.max_usd", budget.max_usd, largest))
    if budget.max_instance_hours is not None and found.hours > budget.max_instance_hours:
        largest = sorted(found.items, key=lambda item: item.hours, reverse=True)
        could = f"{found.hours:.2f} instance-hours"
        raise BudgetExceeded(_refusal(could, "budget.max_instance_hours", budget.max_instance_hours, largest))


def _refusal(could: str, key: str, limit: float, largest: Sequence[Item]) -> str:
    shown = "; ".join(str(item) for item in largest[:SHOWN_ITEMS])
    return (
        f"If every job took all its time, this run would cost {could}; {key} = {limit:g} allows less. The largest "
        f"items: {shown}. Lower tuning.max_jobs, training.max_runtime_seconds or training.instance_count, choose "
        f"smaller instances, or raise {key}. No job has been started."
    )


# --- parts ----------------------------------------------------------------------------------------------------------


def _training(task: str, jobs: int, definition: Mapping[str, Any]) -> Item:
    limit = definition["StoppingCondition"]["MaxRuntimeInSeconds"] + STOPPING_SECONDS
    return _item(task, jobs, definition["ResourceConfig"], limit)


def _item(task: str, jobs: int, machine: Mapping[str, Any], seconds: int) -> Item:
    return Item(
        task=task,
        jobs=jobs,
        instances=machine["InstanceCount"],
        instance_type=machine["InstanceType"],
        seconds=seconds,
    )
