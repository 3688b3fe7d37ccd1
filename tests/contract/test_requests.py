"""Our requests against the service model botocore ships: names, types, and what botocore does not check itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape
from botocore.validate import ParamValidator

from local_sagemaker.jobs import distribution
from local_sagemaker.jobs.script import Script
from local_sagemaker.wire import service_model as served_model
from retraining.container_images import resolve_images
from retraining.debugger.mode import HOOK_HYPERPARAMETER, MANAGED_MEMBERS, PROFILE_HYPERPARAMETER, in_mode
from retraining.environment import Environment
from retraining.plan import Plan
from retraining.recipe import load_recipe, read_recipe
from retraining.recipe.debugger import ALL_RULES
from retraining.recipe.deployment import Deployment
from retraining.recipe.hyperparameters import HYPERPARAMETERS
from retraining.recipe.machines import Autoscaling, Serving
from retraining.recipe.sync import Sync
from retraining.requests import debugger as debugger_requests
from retraining.requests import sagemaker as requests
from retraining.requests import verification as verification_requests
from retraining.requests.autoscaling import retained, scaling
from tests import shipped

DIGITS = Path(__file__).parents[2] / "dags" / "recipes" / "digits.yaml"
ENVIRONMENT = Environment.of(
    {
        "RETRAINING_ENVIRONMENT": "local",
        "RETRAINING_BUCKET": "retraining-local",
        "RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/local-sagemaker",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
)
# Java's names of character classes, which Python's re does not know; the model uses them inside [] only.
UNICODE_CLASSES = {"L": r"\w", "M": r"\w", "N": r"\w", "Z": r"\s", "S": r"$+<=>^`|~", "P": r"!-#%-*,-/:;?@\[-\]_{}"}
DIGITS_RECIPE = load_recipe(DIGITS)
RECIPES = shipped.RECIPES
SELF_HOSTED = in_mode(DIGITS_RECIPE, "self_hosted")
LONG_RECIPE = read_recipe(
    {
        "name": "a-very-long-name-for-chest-x-rays-2026",
        "source": "s3://images/x-rays",
        "training": {
            "instance_type": "ml.g5.xlarge",
            "spot": True,
            "instance_count": 2,
            "distribution": "torchrun",
        },
        "tracking": {
            "wandb": {"project": "x-rays", "entity": "radiology", "mode": "online"},
            "mlflow": {"tracking_uri": "arn:aws:sagemaker:us-east-1:000000000000:mlflow-tracking-server/x-rays"},
        },
        "hyperparameters": {"arch": "resnet50", "weights": "channel"},
        "pretrained": "s3://weights/resnet50.pth",
        "sync": {"shards": "FastFile"},
        "tuning": {
            "strategy": "Random",
            "ranges": {
                "lr": {"type": "continuous", "min": 1e-05, "max": 0.1},
                "epochs": {"type": "integer", "min": 2, "max": 9},
            },
        },
        "debugger": {"mode": "off"},
        "capture": {"percent": 20},
    },
    where="test",
)


@cache
def service_model() -> ServiceModel:
    from botocore.loaders import Loader

    return ServiceModel(Loader().load_service_model("sagemaker", "service-2"))


def violations(shape: Shape, value: Any, at: str) -> Iterator[str]:
    """Enum, pattern and maximum: they stand in the model, and botocore's own validator ignores them."""
    rules = shape.metadata
    allowed = getattr(shape, "enum", None)
    if allowed and value not in allowed:
        yield f"{at}: {value!r} is none of {allowed}"
    if isinstance(value, str):
        # "${1,256}" at the end of two patterns is a slip in the model: Java repeats the $, Python refuses to.
        pattern = re.sub(r"\$\{1,\d+\}$", "", rules.get("pattern", "(?s).*"))
        pattern = re.sub(r"\\p\{(.)\}", lambda java: UNICODE_CLASSES[java[1]], pattern)
        if not re.fullmatch(pattern, value):
            yield f"{at}: {value!r} does not match {pattern}"
    size = len(value) if isinstance(value, str | list | dict) else value
    if isinstance(size, int | float) and not rules.get("min", size) <= size <= rules.get("max", size):
        yield f"{at}: {size} is outside {rules.get('min')} to {rules.get('max')}"
    if isinstance(shape, StructureShape):
        for key, item in value.items():
            yield from violations(shape.members[key], item, f"{at}.{key}")
    elif isinstance(shape, ListShape):
        for index, item in enumerate(value):
            yield from violations(shape.member, item, f"{at}[{index}]")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from violations(shape.key, key, f"{at} key")
            yield from violations(shape.value, item, f"{at}.{key}")


