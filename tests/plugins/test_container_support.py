"""Which container images AWS still patches, told before anything is paid."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import PIL
import pytest

from retraining.container_images import Images, require_patched, resolve_images, verification_obstacle
from retraining.container_support import END_OF_PATCH, WARNING_DAYS, Support, support_of
from retraining.environment import ConfigurationError, Environment
from retraining.recipe import Recipe

AWS = {
    "RETRAINING_BUCKET": "b",
    "RETRAINING_ROLE_ARN": "arn:aws:iam::111122223333:role/r",
    "AWS_DEFAULT_REGION": "us-east-1",
}
LOCAL = AWS | {"RETRAINING_ENVIRONMENT": "local"}
REGISTRY = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
OLD = f"{REGISTRY}/pytorch-inference:2.6.0-cpu-py312"
LAST_DAY = END_OF_PATCH["pytorch-inference:2.6"]
TODAY = datetime.now(UTC).date()


def images(recipe: Recipe, serving: str = "mine:1", **params: str) -> Images:
    environment = Environment.of(LOCAL | {"RETRAINING_SERVING_IMAGE": serving})
    return resolve_images(recipe.with_params({"debugger": "off"} | params), environment)


def test_every_default_image_is_patched_today(recipe: Recipe) -> None:
    """Fails on the day that a default is past its date; then images.py needs a newer one."""
    defaults = resolve_images(recipe.with_params({"debugger": "self_hosted"}), Environment.of(LOCAL))
    assert [str(support) for support in support_of(defaults.as_dict()) if support.is_over(TODAY)] == []


@pytest.mark.parametrize(
    ("uri", "known"),
    [
        (f"{REGISTRY}/pytorch-training:2.9.0-gpu-py312", date(2026, 10, 15)),
        (f"{REGISTRY}/pytorch-training:2.10.0-cpu-py313", date(2027, 1, 21)),
        (f"{REGISTRY}/pytorch:2.13-cu133-amzn2023-sagemaker", date(2027, 7, 20)),
        (f"{REGISTRY}/pytorch-inference:2.5.1-cpu-py311", date(2026, 6, 30)),
        (f"{REGISTRY}/pytorch-training:2.1.0-cpu-py310", date(2026, 1, 29)),
        (f"{REGISTRY}/pytorch:2.15-cpu-amzn2023-sagemaker", None),
        (f"{REGISTRY}/ray:serve-ml-sagemaker-cpu-v1.4", None),
        ("111122223333.dkr.ecr.eu-west-1.amazonaws.com/retraining-serving:2.9", None),
        ("mine", None),
    ],
)
def test_the_date_of_an_image_is_that_of_its_version(uri: str, known: date | None) -> None:
    assert Support.of("training", uri).end_of_patch == known


def test_an_image_past_its_date_is_refused_on_aws(recipe: Recipe) -> None:
    used, day_after = images(recipe, OLD), LAST_DAY + timedelta(days=1)
    require_patched(used, Environment.of(AWS), LAST_DAY)
    with pytest.raises(ConfigurationError, match=r"serving: .*pytorch-inference:2.6.0.*patched until 2026-06-30") as no:
        require_patched(used, Environment.of(AWS), day_after)
    assert "RETRAINING_ALLOW_UNPATCHED_IMAGES=1" in str(no.value)


def test_an_image_past_its_date_can_be_allowed(recipe: Recipe, caplog: pytest.LogCaptureFixture) -> None:
    day_after = LAST_DAY + timedelta(days=1)
    for environment in (AWS | {"RETRAINING_ALLOW_UNPATCHED_IMAGES": "1"}, LOCAL):
        caplog.clear()
        require_patched(images(recipe, OLD), Environment.of(environment), day_after)
        assert "AWS does not patch it any more" in caplog.text


def test_the_last_weeks_of_an_image_are_warned_of(recipe: Recipe, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for days, level in ((WARNING_DAYS + 1, "INFO"), (WARNING_DAYS, "WARNING"), (0, "WARNING")):
        caplog.clear()
        require_patched(images(recipe, OLD), Environment.of(AWS), LAST_DAY - timedelta(days=days))
        (told,) = [record for record in caplog.records if OLD in record.getMessage()]
        assert told.levelname == level


def test_debuggers_own_container_is_said_and_not_refused(recipe: Recipe, caplog: pytest.LogCaptureFixture) -> None:
    """It is what SageMaker Debugger needs, and the recipe asked for that."""
    used = images(recipe, debugger="managed")
    require_patched(used, Environment.of(AWS), TODAY)
    assert "SageMaker Debugger needs its smdebug; no newer one has it." in caplog.text


def test_the_same_old_container_by_choice_is_refused(recipe: Recipe) -> None:
    chosen = Environment.of(AWS | {"RETRAINING_TRAINING_IMAGE": f"{REGISTRY}/pytorch-training:2.0.1-cpu-py310"})
    used = resolve_images(
        recipe.with_params({"debugger": "managed"}),
        Environment.of(LOCAL | {"RETRAINING_TRAINING_IMAGE": chosen.training_image or ""}),
    )
    with pytest.raises(ConfigurationError, match="training and training_self_hosted and evaluation: "):
        require_patched(used, chosen, TODAY)


def test_awss_container_does_not_verify_for_another_pillow(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would refuse in its first second, when its machines are paid for."""
    self_hosted = recipe.with_params({"debugger": "self_hosted"})

    def obstacle(**more: str) -> str:
        environment = Environment.of(LOCAL | more)
        used = resolve_images(self_hosted, environment)
        return verification_obstacle(used, replace(environment, local=False))

    assert "pytorch:2.14-cpu-amzn2023-sagemaker has Pillow 12.3.0, this worker" in obstacle()
    assert "docker/processing.Dockerfile by RETRAINING_PROCESSING_IMAGE, or let the worker verify" in obstacle()
    assert obstacle(RETRAINING_PROCESSING_IMAGE="mine:1") == obstacle(RETRAINING_TRAINING_IMAGE="mine:2") == ""
    monkeypatch.setattr(PIL, "__version__", "12.3.0")
    assert obstacle() == ""


def test_a_processing_image_serves_rules_and_verification(recipe: Recipe) -> None:
    environment = Environment.of(
        LOCAL | {"RETRAINING_PROCESSING_IMAGE": "mine:1", "RETRAINING_TRAINING_IMAGE": "mine:2"}
    )
    used = resolve_images(recipe, environment)
    assert (used.evaluation, used.training) == ("mine:1", "mine:2")
