"""Rules about how the loss goes: not down, down on the training set only, or no further."""

from __future__ import annotations

from collections import deque
from math import inf, isfinite, nan
from statistics import fmean, median
from typing import TYPE_CHECKING

from debugger.rules.parameters import FLAG, Parameter, choice, number, whole
from debugger.rules.rule import COLLECTION_NAMES, TENSOR_REGEX, Rule, Verdict, mode_matches, where
from debugger.tensors.steps import MissingTensors

if TYPE_CHECKING:
    from debugger.tensors.steps import Step

PRECEDENCE = ("EVAL", "TRAIN", "GLOBAL")
LOSS_OF = {"EVAL": "validation loss", "TRAIN": "training loss", "GLOBAL": "loss"}
RESOLUTION = 2.0**-23  # of a cross entropy in float32: the next smaller one is 0
LOSS_OF |= {"validation": LOSS_OF["EVAL"], "train": LOSS_OF["TRAIN"]}


class LossRule(Rule):
    """A rule about the loss: of the built-in collection 'losses', and what parameters add or put in its place.

    A step's loss is the mean over the loss tensors saved at it, and over the elements of each.
    """

    PARAMETERS: tuple[Parameter, ...] = ()

    def prepare(self) -> None:
        collections = list(getattr(self.parameters, "collection_names", None) or ())
        regexes = getattr(self.parameters, "tensor_regex", None) or ()
        if getattr(self.parameters, "use_losses_collection", True) and not regexes:
            collections.append("losses")
        if not collections and not regexes:
            self.refuse("use_losses_collection=False needs collection_names or tensor_regex in its place")
        self.selection = self.stream.selection(collections, regexes)
        self.names: set[str] = set()

    def losses(self, step: Step) -> list[float]:
        """The mean of each loss tensor saved at a step."""
        names = self.selection.of(step)
        self.names.update(names)
        return [step.mean(name) for name in names]

    def tensor(self) -> str:
        return ", ".join(sorted(self.names))


