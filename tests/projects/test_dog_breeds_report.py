"""The project "Image Classification using AWS SageMaker" with its reports: metrics, profiler report, boto3 clients."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retraining.dataset.sync import sync_dataset
from retraining.debugger.profiler_report import keep_profiler_report
from retraining.recipe import load_recipe
from stack import recipe as own_recipe
from tests import look_alikes
from tests.local_sagemaker.harness import Server
from tests.projects.conftest import BUCKET, Trained, plan_of, ranges, shipped, training_request

DOGS = shipped("dogs")


def test_at_least_two_hyperparameters_are_tuned() -> None:
    assert set(ranges(DOGS)) == {"lr", "batch-size", "epochs", "optimizer"}


def test_any_other_folder_of_class_folders_becomes_a_classifier(server: Server, tmp_path: Path) -> None:
    """The project is to be independent of its data set."""
    for label, colour in look_alikes.FINE.items():
        (tmp_path / "fruit" / label).mkdir(parents=True)
        for seed in range(6):
            (tmp_path / "fruit" / label / f"{seed}.jpg").write_bytes(look_alikes.jpeg(colour, seed))
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    name = own_recipe.ensure(recipes, data=str(tmp_path / "fruit"), name="")
    synced = sync_dataset(plan_of(load_recipe(recipes / f"{name}.yaml")), server.s3)
    assert synced.version.classes == list(look_alikes.FINE)


@pytest.mark.slow
def test_accuracy_precision_and_recall_are_metrics_of_the_job(dogs: Trained) -> None:
    for name in ("accuracy", "precision", "recall", "macro_f1"):
        assert 0 <= dogs.final_metrics[f"validation:{name}"] <= 1


@pytest.mark.slow
def test_the_profiler_report_is_asked_for_and_kept_under_one_key(dogs: Trained) -> None:
    request = training_request(DOGS)
    assert request["ProfilerRuleConfigurations"][0]["RuleParameters"] == {"rule_to_invoke": "ProfilerReport"}
    # As SageMaker's rule writes it.
    output = "dogs/runs/r/training/j/rule-output"
    for name, body in (("profiler-report.html", b"<html>"), ("profiler-reports/StepOutlier.json", b"{}")):
        dogs.server.s3.put_object(Bucket=BUCKET, Key=f"{output}/ProfilerReport/profiler-output/{name}", Body=body)
    keep_profiler_report(dogs.server.s3, BUCKET, output, "dogs/runs/r/profiler-report.html")
    kept = dogs.server.s3.get_object(Bucket=BUCKET, Key="dogs/runs/r/profiler-report.html")["Body"].read()
    assert kept == b"<html>"


@pytest.mark.slow
def test_a_boto3_client_sends_bytes_and_reads_json(
    dogs: Trained, endpoint: Callable[[Trained], Callable[..., bytes]]
) -> None:
    endpoint(dogs)
    runtime: Any = dogs.server.runtime
    response = runtime.invoke_endpoint(
        EndpointName=dogs.plan.endpoint,
        ContentType="image/jpeg",
        Body=bytearray(dogs.image("test", "133.Yorkshire_terrier")),
    )
    assert response["ContentType"] == "application/json"
    prediction = json.loads(response["Body"].read())
    assert prediction["label"] == "133.Yorkshire_terrier"
    assert prediction["score"] == max(prediction["probabilities"])
