"""A recipe: one YAML file that says how one classifier is retrained.

Every rule about a recipe is here or in `hyperparameters`; whoever holds a Recipe may rely on it. A bad recipe raises
RecipeError before anything is paid for, naming the file, the key, the value, the rule and the way out.
"""

from __future__ import annotations

import difflib
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from retraining.hyperparameters import HYPERPARAMETERS, Value

DEBUGGER_RULES = ("LossNotDecreasing", "VanishingGradient", "Overfit", "Overtraining", "PoorWeightInitialization")

T = TypeVar("T")


class RecipeError(ValueError):
    """A recipe that must not be run. `where` is the file (or the trigger form) it came from."""

    def __init__(self, key: str, value: object, rule: str, way_out: str = "", where: str = "") -> None:
        self.key, self.value, self.rule, self.way_out, self.where = key, value, rule, way_out, where
        at = f"{where}: " if where else ""
        after = f" {way_out}" if way_out else ""
        super().__init__(f"{at}{key} = {value!r}: {rule}.{after}")

    def inside(self, key: str) -> RecipeError:
        """The same error, seen from the section that holds it."""
        path = f"{key}.{self.key}" if self.key else key
        return RecipeError(path, self.value, self.rule, self.way_out, self.where)

    def found_in(self, where: str) -> RecipeError:
        return RecipeError(self.key, self.value, self.rule, self.way_out, where)


def _require(condition: bool, key: str, value: object, rule: str, way_out: str = "") -> None:
    if not condition:
        raise RecipeError(key, value, rule, way_out)


