"""Which earlier searches a new one begins from, and why not from the others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from retraining import steps
from retraining.container_images import resolve_images
from retraining.plan import Plan, run_name
from retraining.recipe import read_recipe
from retraining.requests.sagemaker import tuning_job
from retraining.run import Run
from retraining.steps import task_requests as task_requests
from retraining.tuning.warm_start import WarmStart, choose, config, obstacle

LR = {"lr": {"type": "continuous", "min": 0.001, "max": 0.1, "scaling": "Logarithmic"}}
BATCH = {"batch-size": {"type": "categorical", "values": [16, 32, 64]}}

Search = Callable[..., dict[str, Any]]


@pytest.fixture
def search(make_plan: Callable[..., Plan]) -> Search:
    """search(data=…, code=…, …): the request of one; keys of the recipe may be replaced."""

    def make(data: str = "d1", code: str = "c1", bucket: str = "a-bucket", **changes: Any) -> dict[str, Any]:
        plan = make_plan(bucket, **changes)
        images = resolve_images(plan.recipe, plan.environment)
        return tuning_job(plan, images, data, plan.uri(plan.source_key(code)))

    return make


def ended(request: dict[str, Any], name: str = "last-week", status: str = "Completed", trials: int = 4) -> Any:
    """The same, as SageMaker describes it when it is over."""
    job = copy.deepcopy(request) | {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobStatus": status,
        "TrainingJobStatusCounters": {"Completed": trials, "Stopped": 0},
        "ObjectiveStatusCounters": {"Succeeded": trials, "Pending": 0, "Failed": 0},
    }
    definition = job["TrainingJobDefinition"]
    definition["StaticHyperParameters"]["_tuning_objective_metric"] = "validation:accuracy"
    for channel in definition["InputDataConfig"]:
        channel |= {"CompressionType": "None", "RecordWrapperType": "None"}
    return job


def tuning(**changes: Any) -> dict[str, Any]:
    return {"tuning": {"ranges": LR} | changes}


def test_a_first_search_begins_from_nothing(search: Search) -> None:
    decided = choose(search(), [])
    assert (decided.type, decided.parents, decided.reason) == (None, (), "there is no earlier search")
    assert config(decided.as_dict()) == config(None) == {}


@pytest.mark.parametrize(
    ("now", "type_"),
    [
        ({}, "IdenticalDataAndAlgorithm"),
        (tuning(max_jobs=9, ranges={"lr": LR["lr"] | {"max": 0.2}}), "IdenticalDataAndAlgorithm"),
        ({"data": "d2"}, "TransferLearning"),
        ({"code": "c2"}, "TransferLearning"),
        ({"hyperparameters": {"arch": "resnet18", "epochs": 9}}, "TransferLearning"),
        ({"debugger": {"mode": "off"}}, "TransferLearning"),  # another training image
    ],
    ids=["nothing", "ranges", "data", "code", "fixed value", "image"],
)
def test_what_changed_decides_how_earlier_results_count(search: Search, now: dict[str, Any], type_: str) -> None:
    decided = choose(search(**now), [ended(search())])
    assert (decided.parents, decided.type, decided.left_out) == (("last-week",), type_, {})
    assert config(decided.as_dict())["WarmStartConfig"] == {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "last-week"}],
        "WarmStartType": type_,
    }


@pytest.mark.parametrize(
    ("status", "trials", "said"),
    [
        ("Completed", 1, ""),
        ("Stopped", 1, ""),
        ("Failed", 1, ""),
        ("Failed", 0, "is Failed without a trial that gave a result"),
        ("InProgress", 2, "is InProgress; a parent must have ended"),
        ("Stopping", 2, "is Stopping; a parent must have ended"),
        ("DeleteFailed", 2, "is DeleteFailed; a parent must have ended"),
    ],
)
def test_a_parent_has_ended_with_a_result(search: Search, status: str, trials: int, said: str) -> None:
    assert obstacle(search(), ended(search(), status=status, trials=trials)) == said


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (
            tuning(objective="validation:loss", goal="Minimize"),
            "searched for another objective, Minimize validation:loss",
        ),
        (tuning(ranges=LR | BATCH), "has not the same hyperparameters: batch-size"),
        ({"hyperparameters": {"arch": "resnet18", "epochs": 2, "seed": 3}}, "has not the same hyperparameters: seed"),
        (
            tuning(ranges={"lr": {"type": "categorical", "values": [0.01, 0.02]}}),
            "has ranges of another type: lr",
        ),
        ({"tracking": {"wandb": {"project": "p"}}}, "ran with another environment: WANDB_MODE, WANDB_PROJECT"),
        ({"bucket": "b-bucket"}, "belongs to s3://b-bucket/shapes, not to s3://a-bucket/shapes"),
        ({"name": "others"}, "belongs to s3://a-bucket/others, not to s3://a-bucket/shapes"),
    ],
)
def test_what_sagemaker_would_refuse_is_left_out_and_said(search: Search, before: dict[str, Any], said: str) -> None:
    decided = choose(search(), [ended(search(**before))])
    assert (decided.parents, decided.left_out) == ((), {"last-week": said})
    assert decided.reason == "no earlier search can be used"


def test_a_job_of_several_definitions_is_left_out(search: Search) -> None:
    foreign = ended(search())
    del foreign["TrainingJobDefinition"]
    assert obstacle(search(), foreign) == "has several training job definitions"


def test_fixed_and_searched_may_change_places(search: Search) -> None:
    fixed = search(hyperparameters={"arch": "resnet18", "epochs": 2, "batch-size": 32})
    searched = search(**tuning(ranges=LR | BATCH))
    assert obstacle(fixed, ended(searched)) == obstacle(searched, ended(fixed)) == ""


def test_a_tracked_recipe_begins_from_its_earlier_searches_too(search: Search) -> None:
    """W&B's group is the run's name, which no trial's environment may hold: it would be another one every week."""
    tracked = {"tracking": {"wandb": {"project": "p"}, "mlflow": {"tracking_uri": "https://mlflow"}}}
    assert choose(search(**tracked), [ended(search(**tracked))]).parents == ("last-week",)


