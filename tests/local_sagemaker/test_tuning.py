"""Tuning jobs: parallel training jobs, the best of them, and how they end."""

from __future__ import annotations

from typing import Any

import botocore.exceptions
import pytest

from local_sagemaker.tuning import tuner
from tests.local_sagemaker.harness import IMAGE, Server, training_request

SCRIPT = """
import argparse, os, pathlib
flags = argparse.ArgumentParser()
flags.add_argument("-x", type=float)  # the toolkit passes one-letter names with one dash
flags.add_argument("--kind")
flags.add_argument("--fixed")
given = flags.parse_args()
assert given.fixed == "yes"
pathlib.Path(os.environ["SM_MODEL_DIR"], "x").write_text(str(given.x))
print(f"score={1 - (given.x - 0.3) ** 2}")
"""


def tuning_request(server: Server, name: str, script: str = SCRIPT, **config: Any) -> dict[str, Any]:
    training = training_request(server, name, script)
    definition = {key: value for key, value in training.items() if key not in {"TrainingJobName", "HyperParameters"}}
    definition["StaticHyperParameters"] = training["HyperParameters"] | {"fixed": "yes"}
    definition["AlgorithmSpecification"] = {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "score", "Regex": "score=([-0-9.e]+)"}],
    }
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 5, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {
                "ContinuousParameterRanges": [{"Name": "x", "MinValue": "0.0", "MaxValue": "1.0"}],
                "CategoricalParameterRanges": [{"Name": "kind", "Values": ["a", "b"]}],
            },
            "RandomSeed": 1,
        }
        | config,
        "TrainingJobDefinition": definition,
    }


def run(server: Server, request: dict[str, Any]) -> dict[str, Any]:
    server.sagemaker.create_hyper_parameter_tuning_job(**request)
    return wait(server, request["HyperParameterTuningJobName"])


def wait(server: Server, name: str) -> dict[str, Any]:
    def describe() -> dict[str, Any]:
        return server.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)

    return server.wait(describe, "HyperParameterTuningJobStatus")


def children(server: Server, name: str, **changes: Any) -> list[dict[str, Any]]:
    return server.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, MaxResults=50, **changes
    )["TrainingJobSummaries"]


@pytest.fixture(scope="module")
def finished(server: Server) -> dict[str, Any]:
    return run(server, tuning_request(server, "tune"))


