"""Rules about what goes into a training and what it makes of it: classes, their confusion, the scale of images."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from debugger.rules.parameters import FLAG, REGEX, TEXT, Parameter, number, whole
from debugger.rules.rule import Rule, Verdict, where
from debugger.tensors.steps import MissingTensors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from debugger.tensors.steps import Step
    from debugger.tensors.stream import Selection, TensorStream

    Classes = NDArray[np.int64]


class LabelRule(Rule):
    """A rule about labels and predictions that the training script saves: hook.record_tensor_value("labels", y)."""

    def prepare(self) -> None:
        self.labels_selection, self.predictions_selection = self.selections()
        self.label_names: set[str] = set()
        self.prediction_names: set[str] = set()

    def selections(self) -> Sequence[Selection | NamedIn]:
        raise NotImplementedError

    def labels(self, step: Step) -> Classes:
        names = self.labels_selection.of(step)
        self.label_names.update(names)
        return self.joined([np.asarray(step.value(name)).reshape(-1) for name in names])

    def predictions(self, step: Step, argmax: bool) -> Classes:
        """The predicted class of each label. With `argmax` they are saved as scores, (N, classes)."""
        names = self.predictions_selection.of(step)
        self.prediction_names.update(names)
        values = [step.value(name) for name in names]
        return self.joined([value.argmax(-1).reshape(-1) if argmax else value.reshape(-1) for value in values])

    def joined(self, parts: list[NDArray[Any]]) -> Classes:
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)


class NamedIn:
    """The tensors of a name, or if a step has none, those of a collection that do not have the other name.

    A collection called 'labels' often holds the predictions too.
    """

    def __init__(self, stream: TensorStream, collection: str, name: str, other: str) -> None:
        self.name, self.collection = stream.selection((), [name]), stream.selection([collection])
        self.other = stream.selection((), [other])

    def __str__(self) -> str:
        return f"{self.name} or {self.collection}"

    def of(self, step: Step) -> list[str]:
        return self.name.of(step) or [name for name in self.collection.of(step) if not self.other.holds(name)]


class ClassImbalance(LabelRule):
    """The classes are not equally frequent, or those that are rare are not learned.

    After each `samples` labels of a mode: it fires if the largest class has over `threshold_imbalance` times the
    labels of the smallest one that occurs, all labels of the mode taken together; or if over the share
    `threshold_misprediction` of the labels of a rare class were mispredicted in the last `samples`, though of all
    labels not so many were. Rare is a class with less than half the labels of the largest. AWS names the second check
    for every class; but a network that has only begun to learn mispredicts most classes, which says nothing of their
    balance. Without predictions only the first check is made. `samples` should grow with the number of classes.
    """

    ADVICE = "Weight (`class-weights`: balanced) or resample (`sampler`) the classes, or collect more of the rare ones."
    PARAMETERS = (
        Parameter("threshold_imbalance", number(1), 10.0, "ratio of the largest to the smallest class"),
        Parameter("threshold_misprediction", number(0, 1), 0.7, "share of a class that may be mispredicted"),
        Parameter("samples", whole(1), 500, "labels after which the classes are judged"),
        Parameter("argmax", FLAG, False, "predictions are scores of each class"),
        Parameter("labels_regex", REGEX, ".*labels", "name of the labels"),
        Parameter("predictions_regex", REGEX, ".*predictions", "name of the predictions"),
    )

    def selections(self) -> Sequence[Selection | NamedIn]:
        # mode -> labels of each class, and mode -> (labels, predictions or None) since the last judgement
        self.classes: defaultdict[str, Classes] = defaultdict(lambda: np.zeros(0, np.int64))
        self.window: defaultdict[str, list[tuple[Classes, Classes | None]]] = defaultdict(list)
        self.judged, self.worst = 0, 1.0
        parameters = self.parameters
        return [self.stream.selection((), [regex]) for regex in (parameters.labels_regex, parameters.predictions_regex)]

    def look(self, step: Step) -> Verdict | None:
        labels = self.labels(step)
        if not labels.size:
            return None
        if labels.min() < 0:
            self.refuse(f"the labels of step {step.number} hold {labels.min()}; classes are counted from 0")
        predictions = self.predictions(step, self.parameters.argmax)
        if predictions.size and predictions.size != labels.size:
            sizes = f"{predictions.size} predictions for {labels.size} labels at step {step.number}"
            self.refuse(f"there are {sizes}; set argmax=True if they are scores of each class")
        self.classes[step.mode] = added(self.classes[step.mode], np.bincount(labels))
        window = self.window[step.mode]
        window.append((labels, predictions if predictions.size else None))
        if sum(part.size for part, _ in window) < self.parameters.samples:
            return None
        del self.window[step.mode]
        self.judged += 1
        return self.imbalanced(step) or self.mispredicted(step, window)

    def imbalanced(self, step: Step) -> Verdict | None:
        counts = self.classes[step.mode]
        present = np.flatnonzero(counts)
        small, large = present[counts[present].argmin()], present[counts[present].argmax()]
        ratio, threshold = float(counts[large] / counts[small]), self.parameters.threshold_imbalance
        self.worst = max(self.worst, ratio)
        tensor = ", ".join(sorted(self.label_names))
        self.note(step.number, tensor, "largest class over the smallest", ratio, threshold)
        if ratio <= threshold:
            return None
        of = f"class {large} has {counts[large]} labels and class {small} only {counts[small]}"
        evidence = {"tensor": tensor, "value": ratio, "threshold": threshold}
        evidence |= {"labels_of_each_class": counts.tolist()}
        return Verdict(f"{of}, over {threshold:g} times as many", step.number, evidence | where(step))

    def mispredicted(self, step: Step, window: list[tuple[Classes, Classes | None]]) -> Verdict | None:
        pairs = [pair for pair in window if pair[1] is not None]
        if not pairs:
            return None
        labels, predictions = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        wrong, threshold = labels != predictions, self.parameters.threshold_misprediction
        if wrong.mean() > threshold:
            return None
        counts = self.classes[step.mode]
        for rare in np.flatnonzero((counts > 0) & (counts < counts.max() / 2)):
            of_class = labels == rare
            share = float(wrong[of_class].mean()) if of_class.any() else 0.0
            tensor = ", ".join(sorted(self.prediction_names))
            self.note(step.number, tensor, f"share of class {rare} that is mispredicted", share, threshold)
            if share > threshold:
                issue = f"{100 * share:.0f} % of the labels of class {rare}, which is rare, are mispredicted"
                evidence = {"tensor": tensor, "value": share, "threshold": threshold}
                evidence |= {"class": int(rare), "labels_of_each_class": counts.tolist()}
                return Verdict(
                    f"{issue}, of all labels {100 * wrong.mean():.0f} %", step.number, evidence | where(step)
                )
        return None

    def end(self) -> Verdict:
        self.seen(self.label_names, str(self.labels_selection))
        if not self.judged:
            seen = max((int(counts.sum()) for counts in self.classes.values()), default=0)
            raise MissingTensors(f"{seen} labels were saved, fewer than samples={self.parameters.samples}")
        return Verdict(evidence={"judgements": self.judged, "largest_ratio": self.worst})


class Confusion(LabelRule):
    """The confusion matrix of the last evaluation is poor: too little on its diagonal, or too much off it.

    With confusion[label][prediction], it fires if for some class i confusion[i][i] / sum_j confusion[j][i] <
    `min_diag`, or for some pair confusion[j][i] / sum_k confusion[k][i] > `max_off_diag`. (AWS's page divides the
    diagonal by the whole diagonal, which no balanced set of two classes could pass.) A class that is never predicted,
    though it has labels, has nothing on its diagonal. Judged is the last stretch of EVAL steps, else all GLOBAL ones,
    when the training has ended: at its beginning any network is confused. Predictions are classes, or scores of each
    class of which the largest counts.
    """

    ADVICE = "Look at images of the classes that are confused: wrong labels, too few examples, or truly alike?"
    PARAMETERS = (
        Parameter("category_no", whole(2), None, "number of classes; by default as many as occur"),
        Parameter("labels", TEXT, "labels", "name of the labels"),
        Parameter("predictions", TEXT, "predictions", "name of the predictions"),
        Parameter("labels_collection", TEXT, "labels", "collection of the labels"),
        Parameter("predictions_collection", TEXT, "predictions", "collection of the predictions"),
        Parameter("min_diag", number(0, 1), 0.9, "least share on the diagonal"),
        Parameter("max_off_diag", number(0, 1), 0.1, "largest share off the diagonal"),
    )

    def selections(self) -> Sequence[Selection | NamedIn]:
        self.pairs: list[tuple[Classes, Classes]] = []
        self.step: Step | None = None
        self.mode: str | None = None
        of = self.parameters
        labels, predictions = (re.escape(name) + r"(_output_\d+)?$" for name in (of.labels, of.predictions))
        return [
            NamedIn(self.stream, of.labels_collection, f"^{labels}", f"^{predictions}"),
            NamedIn(self.stream, of.predictions_collection, f"^{predictions}", f"^{labels}"),
        ]

    def look(self, step: Step) -> Verdict | None:
        if step.mode not in ("EVAL", "GLOBAL"):
            if self.mode == "EVAL":
                self.mode = "over"
            return None
        labels = self.labels(step)
        if not labels.size:
            return None
        if self.mode == "over":
            self.pairs.clear()
        names = self.predictions_selection.of(step)
        scores = any(step.value(name).ndim > 1 and step.value(name).shape[-1] > 1 for name in names)
        predictions = self.predictions(step, scores)
        if predictions.size != labels.size:
            self.refuse(f"there are {predictions.size} predictions for {labels.size} labels at step {step.number}")
        self.pairs.append((labels, predictions))
        self.step, self.mode = step, step.mode
        return None

    def matrix(self) -> Classes:
        labels, predictions = (np.concatenate(parts) for parts in zip(*self.pairs, strict=True))
        classes = self.parameters.category_no or int(max(labels.max(), predictions.max())) + 1
        for values in (labels, predictions):
            if values.min() < 0 or values.max() >= classes:
                self.refuse(
                    f"category_no is {classes}, but class {values.min() if values.min() < 0 else values.max()} occurs"
                )
        return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)

    def end(self) -> Verdict:
        self.seen(self.label_names, f"{self.labels_selection}, in an evaluation,")
        self.seen(self.prediction_names, f"{self.predictions_selection}, in an evaluation,")
        matrix = self.matrix()
        present = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
        shares = matrix / np.maximum(matrix.sum(0), 1)
        evidence = {"tensor": ", ".join(sorted(self.prediction_names)), "confusion": matrix.tolist()}
        worst = present[shares.diagonal()[present].argmin()]
        if (value := float(shares[worst, worst])) < self.parameters.min_diag:
            of = f"of the predictions of class {worst} {100 * value:.0f} % are right"
            return self.fire(of, value, self.parameters.min_diag, evidence | {"class": int(worst)})
        np.fill_diagonal(shares, 0)
        label, guess = np.unravel_index(shares.argmax(), shares.shape)
        if (value := float(shares[label, guess])) > self.parameters.max_off_diag:
            of = f"of the predictions of class {guess} {100 * value:.0f} % are of class {label}"
            return self.fire(of, value, self.parameters.max_off_diag, evidence | {"class": int(guess)})
        return Verdict(evidence=evidence)

    def fire(self, issue: str, value: float, threshold: float, evidence: dict[str, Any]) -> Verdict:
        limit = f"the limit is {100 * threshold:g} %"
        evidence = {"value": value, "threshold": threshold} | evidence
        assert self.step is not None
        return Verdict(f"{issue}; {limit}", self.step.number, evidence | where(self.step))


class CheckInputImages(Rule):
    """Images are not normalised: the mean of a colour channel is over `threshold_mean` away from 0.

    Judged after each `threshold_samples` images, over all of these together. `regex` names the tensor that goes into
    the network; AWS's default is MXNet's, in PyTorch it is `<class of the network>_input_0`, as `ResNet_input_0`.
    `channel` is the position of the colour channel in its shape.
    """

    ADVICE = "Subtract the mean of the training set's pixels from the images, and divide by their standard deviation."
    PARAMETERS = (
        Parameter("threshold_mean", number(0), 0.2, "how far from 0 the mean of a channel may be"),
        Parameter("threshold_samples", whole(1), 500, "images after which they are judged"),
        Parameter("regex", REGEX, ".*hybridsequential0_input_0", "name of the input of the network"),
        Parameter("channel", whole(), 1, "axis of the colour channel"),
    )

    def prepare(self) -> None:
        self.selection = self.stream.selection((), [self.parameters.regex])
        self.sums = np.zeros(())  # of each channel, once the first images are there
        self.images, self.values, self.total = 0, 0, 0
        self.farthest: float | None = None

    def look(self, step: Step) -> Verdict | None:
        for name in self.selection.of(step):
            if verdict := self.add(step, name, step.value(name)):
                return verdict
        return None

    def add(self, step: Step, name: str, images: NDArray[Any]) -> Verdict | None:
        axis = self.parameters.channel
        if images.ndim < 2 or not 0 < axis < images.ndim:
            self.refuse(f"'{name}' has the shape {images.shape}, which has no channels at axis {axis}")
        others = tuple(other for other in range(images.ndim) if other != axis)
        self.sums = self.sums + images.sum(axis=others, dtype=np.float64)
        self.images += images.shape[0]
        self.total += images.shape[0]
        self.values += images.size // images.shape[axis]
        if self.images < self.parameters.threshold_samples:
            return None
        means = self.sums / self.values
        self.sums, self.images, self.values = np.zeros(()), 0, 0
        channel = int(np.abs(means).argmax())
        mean, threshold = float(means[channel]), self.parameters.threshold_mean
        self.note(step.number, name, "farthest mean of a channel, from 0", abs(mean), threshold)
        self.farthest = mean if self.farthest is None else max(self.farthest, mean, key=abs)
        if abs(mean) <= threshold:
            return None
        issue = f"the mean of channel {channel} of '{name}' is {mean:.3g}, over {threshold:g} away from 0"
        evidence = {"tensor": name, "value": mean, "threshold": threshold, "means": means.tolist()}
        return Verdict(issue, step.number, evidence | where(step))

    def end(self) -> Verdict:
        if not self.total:
            raise MissingTensors(
                f"{self.selection} was not saved; set regex to the input of the network, in PyTorch '<class>_input_0', "
                "and save it in a collection"
            )
        if self.farthest is None:
            wanted = self.parameters.threshold_samples
            raise MissingTensors(f"{self.total} images were saved, fewer than threshold_samples={wanted}")
        return Verdict(evidence={"images": self.total, "farthest_mean": self.farthest})


def added(left: Classes, right: Classes) -> Classes:
    """Two counts, either of which may be of fewer classes."""
    size = max(left.size, right.size)
    return np.pad(left, (0, size - left.size)) + np.pad(right, (0, size - right.size))
