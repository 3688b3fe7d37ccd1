"""The SageMaker SDK, version 2, in an interpreter of its own: what users of most existing scripts have."""

from __future__ import annotations

import pytest

from tests.conformance.programs import Outcome
from tests.conformance.target import Target


@pytest.mark.program("sdk2/estimator.py")
def test_fit_returns_when_the_job_is_done(outcome: Outcome) -> None:
    assert outcome["fit"] == "Completed"


@pytest.mark.program("sdk2/estimator.py")
def test_fit_shows_what_the_script_prints(outcome: Outcome) -> None:
    assert "epoch=4 train:loss=" in outcome.stdout, outcome.explain()


@pytest.mark.program("sdk2/estimator.py")
def test_the_metric_the_script_printed_is_the_final_one(outcome: Outcome) -> None:
    assert outcome["metrics"] == pytest.approx({"train:loss": 0.006839}, abs=1e-6)


@pytest.mark.program("sdk2/estimator.py")
def test_the_script_gets_hyperparameters_and_channels(outcome: Outcome) -> None:
    seen = outcome["seen"]
    assert seen["hyperparameters"] == {"learning-rate": 0.05, "epochs": 5, "optimizer": "sgd"}
    assert seen["channels"] == ["train"] and seen["hosts"] == ["algo-1"]


@pytest.mark.program("sdk2/estimator.py")
def test_attach_finds_the_finished_job(outcome: Outcome) -> None:
    assert outcome["attached"] == outcome["model_data"]
    assert outcome["attached_hyperparameters"]["epochs"] == "5"


@pytest.mark.program("sdk2/deploy.py")
def test_deploy_returns_when_the_endpoint_serves(outcome: Outcome) -> None:
    assert outcome["status"] == "InService"


@pytest.mark.program("sdk2/deploy.py")
def test_predict_answers_from_the_trained_model(outcome: Outcome) -> None:
    assert outcome["prediction"] == pytest.approx([2.0, 20.0], rel=1e-3)


@pytest.mark.program("sdk2/model.py")
def test_a_model_trained_elsewhere_can_be_deployed(outcome: Outcome) -> None:
    assert outcome["status"] == "InService"


@pytest.mark.program("sdk2/model.py")
def test_a_model_trained_elsewhere_answers(outcome: Outcome) -> None:
    assert outcome["prediction"] == [8.0]


@pytest.mark.program("sdk2/model.py")
def test_delete_endpoint_leaves_nothing(outcome: Outcome) -> None:
    assert outcome["left"] == []


@pytest.mark.program("sdk2/registry.py")
def test_a_registered_model_can_be_approved(outcome: Outcome) -> None:
    assert (outcome["approval"], outcome["version"]) == ("Approved", 1)


@pytest.mark.program("sdk2/transform.py")
def test_a_transformer_scores_each_line(outcome: Outcome) -> None:
    assert (outcome["status"], outcome["answers"]) == ("Completed", [[3.0, 6.0], [30.0]])


@pytest.mark.program("sdk2/tune.py")
def test_a_tuner_finds_the_best_of_its_jobs(outcome: Outcome) -> None:
    assert outcome["status"] == "Completed" and len(outcome["losses"]) == 4
    assert outcome["best_is_least"]


@pytest.mark.program("sdk2/tune.py")
def test_tuner_analytics_have_the_tuned_values(outcome: Outcome) -> None:
    assert {"learning-rate", "epochs", "optimizer", "FinalObjectiveValue"} <= set(outcome["jobs"])


@pytest.mark.program("sdk2/tune.py")
def test_the_best_estimator_can_be_had(outcome: Outcome) -> None:
    assert outcome["best"] in outcome["best_estimator"]


@pytest.mark.program("sdk2/tune.py")
def test_an_attached_tuner_knows_its_jobs(outcome: Outcome) -> None:
    assert outcome["attached_best"] == outcome["best"]
    assert sorted(outcome["attached_losses"]) == sorted(outcome["losses"])