class LossNotDecreasing(LossRule):
    """The mean loss of `num_steps` steps is not `diff_percent` percent below that of the `num_steps` before.

    AWS compares the single saved step with the newest one at least `num_steps` before it. Means over the steps between
    them are the same where the saving interval is `num_steps`, and do not mistake the noise of one batch for a trend
    where it is shorter. A rise beyond `increase_threshold_percent` is reported as such. As AWS documents it, a check
    takes place every `num_steps` steps, counted in steps of the mode. `mode` is EVAL, else TRAIN, else GLOBAL: while a
    training has no evaluation yet, its training loss is judged.
    """

    ADVICE = (
        "Lower the learning rate by ten (`lr`), check that labels belong to their images, and that the optimizer is "
        "given the parameters that should learn (`trainable`)."
    )
    PARAMETERS = (
        COLLECTION_NAMES,
        TENSOR_REGEX,
        Parameter("use_losses_collection", FLAG, True, "look at the collection 'losses'"),
        Parameter("num_steps", whole(1), 10, "steps between comparisons"),
        Parameter("diff_percent", number(0, 100), 0.1, "percent by which the loss should fall"),
        Parameter("increase_threshold_percent", number(0), 5.0, "percent beyond which a rise is called one"),
        Parameter("mode", choice(*PRECEDENCE), None, "whose losses are compared"),
    )

    def prepare(self) -> None:
        super().prepare()
        self.mode: str | None = self.parameters.mode
        self.window: deque[tuple[int, float]] = deque()
        self.checked: int | None = None
        self.comparisons = self.saved = 0

    def look(self, step: Step) -> Verdict | None:
        if not self.counts(step) or not (losses := self.losses(step)):
            return None
        if self.parameters.mode is None and self.mode != step.mode:  # an evaluation: from now on those are judged
            self.mode, self.checked, self.saved, self.comparisons = step.mode, None, 0, 0
            self.window.clear()
        at, num_steps = self.position(step), self.parameters.num_steps
        self.saved += 1
        self.window.append((at, fmean(losses)))
        what = f"{LOSS_OF[str(self.mode)]}, of which the mean over {num_steps} steps is judged"
        self.note(step.number, self.tensor(), what, fmean(losses), nan)
        while self.window[0][0] <= at - 2 * num_steps:
            self.window.popleft()
        if self.checked is None:
            self.checked = at
        if at - self.checked < num_steps:
            return None
        self.checked = at
        before = [loss for place, loss in self.window if place <= at - num_steps]
        now = [loss for place, loss in self.window if place > at - num_steps]
        return self.compare(step, fmean(before), fmean(now)) if before else None

    def counts(self, step: Step) -> bool:
        if self.parameters.mode is not None:
            return mode_matches(step, self.parameters.mode)
        if step.mode not in PRECEDENCE:
            return False
        return self.mode is None or PRECEDENCE.index(step.mode) <= PRECEDENCE.index(self.mode)

    def position(self, step: Step) -> int:
        return step.number if self.mode == "GLOBAL" else step.mode_step

    def compare(self, step: Step, before: float, now: float) -> Verdict | None:
        self.comparisons += 1
        least, num_steps = self.parameters.diff_percent, self.parameters.num_steps
        drop = 100 * (before - now) / abs(before) if before else 0.0
        assert self.judged_last is not None
        self.judged_last.threshold = before - abs(before) * least / 100
        if drop >= least:
            return None
        rose = -drop > self.parameters.increase_threshold_percent
        what = f"rose by {-drop:.2f} %" if rose else f"changed by {-drop:+.2f} %"
        issue = f"the mean {self.mode} loss {what} over {num_steps} steps, from {before:.4g} to {now:.4g}"
        evidence = {"tensor": self.tensor(), "value": -drop, "threshold": -least, "before": before, "now": now}
        evidence |= {"change_percent": -drop} | where(step)
        return Verdict(f"{issue}; it should fall by {least:g} % or more", step.number, evidence)

    def end(self) -> Verdict:
        self.seen(self.names, str(self.selection))
        if not self.comparisons:
            raise MissingTensors(
                f"losses were saved at {self.saved} {self.mode} step(s), none {self.parameters.num_steps} apart with "
                "one before; lower num_steps or their save_interval"
            )
        return Verdict(evidence={"tensor": self.tensor(), "comparisons": self.comparisons, "mode": self.mode})


class Phase:
    """A stretch of training or of evaluation: the losses saved between two changes of the mode."""

    def __init__(self) -> None:
        self.mode: str | None = None
        self.step, self.sum, self.count = -1, 0.0, 0

    def add(self, step: Step, losses: list[float]) -> None:
        self.mode, self.step = step.mode, step.number
        self.sum += sum(losses)
        self.count += len(losses)

    @property
    def loss(self) -> float:
        return self.sum / self.count


class PhaseRule(LossRule):
    """A rule that compares whole evaluations: the batches of one are different images, so single ones say nothing.

    An evaluation is over when the next training step is saved, or the training ends; that is when it can fire.
    """

    def prepare(self) -> None:
        super().prepare()
        self.phase = Phase()

    def look(self, step: Step) -> Verdict | None:
        if step.mode not in ("TRAIN", "EVAL") or not (losses := self.losses(step)):
            return None
        over, verdict = self.phase, None
        if over.mode not in (None, step.mode):
            self.phase, verdict = Phase(), self.judge(over)
        self.phase.add(step, losses)
        return verdict or self.judge_step(step, fmean(losses))

    def judge_step(self, step: Step, loss: float) -> Verdict | None:
        return None

    def judge(self, phase: Phase) -> Verdict | None:
        raise NotImplementedError

    def conclude(self) -> Verdict:
        raise NotImplementedError

    def end(self) -> Verdict:
        self.seen(self.names, str(self.selection))
        verdict = self.judge(self.phase) if self.phase.count else None
        return verdict or self.conclude()


