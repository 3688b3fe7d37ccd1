"""Tuning jobs for the tests: requests, and waiting for them."""

from __future__ import annotations

from typing import Any

from tests.local_sagemaker.harness import IMAGE, Server, training_request

#: Prints one value with its best at x = 0.3.
BOWL = """
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

KINDS = {"CategoricalParameterRanges": [{"Name": "kind", "Values": ["a", "b"]}]}
X_RANGE = {"Name": "x", "MinValue": "0.0", "MaxValue": "1.0"}


def limits(jobs: int, parallel: int = 2) -> dict[str, int]:
    return {"MaxNumberOfTrainingJobs": jobs, "MaxParallelTrainingJobs": parallel}


def tuning_request(server: Server, name: str, script: str = BOWL, **config: Any) -> dict[str, Any]:
    """A CreateHyperParameterTuningJob request; `config` replaces members of HyperParameterTuningJobConfig."""
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
            "ResourceLimits": limits(5),
            "ParameterRanges": {"ContinuousParameterRanges": [X_RANGE], **KINDS},
            "RandomSeed": 1,
        }
        | config,
        "TrainingJobDefinition": definition,
    }


def without(members: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name not in names}


def run(server: Server, request: dict[str, Any]) -> dict[str, Any]:
    server.sagemaker.create_hyper_parameter_tuning_job(**request)
    return wait(server, request["HyperParameterTuningJobName"])


def wait(server: Server, name: str) -> dict[str, Any]:
    return server.wait(lambda: describe(server, name), "HyperParameterTuningJobStatus")


def describe(server: Server, name: str) -> dict[str, Any]:
    return server.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def children(server: Server, name: str, **changes: Any) -> list[dict[str, Any]]:
    return server.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, **{"MaxResults": 100, "SortBy": "CreationTime"} | changes
    )["TrainingJobSummaries"]