@pytest.mark.program("sdk2/autotune.py")
def test_autotune_chooses_the_ranges_of_an_estimator(outcome: Outcome) -> None:
    assert outcome["status"] == "Completed"
    assert outcome["tuned"] == ["epochs", "learning-rate"]


@pytest.mark.program("sdk2/analytics.py")
def test_training_analytics_draw_the_metric_over_time(outcome: Outcome) -> None:
    assert outcome["metrics"] == ["train:loss"] and outcome["points"] >= 1


@pytest.mark.parametrize("processor", ["script", "sklearn", "framework"])
@pytest.mark.program("sdk2/processing.py")
def test_a_processor_runs_the_script(outcome: Outcome, processor: str) -> None:
    assert outcome[processor] == {"lines": 3, "arguments": ["--name", processor], "mode": "counting"}


@pytest.mark.program("sdk2/spot.py")
def test_a_second_job_goes_on_from_the_checkpoint(outcome: Outcome) -> None:
    assert outcome["epochs"] == [3.0, 6.0]


@pytest.mark.program("sdk2/spot.py")
def test_spot_jobs_say_so_and_bill_no_more_than_they_ran(outcome: Outcome) -> None:
    assert outcome["spot"] == [True, True] and outcome["billed"] == [True, True]


@pytest.mark.program("sdk2/failure.py")
def test_fit_of_a_broken_script_says_what_broke(outcome: Outcome) -> None:
    assert "Failed. Reason: AlgorithmError" in outcome["failure"]
    assert "FileNotFoundError: train.csv is not in the channel" in outcome["failure"]


@pytest.mark.program("sdk2/failure.py")
def test_an_endless_script_can_be_stopped(outcome: Outcome) -> None:
    assert outcome["stopped"] == "Stopped"


@pytest.mark.slow
@pytest.mark.program("sdk2/debugger.py")
def test_rules_of_the_sdk_are_judged(outcome: Outcome) -> None:
    assert outcome["rules"] == {
        "LossNotDecreasing": "NoIssuesFound",
        "VanishingGradient": "NoIssuesFound",
        "ProfilerReport": "NoIssuesFound",
    }, outcome["details"]


@pytest.mark.slow
@pytest.mark.program("sdk2/debugger.py")
def test_debugger_and_profiler_paths_hold_the_jobs_data(outcome: Outcome, target: Target) -> None:
    s3 = target.client("s3")
    for path in (outcome["tensors"], outcome["profile"]):
        bucket, _, prefix = path.removeprefix("s3://").partition("/")
        assert s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"] > 2, path


@pytest.mark.slow
@pytest.mark.program("sdk2/debugger.py")
def test_a_torch_model_is_trained_and_served(outcome: Outcome) -> None:
    """The served model is a TorchScript file that the serving toolkit's default handlers load."""
    assert outcome["losses"][0] < 0.3 and outcome["classes"] == [1, 0]


@pytest.mark.slow
@pytest.mark.program("sdk2/stop_training.py")
def test_the_built_in_action_stops_a_training_that_learns_nothing(outcome: Outcome) -> None:
    assert (outcome["rule"], outcome["status"]) == ("IssuesFound", "Stopped"), outcome["details"]
    (said,) = outcome["said"]
    assert "rule LossNotDecreasing" in said and "at step 10" in said


@pytest.mark.slow
@pytest.mark.program("sdk2/distributed.py")
def test_two_instances_train_together(outcome: Outcome) -> None:
    assert outcome["sum"] == [3.0] and outcome["hosts"] == ["algo-1", "algo-2"]


@pytest.mark.program("sdk2/async_inference.py")
def test_an_asynchronous_endpoint_writes_its_answer_to_s3(outcome: Outcome) -> None:
    assert outcome["answer"] == [6.0]


@pytest.mark.program("sdk2/async_inference.py")
def test_captured_requests_are_in_s3(outcome: Outcome) -> None:
    assert outcome["captured"]["endpointInput"]["data"] == "[2]"
    assert outcome["captured"]["endpointOutput"]["data"] == "[6.0]"