def problems(operation: str, request: dict[str, Any]) -> list[str]:
    """Everything the service would refuse in this request."""
    shape = service_model().operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    return [report.generate_report()] if report.has_errors() else list(violations(shape, request, operation))


def every_request(recipe: Any, environment: Environment = ENVIRONMENT) -> dict[str, dict[str, Any]]:
    plan = Plan.of(recipe, environment, datetime(2026, 11, 21, 3, tzinfo=UTC), "scheduled__2026-11-21T03:00:00+00:00")
    images = resolve_images(recipe, environment)
    source = plan.uri(plan.source_key("0123456789abcdef"))
    artifact = plan.uri(f"{plan.run_key}/training/{plan.training_job}/output/model.tar.gz")
    role = "arn:aws:sagemaker:us-east-1:000000000000:training-job/" + plan.training_job
    return {
        "CreateHyperParameterTuningJob": requests.tuning_job(plan, images, "f" * 20, source),
        "CreateTrainingJob": requests.training_job(plan, images, "f" * 20, source, {"arch": "resnet18", "lr": "0.001"}),
        "CreateProcessingJob": debugger_requests.evaluation_job(plan, images, source, f"{plan.training_job}-g3"),
        "CreateModel": requests.model(plan, plan.model, images.serving, artifact),
        "CreateTransformJob": requests.transform_job(plan, plan.candidate_scoring_job, plan.model, "test.manifest"),
        "CreateEndpointConfig": requests.endpoint_config(plan),
        "CreateEndpoint": requests.endpoint(plan, plan.endpoint_config),
        "UpdateEndpoint": requests.endpoint(plan, plan.endpoint_config)
        | {"DeploymentConfig": requests.deployment_config(recipe.deployment)},
        "CreateModelPackageGroup": requests.model_package_group(plan),
        "CreateModelPackage": requests.model_package(
            plan, images.serving, artifact, plan.uri("evaluation.json"), role, {"dataset": "f" * 20, "accuracy": "0.98"}
        ),
    }


@pytest.mark.parametrize(
    "recipe",
    [*map(load_recipe, RECIPES), LONG_RECIPE, SELF_HOSTED, in_mode(LONG_RECIPE, "self_hosted")],
    ids=lambda recipe: f"{recipe.name}-{recipe.debugger.mode}",
)
@pytest.mark.parametrize("operation", every_request(DIGITS_RECIPE))
def test_sagemaker_would_accept_the_request(operation: str, recipe: Any) -> None:
    assert problems(operation, every_request(recipe)[operation]) == []


def test_shards_are_channels_by_prefix() -> None:
    """SageMaker streams no manifest; the data set's document stays a download."""
    channels = {
        each["ChannelName"]: each for each in every_request(LONG_RECIPE)["CreateTrainingJob"]["InputDataConfig"]
    }
    for name in ("train", "validation"):
        source = channels[name]["DataSource"]["S3DataSource"]
        assert (channels[name]["InputMode"], source["S3DataType"]) == ("FastFile", "S3Prefix")
        assert source["S3Uri"].endswith(f"/shards/{name}/")
    assert channels["dataset"]["InputMode"] == "File"


