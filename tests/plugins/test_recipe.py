"""A recipe is right, or its error tells file, key, value, rule and way out."""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retraining.fingerprint import recipe_fingerprint
from retraining.recipe import (
    TRIGGER_PARAMS,
    Promotion,
    Recipe,
    RecipeError,
    check_recipes,
    find_recipes,
    load_recipe,
    read_recipe,
)

DIGITS = Path(__file__).parents[2] / "dags" / "recipes" / "digits.yaml"


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change to recipe data: put("tuning.max_jobs", 0)."""

    def change(data: dict[str, Any]) -> None:
        *sections, key = path.split(".")
        for section in sections:
            data = data.setdefault(section, {})
        data[key] = value

    return change


def test_the_embedded_recipe_is_valid() -> None:
    recipe = load_recipe(DIGITS)
    assert (recipe.name, recipe.endpoint) == ("digits", "retraining-digits")


def test_self_hosted_rules_take_longer_texts(recipe_data: dict[str, Any]) -> None:
    """Which SageMaker never sees as parameters."""
    long = {"LossNotDecreasing": {"tensor_regex": "a|" * 150}}
    read_recipe(recipe_data | {"debugger": {"mode": "self_hosted", "rule_parameters": long}}, where="test")


def test_a_newer_machine_is_taken_by_name(recipe_data: dict[str, Any]) -> None:
    """Of whichever job: AWS has machines that a release before them cannot know."""
    new = {"instance_type": "ml.m99.large"}
    recipe = recipe_data | {"new_instance_types": ["ml.m99.large"], "training": new, "serving": new, "sync": new}
    assert read_recipe(recipe, where="test").scoring_instance_type("ml.m99.large") == "ml.m99.large"


def test_what_is_left_out_has_its_default(recipe: Recipe) -> None:
    assert (recipe.endpoint, recipe.training.volume_size_gb, recipe.split.test) == ("retraining-shapes", 30, 0.15)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (put("trainning", {}), r"trainning = {}: is not a key of this section\. Did you mean training\?"),
        (put("tuning.max_job", 3), r"tuning\.max_job = 3: is not a key .* Did you mean max_jobs\?"),
        (put("tuning.ranges.lr.min", 0.5), r"tuning\.ranges\.lr\.min = 0\.5: must be smaller than max = 0\.1\. Swap"),
        (put("tuning.ranges.lr.min", 0), r"lr\.min = 0\.0: a Logarithmic range must start above 0\. Use Linear"),
        (put("tuning.ranges.lr.max", float("nan")), r"lr\.max = nan: must be a finite number"),
        (put("tuning.ranges.lr.max", 99.0), r"tuning\.ranges\.lr\.max = 99\.0: must be a number from 1e-08 to 10"),
        (put("tuning.ranges.lr.min", "1e-4"), r"YAML reads this as a text\. Write it as 0\.0001"),
        (put("hyperparameters.weight-decay", "1e-4"), r"must be a number from 0 to 1\. YAML reads this as a text"),
        (put("hyperparameters.epochs", "1e1"), r"YAML reads this as a text\. .* whole numbers without an e"),
        (put("training.max_runtime_seconds", "1e4"), r"must be a whole number\. YAML reads this as a text"),
        (put("hyperparameters.seed", 2**31), r"must be a whole number from 0 to 2147483647"),
        (
            put("training.instance_type", "ml.m5.larg"),
            r"no such machine for training and tuning jobs\. Did you mean ml\.m5",
        ),
        (put("training.instance_type", "ml.t2.large"), r"no such machine for training .* jobs, only for endpoints\."),
        (put("serving.instance_type", "ml.t3.medium"), r"no such machine for endpoints, only for training and tuning"),
        (
            put("scoring.instance_type", "ml.c5.large"),
            r"for batch transform jobs.*xlarge\?.* add it to new_instance_types",
        ),
        (put("debugger.instance_type", "ml.t2.medium"), r"debugger\.instance_type = .* no such machine for processing"),
        (put("sync.instance_type", "ml.c6i.large"), r"sync\.instance_type = .* no such machine for processing jobs"),
        (
            put("serving.instance_type", "ml.c7g.large"),
            r"scoring\.instance_type = None: batch transform, .* has no ml\.c7g",
        ),
        (
            put("serving", {"instance_type": "ml.t2.large", "autoscaling": {"max": 2, "invocations_per_instance": 9}}),
            r"serving\.instance_type = 'ml\.t2\.large': SageMaker does not scale endpoints of burstable machines",
        ),
        (put("description", "a\0b"), r"description = 'a\\x00b': may hold no control characters"),
        (put("description", "a\udcffb"), r"description = 'a\\udcffb': may hold no control characters"),
        (put("tuning.ranges", {}), r"tuning\.ranges = {}: tuning needs at least one range"),
        (put("tuning.max_parallel_jobs", 9), r"max_parallel_jobs = 9: must be 1 to 10 and at most max_jobs = 4"),
        (put("tuning.goal", "Minimize"), r"tuning\.goal = 'Minimize': .* gets better when you Maximize it"),
        (put("tuning.strategy", "Bayes"), r"must be one of Bayesian, Random\. Did you mean Bayesian\?"),
        (
            put("hyperparameters.epoch", 3),
            r"hyperparameters\.epoch = 3: train\.py has no such .* Did you mean epochs\?",
        ),
        (put("hyperparameters.epochs", 0), r"hyperparameters\.epochs = 0: must be a whole number from 1 to 1000"),
        (put("hyperparameters.epochs", True), r"hyperparameters\.epochs = True: must be"),
        (put("hyperparameters.lr", 0.1), r"hyperparameters\.lr = 0\.1: is also in tuning\.ranges\. Keep one"),
        (put("hyperparameters.weights", "channel"), r"pretrained = None: must name a \.pth or \.safetensors object"),
        (
            put("hyperparameters.arch", "resnet19"),
            r"hyperparameters\.arch = 'resnet19': must be a classification network",
        ),
        (
            put("hyperparameters.augment", "flip+turn"),
            r"augment = 'flip\+turn': must be none, or some of affine, crop, flip",
        ),
        (put("hyperparameters.deterministic", "false"), r"deterministic = 'false': must be true or false"),
        (put("split", {"train": 0.9, "validation": 0.2, "test": 0.2}), r"must add up to 1, they make 1\.3"),
        (put("split.group_by", "person("), r"split\.group_by = 'person\(': must be a regular expression with one"),
        (put("split.group_by", "person"), r"split\.group_by = 'person': must be a regular expression with one"),
        (put("layout", {"train": "../other"}), r"layout\.train = '../other': must be a folder below the source"),
        (
            put("layout", {"test": "Testing"}),
            r"layout = \{'test': 'Testing'\}: must name train, and .*or classes alone",
        ),
        (put("layout", {"train": "a", "classes": "b"}), r"layout = .*must name train, and .*or classes alone"),
        (put("layout", {"train": "a", "test": "a"}), r"layout = .*must name another folder for each split"),
        (put("layout", {"training": "a"}), r"layout\.training = 'a': is not a key of this section. Did you mean train"),
        (put("layout", "Training"), r"layout = 'Training': must be a section of keys and values"),
        (put("layout", {"classes": 10253}), r"layout\.classes = 10253: must be a text\. Put it into quotes\."),
        (put("layout", {"classes": True}), r"classes = True: must be a text\. Put it into quotes, for YAML takes yes"),
        (put("split", {"train": 1.0, "validation": 0.0, "test": 0.0}), r"split\.train = 1\.0: must be a share"),
        (put("training.instance_type", "m5.xlarge"), r"training\.instance_type = 'm5\.xlarge': must be a SageMaker"),
        (put("training.spot", "yes"), r"training\.spot = 'yes': must be true or false"),
        (
            put("training.instance_count", 2),
            r"training\.instance_count = 2: several instances without .* Add distribution: torchrun",
        ),
        (
            put("training", {"instance_count": 40, "distribution": "torchrun"}),
            r"batch-size = 64: 40 instances need at least 2 images of a batch each",
        ),
        (put("training.instance_count", 0), r"training\.instance_count = 0: must be 1 to 64"),
        (put("training.distribution", "mpi"), r"training\.distribution = 'mpi': must be one of none, torchrun"),
        (put("training.keep_alive_seconds", 99999), r"training\.keep_alive_seconds = 99999: must be 0 to 21600"),
        (
            put("training", {"spot": True, "keep_alive_seconds": 60}),
            r"keep_alive_seconds = 60: SageMaker does not keep spot machines\. Set spot: false",
        ),
        (
            put("serving", {"autoscaling": {"min": 3, "max": 2, "invocations_per_instance": 600}}),
            r"serving\.autoscaling\.max = 2: must be at least min, 3",
        ),
        (
            put("serving", {"instance_count": 5, "autoscaling": {"max": 4, "invocations_per_instance": 600}}),
            r"serving\.instance_count = 5: a new endpoint begins with it, within autoscaling.min and max \(\(1, 4\)\)",
        ),
        (put("tracking.wand", {}), r"tracking\.wand = {}: is not a key of this section\. Did you mean wandb\?"),
        (put("tracking.wandb", {}), r"tracking\.wandb\.project = None: is missing"),
        (put("tracking.wandb", {"project": "a/b"}), r"tracking\.wandb\.project = 'a/b': must be 1 to 128 characters"),
        (
            put("tracking.wandb", {"project": "x", "mode": "on"}),
            r"tracking\.wandb\.mode = 'on': must be one of offline, online",
        ),
        (
            put("tracking.mlflow", {"tracking_uri": "mlflow.example"}),
            r"tracking\.mlflow\.tracking_uri = 'mlflow\.example': must begin with https:, http:, file: or arn:",
        ),
        (
            put("debugger.rules", {"LossNotDecresing": "fail"}),
            r"is not a rule known here\. Did you mean LossNotDecreasing",
        ),
        (put("debugger.collections", {"a b": {}}), r"debugger\.collections = 'a b': must be letters, digits, _ and -"),
        (put("debugger.collections", {"x": 3}), r"debugger\.collections\.x = 3: must be a section of keys and values"),
        (put("debugger.rules", {"Overfit": "stop"}), r"debugger\.rules\.Overfit = 'stop': must be one of fail, warn"),
        (put("promotion.min_value", 97), r"promotion\.min_value = 97\.0: accuracy lies between 0 and 1"),
        (put("promotion.min_improvement", 1), r"promotion\.min_improvement = 1\.0: is a share.* One percent is 0\.01"),
        (put("promotion", {"metric": "log_loss", "min_value": -1}), r"min_value = -1\.0: no log_loss is below 0"),
        (put("promotion.min_value", float("nan")), r"promotion\.min_value = nan: must be a number"),
        (
            put("debugger", {"mode": "managed", "rules": {"LossSpike": "warn"}}),
            r"debugger\.mode = 'managed': SageMaker Debugger has no rule LossSpike\. Set it to self_hosted or auto\.",
        ),
        (
            put("deployment.strategy", "canary"),
            r"strategy = 'canary': SageMaker shifts whole instances, .*instance_count",
        ),
        (put("deployment.percent", 10), r"deployment\.percent = 10: all_at_once shifts all requests"),
        (
            put("deployment", {"strategy": "linear", "percent": 5}),
            r"deployment\.percent = 5: a linear step is 10 to 50 percent",
        ),
        (put("deployment", {"strategy": "canary", "percent": 60}), r"percent = 60: must be 1 to 50 percent"),
        (
            put("deployment", {"strategy": "linear", "percent": 10, "bake_seconds": 3600}),
            r"bake_seconds = 3600: 10 shifts of 3600 s and 0 s in the end are 36000 s",
        ),
        (put("deployment.max_latency_ratio", 0.9), r"deployment\.max_latency_ratio = 0\.9: must be 1 to 100"),
        (
            put("deployment", {"bake_seconds": 0, "max_5xx_percent": 1}),
            r"bake_seconds = 0: CloudWatch judges max_5xx_percent by the minute\. Bake 60 seconds or more",
        ),
        (
            put("deployment", {"bake_seconds": 59}),
            r"bake_seconds = 59: in so short a time nobody notices .* Bake 60 seconds or more, or 0",
        ),
        (
            put("deployment", {"max_4xx_percent": 1, "alarms": list("abcdefghi")}),
            r"SageMaker watches 10 alarms at most, and 2 are the run's own",
        ),
        (put("deployment.alarms", [" "]), r"deployment\.alarms = \[' '\]: must be names of CloudWatch alarms"),
        (put("promotion.min_class_recall", 60), r"promotion\.min_class_recall = 60\.0: must be 0 to 1, as a recall is"),
        (put("promotion.confidence", 95), r"promotion\.confidence = 95\.0: must be 0\.5 to 0\.99"),
        (put("promotion.evidence", "better"), r"must be one of point, clearly_better, not_clearly_worse\. Did"),
        (put("budget.max_usd", 0), r"budget\.max_usd = 0\.0: must be a number above 0"),
        (put("budget.max_instance_hours", float("inf")), r"budget\.max_instance_hours = inf: must be a number above 0"),
        (put("budget.max_usd", 5), r"budget\.usd_per_hour = {}: max_usd needs the price .* Add for example usd"),
        (
            put("budget.usd_per_hour", {"m5.xlarge": 0.2}),
            r"budget\.usd_per_hour = 'm5\.xlarge': must be a SageMaker instance type",
        ),
        (
            put("budget.usd_per_hour", {"ml.m5.xlarge": -1}),
            r"budget\.usd_per_hour\.ml\.m5\.xlarge = -1\.0: must be a number of USD above 0",
        ),
        (
            put("budget", {"max_usd": 5, "usd_per_hour": {"ml.m5.xlarge": 0.23, "ml.t3.medium": 0.05}}),
            r"budget\.usd_per_hour = {.*}: has no price for ml\.m5\.large, the instance_type of serving, .* Add ml\.m5",
        ),
        (
            put("budget", {"max_usd": 5, "usd_per_hour": {"ml.m5.xlarge": 0.23, "ml.m5.large": 0.115}}),
            r"has no price for ml\.t3\.medium, the instance_type of debugger",
        ),
        (put("name", "Digits!"), r"name = 'Digits!': must be 1 to 40 lower-case"),
        (put("schedule", "every monday"), r"schedule = 'every monday': must be a cron line of five fields"),
        (put("schedule", "0 25 * * *"), r"must be a cron line"),
        (put("schedule", "0 0 31 2 *"), r"must be a cron line"),
        (put("schedule", "0 0 31 4,6,9,11 *"), r"must be a cron line"),
        (put("schedule", "0 0 ٣ * *"), r"must be a cron line"),
        (put("schedule", "0 0 * * */9999999999"), r"must be a cron line"),
        (put("schedule", "9" * 5000 + " 0 * * *"), r"must be a cron line"),
        (put("schedule", "R R * * *"), r"must be a cron line"),
        (put("schedule", "H 3 * * 1"), r"must be a cron line"),
        (put("schedule", "0 3 * * 1 30"), r"must be a cron line"),
        (put("schedule", "@fortnightly"), r"must be a cron line"),
        (put("schedule", "@reboot"), r"must be a cron line"),
        (put("source", "  "), r"source = '  ': must say where the images are"),
        (lambda data: data.pop("tuning"), r"tuning = None: is missing\. Add the key tuning"),
    ],
)
def test_a_bad_value_is_named_with_its_rule(
    recipe_data: dict[str, Any], change: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    data = copy.deepcopy(recipe_data)
    change(data)
    with pytest.raises(RecipeError, match=r"^shapes\.yaml: .*" + complaint):
        read_recipe(data, where="shapes.yaml")


def test_all_that_is_wrong_is_told_at_once(recipe_data: dict[str, Any]) -> None:
    for path, value in (("trainning", {}), ("tuning.max_jobs", 0), ("training.spot", "yes"), ("tuning.goal", "Max")):
        put(path, value)(recipe_data)
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe_data, where="shapes.yaml")
    first, *others = str(caught.value).splitlines()
    assert first.startswith("shapes.yaml: training.spot = 'yes': must be true or false")
    assert [line.split(":")[0] for line in others] == [
        "  also tuning.goal = 'Max'",
        "  also tuning.max_jobs = 0",
        "  also trainning = {}",
    ]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (datetime.date(2026, 11, 28), r"description = datetime\.date\(.*\): YAML reads this as a date\. Put it into"),
        (b"flowers", r"description = b'flowers': YAML reads this as a bytes"),
        ({"a", "b"}, r"description = {.*}: YAML reads this as a set"),
        ({(1, 2): 3}, r"has a key that is no text"),
    ],
)
def test_what_only_yaml_has_is_refused(recipe_data: dict[str, Any], value: object, complaint: str) -> None:
    put("description", value)(recipe_data)
    with pytest.raises(RecipeError, match=complaint):
        read_recipe(recipe_data, where="shapes.yaml")


def test_a_path_that_is_no_utf8_stays_as_it_is(recipe_data: dict[str, Any]) -> None:
    put("source", "/caf\udce9/\U0001f41d")(recipe_data)
    put("layout.train", "\udcff")(recipe_data)
    put("debugger.rule_parameters", {"LossNotDecreasing": {"tensor_regex": "\udc80"}})(recipe_data)
    recipe = read_recipe(recipe_data, where="test")
    assert (recipe.source, recipe.layout.train) == ("/caf\udce9/\U0001f41d", "\udcff")
    assert recipe.debugger.rule_parameters == {"LossNotDecreasing": {"tensor_regex": "\udc80"}}
    put("name", "caf\udce9")(recipe_data)
    with pytest.raises(RecipeError, match=r"name = 'caf\\udce9': must be"):
        read_recipe(recipe_data, where="test")


def test_bare_off_means_off(recipe_data: dict[str, Any]) -> None:
    """YAML reads Off as False."""
    put("tuning.early_stopping", False)(recipe_data)
    put("tuning.warm_start", False)(recipe_data)
    put("debugger.mode", "off")(recipe_data)
    tuning = read_recipe(recipe_data, where="test").tuning
    assert (tuning.early_stopping, tuning.warm_start) == ("Off", "off")


def test_the_trigger_form_changes_the_recipe(recipe: Recipe) -> None:
    changed = recipe.with_params({"epochs": 9, "max_jobs": 6, "min_value": 0.5, "force": True, "source": "/data"})
    assert (changed.hyperparameters["epochs"], changed.tuning.max_jobs, changed.source) == (9, 6, "/data")
    assert changed.promotion.min_value == 0.5
    assert changed.name == recipe.name


def test_fewer_trials_than_parallel_ones_lowers_both(recipe: Recipe) -> None:
    assert recipe.with_params({"max_jobs": 1}).tuning.max_parallel_jobs == 1


def test_an_emptied_floor_is_none(recipe_data: dict[str, Any]) -> None:
    put("promotion", {"min_value": 0.9, "min_class_recall": 0.5})(recipe_data)
    recipe = read_recipe(recipe_data, where="test")
    emptied = recipe.with_params({"min_value": None, "min_class_recall": "", "max_jobs": None}).promotion
    assert (emptied.min_value, emptied.min_class_recall) == (None, None)
    assert recipe.with_params({}).promotion.min_value == 0.9


def test_a_floor_of_another_metric_is_not_kept(recipe_data: dict[str, Any]) -> None:
    put("promotion", {"min_value": 0.9})(recipe_data)
    recipe = read_recipe(recipe_data, where="test")
    with pytest.raises(RecipeError, match=r"is the recipe's floor of accuracy, and the form asks for log_loss"):
        recipe.with_params({"metric": "log_loss", "min_value": 0.9})
    assert recipe.with_params({"metric": "log_loss", "min_value": 0.4}).promotion.min_value == 0.4
    assert recipe.with_params({"metric": "log_loss", "min_value": None}).promotion.min_value is None
    assert recipe.with_params({"metric": "macro_f1", "min_value": 0.9}).promotion.min_value == 0.9


@pytest.mark.parametrize(
    ("key", "value"),
    [("hyperparameters.head", "binary"), ("tuning.objective", "validation:f1")],
)
def test_two_classes_are_required_before_paying(recipe_data: dict[str, Any], key: str, value: str) -> None:
    put(key, value)(recipe_data)
    recipe = read_recipe(recipe_data, where="test")
    recipe.require_classes(["cat", "dog"])
    with pytest.raises(
        RecipeError, match=rf"{key} = '{value}': is for two classes, and the data has 3 \(cat, dog, owl"
    ):
        recipe.require_classes(["cat", "dog", "owl"])


def test_two_recipes_do_not_share_an_endpoint(recipe_data: dict[str, Any], tmp_path: Path) -> None:
    for name, endpoint in (("cats", "Pets"), ("dogs", "pets"), ("birds", "birds")):
        text = json.dumps(recipe_data | {"name": name, "endpoint": endpoint})
        (tmp_path / f"{name}.yaml").write_text(text)
    (refused,) = check_recipes(find_recipes([tmp_path])).values()
    assert "dogs.yaml: endpoint = 'pets': is also the endpoint of" in refused


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({}, "accuracy gains +0 on the champion's (unless that is clearly missed)"),
        (
            {"metric": "log_loss", "min_improvement": 0.01, "min_value": 0.5, "min_class_recall": 0.7},
            "log_loss gains +0.01 on the champion's (as measured), is at most 0.5, each class's recall is at least 0.7",
        ),
    ],
)
def test_the_gate_is_told_in_words(rule: dict[str, Any], told: str) -> None:
    assert Promotion(**rule).in_words == told


def test_the_form_cannot_make_an_invalid_recipe(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"trigger form of retrain_shapes: hyperparameters.epochs = 5000"):
        recipe.with_params({"epochs": 5000})


def test_every_form_field_reaches_the_recipe(recipe: Recipe) -> None:
    from retraining.recipe.trigger_form import trigger_form

    not_of_the_recipe = {"force", "accept_class_change", "first_promotion"}
    assert set(trigger_form(recipe)) - not_of_the_recipe == set(TRIGGER_PARAMS)
    defaults = {name: param.value for name, param in trigger_form(recipe).items()}
    assert recipe.with_params(defaults) == recipe


@pytest.mark.parametrize(
    "change",
    [
        put("tracking.wandb", {"project": "x", "api_key": "hunter2"}),
        put("tracking.mlflow", {"tracking_uri": "https://me:hunter2@mlflow.example"}),
        put("tracking.mlflow", {"tracking_uri": "https://hunter2@mlflow.example"}),
        put("hyperparameters.wandb-api-key", "hunter2"),
        put("MLFLOW_TRACKING_TOKEN", "hunter2"),
    ],
)
def test_a_secret_in_a_recipe_is_refused_and_not_repeated(
    recipe_data: dict[str, Any], change: Callable[[dict[str, Any]], None]
) -> None:
    data = copy.deepcopy(recipe_data)
    change(data)
    with pytest.raises(RecipeError) as caught:
        read_recipe(data, where="shapes.yaml")
    assert "hunter2" not in str(caught.value)
    assert "W&B needs no key with mode: offline; for others let the training image bring WANDB_API_KEY" in str(
        caught.value
    )


def test_an_mlflow_experiment_is_named_after_the_recipe(recipe_data: dict[str, Any]) -> None:
    put("tracking.mlflow", {"tracking_uri": "file:///opt/ml/output/data/mlflow"})(recipe_data)
    tracking = read_recipe(recipe_data, where="test").tracking
    assert tracking.environment("shapes", "run-1") == {
        "MLFLOW_TRACKING_URI": "file:///opt/ml/output/data/mlflow",
        "MLFLOW_EXPERIMENT_NAME": "shapes",
    }


def test_tracking_and_machines_are_no_reason_to_retrain(recipe: Recipe, recipe_data: dict[str, Any]) -> None:
    put("tracking.wandb", {"project": "x"})(recipe_data)
    put("training", {"instance_count": 2, "distribution": "torchrun"})(recipe_data)
    assert recipe_fingerprint(read_recipe(recipe_data, where="test")) == recipe_fingerprint(recipe)


@pytest.mark.parametrize(
    "line", ["@weekly", "0 3 * * MON", "30 2 1 jan,jul *", "0 3 * * 1#1", "0 0 29 2 *", "*/20 0-6 * * *"]
)
def test_schedules_that_airflow_takes_are_taken(recipe_data: dict[str, Any], line: str) -> None:
    from airflow.timetables.trigger import CronTriggerTimetable

    put("schedule", line)(recipe_data)
    assert read_recipe(recipe_data, where="test").schedule == line
    CronTriggerTimetable(line, timezone="UTC").validate()
