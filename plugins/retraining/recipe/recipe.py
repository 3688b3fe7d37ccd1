"""A recipe: one YAML file that says how one classifier is retrained.

Every rule about a recipe is here, in its sections or in `hyperparameters`; whoever was given a Recipe by load_recipe or
read_recipe may rely on it. A bad one raises RecipeError before anything is paid for, naming the file, the key, the
value, the rule and the way out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from retraining.archive_names import is_prefix
from retraining.recipe.budget import Budget
from retraining.recipe.capture import Capture
from retraining.recipe.combinations import check_combinations
from retraining.recipe.debugger import Debugger
from retraining.recipe.deployment import Deployment
from retraining.recipe.file import mentions, parsed, read_yaml
from retraining.recipe.hyperparameters import HYPERPARAMETERS, Value
from retraining.recipe.instance_types import Kind, problem, transform_type
from retraining.recipe.layout import Layout
from retraining.recipe.machines import InstanceType, Serving, Training, has_gpu
from retraining.recipe.promotion import Promotion
from retraining.recipe.reading import read_section
from retraining.recipe.refusal import RecipeError, did_you_mean, refuse_secret, require, way_out_of_exponent
from retraining.recipe.rules import SECTION, Matching, Where
from retraining.recipe.schedule import is_asset, is_schedule
from retraining.recipe.scoring import Scoring
from retraining.recipe.split import Split
from retraining.recipe.sync import Sync
from retraining.recipe.tracking import Tracking
from retraining.recipe.tuning import Tuning
from retraining.web_address import has_user, without_secrets

Name = Annotated[
    str, Matching(r"[a-z0-9](-?[a-z0-9]){0,39}", "must be 1 to 40 lower-case letters, digits and single dashes")
]
Schedule = Annotated[
    str,
    Where(
        is_schedule,
        "must be a cron line of five fields such as '0 3 * * MON', @weekly or the like, or null for no schedule",
    ),
]
Assets = Annotated[
    list[str],
    Where(
        lambda assets: all(map(is_asset, assets)) and len(set(assets)) == len(assets),
        "must be assets of Airflow, each once: s3://bucket/folder without a slash at its end, or a name",
        "A DAG whose task has outlets=[Asset('s3://bucket/folder')] tells of new data so.",
    ),
]
Description = Annotated[
    str,
    Where(
        # Airflow stores it with those of all recipes in one go. Co is what `reading` makes of half characters.
        lambda text: all(letter in "\t\n" or unicodedata.category(letter) not in ("Cc", "Cs", "Co") for letter in text),
        "may hold no control characters, which Airflow's database does not keep",
        "Leave out \\0, \\e, \\ud800 and the like.",
    ),
]
EndpointName = Annotated[
    str, Matching(r"|[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", "must be 1 to 63 letters, digits and dashes")
]
Weights = Annotated[
    str,
    Matching(
        r"(?=.{0,1024}$)s3://[^/]+/.+\.(pth|safetensors)",
        "must look like s3://bucket/folder/weights.pth or .safetensors, with at most 1024 characters",
        "`python -m retraining.pretrained FILE s3://bucket/folder` puts a file there and prints the line.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a person decides about one classifier."""

    __pydantic_config__ = SECTION

    name: Name
    source: str
    description: Description = ""
    layout: Layout = field(default_factory=Layout)
    split: Split = field(default_factory=Split)
    sync: Sync = field(default_factory=Sync)
    schedule: Schedule | None = "0 3 * * 1"
    assets: Assets = field(default_factory=list)
    """Of Airflow: whoever has new data tells so by an event of one of them."""
    training: Training = field(default_factory=Training)
    serving: Serving = field(default_factory=Serving)
    scoring: Scoring = field(default_factory=Scoring)
    hyperparameters: dict[str, Value]
    tuning: Tuning
    debugger: Debugger = field(default_factory=Debugger)
    promotion: Promotion = field(default_factory=Promotion)
    deployment: Deployment = field(default_factory=Deployment)
    capture: Capture = field(default_factory=Capture)
    tracking: Tracking = field(default_factory=Tracking)
    budget: Budget = field(default_factory=Budget)
    approval: bool = False
    endpoint: EndpointName = ""
    pretrained: Weights | None = None
    new_instance_types: list[InstanceType] = field(default_factory=list)
    """That AWS has for whichever job, and `instance_types` does not know yet."""

    def __post_init__(self) -> None:
        require(bool(self.source.strip()), "source", self.source, "must say where the images are")
        require(
            not has_user(self.source),
            "source",
            self.source,
            "may hold no user or password: recipes, logs and reports show it",
            "Use an address that needs none (a presigned one, or s3://), or download it yourself.",
        )
        if not self.endpoint:
            object.__setattr__(self, "endpoint", f"retraining-{self.name}")
        self._check_sync()
        self._check_machines()
        self._check_hyperparameters()
        self._check_batches()
        self._check_debugger()
        self._check_deployment()
        self._check_slices()
        self._check_prices()

    def _check_sync(self) -> None:
        require(
            self.sync.where != "processing" or is_prefix(self.source),
            "sync.where",
            self.sync.where,
            f"a job divides the objects below an s3:// prefix, and source is {without_secrets(self.source)}",
            "Put the images there (aws s3 sync FOLDER s3://BUCKET/FOLDER), or let the worker verify them: "
            "sync.where: worker.",
        )

    def _check_machines(self) -> None:
        """Before the search is paid for: what only scoring or serving needs would be refused hours later."""
        asked: dict[str, tuple[str | None, Kind]] = {
            "training": (self.training.instance_type, "training"),
            "serving": (self.serving.instance_type, "hosting"),
            "scoring": (self.scoring.instance_type, "transform"),
            "debugger": (self.debugger.instance_type, "processing"),
            "sync": (self.sync.instance_type, "processing"),
        }
        for section, (instance_type, kind) in asked.items():
            if instance_type and (found := problem(instance_type, kind, self.new_instance_types)):
                raise RecipeError(f"{section}.instance_type", instance_type, *found)
        require(
            self.scoring_instance_type(self.serving.instance_type) is not None,
            "scoring.instance_type",
            self.scoring.instance_type,
            f"batch transform, which scores the test set, has no {self.serving.instance_type} and none like it",
            "Name one on which the serving container runs, such as ml.m5.large or ml.g5.xlarge.",
        )

    def _check_hyperparameters(self) -> None:
        for name, value in self.hyperparameters.items():
            _check_hyperparameter("hyperparameters", name, name, value)
        for name, choices in self.tuning.ranges.items():
            for key, value in choices.allowed():
                _check_hyperparameter("tuning.ranges", name, f"{name}.{key}", value)
            require(
                name not in self.hyperparameters,
                f"hyperparameters.{name}",
                self.hyperparameters.get(name),
                "is also in tuning.ranges",
                "Keep one of the two: a value is either fixed or searched for.",
            )
        possible: dict[str, Sequence[Value]] = {name: (value,) for name, value in self.hyperparameters.items()}
        possible |= {name: [value for _, value in some.allowed()] for name, some in self.tuning.ranges.items()}
        check_combinations(possible, has_gpu(self.training.instance_type))
        from_channel = "channel" in possible.get("weights", ())
        require(
            from_channel == (self.pretrained is not None),
            "pretrained",
            self.pretrained,
            "must name a .pth or .safetensors object in S3 exactly when hyperparameters.weights can be 'channel'",
        )

    def _check_batches(self) -> None:
        """A batch is divided among all processes, of which each instance has one at least."""
        count, searched = self.training.instance_count, self.tuning.ranges.get("batch-size")
        sizes = [size for _, size in searched.allowed()] if searched else [self.hyperparameters.get("batch-size", 64)]
        smallest = min(int(size) for size in sizes)
        require(
            smallest >= 2 * count, "batch-size", smallest, f"{count} instances need at least 2 images of a batch each"
        )

    def _check_debugger(self) -> None:
        require(
            not (self.debugger.mode == "managed" and self.debugger_obstacle),
            "debugger.mode",
            self.debugger.mode,
            self.debugger_obstacle,
            "Set it to self_hosted or auto"
            + ("." if self.debugger.own_rules else ", or training.spot to false, or training.distribution to none."),
        )

    def _check_deployment(self) -> None:
        require(
            self.deployment.strategy == "all_at_once" or self.serving.fewest_instances > 1,
            "deployment.strategy",
            self.deployment.strategy,
            "SageMaker shifts whole instances, and a part of one instance is all of it",
            "Set serving.instance_count (and autoscaling.min) to 2 or more, or strategy to all_at_once.",
        )

    def _check_slices(self) -> None:
        by_group = [name for name, cut in self.promotion.cuts.items() if cut.of == "group"]
        require(
            not by_group or self.split.group_by is not None,
            "promotion.slices",
            {name: self.promotion.slices[name] for name in by_group},
            "goes by groups, and split.group_by, which finds them in the names of files, is not set",
            "Set it, or take a pattern for class/file.",
        )

    def _check_prices(self) -> None:
        """Of every machine that the jobs of a run may be given; not of the endpoint, which is no job."""
        if self.budget.max_usd is None:
            return
        scoring = self.scoring_instance_type(self.serving.instance_type)
        used = {self.training.instance_type: "training"}
        if scoring is not None:
            used.setdefault(scoring, "serving" if scoring == self.serving.instance_type else "scoring")
        if self.may_evaluate_rules:
            used.setdefault(self.debugger.instance_type, "debugger")
        if self.may_verify_in_a_job:
            used.setdefault(self.sync.instance_type, "sync")
        for missing in self.budget.unpriced(used):
            raise RecipeError(
                "budget.usd_per_hour",
                self.budget.usd_per_hour,
                f"has no price for {missing}, the instance_type of {used[missing]}, and max_usd is set",
                f"Add {missing} with what an hour of it costs in your region.",
            )

    def scoring_instance_type(self, serving: str) -> str | None:
        """Of the batch transforms of an endpoint of type `serving`; None where a person has to name one."""
        return self.scoring.instance_type or transform_type(serving)

    @property
    def in_captured_shadow(self) -> bool:
        """Whether candidates stand in the shadow of requests that clients sent, which two jobs are paid for."""
        return self.deployment.shadow is not None and self.capture.keeps_images

    @property
    def may_verify_in_a_job(self) -> bool:
        """Whether a job may be paid for that looks at the images."""
        return self.sync.may_have_a_job and is_prefix(self.source)

    @property
    def may_evaluate_rules(self) -> bool:
        """Whether a job of ours may judge the training: also in the mode auto, which may become self_hosted."""
        watched = bool(self.debugger.rules or self.debugger.profiler)
        return watched and self.debugger.mode in ("auto", "self_hosted")

    @property
    def debugger_obstacle(self) -> str:
        """Why SageMaker Debugger cannot watch this training, whatever the account; empty when it can.

        It has its own rules and no others. Of several processes, checkpoints and Debugger, AWS allows two; only spot
        trainings keep checkpoints here.
        """
        training, debugger = self.training, self.debugger
        if debugger.own_rules:
            return f"SageMaker Debugger has no rule {', '.join(debugger.own_rules)}"
        watched = bool(debugger.rules or debugger.profiler)
        distributed = training.distribution != "none" or training.instance_count > 1
        if not (watched and distributed and training.spot):
            return ""
        return (
            "SageMaker Debugger does not go together with a distributed training "
            f"(training.distribution: {training.distribution}, instance_count: {training.instance_count}) that keeps "
            "checkpoints (training.spot: true)"
        )

    def require_classes(self, classes: Sequence[str]) -> None:
        """RecipeError where the training would refuse these classes, which are known only when the data is."""
        asked: dict[str, tuple[Any, str, str]] = {
            "hyperparameters.head": (self.hyperparameters.get("head"), "binary", "Set it to softmax."),
            "hyperparameters.objective": (self.hyperparameters.get("objective"), "validation:f1", "Use macro_f1."),
            "tuning.objective": (self.tuning.objective, "validation:f1", "Use validation:macro_f1."),
        }
        for key, (value, of_two, way_out) in asked.items():
            rule = f"is for two classes, and the data has {len(classes)} ({', '.join(classes[:5])}, …)"
            require(value != of_two or len(classes) == 2, key, value, rule, way_out)

    def with_params(self, params: Mapping[str, Any]) -> Recipe:
        """This recipe with the values of the trigger form; RecipeError when they do not go together."""
        data = asdict(self)
        for param, path in TRIGGER_PARAMS.items():
            if param not in params or (params[param] in (None, "") and param not in CLEARABLE):
                continue
            section = data
            for key in path[:-1]:
                section = section[key]
            section[path[-1]] = None if params[param] == "" else params[param]
        self._require_own_floor(data["promotion"])
        # The form asks for the number of trials first; fewer trials than parallel ones means fewer in parallel.
        tuning = data["tuning"]
        if isinstance(params.get("max_jobs"), int) and params["max_jobs"] < self.tuning.max_parallel_jobs:
            tuning["max_parallel_jobs"] = min(tuning["max_parallel_jobs"], params["max_jobs"])
        return read_recipe(data, where=f"trigger form of retrain_{self.name}")

    def _require_own_floor(self, form: Mapping[str, Any]) -> None:
        """The floor of one metric is not that of another: an accuracy of 0.9 is good, and a log_loss of 0.9 is not."""
        kept = form["min_value"] is not None and form["min_value"] == self.promotion.min_value
        require(
            not (kept and "log_loss" in {form["metric"]} ^ {self.promotion.metric}),
            "promotion.min_value",
            form["min_value"],
            f"is the recipe's floor of {self.promotion.metric}, and the form asks for {form['metric']}",
            "Set another, or empty the field.",
        )


