"""The project "Chest X-ray classification": one logit judged by F1, W&B, endpoints in two styles, batch transform.

Its faults, gone: bool("False") was True; SageMaker ranked trials by their last epoch; three images of pneumonia for
each normal one; only the last layer learnt; a validation split of 16 images.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace

import numpy
import pytest
from PIL import Image

from retraining.promotion.scores import evaluate
from retraining.promotion.transform_outputs import read_answers
from retraining.recipe.hyperparameters import HYPERPARAMETERS, as_text
from retraining.requests import sagemaker as requests
from tests.projects.conftest import Trained, ranges, shipped, training_request, tuning_request

XRAYS = shipped("chest_xray")

Ask = Callable[[Trained], Callable[..., bytes]]


@pytest.mark.slow
def test_kaggles_validation_split_of_16_images_is_made_anew(xrays: Trained) -> None:
    version = xrays.synced.version
    held_out = [image for image in version.images if image.split == "validation"]
    assert not {image.file.name.split("/")[0] for image in held_out} - {"train"}
    assert sum(version.counts["test"].values()) == 12  # Kaggle's own test set


@pytest.mark.slow
def test_no_patient_is_on_both_sides_of_a_measurement(xrays: Trained) -> None:
    sides: dict[str, set[str]] = {}
    for image in xrays.synced.version.images:
        name = image.file.path.name
        patient = name.split("_")[0] if name.startswith("person") else name.rsplit("-", 1)[0]
        sides.setdefault(patient, set()).add(image.split)
    assert all(len(splits) == 1 for splits in sides.values())


@pytest.mark.slow
def test_grey_images_are_three_equal_channels(xrays: Trained, endpoint: Ask) -> None:
    grey = Image.open(io.BytesIO(xrays.image("test", "NORMAL")))
    assert grey.mode == "L"
    answers = []
    for picture in (grey, grey.convert("RGB")):
        body = io.BytesIO()
        picture.save(body, "PNG")
        answers.append(endpoint(xrays)(body.getvalue(), "image/png"))
    assert answers[0] == answers[1]


@pytest.mark.slow
def test_one_logit_says_pneumonia_or_normal(xrays: Trained, endpoint: Ask) -> None:
    assert xrays.description["network"]["num_outputs"] == 1
    assert xrays.description["classes"] == ["NORMAL", "PNEUMONIA"]
    for label in ("NORMAL", "PNEUMONIA"):
        answer = json.loads(endpoint(xrays)(xrays.image("test", label), "image/jpeg"))
        assert answer["label"] == label
        assert sum(answer["probabilities"]) == pytest.approx(1)


def test_the_search_maximises_the_f1_of_pneumonia_on_validation_images() -> None:
    config = tuning_request(XRAYS)["HyperParameterTuningJobConfig"]
    assert config["HyperParameterTuningJobObjective"] == {"Type": "Maximize", "MetricName": "validation:f1"}
    asked = ranges(XRAYS)
    assert (float(asked["lr"]["MinValue"]), float(asked["lr"]["MaxValue"])) == (0.0001, 0.1)
    assert {"32", "64"} <= set(asked["batch-size"]["Values"])


@pytest.mark.slow
def test_the_best_epoch_is_what_a_trial_is_ranked_by(xrays: Trained) -> None:
    history = json.loads(xrays.output()["history.json"])
    best = max(history, key=lambda epoch: (epoch["validation:f1"], -epoch["validation:loss"]))
    assert xrays.final_metrics["validation:f1"] == pytest.approx(best["validation:f1"], abs=1e-4)
    assert xrays.final_metrics["validation:loss"] == pytest.approx(best["validation:loss"], abs=1e-4)
    assert xrays.description["best_epoch"] == best["epoch"]


def test_a_boolean_travels_as_a_word_and_means_what_it_says() -> None:
    assert (as_text(False), as_text(True)) == ("false", "true")
    assert not HYPERPARAMETERS["deterministic"].accepts("False")


@pytest.mark.slow
def test_a_false_hyperparameter_is_false_in_the_training(xrays: Trained) -> None:
    assert xrays.job["HyperParameters"]["deterministic"] == "false"
    assert xrays.description["hyperparameters"]["deterministic"] is False


@pytest.mark.slow
def test_training_is_tracked_by_weights_and_biases(xrays: Trained) -> None:
    """Offline, as the recipe says: the run comes with the job's output, to be synced from anywhere."""
    assert xrays.job["Environment"]["WANDB_PROJECT"] == "x-rays"
    assert xrays.job["Environment"]["WANDB_MODE"] == "offline"
    runs = [name for name in xrays.output() if name.endswith(".wandb")]
    assert len(runs) == 1


