"""Rules about weights: how they start, and how far each step moves them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from debugger.rules.loss import LossRule
from debugger.rules.parameters import REGEXES, Parameter, number, whole
from debugger.rules.rule import TensorRule, Verdict, where, without_biases
from debugger.tensors.steps import MissingTensors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from debugger.tensors.steps import Step


class PoorWeightInitialization(LossRule):
    """In the first `steps` saved steps: layers of very unequal variance, or gradients or losses that do not move.

    It fires if, in a training step, the variance of the inputs of one activation (`activation_inputs_regex`) is over
    `threshold` times that of another; if the 95th and 5th percentile of every gradient tensor lie within
    `distribution_range` of each other; or if the loss sets no new minimum in `patience` saved steps. AWS's text leaves
    open whether one narrow gradient tensor is enough: large layers have small gradients in any good training, so here
    all of them must be narrow, those of biases aside. Constant activation inputs (variance 0) beside others that vary
    fire at any threshold.
    """

    ADVICE = "Initialise the weights for their activation (He for ReLU, Xavier for tanh), not with constants."
    PARAMETERS = (
        Parameter("activation_inputs_regex", REGEXES, (".*relu_input",), "names of the inputs of activations"),
        Parameter("threshold", number(0), 10.0, "ratio of the largest to the smallest variance"),
        Parameter("distribution_range", number(0), 0.001, "least distance between percentiles of a gradient"),
        Parameter("patience", whole(1), 5, "saved steps without a new minimum of the loss"),
        Parameter("steps", number(1), 10, "saved steps that are looked at"),
    )

    def prepare(self) -> None:
        super().prepare()
        self.activations = self.stream.selection((), self.parameters.activation_inputs_regex)
        self.gradients = self.stream.selection(["gradients"])
        self.counted = {"activations": 0, "gradients": 0, "losses": 0}
        self.best, self.waited = float("inf"), 0

    def look(self, step: Step) -> Verdict | None:
        if step.mode != "TRAIN" or min(self.counted.values()) >= self.parameters.steps:
            return None
        checks = {"activations": self.unequal, "gradients": self.narrow, "losses": self.stuck}
        found = {"activations": self.activations.of(step), "gradients": without_biases(self.gradients.of(step))}
        found["losses"] = self.selection.of(step)
        for kind, check in checks.items():
            if found[kind] and self.counted[kind] < self.parameters.steps:
                self.counted[kind] += 1
                if verdict := check(step, found[kind]):
                    return verdict
        return None

    def unequal(self, step: Step, names: Sequence[str]) -> Verdict | None:
        variances = {name: step.variance(name) for name in names}
        low, high = min(variances, key=variances.__getitem__), max(variances, key=variances.__getitem__)
        threshold = self.parameters.threshold
        ratio = variances[high] / variances[low] if variances[low] else float("inf")
        self.note(step.number, "", "largest variance over the smallest", ratio, threshold)
        if not variances[high] > threshold * variances[low]:
            return None
        issue = f"the variance of '{high}' ({variances[high]:.3g}) is over {threshold:g} times that of '{low}'"
        evidence = {"tensor": high, "value": ratio, "threshold": threshold, "tensors": [high, low]}
        evidence |= {"largest": variances[high], "smallest": variances[low]}
        return Verdict(f"{issue} ({variances[low]:.3g})", step.number, evidence | where(step))

    def narrow(self, step: Step, names: Sequence[str]) -> Verdict | None:
        spreads = {name: step.spread(name) for name in names}
        widest, least = max(spreads, key=spreads.__getitem__), self.parameters.distribution_range
        spread = spreads[widest]
        self.note(step.number, "", "spread of the widest gradient", spread, least)
        if not spread < least:
            return None
        evidence = {"tensor": widest, "value": spread, "threshold": least}
        evidence |= {"spread": spread, "distribution_range": least}
        issue = f"every gradient lies within {spread:.3g}, less than {least:g}"
        return Verdict(issue, step.number, evidence | where(step))

    def stuck(self, step: Step, names: Sequence[str]) -> Verdict | None:
        losses = self.losses(step)
        loss = sum(losses) / len(losses)
        self.note(step.number, self.tensor(), "training loss", loss, self.best)
        self.best, self.waited = (loss, 0) if loss < self.best else (self.best, self.waited + 1)
        if self.waited < self.parameters.patience:
            return None
        issue = f"the loss did not fall below {self.best:.4g} for {self.waited} saved steps from the start"
        evidence = {"tensor": self.tensor(), "value": self.waited, "threshold": self.parameters.patience}
        evidence |= {"best": self.best, "steps_without_improvement": self.waited}
        return Verdict(issue, step.number, evidence | where(step))

    def end(self) -> Verdict:
        self.seen(self.counted["activations"], f"{self.activations} of a training step")
        self.seen(self.counted["gradients"], str(self.gradients))
        return Verdict(evidence={"saved_steps": self.counted["losses"], "looked_at": dict(self.counted)})


class WeightUpdateRatio(TensorRule):
    """An update is too large or too small for its weights: mean|w - w'| / (mean|w'| + `epsilon`) of some tensor.

    w' is the same tensor at the training step saved before; with `num_steps`, at the oldest saved step that is at most
    so many steps back. It fires above `large_threshold` or below `small_threshold`. The collection is 'weights'.
    Weights for which no gradient is saved while others have one are frozen, and not looked at. Where a training
    accumulates gradients over several steps, `num_steps` must not be smaller than their number.
    """

    ADVICE = "Change the learning rate (`lr`): lower it if the ratio is too large, raise it if the ratio is too small."
    CHOICE_IS_REQUIRED = False
    PARAMETERS = (
        Parameter("num_steps", whole(1), None, "how many steps back the weights are compared with"),
        Parameter("large_threshold", number(0), 10.0, "ratio above which an update is too large"),
        Parameter("small_threshold", number(0), 1e-8, "ratio below which an update is too small"),
        Parameter("epsilon", number(0), 1e-9, "keeps weights of zero from dividing by zero"),
    )

    def prepare(self) -> None:
        self.selection, self.gradients = self.stream.selection(["weights"]), self.stream.selection(["gradients"])
        self.before: dict[str, deque[tuple[int, NDArray[Any]]]] = {}
        self.looked_at = set()
        self.learning: set[str] = set()
        self.comparisons, self.ratios = 0, [float("inf"), 0.0]

    def look(self, step: Step) -> Verdict | None:
        if step.mode not in ("TRAIN", "GLOBAL"):  # an evaluation changes no weights
            return None
        self.learning.update(name.partition("gradient/")[2] for name in self.gradients.of(step))
        for name in self.chosen(step):
            if self.learning and name not in self.learning:
                continue
            if verdict := self.compare(step, name, np.array(step.value(name))):
                return verdict
        return None

    def compare(self, step: Step, name: str, weights: NDArray[Any]) -> Verdict | None:
        at, num_steps = step.mode_step, self.parameters.num_steps
        history = self.before.setdefault(name, deque())  # (step of the mode, weights), as far back as will be needed
        while num_steps and history and at - history[0][0] > num_steps:
            history.popleft()
        then = history[0][1] if history else None
        if num_steps is None:
            history.clear()
        history.append((at, weights))
        if then is None or then.shape != weights.shape:
            return None
        self.comparisons += 1
        ratio = float(np.abs(weights - then).mean() / (np.abs(then).mean() + self.parameters.epsilon))
        self.ratios = [min(self.ratios[0], ratio), max(self.ratios[1], ratio)]
        return self.judge(step, name, ratio)

    def judge(self, step: Step, name: str, ratio: float) -> Verdict | None:
        small, large = self.parameters.small_threshold, self.parameters.large_threshold
        limit = small if ratio - small < large - ratio else large
        self.note(step.number, name, "update as a share of the weights", ratio, limit)
        if small <= ratio <= large:
            return None
        limit, what = (small, "below") if ratio < small else (large, "above")
        issue = f"the update of '{name}' is {ratio:.3g} of its weights, {what} {limit:g}"
        evidence = {"tensor": name, "value": ratio, "threshold": limit}
        return Verdict(issue, step.number, evidence | where(step))

    def end(self) -> Verdict:
        self.seen(self.looked_at, str(self.selection))
        if not self.comparisons:
            raise MissingTensors(
                "weights were not saved at two training steps that can be compared; set train.save_interval of the "
                "collection 'weights' to 1, or to num_steps"
            )
        return Verdict(
            evidence={"comparisons": self.comparisons, "smallest": self.ratios[0], "largest": self.ratios[1]}
        )
