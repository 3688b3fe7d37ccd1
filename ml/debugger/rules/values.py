"""Rules about the values of any tensor: not finite, zero, of the wrong variance, or no longer changing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from debugger.rules.parameters import FLAG, Parameter, number, whole
from debugger.rules.rule import COLLECTION_NAMES, TENSOR_REGEX, TensorRule, Verdict, where
from debugger.tensors.steps import MissingTensors

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from debugger.tensors.steps import Step


class ExplodingTensor(TensorRule):
    """A tensor has a value that is not a number; or, unless `only_nan`, an infinite one.

    Without `collection_names` and `tensor_regex` every saved tensor is looked at, in every mode. Of a tensor saved
    only as reductions these are looked at: a value that is not finite shows in mean, sum, norms, variance and extremes
    alike.
    """

    ADVICE = (
        "Lower the learning rate (`lr`), clip gradients (`clip-norm`), and look for a division by zero or the "
        "logarithm of zero."
    )
    CHOICE_IS_REQUIRED = False
    PARAMETERS = (
        COLLECTION_NAMES,
        TENSOR_REGEX,
        Parameter("only_nan", FLAG, False, "take infinite values as they are"),
    )

    def look(self, step: Step) -> Verdict | None:
        for name in self.chosen(step):
            if found := self.broken(step, name):
                kind, count = found
                issue = f"'{name}' has {kind} values" if count is None else f"'{name}' has {count} {kind} value(s)"
                evidence = {"tensor": name, "value": kind, "threshold": "finite", "count": count}
                return Verdict(issue, step.number, evidence | where(step))
        return None

    def broken(self, step: Step, name: str) -> tuple[str, int | None] | None:
        """(what kind of value, how many of them) or None."""
        if not step.has_value(name):
            numbers = step.reductions(name).values()
            if any(map(math.isnan, numbers)):
                return "NaN", None
            return None if self.parameters.only_nan or all(map(math.isfinite, numbers)) else ("infinite", None)
        values = step.value(name)
        if values.dtype.kind not in "fc" or np.isfinite(values).all():
            return None
        if nans := int(np.isnan(values).sum()):
            return "NaN", nans
        return None if self.parameters.only_nan else ("infinite", int(np.isinf(values).sum()))


class AllZero(TensorRule):
    """At least `threshold` percent of the values of a tensor are zero."""

    ADVICE = "Zeros that should not be there: check the initialisation, the inputs, and for dead activations."
    PARAMETERS = (
        COLLECTION_NAMES,
        TENSOR_REGEX,
        Parameter("threshold", number(0, 100), 100.0, "percent of the values that must be zero"),
    )

    def look(self, step: Step) -> Verdict | None:
        threshold = self.parameters.threshold
        for name in self.chosen(step):
            percent = self.percent(step, name)
            if percent is None:
                continue
            self.note(step.number, name, "percent of values that are zero", percent, threshold)
            if percent >= threshold:
                issue = f"{percent:.4g} % of the values of '{name}' are zero, {threshold:g} % or more"
                evidence = {"tensor": name, "value": percent, "threshold": threshold}
                return Verdict(issue, step.number, evidence | where(step))
        return None

    def percent(self, step: Step, name: str) -> float | None:
        if step.has_value(name):
            values = step.value(name)
            return 100 * (values.size - np.count_nonzero(values)) / values.size if values.size else None
        extremes = [step.reduction(name, key, absolute) for key in ("min", "max") for absolute in (False, True)]
        if extremes[3] == 0 or extremes[0] == extremes[2] == 0:
            return 100.0
        if self.parameters.threshold < 100 or all(extreme is None for extreme in extremes):
            step.value(name)  # raises, and says what was saved
        return 0.0  # some value is not zero


class TensorVariance(TensorRule):
    """The variance of the values of a tensor is above `max_threshold` or below `min_threshold`; one must be given."""

    ADVICE = "Normalise inputs and layers, and initialise the weights for their activations."
    PARAMETERS = (
        COLLECTION_NAMES,
        TENSOR_REGEX,
        Parameter("max_threshold", number(0), None, "variance above which a tensor varies too much"),
        Parameter("min_threshold", number(0), None, "variance below which a tensor varies too little"),
    )

    def prepare(self) -> None:
        super().prepare()
        if self.parameters.max_threshold is None and self.parameters.min_threshold is None:
            self.refuse("needs max_threshold or min_threshold")

    def look(self, step: Step) -> Verdict | None:
        most, least = self.parameters.max_threshold, self.parameters.min_threshold
        for name in self.chosen(step):
            variance = step.variance(name)
            limit, what = (most, "above") if most is not None and not variance <= most else (None, "")
            if limit is None and least is not None and not variance >= least:
                limit, what = least, "below"
            shown = limit if limit is not None else most if most is not None else least
            self.note(step.number, name, "variance", variance, shown)
            if limit is not None:
                issue = f"the variance of '{name}' is {variance:.3g}, {what} {limit:g}"
                evidence = {"tensor": name, "value": variance, "threshold": limit}
                return Verdict(issue, step.number, evidence | where(step))
        return None


class UnchangedTensor(TensorRule):
    """A tensor stayed the same over the last `num_steps` steps at which it was saved.

    Each is compared with the one before by numpy.allclose(now, before, `rtol`, `atol`, `equal_nan`). Steps of
    evaluations are not looked at: nothing is meant to change between those. Of a tensor saved only as reductions these
    are compared.
    """

    ADVICE = "The tensor does not learn: is it given to the optimizer, and does it require a gradient (`trainable`)?"
    PARAMETERS = (
        COLLECTION_NAMES,
        TENSOR_REGEX,
        Parameter("num_steps", whole(2), 3, "saved steps over which a tensor must have changed"),
        Parameter("rtol", number(0), 1e-5, "relative tolerance"),
        Parameter("atol", number(0), 1e-8, "absolute tolerance"),
        Parameter("equal_nan", FLAG, False, "take NaN as equal to NaN"),
    )

    def prepare(self) -> None:
        super().prepare()
        self.before: dict[str, tuple[NDArray[Any], int]] = {}  # tensor -> (its last value, at how many steps running)
        self.compared = False

    def look(self, step: Step) -> Verdict | None:
        for name in self.chosen(step) if step.mode in ("TRAIN", "GLOBAL") else ():
            values = np.array(step.value(name)) if step.has_value(name) else np.array([*step.reductions(name).values()])
            then, run = self.before.get(name, (None, 0))
            same = then is not None and then.shape == values.shape and self.close(values, then)
            self.compared = self.compared or then is not None
            run = run + 1 if same else 1
            self.before[name] = values, run
            self.note(step.number, name, "steps running at which it is the same", run, self.parameters.num_steps)
            if run >= self.parameters.num_steps:
                issue = f"'{name}' is the same at {run} saved steps running"
                evidence = {"tensor": name, "value": run, "threshold": self.parameters.num_steps}
                return Verdict(issue, step.number, evidence | where(step))
        return None

    def close(self, now: NDArray[Any], then: NDArray[Any]) -> bool:
        if now.dtype.kind not in "fciub":
            return bool((now == then).all())
        limits = self.parameters
        kinds = now.dtype.kind + then.dtype.kind
        if (
            kinds == "ff"
            and now.size
            and abs(now.flat[0] - then.flat[0]) > limits.atol + limits.rtol * abs(then.flat[0])
        ):
            return False  # as allclose would find, much later
        return np.allclose(now, then, limits.rtol, limits.atol, limits.equal_nan)

    def end(self) -> Verdict:
        verdict = super().end()
        if not self.compared:
            raise MissingTensors(f"{self.selection} was saved at one step only; lower its save_interval")
        return verdict