def test_sagemaker_would_accept_the_verification_of_images() -> None:
    """Also of a recipe with a long name, of an empty source and of one that no disk holds; and as its price is told."""
    for recipe in (DIGITS_RECIPE, LONG_RECIPE):
        sync = Sync(where="processing", instances=20)
        recipe = replace(recipe, source="s3://images/x", sync=sync)
        plan = Plan.of(recipe, ENVIRONMENT, datetime(2026, 11, 21, 3, tzinfo=UTC), "r")
        images = resolve_images(recipe, ENVIRONMENT)
        divided = {"digest": "d" * 20, "code_digest": "c" * 20, "rules": "r" * 20, "pillow": "13.0.0"}
        for count, size_bytes in ((1, 70), (10**6, 10**11), (10**9, 10**16)):
            said = divided | {"in_job": count, "size_bytes": size_bytes}
            request = verification_requests.verification_job(plan, images, said)
            assert problems("CreateProcessingJob", request) == []
            words = (
                request["AppSpecification"]["ContainerEntrypoint"] + request["AppSpecification"]["ContainerArguments"]
            )
            assert all(word.startswith("/opt/ml/") for word in words if "/opt/ml" in word)
            assert max(map(len, words)) <= 256
        most = verification_requests.verification_job(plan, images, None)["ProcessingResources"]["ClusterConfig"]
        assert (most["InstanceCount"], most["InstanceType"]) == (20, "ml.m5.xlarge")


def test_application_auto_scaling_would_accept_the_requests() -> None:
    bounds = {"min": 2, "max": 4, "invocations_per_instance": 600}
    serving = Serving(instance_count=2, autoscaling=Autoscaling(**bounds))
    plan = Plan.of(replace(LONG_RECIPE, serving=serving), ENVIRONMENT, datetime(2026, 11, 21, 3, tzinfo=UTC), "r")
    for operation, request in (scaling(plan) or {}).items():
        # Its patterns are Java's, which the server's own checks can read.
        assert served_model.check_request("application-autoscaling", operation, request) == request
    assert problems("UpdateEndpoint", requests.endpoint(plan, plan.endpoint_config) | retained(plan)) == []


@pytest.mark.parametrize("strategy", ["all_at_once", "canary", "linear"])
@pytest.mark.parametrize("percent", [None, 50])
def test_sagemaker_would_accept_every_deployment(strategy: Any, percent: int | None) -> None:
    deployment = Deployment(
        strategy=strategy,
        percent=None if strategy == "all_at_once" else percent,
        bake_seconds=3600,
        alarms=["shop-5xx"],
        termination_wait_seconds=3600,
    )
    request = {
        "EndpointName": "a",
        "EndpointConfigName": "b",
        "DeploymentConfig": requests.deployment_config(deployment),
    }
    assert problems("UpdateEndpoint", request) == []
    assert deployment.timeout_seconds > deployment.wait_seconds  # SageMaker's rule


def test_the_checker_sees_what_botocore_overlooks() -> None:
    request = every_request(DIGITS_RECIPE)["CreateTrainingJob"]
    request["AlgorithmSpecification"]["TrainingInputMode"] = "NotAnEnum"
    request["TrainingJobName"] = "-starts-with-a-dash"
    request["HyperParameters"]["lr"] = "9" * 3000
    assert len(problems("CreateTrainingJob", request)) == 3


def test_the_checker_sees_an_unknown_member() -> None:
    request = every_request(DIGITS_RECIPE)["CreateEndpoint"] | {"EndpointNmae": "x"}
    assert "EndpointNmae" in problems("CreateEndpoint", request)[0]


def test_tuning_names_leave_room_for_a_second_generation() -> None:
    name = every_request(LONG_RECIPE)["CreateHyperParameterTuningJob"]["HyperParameterTuningJobName"]
    assert len(f"{name}-g2") <= 32


def test_no_hyperparameter_is_both_fixed_and_tuned() -> None:
    request = every_request(DIGITS_RECIPE)["CreateHyperParameterTuningJob"]
    ranges = request["HyperParameterTuningJobConfig"]["ParameterRanges"].values()
    tuned = {entry["Name"] for entries in ranges for entry in entries}
    assert tuned == {"lr", "batch-size"}
    assert not tuned & request["TrainingJobDefinition"]["StaticHyperParameters"].keys()


