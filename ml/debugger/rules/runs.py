"""Rules about a run as a whole: that it goes on, and that it is like another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from debugger.rules.parameters import FLAG, NAMES, TEXT, InvalidParameter, Parameter, number
from debugger.rules.rule import COLLECTION_NAMES, TENSOR_REGEX, Rule, TensorRule, Verdict, where
from debugger.tensors.steps import MissingTensors
from debugger.tensors.stream import TensorStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from debugger.tensors.steps import Step


WAITED = "seconds without a new tensor"


class StalledTrainingRule(Rule):
    """No new tensor was saved for over `threshold` seconds.

    While a training runs, that is the time since its last step was written, or since the rule began to watch.
    Afterwards the times in the files are looked at: from step to step, and from the last one to the end marker; so
    judging a finished training again finds what was found beside it. With `stop_training_on_fire` the verdict asks for
    the training jobs whose names begin with `training_job_name_prefix` to be stopped.
    """

    ADVICE = "Look at the job's log and its system metrics: a deadlock, a lost worker, or data that no longer arrives."
    PARAMETERS = (
        Parameter("threshold", number(0), 1800.0, "seconds without a new tensor"),
        Parameter("stop_training_on_fire", FLAG, False, "ask for the training job to be stopped"),
        Parameter("training_job_name_prefix", TEXT, None, "which training job to stop"),
    )

    def prepare(self) -> None:
        if self.parameters.stop_training_on_fire and not self.parameters.training_job_name_prefix:
            self.refuse("stop_training_on_fire=True needs training_job_name_prefix, to know which job to stop")
        self.since: float | None = None
        self.step: int | None = None
        self.longest = 0.0

    @property
    def actions(self) -> list[dict[str, str]]:
        if not self.parameters.stop_training_on_fire:
            return []
        return [{"name": "stoptraining", "training_job_prefix": self.parameters.training_job_name_prefix}]

    def look(self, step: Step) -> Verdict | None:
        written = step.wall_time()
        if written is None:
            return None
        before, self.since, self.step = self.since, written, step.number
        if before is None:
            return None
        verdict = self.judge(written - before)
        if verdict is None:
            self.note(step.number, "", WAITED, written - before, self.parameters.threshold)
        return verdict

    def idle(self, now: float) -> Verdict | None:
        if self.since is None:
            self.since = now  # not a single step yet
        return self.judge(now - self.since)

    def judge(self, waited: float) -> Verdict | None:
        self.longest = max(self.longest, waited)
        if waited <= self.parameters.threshold:
            return None
        self.note(self.step or 0, "", WAITED, waited, self.parameters.threshold)
        after = "from the start" if self.step is None else f"after step {self.step}"
        issue = f"no tensor was saved for {waited:.0f} s {after}, more than {self.parameters.threshold:g} s"
        evidence = {"tensor": None, "value": waited, "threshold": self.parameters.threshold}
        return Verdict(issue, 0 if self.step is None else self.step, evidence)

    def end(self) -> Verdict:
        if self.step is None:
            raise MissingTensors("no tensors were saved at all")
        at = self.stream.ended_at
        verdict = self.judge(at - self.since) if at is not None and self.since is not None else None
        return verdict or Verdict(evidence={"longest_wait_s": self.longest})


class SimilarAcrossRuns(TensorRule):
    """A tensor differs from the one of the same name and step in another run.

    AWS documents that tensors are compared, not how: here by shape and numpy.allclose with its default tolerances, NaN
    equal to NaN, at every step and for every tensor that both runs saved. `other_trials` (AWS also writes
    `other_trial`) are folders or s3:// URIs of runs that have ended. Of tensors saved only as reductions these are
    compared.
    """

    ADVICE = "Two runs that should be equal differ from this step on: compare their seeds, data order and libraries."
    CHOICE_IS_REQUIRED = False
    PARAMETERS = (
        Parameter("other_trials", NAMES, None, "where the tensors of the other runs are"),
        Parameter("other_trial", TEXT, None, "the same, for one run"),
        COLLECTION_NAMES,
        TENSOR_REGEX,
    )

    def prepare(self) -> None:
        super().prepare()
        places = [*(self.parameters.other_trials or ()), *filter(None, [self.parameters.other_trial])]
        if not places:
            self.refuse("needs other_trials: the folder or s3:// URI of the run to compare with")
        try:
            self.others = {place: OtherRun(place) for place in places}
        except ValueError as error:
            raise InvalidParameter(f"SimilarAcrossRuns: {error}") from error
        self.compared = 0

    def look(self, step: Step) -> Verdict | None:
        names = self.chosen(step)
        for place, other in self.others.items():
            there = other.at(step.number)
            for name in names:
                if there is None or name not in there.holders:
                    continue
                self.compared += 1
                if (difference := distance(step, there, name)) is not None:
                    issue = f"'{name}' is not the same as in {place}; the largest difference is {difference:.3g}"
                    evidence = {"tensor": name, "value": difference, "threshold": 0.0, "other_trial": place}
                    return Verdict(issue, step.number, evidence | where(step))
        return None

    def end(self) -> Verdict:
        verdict = super().end()
        if not self.compared:
            raise MissingTensors(f"no step and tensor was saved by this run and by {', '.join(self.others)}")
        return verdict

    def evidence(self) -> dict[str, Any]:
        return {"comparisons": self.compared}


class OtherRun:
    """The steps of a finished run, in order."""

    def __init__(self, place: str) -> None:
        self.place, self.stream = place, TensorStream(place)
        self.steps = self.all_steps()
        self.step: Step | None = None

    def all_steps(self) -> Iterator[Step]:
        while not self.stream.finished:
            yield from self.stream.poll()
            if not self.stream.ended:
                raise MissingTensors(
                    f"the other run, {self.place}, has no end marker: it is not there, or still going on"
                )
            if not self.stream.finished:
                time.sleep(0.05)

    def at(self, number: int) -> Step | None:
        """The step of this number, None if there is none. To be asked in rising order."""
        while self.step is None or self.step.number < number:
            self.step = next(self.steps, None)
            if self.step is None:
                return None
        return self.step if self.step.number == number else None


def distance(step: Step, other: Step, name: str) -> float | None:
    """The largest difference between a tensor here and there; None if they are the same."""
    if step.has_value(name) and other.has_value(name):
        here, there = step.value(name), other.value(name)
    else:
        mine, theirs = step.reductions(name), other.reductions(name)
        both = sorted(mine.keys() & theirs.keys())
        here, there = np.array([mine[key] for key in both]), np.array([theirs[key] for key in both])
    if here.shape != there.shape:
        return float("inf")
    if here.dtype.kind not in "fciub":
        return None if (here == there).all() else float("inf")
    if np.allclose(here, there, equal_nan=True):
        return None
    return float(np.abs(here.astype(np.float64) - there.astype(np.float64)).max())