def _did_you_mean(word: str, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {close[0]}?" if close else ""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Shares of the images; each class gets at least one image in each part."""

    train: float = 0.7
    validation: float = 0.15
    test: float = 0.15
    group_by: str | None = None
    """A regular expression with one group, searched in each file's name: images for which it finds the same text (one
    patient, one product) are never divided between splits."""

    def __post_init__(self) -> None:
        shares = {"train": self.train, "validation": self.validation, "test": self.test}
        for key, share in shares.items():
            _require(0 < share < 1, key, share, "must be a share between 0 and 1")
        total = sum(shares.values())
        _require(math.isclose(total, 1), "", shares, f"the three shares must add up to 1, they make {total:g}")
        if self.group_by is not None:
            _require(
                _groups(self.group_by) == 1, "group_by", self.group_by, "must be a regular expression with one (group)"
            )


def _groups(pattern: str) -> int | None:
    try:
        return re.compile(pattern).groups
    except re.error:
        return None


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where and for how long one training job may run; the time limit is the only hard ceiling on its price."""

    instance_type: str = "ml.m5.xlarge"
    volume_size_gb: int = 30
    max_runtime_seconds: int = 3600
    spot: bool = False

    def __post_init__(self) -> None:
        _require_instance_type(self.instance_type)
        _require(1 <= self.volume_size_gb <= 16384, "volume_size_gb", self.volume_size_gb, "must be 1 to 16384 GB")
        _require(
            60 <= self.max_runtime_seconds <= 432_000,
            "max_runtime_seconds",
            self.max_runtime_seconds,
            "must be 60 seconds to 5 days (432000)",
        )


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What answers requests, and also what scores the test set."""

    instance_type: str = "ml.m5.large"
    instance_count: int = 1

    def __post_init__(self) -> None:
        _require_instance_type(self.instance_type)
        _require(1 <= self.instance_count <= 100, "instance_count", self.instance_count, "must be 1 to 100")


def _require_instance_type(value: str) -> None:
    _require(
        re.fullmatch(r"ml\.[a-z0-9-]+\.[a-z0-9]+", value) is not None,
        "instance_type",
        value,
        "must be a SageMaker instance type such as ml.m5.xlarge or ml.g5.xlarge",
    )


@dataclass(frozen=True, kw_only=True)
class Range:
    """What tuning may choose for one hyperparameter."""

    type: Literal["continuous", "integer", "categorical"]
    min: float | None = None
    max: float | None = None
    scaling: Literal["Auto", "Linear", "Logarithmic", "ReverseLogarithmic"] = "Auto"
    values: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        if self.type == "categorical":
            _require(bool(self.values), "values", list(self.values), "a categorical range needs a list of values")
            _require(len(self.values) <= 30, "values", list(self.values), "SageMaker takes at most 30 values")
            _require(len(set(self.values)) == len(self.values), "values", list(self.values), "has a value twice")
            _require(
                self.min is None and self.max is None, "min", self.min, "a categorical range has values, no min or max"
            )
            return
        _require(not self.values, "values", list(self.values), f"a {self.type} range has min and max, no values")
        for key in ("min", "max"):
            bound = getattr(self, key)
            _require(bound is not None, key, bound, f"a {self.type} range needs min and max")
            _require(math.isfinite(bound), key, bound, "must be a finite number")
            _require(self.type != "integer" or bound == int(bound), key, bound, "must be a whole number")
        low, high = self.bounds
        _require(low < high, "min", self.min, f"must be smaller than max = {high:g}", "Swap min and max.")
        if self.scaling == "Logarithmic":
            _require(low > 0, "min", self.min, "a Logarithmic range must start above 0", "Use Linear, or a larger min.")
        if self.scaling == "ReverseLogarithmic":
            inside = self.type == "continuous" and low >= 0 and high < 1
            _require(inside, "scaling", self.scaling, "works only for continuous ranges with 0 <= min < max < 1")

    @property
    def bounds(self) -> tuple[float, float]:
        """(min, max) of a numeric range."""
        assert self.min is not None and self.max is not None
        return self.min, self.max

    def allowed(self) -> Iterator[tuple[str, Value]]:
        """(key, value) of everything that decides whether the training script would accept this range."""
        if self.type == "categorical":
            yield from (("values", value) for value in self.values)
            return
        low, high = self.bounds
        yield from (("min", int(low)), ("max", int(high))) if self.type == "integer" else (("min", low), ("max", high))


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The search: each trial is one paid training job."""

    objective: Literal["validation:accuracy", "validation:macro_f1", "validation:f1", "validation:loss"] = (
        "validation:accuracy"
    )
    goal: Literal["Maximize", "Minimize"] = "Maximize"
    strategy: Literal["Bayesian", "Random"] = "Bayesian"
    max_jobs: int = 4
    max_parallel_jobs: int = 2
    early_stopping: Literal["Off", "Auto"] = "Off"
    ranges: dict[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = "Minimize" if self.objective == "validation:loss" else "Maximize"
        _require(self.goal == wanted, "goal", self.goal, f"{self.objective} gets better when you {wanted} it")
        _require(1 <= self.max_jobs <= 750, "max_jobs", self.max_jobs, "must be 1 to 750, SageMaker's limit")
        _require(
            1 <= self.max_parallel_jobs <= min(10, self.max_jobs),
            "max_parallel_jobs",
            self.max_parallel_jobs,
            f"must be 1 to 10 and at most max_jobs = {self.max_jobs}",
        )
        _require(bool(self.ranges), "ranges", self.ranges, "tuning needs at least one range", "Add e.g. lr.")


@dataclass(frozen=True, kw_only=True)
class Debugger:
    """What watches the final training. `managed` is SageMaker Debugger, closed to new accounts since 2026-07-30."""

    mode: Literal["managed", "off"] = "managed"
    rules: dict[str, Literal["fail", "warn"]] = field(default_factory=lambda: {"LossNotDecreasing": "fail"})
    rule_parameters: dict[str, dict[str, Value]] = field(default_factory=dict)
    """Per rule, what differs from SageMaker's defaults (`num_steps`, `patience`, …); sent as RuleParameters."""
    profiler: bool = True
    save_interval: int = 10
    """Steps between two saved sets of tensors."""

    def __post_init__(self) -> None:
        for rule in self.rules:
            _require(
                rule in DEBUGGER_RULES, "rules", rule, "is not a rule known here", _did_you_mean(rule, DEBUGGER_RULES)
            )
        for rule in self.rule_parameters:
            _require(rule in self.rules, "rule_parameters", rule, "is not in rules", _did_you_mean(rule, self.rules))
        _require(self.save_interval >= 1, "save_interval", self.save_interval, "must be at least 1 step")


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A candidate is promoted when metric >= champion + min_improvement and metric >= min_value."""

    metric: Literal["accuracy", "macro_f1", "log_loss"] = "accuracy"
    min_improvement: float = 0.0
    min_value: float | None = None

    def __post_init__(self) -> None:
        _require(
            math.isfinite(self.min_improvement) and self.min_improvement > -1,
            "min_improvement",
            self.min_improvement,
            "must be a number above -1",
        )
        if self.metric != "log_loss" and self.min_value is not None:
            _require(0 <= self.min_value <= 1, "min_value", self.min_value, f"{self.metric} lies between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a person decides about one classifier."""

    name: str
    source: str
    description: str = ""
    split: Split = Split()
    schedule: str | None = "0 3 * * 1"
    training: Training = Training()
    serving: Serving = Serving()
    hyperparameters: dict[str, Value]
    tuning: Tuning
    debugger: Debugger = Debugger()
    promotion: Promotion = Promotion()
    approval: bool = False
    endpoint: str = ""
    pretrained: str | None = None

    def __post_init__(self) -> None:
        _require(
            re.fullmatch(r"[a-z0-9](-?[a-z0-9]){0,39}", self.name) is not None,
            "name",
            self.name,
            "must be 1 to 40 lower-case letters, digits and single dashes",
        )
        _require(bool(self.source.strip()), "source", self.source, "must say where the images are")
        if not self.endpoint:
            object.__setattr__(self, "endpoint", f"retraining-{self.name}")
        _require(
            re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", self.endpoint) is not None,
            "endpoint",
            self.endpoint,
            "must be 1 to 63 letters, digits and dashes",
        )
        self._check_schedule()
        self._check_hyperparameters()

    def _check_schedule(self) -> None:
        _require(
            self.schedule is None or _is_cron(self.schedule),
            "schedule",
            self.schedule,
            "must be a cron line of five fields such as '0 3 * * 1', or null for no schedule",
        )

    def _check_hyperparameters(self) -> None:
        for name, value in self.hyperparameters.items():
            _check_hyperparameter("hyperparameters", name, name, value)
        for name, choices in self.tuning.ranges.items():
            for key, value in choices.allowed():
                _check_hyperparameter("tuning.ranges", name, f"{name}.{key}", value)
            _require(
                name not in self.hyperparameters,
                f"hyperparameters.{name}",
                self.hyperparameters.get(name),
                "is also in tuning.ranges",
                "Keep one of the two: a value is either fixed or searched for.",
            )
        from_channel = self.hyperparameters.get("weights") == "channel"
        _require(
            from_channel == (self.pretrained is not None),
            "pretrained",
            self.pretrained,
            "must name a .pth or .safetensors object in S3 exactly when hyperparameters.weights is 'channel'",
        )
        if self.pretrained is not None:
            _require(
                re.fullmatch(r"s3://[^/]+/.+\.(pth|safetensors)", self.pretrained) is not None,
                "pretrained",
                self.pretrained,
                "must look like s3://bucket/folder/weights.pth or .safetensors",
            )

    def with_params(self, params: Mapping[str, Any]) -> Recipe:
        """This recipe with the values of the trigger form; RecipeError when they do not go together."""
        data = asdict(self)
        for param, path in TRIGGER_PARAMS.items():
            if param in params and params[param] not in (None, ""):
                section = data
                for key in path[:-1]:
                    section = section[key]
                section[path[-1]] = params[param]
        # The form asks for the number of trials first; fewer trials than parallel ones means fewer in parallel.
        tuning = data["tuning"]
        if isinstance(params.get("max_jobs"), int) and params["max_jobs"] < self.tuning.max_parallel_jobs:
            tuning["max_parallel_jobs"] = min(tuning["max_parallel_jobs"], params["max_jobs"])
        return read_recipe(data, where=f"trigger form of retrain_{self.name}")


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
    "debugger": ("debugger", "mode"),
    "metric": ("promotion", "metric"),
    "min_improvement": ("promotion", "min_improvement"),
    "min_value": ("promotion", "min_value"),
}


