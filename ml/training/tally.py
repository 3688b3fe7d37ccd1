"""What the batches of an epoch add up to: the mean loss, and the scores of all predictions."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import torch

from network import model
from training import metrics

if TYPE_CHECKING:
    from torch import Tensor

    from training.distributed import Group


class Tally:
    """Adds up one process's batches of an epoch; `results` brings the processes together."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.loss_sum, self.weight_sum, self.broken = 0.0, 0.0, 0
        self.labels: list[int] = []
        self.predictions: list[int] = []

    def add(self, logits: Tensor, labels: Tensor, loss: float, weight: float) -> None:
        """`loss` is a mean over the batch in which it counts `weight`: its images, or see losses.batch_weight."""
        self.loss_sum += loss * weight
        self.weight_sum += weight
        self.labels += labels.tolist()
        self.predictions += model.predictions(logits).tolist()
        self.broken += len(logits) - int(torch.isfinite(logits).all(1).sum())

    def results(self, phase: str, group: Group) -> tuple[dict[str, float], int]:
        """The metrics of the epoch, the same in all processes, and the number of images; each was in one process.

        `broken` is how many of the images got an answer that is not all finite numbers: the loss need not show that.
        """
        parts = group.gather((self.loss_sum, self.weight_sum, self.labels, self.predictions, self.broken))
        loss_sums, weights, label_lists, guess_lists, broken = zip(*parts, strict=True)
        self.broken = sum(broken)
        labels, predictions = list(chain.from_iterable(label_lists)), list(chain.from_iterable(guess_lists))
        scores = metrics.scores(labels, predictions, self.num_classes)
        values = {f"{phase}:loss": sum(loss_sums) / sum(weights)}
        return values | {f"{phase}:{name}": score for name, score in scores.items()}, len(labels)