# Trigger-form Param → where it lives in the recipe.
TRIGGER_PARAMS: dict[str, tuple[str, ...]] = {
    "source": ("source",),
    "max_jobs": ("tuning", "max_jobs"),
    "epochs": ("hyperparameters", "epochs"),
    "approval": ("approval",),
    "strategy": ("tuning", "strategy"),
    "max_parallel_jobs": ("tuning", "max_parallel_jobs"),
    "early_stopping": ("tuning", "early_stopping"),
    "training_instance_type": ("training", "instance_type"),
    "max_runtime_seconds": ("training", "max_runtime_seconds"),
    "spot": ("training", "spot"),
    "training_instance_count": ("training", "instance_count"),
    "distribution": ("training", "distribution"),
    "keep_alive_seconds": ("training", "keep_alive_seconds"),
    "debugger": ("debugger", "mode"),
    "metric": ("promotion", "metric"),
    "min_improvement": ("promotion", "min_improvement"),
    "evidence": ("promotion", "evidence"),
    "min_value": ("promotion", "min_value"),
    "min_class_recall": ("promotion", "min_class_recall"),
}


CLEARABLE = ("evidence", "min_value", "min_class_recall")
"""Params that mean nothing, and not the recipe's value, where a person has emptied them."""


def _check_hyperparameter(section: str, name: str, path: str, value: Value) -> None:
    known = HYPERPARAMETERS.get(name)
    if known is None:
        refuse_secret(name)
        way_out = did_you_mean(name, HYPERPARAMETERS)
        raise RecipeError(f"{section}.{name}", value, "train.py has no such hyperparameter", way_out)
    require(
        known.accepts(value),
        f"{section}.{path}",
        value,
        known.rule,
        "" if known.read is str else way_out_of_exponent(value),
    )