def test_results_on_the_same_data_and_code_are_preferred(search: Search) -> None:
    twin, other = ended(search(), "twin"), ended(search(data="d0"), "other")
    decided = choose(search(), [other, twin])
    assert (decided.type, decided.parents) == ("IdenticalDataAndAlgorithm", ("twin",))
    assert decided.left_out == {"other": "has other data or code than twin"}


def test_the_most_wanted_come_first_and_five_are_enough(search: Search) -> None:
    earlier = [ended(search(data=f"d{week}"), f"week-{week}") for week in range(7)]
    decided = choose(search(data="today"), earlier)
    assert decided.parents == tuple(f"week-{week}" for week in range(5))
    assert decided.left_out == dict.fromkeys(("week-5", "week-6"), "is older than 5 others")


def test_changes_of_all_parents_together_stay_below_the_limit(search: Search) -> None:
    """Each of these has another arch, epochs and code: 6 changes, as every old and every new value counts."""
    earlier = [
        ended(search(code="c0", hyperparameters={"arch": "resnet34", "epochs": 9}), f"week-{week}") for week in range(3)
    ]
    near = ended(search(code="c0"), "near")
    decided = choose(search(), [*earlier, near])
    assert decided.parents == ("week-0", "near")
    assert decided.left_out["week-1"] == "would make 12 changes of fixed values, of 10"


def test_a_single_parent_may_be_too_different(search: Search) -> None:
    values = {"arch": "resnet34", "epochs": 1, "seed": 1, "optimizer": "sgd", "stem": "small"}
    other = {"arch": "resnet18", "epochs": 2, "seed": 2, "optimizer": "adam", "stem": "standard"}
    assert obstacle(search(hyperparameters=values), ended(search(hyperparameters=other))) == ""
    many = search(code="c2", hyperparameters=values)
    assert obstacle(many, ended(search(hyperparameters=other))) == "has 12 changes of fixed values, more than 10"


def test_a_list_that_becomes_a_value_counts_with_all_its_values(search: Search) -> None:
    values = [8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48]
    before = search(**tuning(ranges=LR | {"batch-size": {"type": "categorical", "values": values}}))
    fixed = search(hyperparameters={"arch": "resnet18", "epochs": 2, "batch-size": 32})
    assert obstacle(fixed, ended(before)) == "has 11 changes of fixed values, more than 10"


def test_trials_of_the_parents_count_against_the_limit(search: Search) -> None:
    earlier = [ended(search(), "large", trials=745), ended(search(), "small", trials=3)]
    decided = choose(search(**tuning(max_jobs=8)), earlier)
    assert decided.parents == ("small",)
    assert decided.left_out == {"large": "would make 753 trials, of 750"}


def test_the_decision_is_the_same_whenever_it_is_made(search: Search) -> None:
    earlier = [ended(search(data=f"d{week}"), f"week-{week}") for week in range(4)]
    assert choose(search(), earlier) == choose(copy.deepcopy(search()), copy.deepcopy(earlier))
    assert isinstance(choose(search(), earlier), WarmStart)