def test_debugging_and_profiling_are_switched_on_and_off() -> None:
    on = training_request(XRAYS)
    assert {"DebugHookConfig", "ProfilerConfig"} <= on.keys()
    off = training_request(replace(XRAYS, debugger=replace(XRAYS.debugger, mode="off")))
    assert not {"DebugHookConfig", "DebugRuleConfigurations", "ProfilerConfig"} & off.keys()


def test_patience_ends_a_training_early() -> None:
    assert XRAYS.hyperparameters["patience"] == 5
    assert tuning_request(XRAYS)["TrainingJobDefinition"]["StaticHyperParameters"]["patience"] == "5"


@pytest.mark.slow
def test_rare_normal_images_are_drawn_as_often_as_pneumonia(xrays: Trained) -> None:
    counts = xrays.synced.version.counts["train"]
    assert counts["PNEUMONIA"] > 1.8 * counts["NORMAL"]
    assert xrays.job["HyperParameters"]["sampler"] == "balanced"


@pytest.mark.parametrize(
    ("name", "value"), [("class-weights", "balanced"), ("sampler", "balanced"), ("trainable", "all")]
)
def test_what_the_project_wanted_to_improve_is_an_option(name: str, value: str) -> None:
    assert HYPERPARAMETERS[name].accepts(value)
    assert XRAYS.hyperparameters["trainable"] == "layer3+"  # more than the last layer


@pytest.mark.slow
def test_an_array_prepared_by_the_client_gets_the_same_answer(xrays: Trained, endpoint: Ask) -> None:
    """The style of PyTorch's default functions: the client transforms, and sends .npy."""
    description = xrays.description
    picture = Image.open(io.BytesIO(xrays.image("test", "PNEUMONIA"))).convert("RGB")
    side = description["image_size"]
    array = numpy.asarray(picture.resize((side, side)), dtype=numpy.float32) / 255
    array = ((array - description["mean"]) / description["std"]).transpose(2, 0, 1)[None].astype(numpy.float32)
    body = io.BytesIO()
    numpy.save(body, array)
    answer = numpy.load(io.BytesIO(endpoint(xrays)(body.getvalue(), "application/x-npy", "application/x-npy")))
    assert answer.shape == (1, 2)
    assert answer.argmax() == 1


@pytest.mark.slow
def test_raw_bytes_in_and_an_array_out(xrays: Trained, endpoint: Ask) -> None:
    """The project's ImagePredictor: JPEG serializer, NumPy deserializer."""
    answer = numpy.load(io.BytesIO(endpoint(xrays)(xrays.image("test", "NORMAL"), "image/jpeg", "application/x-npy")))
    assert answer.argmax() == 0


@pytest.mark.slow
def test_the_same_image_always_gets_the_same_answer(xrays: Trained, endpoint: Ask) -> None:
    """The model is in evaluation mode."""
    picture = xrays.image("test", "NORMAL")
    assert len({endpoint(xrays)(picture, "image/jpeg") for _ in range(4)}) == 1


@pytest.mark.slow
def test_addresses_of_images_are_refused_unless_they_are_allowed(xrays: Trained, endpoint: Ask) -> None:
    """The project fetched whatever address a caller named."""
    from botocore.exceptions import ClientError

    body = json.dumps({"url": "http://169.254.169.254/latest/meta-data/"}).encode()
    with pytest.raises(ClientError) as caught:
        endpoint(xrays)(body, "application/json")
    assert caught.value.response["OriginalStatusCode"] in (400, 403)


@pytest.mark.slow
def test_batch_transform_of_the_test_images_gives_the_confusion_matrix(xrays: Trained, endpoint: Ask) -> None:
    endpoint(xrays)  # its Model
    plan, server, version = xrays.plan, xrays.server, xrays.synced.version
    server.sagemaker.create_transform_job(
        **requests.transform_job(
            plan, plan.candidate_scoring_job, plan.model, plan.manifest_key(version.fingerprint, "test")
        )
    )
    job = server.wait(
        lambda: server.sagemaker.describe_transform_job(TransformJobName=plan.candidate_scoring_job),
        "TransformJobStatus",
    )
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    expected = {image.entry: image.label for image in version.images if image.split == "test"}
    answers = read_answers(server.s3, plan.uri(plan.scoring_key(plan.candidate_scoring_job)))
    result = evaluate(version.classes, expected, answers, version.fingerprint)
    assert [sum(row) for row in result.confusion] == [6, 6]
    naive = evaluate(version.classes, expected, {name: [0.0, 1.0] for name in expected}, version.fingerprint)
    assert naive.per_class["PNEUMONIA"]["f1"] == pytest.approx(2 / 3)
    assert result.per_class["PNEUMONIA"]["f1"] > naive.per_class["PNEUMONIA"]["f1"]


def test_the_test_images_choose_nothing() -> None:
    """Only batch transform reads them, once, after the search."""
    for job in (tuning_request(XRAYS)["TrainingJobDefinition"], training_request(XRAYS)):
        assert "test" not in {channel["ChannelName"] for channel in job["InputDataConfig"]}