class Overfit(PhaseRule):
    """Validation loss exceeds training loss by the share `ratio_threshold` in over `patience` evaluations running.

    The share is (mean validation loss - mean training loss) / mean training loss, of an evaluation and the training
    between it and the one before. AWS counts patience in steps, and does not say of what; evaluations are what can be
    compared. Evaluations before the global step `start_step` do not count.
    """

    ADVICE = "Regularise (`weight-decay`, `dropout`, `augment`), stop earlier (`patience`), or find more training data."
    PARAMETERS = (
        TENSOR_REGEX,
        Parameter("start_step", whole(), 0, "global step from which on evaluations count"),
        Parameter("patience", whole(), 1, "evaluations that may exceed the ratio"),
        Parameter("ratio_threshold", number(), 0.1, "share by which validation loss may exceed training loss"),
    )

    def prepare(self) -> None:
        super().prepare()
        self.train: float | None = None
        self.worst: float | None = None
        self.running = self.evaluations = 0

    def judge(self, phase: Phase) -> Verdict | None:
        if phase.mode == "TRAIN":
            self.train = phase.loss
            return None
        if self.train is None:
            return None
        self.evaluations += 1
        if phase.step < self.parameters.start_step:
            return None
        ratio = share_above(phase.loss, self.train)
        self.worst = ratio if self.worst is None else max(self.worst, ratio)
        exceeded = not ratio <= self.parameters.ratio_threshold
        what = "validation loss above training loss, as a share"
        self.note(phase.step, self.tensor(), what, ratio, self.parameters.ratio_threshold)
        self.running = self.running + 1 if exceeded else 0
        return self.fire(phase, ratio) if self.running > self.parameters.patience else None

    def fire(self, phase: Phase, ratio: float) -> Verdict:
        threshold, running = self.parameters.ratio_threshold, self.running
        issue = f"validation loss {phase.loss:.4g} exceeds training loss {self.train:.4g} by {100 * ratio:.0f} %"
        evidence = {"tensor": self.tensor(), "value": ratio, "threshold": threshold, "ratio": ratio}
        evidence |= {"train_loss": self.train, "validation_loss": phase.loss, "evaluations": running}
        return Verdict(
            f"{issue}, more than {100 * threshold:g} % for {running} evaluations running", phase.step, evidence
        )

    def conclude(self) -> Verdict:
        if not self.evaluations:
            raise MissingTensors(
                "losses must be saved in both modes, TRAIN and EVAL; lower train. and eval.save_interval"
            )
        return Verdict(evidence={"tensor": self.tensor(), "evaluations": self.evaluations, "largest_ratio": self.worst})


def share_above(loss: float, other: float) -> float:
    """By which share of the `other` a loss exceeds it; of nothing, any loss is infinitely more."""
    if other:
        return (loss - other) / other
    return inf if loss > 0 else 0.0


