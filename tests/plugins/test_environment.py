"""Where a run takes place, and how links lead there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from retraining.container_images import resolve_images, rule_image
from retraining.environment import ConfigurationError, Environment, poll_seconds, recipe_folders
from retraining.fingerprint import Ingredients, gate_fingerprint, recipe_fingerprint
from retraining.links import job_url
from retraining.recipe import Promotion, Recipe

AWS = {
    "RETRAINING_BUCKET": "b",
    "RETRAINING_ROLE_ARN": "arn:aws:iam::111122223333:role/sagemaker",
    "AWS_DEFAULT_REGION": "eu-central-1",
}
LOCAL = AWS | {"RETRAINING_ENVIRONMENT": "local", "AWS_ENDPOINT_URL": "http://127.0.0.1:14330/"}


def test_aws_is_the_default() -> None:
    environment = Environment.of(AWS)
    assert (environment.local, environment.poll_seconds, environment.endpoint_url) == (False, 30, None)
    assert environment.source_dir == Path(__file__).parents[2] / "ml"


@pytest.mark.parametrize("missing", sorted(AWS))
def test_a_missing_variable_is_named(missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{missing} is not set. Set it on every Airflow process"):
        Environment.of({name: value for name, value in AWS.items() if name != missing})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"RETRAINING_ENVIRONMENT": "prod"}, "'prod': must be 'local' or 'aws'"),
        ({"RETRAINING_ROLE_ARN": "sagemaker"}, "'sagemaker': must be the full ARN"),
    ],
)
def test_a_wrong_variable_is_explained(change: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Environment.of(AWS | change)


def test_what_boto3_does_not_read_is_no_region() -> None:
    """Its requests would have none, or another."""
    platform = {name: value for name, value in AWS.items() if name != "AWS_DEFAULT_REGION"} | {
        "AWS_REGION": "us-east-1"
    }
    with pytest.raises(ConfigurationError, match=r"AWS_DEFAULT_REGION is not set\. .* boto3 does not read AWS_REGION"):
        Environment.of(platform)
    assert Environment.of(AWS | {"AWS_REGION": "us-east-1"}).region == "eu-central-1"


def test_a_local_server_is_asked_often() -> None:
    assert (poll_seconds(LOCAL), poll_seconds(LOCAL | {"RETRAINING_POLL_SECONDS": "0.5"})) == (2, 0.5)


def test_more_recipe_folders_can_be_named() -> None:
    folders = recipe_folders({"RETRAINING_RECIPES": "/a:/b"}, Path("/dags"))
    assert folders == [Path("/dags/recipes"), Path("/a"), Path("/b")]


def test_links_lead_to_the_console_or_to_the_local_server() -> None:
    console = "https://eu-central-1.console.aws.amazon.com/sagemaker/home?region=eu-central-1#/jobs/j"
    assert job_url("training", "j", Environment.of(AWS)) == console
    assert job_url("processing", "j", Environment.of(AWS)).endswith("#/processing-jobs/j")
    assert job_url("training", "j", Environment.of(LOCAL)) == "http://127.0.0.1:14330/jobs/training/j"


@pytest.mark.parametrize(
    ("partition", "region", "console"),
    [
        ("aws-cn", "cn-north-1", "console.amazonaws.cn"),
        ("aws-us-gov", "us-gov-west-1", "console.amazonaws-us-gov.com"),
        ("aws-eusc", "eusc-de-east-1", "console.amazonaws-eusc.eu"),
    ],
)
def test_each_partition_has_its_own_console(partition: str, region: str, console: str) -> None:
    role = f"arn:{partition}:iam::111122223333:role/sagemaker"
    there = Environment.of(AWS | {"AWS_DEFAULT_REGION": region, "RETRAINING_ROLE_ARN": role})
    assert job_url("training", "j", there) == f"https://{region}.{console}/sagemaker/home?region={region}#/jobs/j"


def test_no_link_is_better_than_a_wrong_one() -> None:
    """Of a partition whose console is not public, and of a server whose address only the connection knows."""
    iso = {"AWS_DEFAULT_REGION": "us-iso-east-1", "RETRAINING_ROLE_ARN": "arn:aws-iso:iam::111122223333:role/r"}
    assert job_url("training", "j", Environment.of(AWS | iso)) == ""
    assert job_url("training", "j", Environment.of(AWS | {"RETRAINING_ENVIRONMENT": "local"})) == ""


def test_a_vpc_endpoint_has_no_pages() -> None:
    endpoint = "https://vpce-0abc-xyz.api.sagemaker.eu-central-1.vpce.amazonaws.com"
    environment = Environment.of(AWS | {"AWS_ENDPOINT_URL_SAGEMAKER": endpoint})
    assert job_url("training", "j", environment).startswith("https://eu-central-1.console.aws.amazon.com/")


def test_a_browser_may_need_another_address() -> None:
    containers = {"AWS_ENDPOINT_URL": "http://local-sagemaker:14330", "RETRAINING_JOBS_URL": "http://127.0.0.1:15000/"}
    assert job_url("tuning", "j", Environment.of(LOCAL | containers)) == "http://127.0.0.1:15000/jobs/tuning/j"


def test_images_carry_smdebug_only_where_debugger_needs_it(recipe: Recipe) -> None:
    with_debugger = resolve_images(recipe, Environment.of(LOCAL))
    without = resolve_images(recipe.with_params({"debugger": "off"}), Environment.of(LOCAL))
    assert "pytorch-training:2.0.1-cpu-py310" in with_debugger.training
    newest = "/pytorch:2.14-cpu-amzn2023-sagemaker"
    assert without.training.endswith(newest)
    assert with_debugger.training_self_hosted.endswith(newest)
    assert with_debugger.evaluation.endswith(newest)


def test_rules_are_evaluated_without_a_gpu(recipe: Recipe) -> None:
    images = resolve_images(recipe.with_params({"training_instance_type": "ml.g5.xlarge"}), Environment.of(LOCAL))
    assert ("-cu133-" in images.training_self_hosted, "-cpu-" in images.evaluation) == (True, True)


def test_an_image_can_be_replaced(recipe: Recipe) -> None:
    images = resolve_images(recipe, Environment.of(LOCAL | {"RETRAINING_SERVING_IMAGE": "mine:1"}))
    assert images.serving == "mine:1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("region", "registry"), [("eu-south-1", "692866216735"), ("us-east-1", "763104351884")], ids=["opt-in", "us-east-1"]
)
@pytest.mark.parametrize(
    ("instance_type", "training", "smdebug", "serving"),
    [
        ("ml.m5.xlarge", "2.14-cpu-amzn2023-sagemaker", "2.0.1-cpu-py310", "serve-ml-sagemaker-cpu-v1.4"),
        ("ml.g5.xlarge", "2.14-cu133-amzn2023-sagemaker", "2.0.1-gpu-py310", "serve-ml-sagemaker-cuda-v1.4"),
    ],
)
def test_aws_images_are_those_of_the_region(
    recipe: Recipe, region: str, registry: str, instance_type: str, training: str, smdebug: str, serving: str
) -> None:
    """Opt-in regions have registries of their own, which only the SDK knows; ours for the laptop are us-east-1's."""
    machines = {f"RETRAINING_{job}_INSTANCE_TYPE": instance_type for job in ("TRAINING", "SERVING")}
    environment = AWS | {"AWS_DEFAULT_REGION": region} | machines
    images = resolve_images(recipe, Environment.of(environment))
    home = f"{registry}.dkr.ecr.{region}.amazonaws.com"
    assert images.training == f"{home}/pytorch-training:{smdebug}"
    assert images.training_self_hosted == f"{home}/pytorch:{training}"
    assert images.serving == f"{home}/ray:{serving}"
    assert images.rules.endswith(f".{region}.amazonaws.com/sagemaker-debugger-rules:latest")
    if region == "us-east-1":
        local = resolve_images(recipe, Environment.of(LOCAL | environment | {"RETRAINING_ENVIRONMENT": "local"}))
        assert local == images


