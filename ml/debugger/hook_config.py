"""What SageMaker Debugger is asked to save: debughookconfig.json, read as smdebug 1.0.34 reads it.

A collection is a set of tensors chosen by regular expressions over their names, saved at certain steps of each mode,
whole or as reductions. Every value in the file is a string; members may be null.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MEMBERS = ("CollectionConfigurations", "HookParameters", "LocalPath", "S3OutputPath")
Default = TypeVar("Default", int, None)
MODES = ("TRAIN", "EVAL", "PREDICT", "GLOBAL")
# Of these nothing but the values themselves makes sense.
SCALARS = ("losses", "metrics", "sm_metrics")
BUILT_IN: dict[str, tuple[str, ...]] = {  # name -> what of it the hook matches by itself
    "all": (),
    "default": (),
    "weights": ("^(?!gradient).*weight",),
    "biases": ("^(?!gradient).*bias",),
    "gradients": ("^gradient",),
    "losses": ("[Ll]oss_(?!input).*output",),
}
PLAIN = ("min", "max", "mean", "std", "variance", "sum", "prod")
NORMS = ("l1", "l2")
REDUCTIONS = (*PLAIN, *(f"{norm}_norm" for norm in NORMS))


class BadHookConfig(ValueError):
    """The hook configuration cannot be followed; the message names the parameter, its value and the rule."""


@dataclass(frozen=True)
class Schedule:
    """The steps of one mode at which a collection is saved."""

    save_interval: int = 500
    start_step: int = 0
    end_step: int | None = None
    save_steps: tuple[int, ...] = ()

    def includes(self, step: int) -> bool:
        if step in self.save_steps:
            return True
        in_range = self.start_step <= step and (self.end_step is None or step < self.end_step)
        return in_range and step % self.save_interval == 0


@dataclass
class Collection:
    """Which tensors are saved when, and as what."""

    name: str
    include_regex: tuple[str, ...] = ()
    schedules: dict[str, Schedule] = field(default_factory=dict)
    """Mode -> Schedule."""
    reductions: tuple[str, ...] = ()
    """Names such as "mean" or "abs_l2_norm"; empty: the values themselves."""
    raw: bool = True
    tensor_names: set[str] = field(default_factory=set)

    def matches(self, tensor_name: str) -> bool:
        return any(re.search(expression, tensor_name) for expression in self.include_regex)

    def at(self, mode: str, step: int) -> bool:
        """Whether the collection is saved at this step of this mode."""
        if self.name == "gradients" and mode in ("EVAL", "PREDICT"):
            return False
        return self.schedules[mode].includes(step)

    def described(self) -> dict[str, Any]:
        """Its entry in worker_0_collections.json."""
        return {
            "name": self.name,
            "include_regex": list(self.include_regex),
            "tensor_names": sorted(self.tensor_names),
            "reduction_config": {
                "save_raw_tensor": self.raw,
                "reductions": ",".join(self.reductions),
                "save_shape": False,
            },
            "save_config": {
                mode: {
                    "start_step": schedule.start_step,
                    "end_step": schedule.end_step,
                    "save_interval": schedule.save_interval,
                    "save_steps": list(schedule.save_steps),
                }
                for mode, schedule in self.schedules.items()
            },
            "save_histogram": False,
        }


@dataclass(frozen=True)
class HookConfig:
    folder: Path
    collections: tuple[Collection, ...]

    @classmethod
    def read(cls, path: Path | str) -> HookConfig:
        """Raises BadHookConfig, or OSError when there is no such file."""
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadHookConfig(f"'{path}' is no JSON: {error}") from error
        return cls.of(document)

    @classmethod
    def of(cls, document: object) -> HookConfig:
        """`document` has the members of the API's DebugHookConfig."""
        if not isinstance(document, dict):
            raise BadHookConfig(f"{document!r} is no JSON object with CollectionConfigurations")
        hook = parameters("HookParameters", document.get("HookParameters"))
        wanted = wanted_collections(document.get("CollectionConfigurations"))
        names = list(BUILT_IN) if flag(hook.get("save_all", "false")) or "all" in wanted else ["losses"]
        names = list(dict.fromkeys([*names, *wanted]))
        if "include_regex" in hook:
            wanted["default"] = {"include_regex": hook["include_regex"]} | wanted.get("default", {})
            names.append("default")
        collections = [collection(name, hook, wanted.get(name, {})) for name in dict.fromkeys(names)]
        if "all" in names:
            everything = next(entry for entry in collections if entry.name == "all")
            everything.include_regex = (".*",)
        return cls(Path(document.get("LocalPath") or "/opt/ml/output/tensors"), tuple(collections))