class Memory:
    """SageMaker, as far as it remembers tuning jobs, and the XComs of a run."""

    def __init__(self, **known: Any) -> None:
        self.jobs: dict[str, Any] = {}
        self.known = known

    def get_paginator(self, _: str) -> Memory:
        return self

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        newest_first = [{"HyperParameterTuningJobName": name} for name in sorted(self.jobs, reverse=True)]
        return [{"HyperParameterTuningJobSummaries": newest_first}]

    def describe_hyper_parameter_tuning_job(self, HyperParameterTuningJobName: str) -> Any:
        return self.jobs[HyperParameterTuningJobName]

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.known.get(f"{task_ids}.{key}")


@pytest.fixture
def attempt(
    make_plan: Callable[..., Plan], recipe_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """attempt(memory, week, …): one attempt of a task in the run of a week; keys of the recipe may be replaced."""
    monkeypatch.setenv("RETRAINING_ENVIRONMENT", "local")
    monkeypatch.setenv("RETRAINING_BUCKET", "a-bucket")
    monkeypatch.setenv("RETRAINING_ROLE_ARN", "arn:aws:iam::000000000000:role/local-sagemaker")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    plan = make_plan()

    def make(memory: Memory, week: int, **changes: Any) -> Run:
        memory.known |= {
            "preflight.return_value": {"images": resolve_images(plan.recipe, plan.environment).as_dict()},
            "sync_dataset.return_value": {"fingerprint": f"d{week}"},
            "package_source.return_value": {"uri": "s3://a-bucket/shapes/code/c1/sourcedir.tar.gz"},
            "needs_retraining.champion": {"document": None},
        }
        dag_run = SimpleNamespace(run_after=datetime(2026, 11, week, tzinfo=UTC), run_id=f"manual__{week}")
        context: Any = {"ti": memory, "params": {}, "dag_run": dag_run}
        run = Run(read_recipe(recipe_data | changes, where="test"), context)
        run.__dict__["sagemaker"] = memory
        return run

    return make


def remember(memory: Memory, run: Run) -> str:
    """The search of a run, ended."""
    request = task_requests.tuning_request(run)
    name = str(request["HyperParameterTuningJobName"])
    memory.jobs[name] = ended(request, name)
    return name


def test_every_attempt_of_a_run_sends_the_same_request(attempt: Callable[..., Run]) -> None:
    memory = Memory()
    parent = remember(memory, attempt(memory, 1))
    memory.known["warm_start.return_value"] = steps.warm_start(attempt(memory, 2))
    first = task_requests.tuning_request(attempt(memory, 2))
    memory.jobs[run_name("shapes", datetime(2026, 11, 3, tzinfo=UTC), "manual__3", "bucket")] = memory.jobs.pop(parent)
    assert task_requests.tuning_request(attempt(memory, 2)) == first
    assert first["WarmStartConfig"] == {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": parent}],
        "WarmStartType": "TransferLearning",
    }


def test_a_search_never_begins_from_itself(attempt: Callable[..., Run]) -> None:
    """The task that decides may be cleared when the search is long over."""
    memory = Memory()
    remember(memory, attempt(memory, 2))
    assert steps.warm_start(attempt(memory, 2))["parents"] == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (tuning(warm_start="off"), "tuning.warm_start is off"),
        (tuning(warm_start=False), "tuning.warm_start is off"),
        (tuning(strategy="Random"), "a Random search learns nothing from earlier trials"),
    ],
)
def test_who_wants_no_warm_start_has_none(attempt: Callable[..., Run], changes: dict[str, Any], reason: str) -> None:
    memory = Memory()
    remember(memory, attempt(memory, 1))
    decided = steps.warm_start(attempt(memory, 2, **changes))
    assert (decided["parents"], decided["reason"]) == ([], reason)


def test_the_log_says_what_was_chosen_and_why_not_the_others(
    attempt: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory()
    caplog.set_level("INFO")
    parent, other = remember(memory, attempt(memory, 1)), remember(memory, attempt(memory, 3))
    memory.jobs[other]["HyperParameterTuningJobStatus"] = "InProgress"
    steps.warm_start(attempt(memory, 4))
    assert f"The search does not begin from {other}: it is InProgress; a parent must have ended." in caplog.text
    assert f"The search begins from {parent} (TransferLearning: other data, code or fixed values)." in caplog.text
