"""Which earlier searches of a recipe a new one begins from. Pure: what SageMaker tells about them in, a decision out.

The rules are those of SageMaker's guide, "Run a Warm Start Hyperparameter Tuning Job": parents have ended; the same
objective; the same names of hyperparameters, fixed and searched for together, and a range keeps its type; at most 10
changes of fixed values or from searched for to fixed; at most 5 parents, whose trials count against the limit of the
new job. An answer of the API adds that a trial's environment must be the same. Where the guide leaves open whether a
number holds for each parent or for all of them, it is kept for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["IdenticalDataAndAlgorithm", "TransferLearning"]
Job = Mapping[str, Any]
"""A DescribeHyperParameterTuningJob response, or a CreateHyperParameterTuningJob request."""

# A search learns from its parents' trials, not from those of their parents: what should be remembered must be a parent
# itself. So all that SageMaker takes are of use, the last weeks' and the champion's.
MAX_PARENTS = 5
MAX_CHANGES = 10
MAX_TRIALS = 750
ENDED = ("Completed", "Stopped", "Failed")


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """What a search begins from, decided once a run."""

    type: Kind | None = None
    """None: from nothing."""
    parents: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Earlier tuning jobs that it does not begin from → why."""
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"parents": list(self.parents)}


def choose(request: Job, earlier: Sequence[Job]) -> WarmStart:
    """What the search of `request` begins from, of `earlier` ones, the most wanted first."""
    left_out = {_name(job): why for job in earlier if (why := obstacle(request, job))}
    usable = [job for job in earlier if _name(job) not in left_out]
    twins = [job for job in usable if is_twin(request, job)]
    # One type holds for all parents, and results on the same data and code need no translation.
    if twins and (others := [job for job in usable if job not in twins]):
        left_out |= {_name(job): f"has other data or code than {_name(twins[0])}" for job in others}
    parents = _within_limits(request, twins or usable, left_out)
    if not parents:
        reason = "no earlier search can be used" if left_out else "there is no earlier search"
        return WarmStart(left_out=left_out, reason=reason)
    return WarmStart(
        type="IdenticalDataAndAlgorithm" if twins else "TransferLearning",
        parents=tuple(map(_name, parents)),
        left_out=left_out,
        reason="same data and code" if twins else "other data, code or fixed values",
    )


def config(decided: Mapping[str, Any] | None) -> dict[str, Any]:
    """The WarmStartConfig of a decision as XCom keeps it, as a member of the request; nothing when there is none."""
    if not (decided and decided["parents"]):
        return {}
    parents = [{"HyperParameterTuningJobName": name} for name in decided["parents"]]
    return {"WarmStartConfig": {"ParentHyperParameterTuningJobs": parents, "WarmStartType": decided["type"]}}


def obstacle(request: Job, job: Job) -> str:
    """Why SageMaker, or sense, would refuse this parent; empty when nothing is against it."""
    definition = job.get("TrainingJobDefinition")
    if definition is None:
        return "has several training job definitions"
    status, own = job["HyperParameterTuningJobStatus"], request["TrainingJobDefinition"]
    if status not in ENDED:
        return f"is {status}; a parent must have ended"
    if not job.get("ObjectiveStatusCounters", {}).get("Succeeded"):
        return f"is {status} without a trial that gave a result"
    if _home(definition) != _home(own):
        return f"belongs to {_home(definition)}, not to {_home(own)}"
    if _objective(job) != _objective(request):
        return f"searched for another objective, {' '.join(_objective(job))}"
    if different := _names(job) ^ _names(request):
        return f"has not the same hyperparameters: {', '.join(sorted(different))}"
    before, now = _ranges(job), _ranges(request)
    if changed := sorted(name for name in before.keys() & now.keys() if before[name][0] != now[name][0]):
        return f"has ranges of another type: {', '.join(changed)}"
    variables = definition.get("Environment", {}).items() ^ own.get("Environment", {}).items()
    if variables:
        return f"ran with another environment: {', '.join(sorted({name for name, _ in variables}))}"
    if (changes := _changes(request, job)) > MAX_CHANGES:
        return f"has {changes} changes of fixed values, more than {MAX_CHANGES}"
    return ""


def is_twin(request: Job, job: Job) -> bool:
    """Whether a trial of one would have come to the same result in the other: data, image, code and fixed values."""
    own, theirs = request["TrainingJobDefinition"], job["TrainingJobDefinition"]
    images = (definition["AlgorithmSpecification"].get("TrainingImage") for definition in (own, theirs))
    fixed, fixed_there = _fixed(request), _fixed(job)
    return (
        len(set(images)) == 1
        and _data(own) == _data(theirs)
        # The code is one of the fixed values: sagemaker_submit_directory, under its digest.
        and all(fixed[name] == fixed_there[name] for name in fixed.keys() & fixed_there.keys())
    )


# --- parts ----------------------------------------------------------------------------------------------------------


def _within_limits(request: Job, wanted: Sequence[Job], left_out: dict[str, str]) -> list[Job]:
    """As many as the limits allow of those wanted; what is left out for a limit is noted."""
    taken: list[Job] = []
    changes, trials = 0, int(request["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxNumberOfTrainingJobs"])
    for job in wanted:
        more_changes, more_trials = _changes(request, job), sum(job.get("TrainingJobStatusCounters", {}).values())
        if len(taken) == MAX_PARENTS:
            left_out[_name(job)] = f"is older than {MAX_PARENTS} others"
        elif changes + more_changes > MAX_CHANGES:
            left_out[_name(job)] = f"would make {changes + more_changes} changes of fixed values, of {MAX_CHANGES}"
        elif trials + more_trials > MAX_TRIALS:
            left_out[_name(job)] = f"would make {trials + more_trials} trials, of {MAX_TRIALS}"
        else:
            taken.append(job)
            changes, trials = changes + more_changes, trials + more_trials
    return taken


def _changes(request: Job, job: Job) -> int:
    """From a parent, as SageMaker counts: a value that changes twice, as the old and the new; a list by its values."""
    fixed, fixed_before, searched = _fixed(request), _fixed(job), _ranges(job)
    values = sum(2 for name in fixed if fixed_before.get(name, fixed[name]) != fixed[name])
    return values + sum(searched[name][1] for name in fixed if name in searched)


def _fixed(job: Job) -> dict[str, str]:
    static = job["TrainingJobDefinition"].get("StaticHyperParameters", {})
    # SageMaker adds _tuning_objective_metric itself, and tells it when asked.
    return {name: value for name, value in static.items() if not name.startswith("_tuning")}


def _ranges(job: Job) -> dict[str, tuple[str, int]]:
    """Hyperparameter → its type, and for how many changes it counts when it becomes a fixed one."""
    ranges = job["HyperParameterTuningJobConfig"].get("ParameterRanges", {})
    return {item["Name"]: (kind, len(item.get("Values", "1"))) for kind, items in ranges.items() for item in items}


def _names(job: Job) -> set[str]:
    return _fixed(job).keys() | _ranges(job).keys()


def _objective(job: Job) -> tuple[str, str]:
    objective = job["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    return objective["Type"], objective["MetricName"]


def _data(definition: Job) -> dict[str, str]:
    channels = definition.get("InputDataConfig", [])
    return {channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in channels}


def _home(definition: Job) -> str:
    """The recipe's folder: two environments of one account may have recipes of the same name in two buckets."""
    return str(definition["OutputDataConfig"]["S3OutputPath"]).split("/runs/")[0]


def _name(job: Job) -> str:
    return str(job["HyperParameterTuningJobName"])
