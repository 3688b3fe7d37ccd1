"""The SageMaker SDK, version 3: ModelTrainer, its tuner, and the resource classes."""

from __future__ import annotations

import pytest

from tests.conformance.programs import Outcome


@pytest.mark.program("sdk3/train.py")
def test_a_model_trainer_trains(outcome: Outcome) -> None:
    assert outcome["status"] == "Completed" and outcome["model"].endswith("/model.tar.gz")


@pytest.mark.program("sdk3/train.py")
def test_a_model_trainer_shows_the_scripts_metric(outcome: Outcome) -> None:
    assert outcome["metrics"]["train:loss"] > 0
    assert "epoch=4 train:loss=" in outcome.stdout + outcome.stderr, outcome.explain()


@pytest.mark.program("sdk3/tune.py")
def test_a_model_trainer_can_be_tuned(outcome: Outcome) -> None:
    assert outcome["status"] == "Completed" and outcome["best"] and outcome["objective"] > 0


@pytest.mark.program("sdk3/resources.py")
def test_a_training_job_is_a_resource(outcome: Outcome) -> None:
    assert outcome["training"] == "Completed" and outcome["listed"] == ["v3-resources-job"]


@pytest.mark.program("sdk3/resources.py")
def test_an_endpoint_is_a_resource_that_answers(outcome: Outcome) -> None:
    assert outcome["answer"] == [5.0, 10.0]


@pytest.mark.program("sdk3/resources.py")
def test_a_deleted_endpoint_is_gone(outcome: Outcome) -> None:
    assert outcome["deleted"]