@pytest.mark.slow
def test_a_region_without_rules_has_no_managed_debugger(recipe: Recipe) -> None:
    environment = Environment.of(AWS | {"AWS_DEFAULT_REGION": "mx-central-1"})
    assert rule_image(environment) is None
    with pytest.raises(ConfigurationError, match="no rules in mx-central-1"):
        resolve_images(recipe.with_params({"debugger": "managed"}), environment)
    assert resolve_images(recipe.with_params({"debugger": "self_hosted"}), environment).rules == ""


def test_what_changed_since_the_champion_is_named(recipe: Recipe) -> None:
    now = Ingredients(dataset="d", code="c", recipe=recipe_fingerprint(recipe))
    champion = {"ingredients": now.as_dict() | {"code": "old"}}
    assert now.changed_since(champion) == ["code"]
    assert now.changed_since(None) == ["dataset", "code", "recipe"]


def test_only_what_makes_the_model_changes_the_recipes_fingerprint(recipe: Recipe) -> None:
    before = recipe_fingerprint(recipe)
    assert (
        recipe_fingerprint(recipe.with_params({"max_parallel_jobs": 1, "min_value": 0.1, "approval": True})) == before
    )
    assert recipe_fingerprint(replace(recipe, tuning=replace(recipe.tuning, warm_start="off"))) == before
    assert recipe_fingerprint(recipe.with_params({"epochs": 9})) != before


@pytest.mark.slow
def test_a_region_without_the_containers_is_told_the_way_out(recipe: Recipe) -> None:
    environment = Environment.of(AWS | {"AWS_DEFAULT_REGION": "cn-north-1"})
    with pytest.raises(ConfigurationError, match=r"no pytorch-amzn2023 container .* in cn-north-1.*_TRAINING_IMAGE"):
        resolve_images(recipe.with_params({"debugger": "off"}), environment)


def test_new_keys_leave_the_gate_what_it_was(recipe: Recipe) -> None:
    """The digest that the version before `worse_classes` and `slices` made of the same rules."""
    rules = {"min_value": 0.2, "evidence": "point"}
    assert gate_fingerprint(replace(recipe, promotion=Promotion(**rules))) == "13470ae7a5ae07f4f681"  # type: ignore[arg-type]
    for more in ({"worse_classes": "warn"}, {"slices": {"night": "*n*"}}, {"max_size_ratio": 2.0}, {"confidence": 0.9}):
        other = replace(recipe, promotion=Promotion(**rules, **more))  # type: ignore[arg-type]
        assert gate_fingerprint(other) != "13470ae7a5ae07f4f681"