class Overtraining(PhaseRule):
    """No new best training loss for over `patience_train` saved steps, or validation loss for `patience_validation`.

    A best must be lower by `delta`. Of validation each whole evaluation counts as one step.
    """

    ADVICE = "Train for fewer `epochs` or stop early (`patience`), or let the learning rate fall (`schedule`)."
    PARAMETERS = (
        Parameter("patience_train", whole(), 5, "saved training steps without a new best"),
        Parameter("patience_validation", whole(), 10, "evaluations without a new best"),
        Parameter("delta", number(0), 0.01, "by how much a new best must be lower"),
    )

    def prepare(self) -> None:
        super().prepare()
        self.best = {"train": float("inf"), "validation": float("inf")}
        self.waited, self.counted = {"train": 0, "validation": 0}, {"train": 0, "validation": 0}

    def judge_step(self, step: Step, loss: float) -> Verdict | None:
        return self.count("train", step.number, loss) if step.mode == "TRAIN" else None

    def judge(self, phase: Phase) -> Verdict | None:
        return self.count("validation", phase.step, phase.loss) if phase.mode == "EVAL" else None

    def count(self, kind: str, step: int, loss: float) -> Verdict | None:
        patience, best = getattr(self.parameters, f"patience_{kind}"), self.best[kind]
        self.counted[kind] += 1
        self.note(step, self.tensor(), LOSS_OF[kind], loss, best - self.parameters.delta)
        if loss < best - self.parameters.delta:
            self.best[kind], self.waited[kind] = loss, 0
            return None
        self.waited[kind] += 1
        if self.waited[kind] <= patience:
            return None
        waited, delta = self.waited[kind], self.parameters.delta
        issue = f"the {kind} loss did not improve on {best:.4g} by {delta:g} for {waited} saved steps"
        evidence = {"tensor": self.tensor(), "value": waited, "threshold": patience, "kind": kind, "best": best}
        return Verdict(issue, step, evidence | {"steps_without_improvement": waited})

    def conclude(self) -> Verdict:
        if not any(self.counted.values()):
            raise MissingTensors(
                "no losses were saved in mode TRAIN or EVAL; give the collection 'losses' a save_interval"
            )
        counted = {"train_steps": self.counted["train"], "evaluations": self.counted["validation"]}
        return Verdict(evidence={"tensor": self.tensor()} | counted)


class LossSpike(LossRule):
    """The loss of a training step exceeds `factor` times the median of the `num_steps` before, or is not finite.

    A median below RESOLUTION counts as that; one below zero is compared with nothing. SageMaker has no such rule.
    """

    ADVICE = "Look at the images of that step, clip the gradients (`clip-norm`), or warm up for longer (`warm-up`)."
    PARAMETERS = (
        Parameter("num_steps", whole(1), 10, "saved training steps before, whose median a loss is compared with"),
        Parameter("factor", number(1), 3.0, "how many times that median a loss may be"),
    )

    def prepare(self) -> None:
        super().prepare()
        self.window: deque[float] = deque(maxlen=self.parameters.num_steps)
        self.saved, self.compared, self.largest = 0, 0, 0.0

    def look(self, step: Step) -> Verdict | None:
        if step.mode != "TRAIN" or not (losses := self.losses(step)):
            return None
        loss, factor = fmean(losses), self.parameters.factor
        usual = median(self.window) if len(self.window) == self.parameters.num_steps else nan
        self.note(step.number, self.tensor(), "training loss", loss, factor * usual)
        if not isfinite(loss):
            return self.fire(step, f"the training loss is {loss}", loss, loss, usual)
        if usual >= 0:
            self.compared += 1
            ratio = loss / max(usual, RESOLUTION)
            if ratio > factor:
                issue = f"the training loss {loss:.4g} is {ratio:.3g} times the median {usual:.4g} of the"
                issue = f"{issue} {self.parameters.num_steps} steps before, over {factor:g} times"
                return self.fire(step, issue, ratio, loss, usual)
            self.largest = max(self.largest, ratio)
        self.saved += 1
        self.window.append(loss)
        return None

    def fire(self, step: Step, issue: str, value: float, loss: float, usual: float) -> Verdict:
        evidence = {"tensor": self.tensor(), "value": value, "threshold": self.parameters.factor}
        return Verdict(issue, step.number, evidence | {"loss": loss, "median": usual} | where(step))

    def end(self) -> Verdict:
        self.seen(self.names, str(self.selection))
        if not self.compared and self.saved > self.parameters.num_steps:
            raise MissingTensors("the losses are below zero, where none is a multiple of another")
        if not self.compared:
            raise MissingTensors(
                f"losses were saved at {self.saved} TRAIN step(s), and {self.parameters.num_steps} are needed "
                "before the first comparison; lower num_steps or their save_interval"
            )
        return Verdict(evidence={"tensor": self.tensor(), "comparisons": self.compared, "largest_ratio": self.largest})