def _is_cron(line: str) -> bool:
    """Minute, hour, day, month, weekday. Airflow would refuse a bad line too, but then together with all other DAGs."""
    limits = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    parts = line.split()
    if len(parts) != len(limits):
        return False
    for part, (low, high) in zip(parts, limits, strict=True):
        for item in part.split(","):
            match = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", item)
            if match is None or match[3] == "0":
                return False
            first, last = int(match[1] or low), int(match[2] or match[1] or high)
            if not low <= first <= last <= high:
                return False
    return True


def _check_hyperparameter(section: str, name: str, path: str, value: Value) -> None:
    known = HYPERPARAMETERS.get(name)
    if known is None:
        way_out = _did_you_mean(name, HYPERPARAMETERS)
        raise RecipeError(f"{section}.{name}", value, "train.py has no such hyperparameter", way_out)
    _require(known.accepts(value), f"{section}.{path}", value, known.rule)


def load_recipe(path: Path) -> Recipe:
    """The recipe in one YAML file; RecipeError names the file and the way out."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError("file", path.name, f"cannot be read ({error.strerror})", where=str(path)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError("file", path.name, f"is not valid YAML ({error})", where=str(path)) from None
    return read_recipe(data, where=str(path))


def read_recipe(data: object, where: str) -> Recipe:
    """Plain data, as YAML or a form gives it, to a checked Recipe."""
    try:
        return _read_section(Recipe, data)
    except RecipeError as error:
        raise error.found_in(where) from None


def find_recipes(folders: list[Path]) -> list[Path]:
    """The recipe files of some folders, in the order of their names."""
    found = {path for folder in folders for pattern in ("*.yaml", "*.yml") for path in folder.glob(pattern)}
    return sorted(found, key=lambda path: (path.name, str(path)))


# --- plain data → frozen dataclasses --------------------------------------------------------------------------------


def _read_section(section: type[T], data: object) -> T:
    if not isinstance(data, Mapping):
        raise RecipeError("", data, "must be a section of keys and values")
    hints = typing.get_type_hints(section)
    known = {f.name: f for f in fields(section)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            way_out = _did_you_mean(str(key), known) or f"Known keys: {', '.join(known)}."
            raise RecipeError(str(key), data[key], "is not a key of this section", way_out)
    values = {}
    for key, value in data.items():
        try:
            values[key] = _read_value(hints[key], value)
        except RecipeError as error:
            raise error.inside(key) from None
    for key, known_field in known.items():
        has_default = known_field.default is not MISSING or known_field.default_factory is not MISSING
        if key not in values and not has_default:
            raise RecipeError(key, None, "is missing", f"Add the key {key}.")
    return section(**values)


def _read_value(hint: Any, value: object) -> Any:
    origin = get_origin(hint)
    if origin is types.UnionType:
        options = get_args(hint)
        if value is None and type(None) in options:
            return None
        concrete = [option for option in options if option is not type(None)]
        if len(concrete) == 1:
            return _read_value(concrete[0], value)
        if isinstance(value, tuple(concrete)) and (bool in concrete or not isinstance(value, bool)):
            return value
        kinds = "a text, a number, true or false" if bool in concrete else "a text or a number"
        raise RecipeError("", value, f"must be {kinds}")
    if origin is Literal:
        choices = get_args(hint)
        # YAML reads a bare Off as False; the recipe means SageMaker's "Off".
        value = "Off" if value is False and "Off" in choices else value
        if value in choices:
            return value
        raise RecipeError("", value, f"must be one of {', '.join(choices)}", _did_you_mean(str(value), choices))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise RecipeError("", value, "must be a section of keys and values")
        read = {}
        for key, item in value.items():
            try:
                read[str(key)] = _read_value(get_args(hint)[1], item)
            except RecipeError as error:
                raise error.inside(str(key)) from None
        return read
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError("", value, "must be a list")
        return tuple(_read_value(get_args(hint)[0], item) for item in value)
    if is_dataclass(hint):
        return _read_section(typing.cast(type, hint), value)
    return _read_scalar(hint, value)


def _read_scalar(hint: type, value: object) -> object:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str) and re.fullmatch(r"[0-9.]+e-?[0-9]+", value):
        raise RecipeError("", value, "YAML reads this as a text", "Write it as 0.0001, or as 1.0e-4 with a dot.")
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise RecipeError("", value, f"must be {names[hint]}")
