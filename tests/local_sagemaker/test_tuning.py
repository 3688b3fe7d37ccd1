"""Tuning jobs: parallel training jobs, the best of them, how they end, and what survives a killed server."""

from __future__ import annotations

import copy
import random
import signal
import sqlite3
import time
from typing import Any

import botocore.exceptions
import pytest

from local_sagemaker.state.store import Record, Store
from local_sagemaker.tuning import child as child_jobs
from local_sagemaker.tuning.child import Child, Children
from local_sagemaker.tuning.plan import Plan
from tests.local_sagemaker.harness import Server, error
from tests.local_sagemaker.test_tuning_plan import request as plan_request
from tests.local_sagemaker.tuning import (
    BOWL,
    X_RANGE,
    children,
    describe,
    limits,
    run,
    tuning_request,
    wait,
    without,
)
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def finished(server: Server) -> dict[str, Any]:
    request = tuning_request(server, "tune") | {"Tags": [{"Key": "project", "Value": "digits"}]}
    request["TrainingJobDefinition"]["RetryStrategy"] = {"MaximumRetryAttempts": 2}
    return run(server, request)


def test_every_training_job_counts_and_the_best_is_the_best(server: Server, finished: Any) -> None:
    jobs = children(server, "tune", SortBy="FinalObjectiveMetricValue", SortOrder="Descending")
    values = [job["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for job in jobs]
    assert finished["HyperParameterTuningJobStatus"] == "Completed"
    assert finished["TrainingJobStatusCounters"]["Completed"] == 5
    assert finished["ObjectiveStatusCounters"] == {"Succeeded": 5, "Pending": 0, "Failed": 0}
    assert values == sorted(values, reverse=True)
    assert finished["BestTrainingJob"]["TrainingJobName"] == jobs[0]["TrainingJobName"]
    assert finished["TuningJobCompletionDetails"]["NumberOfTrainingJobsObjectiveNotImproving"] <= 4
    assert finished["ConsumedResources"]["RuntimeInSeconds"] < 60


def test_child_has_the_names_and_hyperparameters_sagemaker_gives(server: Server, finished: Any) -> None:
    jobs = children(server, "tune")
    described = server.sagemaker.describe_training_job(TrainingJobName=jobs[0]["TrainingJobName"])
    tags = server.sagemaker.list_tags(ResourceArn=described["TrainingJobArn"])["Tags"]
    assert [job["TrainingJobName"][:9] for job in jobs] == [f"tune-{number:03d}-" for number in range(1, 6)]
    assert described["TuningJobArn"] == finished["HyperParameterTuningJobArn"]
    assert described["HyperParameters"]["_tuning_objective_metric"] == "score"
    assert described["RetryStrategy"] == {"MaximumRetryAttempts": 2}
    assert tags == [{"Key": "project", "Value": "digits"}]
    assert set(jobs[0]["TunedHyperParameters"]) == {"x", "kind"}


def test_at_most_the_parallel_limit_runs_at_once(server: Server, finished: Any) -> None:
    spans = [(job["TrainingStartTime"], job["TrainingEndTime"]) for job in children(server, "tune")]
    at_once = max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)
    assert at_once <= 2


def test_list_of_children_is_sorted_filtered_and_paged(server: Server, finished: Any) -> None:
    ask = server.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job
    first = ask(HyperParameterTuningJobName="tune", MaxResults=3)
    second = ask(HyperParameterTuningJobName="tune", MaxResults=3, NextToken=first["NextToken"])
    names = [job["TrainingJobName"] for page in (first, second) for job in page["TrainingJobSummaries"]]
    assert names == sorted(names) and len(names) == 5  # by name, ascending, unless asked otherwise
    assert "NextToken" not in second
    newest = children(server, "tune", SortBy="CreationTime", SortOrder="Descending")[0]
    assert newest["TrainingJobName"].startswith("tune-005-")
    assert len(children(server, "tune", StatusEquals="Completed")) == 5
    assert children(server, "tune", StatusEquals="Failed") == []


def test_jobs_without_an_objective_are_not_sorted_by_it(server: Server) -> None:
    script = "import os\nif '-001-' not in os.environ['TRAINING_JOB_NAME']: print('score=1')"
    job = run(server, tuning_request(server, "tune-half", script, ResourceLimits=limits(2)))
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["ObjectiveStatusCounters"] == {"Succeeded": 1, "Pending": 0, "Failed": 1}
    assert len(children(server, "tune-half", SortBy="FinalObjectiveMetricValue")) == 1
    assert len(children(server, "tune-half", SortBy="Status")) == 2


def test_tuning_jobs_are_listed_by_name_and_filtered(server: Server, finished: Any) -> None:
    run(server, tuning_request(server, "another", ResourceLimits=limits(1)))
    listed = server.sagemaker.list_hyper_parameter_tuning_jobs(StatusEquals="Completed")
    names = [job["HyperParameterTuningJobName"] for job in listed["HyperParameterTuningJobSummaries"]]
    assert names[0] == "another" and names == sorted(names)
    named = server.sagemaker.list_hyper_parameter_tuning_jobs(NameContains="noth")
    assert len(named["HyperParameterTuningJobSummaries"]) == 1
    before = server.sagemaker.list_hyper_parameter_tuning_jobs(CreationTimeBefore=finished["CreationTime"])
    assert "another" not in {job["HyperParameterTuningJobName"] for job in before["HyperParameterTuningJobSummaries"]}


def test_tuning_job_without_any_success_fails_with_the_reason(server: Server) -> None:
    job = run(server, tuning_request(server, "tune-bad", "raise SystemExit('no luck')", ResourceLimits=limits(2)))
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("No training job succeeded after 2 attempts.")
    assert "no luck" in job["FailureReason"]
    assert job["TrainingJobStatusCounters"]["NonRetryableError"] == 2
    assert "BestTrainingJob" not in job


def test_tuning_job_gives_up_after_five_failures(server: Server) -> None:
    job = run(server, tuning_request(server, "tune-doomed", "raise SystemExit(1)", ResourceLimits=limits(40)))
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert 5 <= len(children(server, "tune-doomed")) <= 6  # two at a time


def test_jobs_that_print_no_objective_fail_in_sagemakers_words(server: Server) -> None:
    job = run(server, tuning_request(server, "tune-mute", "print('score is 1')", ResourceLimits=limits(2)))
    assert job["FailureReason"].startswith("No objective metrics found after running 2 training jobs.")
    assert job["ObjectiveStatusCounters"] == {"Succeeded": 0, "Pending": 0, "Failed": 2}


def test_stop_stops_the_children_too(server: Server) -> None:
    server.sagemaker.create_hyper_parameter_tuning_job(
        **tuning_request(server, "tune-stop", "import time; time.sleep(600)")
    )
    server.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune-stop")
    assert wait(server, "tune-stop")["HyperParameterTuningJobStatus"] == "Stopped"
    assert {job["TrainingJobStatus"] for job in children(server, "tune-stop")} <= {"Stopped"}
    said = error(lambda: server.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune-stop"))
    assert said["Code"] == "ValidationException"
    assert said["Message"] == "The request was rejected because the hyperparameter tuning job is in status Stopped."


def test_reached_target_ends_the_search_and_what_still_runs(server: Server) -> None:
    script = """
import os, time
if "-001-" in os.environ["TRAINING_JOB_NAME"]:
    time.sleep(600)
print("score=0.9")
"""
    criteria = {"TargetObjectiveMetricValue": 0.85}
    job = run(server, tuning_request(server, "tune-target", script, TuningJobCompletionCriteria=criteria))
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["TrainingJobStatusCounters"] | {"Completed": 1, "Stopped": 1} == job["TrainingJobStatusCounters"]


def test_grid_trains_every_combination(server: Server) -> None:
    script = "import os\nprint('score=1')\nprint(os.environ['SM_HP_KIND'])"
    grid = {"CategoricalParameterRanges": [{"Name": name, "Values": ["a", "b"]} for name in ("kind", "mode")]}
    request = tuning_request(
        server,
        "tune-grid",
        script,
        Strategy="Grid",
        ParameterRanges=grid,
        ResourceLimits={"MaxParallelTrainingJobs": 4},
    )
    assert run(server, request)["TrainingJobStatusCounters"]["Completed"] == 4
    tuned = [job["TunedHyperParameters"] for job in children(server, "tune-grid")]
    assert tuned == [{"kind": kind, "mode": mode} for kind in "ab" for mode in "ab"]


def test_definitions_share_the_trials_and_the_best_is_over_all(server: Server) -> None:
    """One definition's script is better by ten, and prints another metric."""
    request = tuning_request(server, "tune-two", ResourceLimits=limits(4))
    better = tuning_request(server, "tune-two-better", BOWL.replace("score={", "points={10 + "))
    request["HyperParameterTuningJobConfig"] = without(
        request["HyperParameterTuningJobConfig"], "ParameterRanges", "HyperParameterTuningJobObjective"
    )
    definitions = []
    for name, metric, given in (("plain", "score", request), ("better", "points", better)):
        definition = copy.deepcopy(given["TrainingJobDefinition"]) | {
            "DefinitionName": name,
            "TuningObjective": {"Type": "Maximize", "MetricName": metric},
            "HyperParameterRanges": {"ContinuousParameterRanges": [X_RANGE]},
        }
        regex = f"{metric}=([-0-9.e]+)"
        definition["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": metric, "Regex": regex}]
        definitions.append(definition)
    job = run(server, without(request, "TrainingJobDefinition") | {"TrainingJobDefinitions": definitions})
    names = [child["TrainingJobDefinitionName"] for child in children(server, "tune-two")]
    assert names == ["plain", "better", "plain", "better"]
    assert job["BestTrainingJob"]["TrainingJobDefinitionName"] == "better"
    assert job["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["MetricName"] == "points"
    assert job["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] > 10


def test_description_shows_what_attach_of_sdk_2_needs(server: Server, finished: Any) -> None:
    shown = finished["TrainingJobDefinition"]
    assert shown["StaticHyperParameters"]["_tuning_objective_metric"] == "score"
    named = without(shown, "ResourceConfig") | {
        "HyperParameterTuningResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StaticHyperParameters": {"sagemaker_program": "train.py"},
        "DefinitionName": "named",
        "HyperParameterRanges": {"ContinuousParameterRanges": [X_RANGE]},
        "TuningObjective": {"Type": "Maximize", "MetricName": "score"},
    }
    request = tuning_request(server, "attach", ResourceLimits=limits(1, 1))
    for member in ("HyperParameterTuningJobObjective", "ParameterRanges"):
        del request["HyperParameterTuningJobConfig"][member]
    run(server, without(request, "TrainingJobDefinition") | {"TrainingJobDefinitions": [named]})
    (definition,) = describe(server, "attach")["TrainingJobDefinitions"]
    assert definition["StaticHyperParameters"]["_tuning_objective_metric"] == "score"
    assert definition["ResourceConfig"] == named["HyperParameterTuningResourceConfig"]


def test_described_definition_may_come_back(server: Server, finished: Any) -> None:
    request = tuning_request(server, "again", ResourceLimits=limits(1, 1))
    definition = finished["TrainingJobDefinition"]
    request["TrainingJobDefinition"] = definition | {"HyperParameterTuningResourceConfig": definition["ResourceConfig"]}
    request["WarmStartConfig"] = {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "tune"}],
        "WarmStartType": "IdenticalDataAndAlgorithm",
    }
    assert run(server, request)["HyperParameterTuningJobStatus"] == "Completed"


def test_early_stopping_gives_up_a_job_worse_than_the_median(server: Server) -> None:
    """The second job prints a bad value and would run for ten minutes."""
    script = """
import os, time
second = "-002-" in os.environ["TRAINING_JOB_NAME"]
print(f"score={1 if second else 5}", flush=True)
time.sleep(600 if second else 0)
"""
    request = tuning_request(
        server, "tune-early", script, TrainingJobEarlyStoppingType="Auto", ResourceLimits=limits(2, 1)
    )
    job = run(server, request)
    assert job["TrainingJobStatusCounters"]["Stopped"] == 1
    assert job["ObjectiveStatusCounters"]["Succeeded"] == 2
    assert job["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 5


def test_impossible_request_starts_nothing(server: Server) -> None:
    request = tuning_request(server, "tune-never", Strategy="Grid")
    with pytest.raises(botocore.exceptions.ClientError, match="categorical ranges only"):
        server.sagemaker.create_hyper_parameter_tuning_job(**request)
    with pytest.raises(server.sagemaker.exceptions.ResourceNotFound, match="can't find a tuning job called tune-never"):
        describe(server, "tune-never")


def test_deleted_tuning_job_leaves_its_training_jobs_but_not_to_its_successor(server: Server) -> None:
    request = tuning_request(server, "tune-again", ResourceLimits=limits(1))
    run(server, request)
    (first,) = children(server, "tune-again")
    for _ in range(2):
        server.sagemaker.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune-again")
    with pytest.raises(server.sagemaker.exceptions.ResourceNotFound):
        describe(server, "tune-again")
    run(server, request)
    (second,) = children(server, "tune-again")
    assert first["TrainingJobName"] != second["TrainingJobName"]
    status = server.sagemaker.describe_training_job(TrainingJobName=first["TrainingJobName"])["TrainingJobStatus"]
    assert status == "Completed"


def test_running_tuning_job_is_not_deleted(server: Server) -> None:
    script = "import time; time.sleep(600)"
    server.sagemaker.create_hyper_parameter_tuning_job(**tuning_request(server, "tune-busy", script))
    with pytest.raises(
        botocore.exceptions.ClientError, match="tune-busy is InProgress, which is not in a terminal state; stop"
    ):
        server.sagemaker.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune-busy")
    server.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune-busy")
    wait(server, "tune-busy")


def test_names_that_differ_in_capitals_are_one_name(server: Server) -> None:
    run(server, tuning_request(server, "Case", ResourceLimits=limits(1)))
    again = tuning_request(server, "case", ResourceLimits=limits(2))
    assert error(lambda: server.sagemaker.create_hyper_parameter_tuning_job(**again))["Code"] == "ResourceInUse"
    assert len(children(server, "Case")) == 1


def test_restart_goes_on_where_the_tuning_job_was(make_server: Any) -> None:
    server = make_server()
    server.sagemaker.create_hyper_parameter_tuning_job(
        **tuning_request(server, "tune-on", "import time; time.sleep(0.5)\n" + BOWL)
    )
    server.stop()
    server.start()
    job = wait(server, "tune-on")
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert len(children(server, "tune-on")) == 5


def test_killed_server_neither_loses_a_trial_nor_starts_one_twice(make_server: Any) -> None:
    server = make_server()
    script = "import time; time.sleep(0.3)\n" + BOWL
    server.sagemaker.create_hyper_parameter_tuning_job(
        **tuning_request(server, "tune-kill", script, ResourceLimits=limits(7))
    )
    moments = random.Random(3)
    for _ in range(3):
        time.sleep(moments.uniform(0.2, 0.8))
        server.stop(signal.SIGKILL)
        server.start()
    job = wait(server, "tune-kill")
    numbers = [child["TrainingJobName"].split("-")[2] for child in children(server, "tune-kill")]
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert numbers == [f"{number:03d}" for number in range(1, 8)]
    assert sum(job["TrainingJobStatusCounters"].values()) == 7
    assert job["TrainingJobStatusCounters"]["NonRetryableError"] == 0


def test_stop_is_carried_out_after_a_killed_server(make_server: Any) -> None:
    server = make_server()
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    server.sagemaker.create_hyper_parameter_tuning_job(**tuning_request(server, "tune-halt", script))
    server.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune-halt")
    server.stop(signal.SIGKILL)
    server.start()
    assert wait(server, "tune-halt")["HyperParameterTuningJobStatus"] == "Stopped"
    assert {job["TrainingJobStatus"] for job in children(server, "tune-halt")} <= {"Stopped", "Failed"}


def test_tuning_job_ends_at_its_time_limit(make_server: Any) -> None:
    """The job is made older while the server is down; what ran on is adopted and stopped."""
    server = make_server()
    script = "import time; print('score=1', flush=True); time.sleep(600)"
    short = limits(5) | {"MaxRuntimeInSeconds": 120}
    server.sagemaker.create_hyper_parameter_tuning_job(
        **tuning_request(server, "tune-long", script, ResourceLimits=short)
    )
    wait_until(lambda: [printed(server, job) for job in children(server, "tune-long")] == [True, True])
    server.stop(signal.SIGKILL)
    with sqlite3.connect(server.root / "state.db") as database:
        database.execute("UPDATE records SET created = created - 121 WHERE kind = 'hyper-parameter-tuning-job'")
    server.start()
    job = wait(server, "tune-long")
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["TrainingJobStatusCounters"]["Stopped"] == 2


def printed(server: Server, job: dict[str, Any]) -> bool:
    """Whether a training job has printed an objective."""
    return "FinalMetricDataList" in server.sagemaker.describe_training_job(TrainingJobName=job["TrainingJobName"])


@pytest.mark.parametrize(
    ("describe_", "counter"),
    [
        ({"TrainingJobStatus": "Failed", "FailureReason": "InternalServerError: disk"}, "RetryableError"),
        ({"TrainingJobStatus": "Failed", "FailureReason": "AlgorithmError: exit code 1"}, "NonRetryableError"),
        ({"TrainingJobStatus": "Stopping"}, "InProgress"),
        ({"TrainingJobStatus": "Stopped"}, "Stopped"),
    ],
)
def test_counters_tell_internal_errors_from_the_scripts(describe_: dict[str, Any], counter: str) -> None:
    child = made(1, describe_)
    counted = child_jobs.counters([child])["TrainingJobStatusCounters"]
    assert {name for name, count in counted.items() if count} == {counter}


def made(number: int, describe_: dict[str, Any], objective: float = 1.0) -> Child:
    definition = Plan.of(plan_request()).definitions[0]
    internal = {"metrics": {definition.metric: [[0.0, objective]]}}
    name = f"tune-{number:03d}-0123abcd"
    record = Record(
        kind="training-job", name=name, describe=describe_, internal=internal, parent=None, created=0, modified=0
    )
    return Child(record, number, definition, number - 1)


def test_of_equals_the_best_is_the_first_that_ran_to_its_end() -> None:
    jobs = [
        made(1, {"TrainingJobStatus": "Stopped"}),
        made(2, {"TrainingJobStatus": "Completed"}),
        made(3, {"TrainingJobStatus": "Completed"}),
        made(4, {"TrainingJobStatus": "Failed"}, 2.0),
        made(5, {"TrainingJobStatus": "Completed"}, float("nan")),
        made(6, {"TrainingJobStatus": "InProgress"}, 3.0),
    ]
    found = child_jobs.best(jobs, maximize=True)
    assert found is not None and found.number == 2


def test_a_look_at_five_hundred_children_reads_only_those_that_run(tmp_path: Any) -> None:
    store, reads = Store(tmp_path / "state.db"), []
    plan = Plan.of(plan_request(ResourceLimits={"MaxNumberOfTrainingJobs": 500, "MaxParallelTrainingJobs": 2}))
    arn = "arn:aws:sagemaker:us-east-1:000000000000:hyper-parameter-tuning-job/tune"
    tuning = store.insert("hyper-parameter-tuning-job", "tune", {"HyperParameterTuningJobArn": arn})
    for number in range(1, 501):
        status = "InProgress" if number > 498 else "Completed"
        name = f"tune-{number:03d}-0123abcd"
        store.insert("training-job", name, {"TrainingJobStatus": status}, {"tuned": {"lr": "0.01"}}, parent=arn)

    class Platform:
        def __init__(self) -> None:
            self.store = self

        def list(self, *arguments: Any, **options: Any) -> Any:
            return store.list(*arguments, **options)

        def get(self, kind: str, name: str) -> Any:
            reads.append(name)
            return store.get(kind, name)

    known = Children(Platform(), tuning, plan)  # type: ignore[arg-type]
    assert known.count == 500
    assert known.refresh() == []
    store.update("training-job", "tune-500-0123abcd", lambda record: record.describe.update(TrainingJobStatus="Failed"))
    assert [child.number for child in known.refresh()] == [500]
    assert known.refresh() == []
    assert reads == [f"tune-{number}-0123abcd" for number in (499, 500, 499, 500, 499)]
    store.close()