def test_every_training_job_counts_and_the_best_is_the_best(server: Server, finished: Any) -> None:
    jobs = children(server, "tune", SortBy="FinalObjectiveMetricValue", SortOrder="Descending")
    values = [job["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for job in jobs]
    assert finished["HyperParameterTuningJobStatus"] == "Completed"
    assert finished["TrainingJobStatusCounters"]["Completed"] == 5
    assert finished["ObjectiveStatusCounters"] == {"Succeeded": 5, "Pending": 0, "Failed": 0}
    assert values == sorted(values, reverse=True)
    assert finished["BestTrainingJob"]["TrainingJobName"] == jobs[0]["TrainingJobName"]


def test_child_has_the_names_and_hyperparameters_sagemaker_gives(server: Server, finished: Any) -> None:
    job = children(server, "tune")[0]
    described = server.sagemaker.describe_training_job(TrainingJobName=job["TrainingJobName"])
    assert job["TrainingJobName"].startswith("tune-001-")
    assert described["TuningJobArn"] == finished["HyperParameterTuningJobArn"]
    assert described["HyperParameters"]["_tuning_objective_metric"] == "score"
    assert set(job["TunedHyperParameters"]) == {"x", "kind"}


def test_at_most_the_parallel_limit_runs_at_once(server: Server, finished: Any) -> None:
    spans = [(job["TrainingStartTime"], job["TrainingEndTime"]) for job in children(server, "tune")]
    at_once = max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)
    assert at_once <= 2


def test_tuning_job_without_any_success_fails_with_the_reason(server: Server) -> None:
    limits = {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 2}
    job = run(server, tuning_request(server, "tune-bad", "raise SystemExit('no luck')", ResourceLimits=limits))
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert "no luck" in job["FailureReason"]
    assert "BestTrainingJob" not in job


def test_stop_stops_the_children_too(server: Server) -> None:
    server.sagemaker.create_hyper_parameter_tuning_job(
        **tuning_request(server, "tune-stop", "import time; time.sleep(600)")
    )
    server.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune-stop")
    assert wait(server, "tune-stop")["HyperParameterTuningJobStatus"] == "Stopped"
    assert {job["TrainingJobStatus"] for job in children(server, "tune-stop")} <= {"Stopped"}


def test_restart_goes_on_where_the_tuning_job_was(make_server: Any) -> None:
    server = make_server()
    server.sagemaker.create_hyper_parameter_tuning_job(
        **tuning_request(server, "tune-on", "import time; time.sleep(0.5)\n" + SCRIPT)
    )
    server.stop()
    server.start()
    job = wait(server, "tune-on")
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert len(children(server, "tune-on")) == 5


def test_early_stopping_gives_up_a_job_worse_than_the_median(server: Server) -> None:
    """The second job prints a bad value and would run for ten minutes."""
    script = """
import os, time
second = "-002-" in os.environ["TRAINING_JOB_NAME"]
print(f"score={1 if second else 5}", flush=True)
time.sleep(600 if second else 0)
"""
    ranges = {"IntegerParameterRanges": [{"Name": "x", "MinValue": "1", "MaxValue": "2"}]}
    request = tuning_request(
        server,
        "tune-early",
        script,
        ParameterRanges=ranges,
        TrainingJobEarlyStoppingType="Auto",
        ResourceLimits={"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 1},
    )
    job = run(server, request)
    assert job["TrainingJobStatusCounters"]["Stopped"] == 1
    assert job["ObjectiveStatusCounters"]["Succeeded"] == 2
    assert job["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 5


@pytest.mark.parametrize(
    ("range_", "said"),
    [
        ({"Name": "x", "MinValue": "1", "MaxValue": "0"}, "less than"),
        ({"Name": "x", "MinValue": "0", "MaxValue": "1", "ScalingType": "Logarithmic"}, "needs MinValue > 0"),
        ({"Name": "x", "MinValue": "a", "MaxValue": "1"}, "numbers"),
        ({"Name": "fixed", "MinValue": "0", "MaxValue": "1"}, "both static and tuned"),
    ],
)
def test_impossible_range_is_refused_before_anything_starts(server: Server, range_: Any, said: str) -> None:
    ranges = {"ContinuousParameterRanges": [range_]}
    with pytest.raises(botocore.exceptions.ClientError, match=said):
        server.sagemaker.create_hyper_parameter_tuning_job(
            **tuning_request(server, "tune-range", ParameterRanges=ranges)
        )


def test_model_based_search_closes_in_on_the_optimum() -> None:
    """On a smooth bowl, twenty suggestions by the model end nearer the optimum than where the random ones began."""
    ranges = tuner.parse_ranges({"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]})
    trials: list[tuner.Trial] = []
    for _ in range(20):
        chosen = tuner.suggest(ranges, trials, strategy="Bayesian", maximize=True, seed=3)
        value = -((float(chosen["x"]) - 0.3) ** 2)
        trials.append(tuner.Trial(hyperparameters=chosen, objective=value, running=False))
    errors = [abs(float(trial.hyperparameters["x"]) - 0.3) for trial in trials]
    assert sum(errors[-5:]) / 5 < sum(errors[:3]) / 3


def test_warm_start_takes_only_what_fits_the_new_ranges() -> None:
    ranges = tuner.parse_ranges({"IntegerParameterRanges": [{"Name": "n", "MinValue": "1", "MaxValue": "5"}]})
    assert tuner.usable(ranges, {"n": "3", "other": "1"}) == {"n": "3"}
    assert tuner.usable(ranges, {"n": "9"}) is None
    assert tuner.usable(ranges, {}) is None