def load_recipe(path: Path) -> Recipe:
    """The recipe in one YAML file; RecipeError names the file and the way out."""
    try:
        data = read_yaml(path)
    except RecipeError as error:
        raise error.found_in(str(path)) from None
    return read_recipe(data, where=str(path))


def read_recipe(data: object, where: str) -> Recipe:
    """Plain data, as YAML or a form gives it, to a checked Recipe."""
    try:
        return read_section(Recipe, data)
    except RecipeError as error:
        raise error.found_in(where) from None


def read_layout(text: str) -> Layout:
    """A layout alone, as refusals of a source propose it: {classes: Data/Train}, with `layout:` before it or without.

    Raises RecipeError.
    """
    try:
        data = parsed("text", text, text, "For example {classes: Data/Train}, as a refusal of the source proposes it.")
        return read_section(Layout, data["layout"] if data.keys() == {"layout"} else data)
    except RecipeError as error:
        raise error.found_in("--layout") from None


def check_recipes(paths: Iterable[Path]) -> dict[Path, str]:
    """Why recipes cannot become DAGs, of those that cannot: what is wrong in them, or a name or endpoint of another."""
    refused: dict[Path, str] = {}
    names: dict[str, Path] = {}
    endpoints: dict[str, Path] = {}
    for path in paths:
        try:
            recipe = load_recipe(path)
        except RecipeError as error:
            refused[path] = str(error)
            continue
        if (first := names.setdefault(recipe.name, path)) != path:
            refused[path] = (
                f"{path}: name = {recipe.name!r}: is also the name of {first}. Give each recipe its own name."
            )
        elif (first := endpoints.setdefault(recipe.endpoint.lower(), path)) != path:
            refused[path] = (
                f"{path}: endpoint = {recipe.endpoint!r}: is also the endpoint of {first}. Leave the key out, and "
                "it is the recipe's own."
            )
    return refused


def find_recipes(folders: list[Path], name: str = "") -> list[Path]:
    """The recipe files of some folders, in the order of their names; with a `name`, those that may be of this name.

    Whether one is, only reading it as YAML tells; a file in which the name does not even occur need not be read so.
    Where it occurs in none, it may stand there in another spelling: then all are returned.
    """
    found = {path for folder in folders for pattern in ("*.yaml", "*.yml") for path in folder.glob(pattern)}
    ordered = sorted(found, key=lambda path: (path.name, str(path)))
    likely = [path for path in ordered if mentions(path, name)] if name else []
    return likely or ordered