def test_recipes_and_training_script_know_the_same_hyperparameters() -> None:
    """The script's flags, read from its text: it belongs to another interpreter."""
    flags = re.findall(r'"--([a-z-]+)"', (DIGITS.parents[2] / "ml/training/flags.py").read_text())
    ours = {HOOK_HYPERPARAMETER, PROFILE_HYPERPARAMETER}  # for the DAG alone to give, in the mode self_hosted
    assert {flag for flag in flags if not flag.endswith("-dir")} == set(HYPERPARAMETERS) | ours
    assert not ours & set(HYPERPARAMETERS)


def test_spot_trainings_can_go_on_after_an_interruption() -> None:
    spot, on_demand = every_request(LONG_RECIPE), every_request(DIGITS_RECIPE)
    definition = spot["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]
    assert definition["CheckpointConfig"] == spot["CreateTrainingJob"]["CheckpointConfig"]
    assert definition["CheckpointConfig"]["S3Uri"].endswith("/checkpoints")
    assert "CheckpointConfig" not in on_demand["CreateTrainingJob"]


def test_trials_keep_the_epoch_that_is_best_in_what_they_are_compared_by() -> None:
    definition = every_request(DIGITS_RECIPE)["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]
    assert definition["StaticHyperParameters"]["objective"] == DIGITS_RECIPE.tuning.objective


def test_trials_have_the_final_trainings_machines() -> None:
    """And both sections of the documents that say how many say so."""
    made = every_request(LONG_RECIPE)
    trial = made["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]["ResourceConfig"]
    assert trial == made["CreateTrainingJob"]["ResourceConfig"]
    assert (trial["InstanceCount"], trial["InstanceType"]) == (2, "ml.g5.xlarge")
    document = (DIGITS.parents[2] / "docs/recipe.md").read_text()
    told = re.findall(r"^\| `training\.instance_(?:type|count)` \|.*$", document, re.MULTILINE)
    assert ["each trial and of the final training" in row for row in told] == [True, True]


def test_debugger_off_sends_no_debugger_members() -> None:
    assert not [key for key in every_request(LONG_RECIPE)["CreateTrainingJob"] if key.startswith(("Debug", "Profiler"))]


@pytest.mark.parametrize("recipe", [DIGITS_RECIPE, SELF_HOSTED], ids=["managed", "self_hosted"])
def test_trials_are_not_watched(recipe: Any) -> None:
    definition = every_request(recipe)["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]
    assert not [key for key in definition if key.startswith(("Debug", "Profiler"))]
    assert not {HOOK_HYPERPARAMETER, PROFILE_HYPERPARAMETER} & definition["StaticHyperParameters"].keys()


def test_a_self_hosted_training_saves_what_a_managed_one_does() -> None:
    """The same request but for who watches, and the image, which need not carry smdebug."""
    managed, ours = (every_request(recipe)["CreateTrainingJob"] for recipe in (DIGITS_RECIPE, SELF_HOSTED))
    given = ours["HyperParameters"]
    hook = json.loads(given.pop(HOOK_HYPERPARAMETER))
    assert hook == {"CollectionConfigurations": managed["DebugHookConfig"]["CollectionConfigurations"]}
    assert given.pop(PROFILE_HYPERPARAMETER) == "true"
    assert not {*MANAGED_MEMBERS, "ProfilerConfig"} & ours.keys()
    assert {*MANAGED_MEMBERS, "ProfilerConfig"} <= managed.keys()
    assert "/pytorch:2.14-" in ours["AlgorithmSpecification"].pop("TrainingImage")
    assert ":2.0.1-" in managed["AlgorithmSpecification"].pop("TrainingImage")
    assert ours == {key: value for key, value in managed.items() if key in ours}


@pytest.mark.parametrize("decided", ["managed", "self_hosted", "off"])
@pytest.mark.parametrize("mode", ["managed", "self_hosted", "off"])
def test_search_and_result_share_one_container(decided: Any, mode: Any) -> None:
    """Also where a run that was decided to be managed falls back, after its trials."""
    images = resolve_images(in_mode(DIGITS_RECIPE, decided), ENVIRONMENT)
    plan = Plan.of(in_mode(DIGITS_RECIPE, mode), ENVIRONMENT, datetime(2026, 11, 21, 3, tzinfo=UTC), "scheduled__x")
    source = "s3://b/sourcedir.tar.gz"
    final = requests.training_job(plan, images, "f" * 20, source, {})["AlgorithmSpecification"]["TrainingImage"]
    trials = requests.tuning_job(plan, images, "f" * 20, source)["TrainingJobDefinition"]["AlgorithmSpecification"]
    assert final == trials["TrainingImage"]
    assert (":2.0.1-" in final) is (decided == "managed")


def test_both_modes_evaluate_the_same_rules_into_the_same_place() -> None:
    made = every_request(SELF_HOSTED)
    plan = Plan.of(SELF_HOSTED, ENVIRONMENT, datetime(2026, 11, 21, 3, tzinfo=UTC), "scheduled__x")
    moment = datetime(2026, 11, 21, 4, tzinfo=UTC)
    job = {"TrainingJobName": "j", "CreationTime": moment, "ResourceConfig": {"InstanceType": "ml.m5.xlarge"}}
    documents = debugger_requests.evaluation_documents(plan, job)
    managed = every_request(DIGITS_RECIPE)["CreateTrainingJob"]
    configured = managed["DebugRuleConfigurations"] + managed["ProfilerRuleConfigurations"]
    (rules, described) = documents.values()
    assert rules == [{key: rule[key] for key in ("RuleConfigurationName", "RuleParameters")} for rule in configured]
    assert (described["CreationTime"], described["TrainingEndTime"]) == (moment.timestamp(), None)
    read = {
        item["S3Input"]["LocalPath"]: item["S3Input"]["S3Uri"]
        for item in made["CreateProcessingJob"]["ProcessingInputs"]
    }
    assert "/opt/ml/processing/input/rules" in read
    (output,) = made["CreateProcessingJob"]["ProcessingOutputConfig"]["Outputs"]
    training = made["CreateTrainingJob"]
    # The job that was really made may be a second generation.
    where = f"{training['OutputDataConfig']['S3OutputPath']}/{training['TrainingJobName']}-g3"
    assert output["S3Output"]["S3Uri"] == f"{where}/rule-output"
    assert read["/opt/ml/processing/input/output"] == f"{where}/output/output.tar.gz"


def test_no_path_of_the_container_hides_inside_a_word() -> None:
    """A server that cannot mount /opt/ml moves the words that begin with it."""
    specification = every_request(SELF_HOSTED)["CreateProcessingJob"]["AppSpecification"]
    words = specification["ContainerEntrypoint"] + specification["ContainerArguments"]
    assert all(word.startswith("/opt/ml/") for word in words if "/opt/ml" in word)
    assert max(map(len, words)) <= 256


def test_torchrun_is_asked_for_as_the_sdk_asks() -> None:
    """`distribution={"torch_distributed": {"enabled": True}}`, for the trials as for the final training."""
    requests_made = every_request(LONG_RECIPE)
    tuning = requests_made["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]
    training = requests_made["CreateTrainingJob"]
    for given, job in ((tuning["StaticHyperParameters"], tuning), (training["HyperParameters"], training)):
        assert given["sagemaker_torch_distributed_enabled"] == "true"
        assert given["sagemaker_instance_type"] == "ml.g5.xlarge"
        assert job["ResourceConfig"]["InstanceCount"] == 2
        assert distribution.enabled(Script.of(job))
    alone = every_request(DIGITS_RECIPE)["CreateTrainingJob"]
    assert not distribution.enabled(Script.of(alone))
    assert alone["ResourceConfig"]["InstanceCount"] == 1


def test_every_process_reads_whole_channels() -> None:
    """The script divides the images itself; channels divided by SageMaker too would lose most of them."""
    kinds = {
        channel["DataSource"]["S3DataSource"]["S3DataDistributionType"]
        for channel in every_request(LONG_RECIPE)["CreateTrainingJob"]["InputDataConfig"]
    }
    assert kinds == {"FullyReplicated"}


def test_only_the_final_training_keeps_its_machine() -> None:
    """SageMaker refuses warm pools for the trials of a tuning job, and for spot machines."""
    warm = replace(DIGITS_RECIPE, training=replace(DIGITS_RECIPE.training, keep_alive_seconds=600))
    made = every_request(warm)
    assert made["CreateTrainingJob"]["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    assert problems("CreateTrainingJob", made["CreateTrainingJob"]) == []
    trials = made["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]["ResourceConfig"]
    assert "KeepAlivePeriodInSeconds" not in trials
    assert "KeepAlivePeriodInSeconds" not in every_request(DIGITS_RECIPE)["CreateTrainingJob"]["ResourceConfig"]


def test_trackers_are_asked_for_by_their_own_variables() -> None:
    """Of every trial and of the final training. The group of a trial is its tuning job's name, which it knows."""
    made = every_request(LONG_RECIPE)
    environment = made["CreateTrainingJob"]["Environment"]
    group = {"WANDB_RUN_GROUP": made["CreateHyperParameterTuningJob"]["HyperParameterTuningJobName"]}
    assert made["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]["Environment"] | group == environment
    assert environment == {
        "PYTHONUNBUFFERED": "1",
        "WANDB_PROJECT": "x-rays",
        "WANDB_MODE": "online",
        "WANDB_ENTITY": "radiology",
        **group,
        "MLFLOW_TRACKING_URI": "arn:aws:sagemaker:us-east-1:000000000000:mlflow-tracking-server/x-rays",
        "MLFLOW_EXPERIMENT_NAME": LONG_RECIPE.name,
    }
    assert every_request(DIGITS_RECIPE)["CreateTrainingJob"]["Environment"] == {"PYTHONUNBUFFERED": "1"}


def test_the_training_script_heeds_the_trackers_variables() -> None:
    heeded = (DIGITS.parents[2] / "ml/training/tracking.py").read_text()
    asked = LONG_RECIPE.tracking.environment("x", "y").keys() - {"WANDB_RUN_GROUP"}  # read by W&B's own library
    assert all(f'"{name}"' in heeded for name in asked)


def test_recipes_and_rule_engine_know_the_same_rules() -> None:
    """The engine's names, read from its text: it belongs to another interpreter."""
    text = (DIGITS.parents[2] / "ml/debugger/rules/catalogue.py").read_text()
    (listed,) = re.findall(r"for rule in \((.*?)\)", text, re.DOTALL)
    assert set(re.findall(r"\w+", listed)) == set(ALL_RULES)


def test_the_hook_saves_what_a_rule_reads_and_what_a_recipe_adds() -> None:
    def saved(**changes: Any) -> dict[str, Any]:
        recipe = replace(DIGITS_RECIPE, debugger=replace(DIGITS_RECIPE.debugger, **changes))
        request = every_request(recipe)["CreateTrainingJob"]
        assert problems("CreateTrainingJob", request) == []
        collections = request["DebugHookConfig"]["CollectionConfigurations"]
        return {entry["CollectionName"]: entry["CollectionParameters"] for entry in collections}

    usual = saved()
    assert set(usual) == {"losses", "gradients", "relu_input"}
    more = saved(rules={"DeadRelu": "warn", "WeightUpdateRatio": "warn"}, rule_parameters={})
    assert set(more) - set(usual) == {"relu_output", "weights"}
    inputs = {"include_regex": ".*input", "train.save_interval": 25}
    own = saved(collections={"gradients": {"include_regex": "fc"}, "inputs": inputs})
    every = {"save_interval": str(DIGITS_RECIPE.debugger.save_interval)}
    assert own["gradients"] == {"include_regex": "fc"} | every
    assert own["inputs"] == {"include_regex": ".*input", "train.save_interval": "25"} | every