def wanted_collections(entries: object) -> dict[str, dict[str, str]]:
    """{CollectionName: its CollectionParameters}"""
    if not isinstance(entries, list | None):
        raise BadHookConfig(f"CollectionConfigurations={entries!r} must be a list of objects with CollectionName")
    wanted = {}
    for entry in entries or []:
        name = entry.get("CollectionName") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            raise BadHookConfig(f"{entry!r} in CollectionConfigurations must be an object with CollectionName")
        wanted[name] = parameters(f"CollectionParameters of collection '{name}'", entry.get("CollectionParameters"))
    return wanted


def parameters(what: str, given: object) -> dict[str, str]:
    if not isinstance(given, dict | None) or not all(isinstance(value, str | None) for value in (given or {}).values()):
        raise BadHookConfig(f"{what} {given!r} must be an object of strings")
    return given or {}


def collection(name: str, hook: Mapping[str, str], own: Mapping[str, str]) -> Collection:
    """A collection from the hook's parameters and its own, which win."""
    expressions = tuple(words(own.get("include_regex", ""))) + BUILT_IN.get(name, ())
    if not expressions and name not in BUILT_IN:
        raise BadHookConfig(f"collection '{name}' names no tensors; give it an include_regex")
    for expression in expressions:
        try:
            re.compile(expression)
        except re.error as error:
            raise BadHookConfig(f"include_regex {expression!r} of collection '{name}': {error}") from error
    schedules = {mode: schedule(name, mode, hook, own) for mode in MODES}
    if name in SCALARS:
        return Collection(name, expressions, schedules)
    source = own if "reductions" in own else hook
    reductions = tuple(words(source.get("reductions", "")))
    unknown = [word for word in reductions if word.removeprefix("abs_") not in REDUCTIONS]
    if unknown:
        raise BadHookConfig(f"reduction {unknown[0]!r} of collection '{name}' is none of {', '.join(REDUCTIONS)}")
    raw = flag(source.get("save_raw_tensor", "false")) if reductions else True
    return Collection(name, expressions, schedules, reductions, raw)


def schedule(name: str, mode: str, hook: Mapping[str, str], own: Mapping[str, str]) -> Schedule:
    """The most specific value wins: the collection's for this mode, the collection's, the hook's for it, the hook's."""

    def given(parameter: str) -> str | None:
        for source in (own, hook):
            for key in (f"{mode.lower()}.{parameter}", parameter):
                if source.get(key) not in (None, ""):
                    return source[key]
        return None

    def whole(parameter: str, default: Default, least: int) -> int | Default:
        text = given(parameter)
        if text is None:
            return default
        try:
            value = int(text)
        except (TypeError, ValueError):
            value = least - 1
        if value < least:
            raise BadHookConfig(f"{parameter}={text!r} of collection '{name}' must be a whole number from {least}")
        return value

    try:
        steps = tuple(int(word) for word in words(str(given("save_steps") or "")))
    except ValueError:
        raise BadHookConfig(
            f"save_steps={given('save_steps')!r} of collection '{name}' must be numbers, 1,2,3"
        ) from None
    # With explicit steps only, smdebug's default interval still saves step 0, 500, …; so does this.
    return Schedule(whole("save_interval", 500, 1), whole("start_step", 0, 0), whole("end_step", None, 0), steps)


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def flag(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    try:
        return known[str(text).strip().lower()]
    except KeyError:
        raise BadHookConfig(f"{text!r} in the hook configuration is neither true nor false") from None
