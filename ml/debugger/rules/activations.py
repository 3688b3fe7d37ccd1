"""Rules about units of activation layers that no longer do anything: dead ReLUs, saturated tanh and sigmoid.

A unit is a channel of a (N, C, H, W) tensor, a feature of the last axis of a smaller one. Its activity is the share of
its values, over batch and positions, that count as active. A share as small as `threshold_inactivity` percent cannot
be told from few values, so those of consecutive saved steps are put together until there are 100 /
threshold_inactivity of each unit; then the layer is judged, and counting starts anew. So a layer that dies late is
found as well as one born dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from debugger.rules.parameters import Parameter, number
from debugger.rules.rule import COLLECTION_NAMES, TENSOR_REGEX, TensorRule, Verdict, where
from debugger.tensors.steps import MissingTensors

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from debugger.tensors.steps import Step

THRESHOLD_INACTIVITY = Parameter(
    "threshold_inactivity", number(1e-3, 100), 1.0, "percent below which a unit is inactive"
)
THRESHOLD_LAYER = Parameter("threshold_layer", number(0, 100), 50.0, "percent of inactive units above which it fires")


class ActivityRule(TensorRule):
    """Over `threshold_layer` percent of the units of a layer are active less than `threshold_inactivity` percent."""

    CHOICE_IS_REQUIRED = False
    INACTIVE = "inactive"
    DEFAULT_REGEX: tuple[str, ...] = ()

    def prepare(self) -> None:
        collections, regexes = self.parameters.collection_names or (), self.parameters.tensor_regex or ()
        if not collections and not regexes:
            regexes = self.DEFAULT_REGEX
        self.selection = self.stream.selection(collections, regexes)
        self.looked_at, self.worst = set(), 0.0
        self.judged: set[str] = set()
        self.counts: dict[
            str, tuple[NDArray[Any], int]
        ] = {}  # tensor -> (active values of each unit, values of each unit)
        self.enough = 100 / self.parameters.threshold_inactivity

    def look(self, step: Step) -> Verdict | None:
        for name in self.chosen(step):
            share = self.inactive_percent(step, name)
            if share is None:
                continue
            self.judged.add(name)
            self.worst = max(self.worst, share)
            what = f"percent of units that are {self.INACTIVE}"
            self.note(step.number, name, what, share, self.parameters.threshold_layer)
            if share > self.parameters.threshold_layer:
                threshold = self.parameters.threshold_layer
                issue = f"{share:.4g} % of the units of '{name}' are {self.INACTIVE}, more than {threshold:g} %"
                evidence = {"tensor": name, "value": share, "threshold": threshold}
                return Verdict(issue, step.number, evidence | where(step))
        return None

    def inactive_percent(self, step: Step, name: str) -> float | None:
        """Of the layer's units; None until enough values were seen."""
        if not step.has_value(name):
            return self.of_reductions(step, name)
        active = self.active(name, step.value(name))
        if active.ndim == 0:
            return None
        axis = 1 if active.ndim > 3 else active.ndim - 1
        sums = active.sum(axis=tuple(other for other in range(active.ndim) if other != axis))
        each = active.size // max(1, sums.size)
        before = self.counts.get(name)
        if before is not None and before[0].shape == sums.shape:
            sums, each = sums + before[0], each + before[1]
        if each < self.enough or not sums.size:
            self.counts[name] = sums, each
            return None
        self.counts.pop(name, None)
        return 100 * float((sums < each * self.parameters.threshold_inactivity / 100).mean())

    def active(self, name: str, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of the values count as active."""
        raise NotImplementedError

    def of_reductions(self, step: Step, name: str) -> float:
        """100.0 where the reductions show that no unit is active; raises MissingTensors where they cannot tell."""
        raise NotImplementedError

    def end(self) -> Verdict:
        self.seen(self.looked_at, str(self.selection))
        if not self.judged:
            most = max((each for _, each in self.counts.values()), default=0)
            raise MissingTensors(
                f"of each unit at most {most} values were saved, and telling a share of "
                f"{self.parameters.threshold_inactivity:g} % takes {self.enough:.0f}; lower the save_interval"
            )
        return Verdict(evidence={"tensors": len(self.judged), "largest_inactive_percent": self.worst})


class DeadRelu(ActivityRule):
    """Over `threshold_layer` % of a layer's ReLUs put out more than zero in under `threshold_inactivity` % of cases.

    Looked at are the outputs of ReLUs, by name: `tensor_regex`.
    """

    INACTIVE = "dead ReLUs"
    DEFAULT_REGEX = (".*relu_output",)
    ADVICE = "Lower the learning rate (`lr`), avoid large negative biases, or use LeakyReLU or GELU."
    PARAMETERS = (COLLECTION_NAMES, TENSOR_REGEX, THRESHOLD_INACTIVITY, THRESHOLD_LAYER)

    def active(self, name: str, values: NDArray[Any]) -> NDArray[np.bool_]:
        return values > 0

    def of_reductions(self, step: Step, name: str) -> float:
        if 0 in (step.reduction(name, "max"), step.reduction(name, "max", True), step.reduction(name, "mean", True)):
            return 100.0
        raise step.only_reductions(name)


class SaturatedActivation(ActivityRule):
    """Over `threshold_layer` % of a layer's units have inputs within limits in under `threshold_inactivity` % of cases.

    The limits are where the gradient of tanh or sigmoid falls below 1e-7. Whether a tensor is the input of tanh or of
    sigmoid is taken from its name, which must hold one of the words.
    """

    INACTIVE = "saturated"
    DEFAULT_REGEX = (".*tanh_input", ".*sigmoid_input")
    ADVICE = "Scale the inputs, initialise with smaller weights, normalise before the activation, or use ReLU."
    PARAMETERS = (
        COLLECTION_NAMES,
        TENSOR_REGEX,
        Parameter("threshold_tanh_min", number(), -9.4999, "input below which tanh is saturated"),
        Parameter("threshold_tanh_max", number(), 9.4999, "input above which tanh is saturated"),
        Parameter("threshold_sigmoid_min", number(), -23.0, "input below which sigmoid is saturated"),
        Parameter("threshold_sigmoid_max", number(), 16.99999, "input above which sigmoid is saturated"),
        THRESHOLD_INACTIVITY,
        THRESHOLD_LAYER,
    )

    def active(self, name: str, values: NDArray[Any]) -> NDArray[np.bool_]:
        low, high = self.limits(name)
        return np.logical_and(values > low, values < high)

    def limits(self, name: str) -> tuple[float, float]:
        kinds = [kind for kind in ("tanh", "sigmoid") if kind in name.lower()]
        if len(kinds) != 1:
            self.refuse(f"cannot tell from the name '{name}' whether it is an input of tanh or of sigmoid")
        low, high = (float(getattr(self.parameters, f"threshold_{kinds[0]}_{end}")) for end in ("min", "max"))
        return low, high

    def of_reductions(self, step: Step, name: str) -> float:
        low, high = self.limits(name)
        least, most = step.reduction(name, "min"), step.reduction(name, "max")
        if (least is not None and least >= high) or (most is not None and most <= low):
            return 100.0
        if least is not None and most is not None and least > low and most < high:
            return 0.0
        raise step.only_reductions(name)
