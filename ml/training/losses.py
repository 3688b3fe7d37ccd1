"""What training minimises. Modules, because Debugger records the output of a module named *Loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from training.settings import Loss


def make_loss(settings: Loss, head: str, labels: Tensor, num_classes: int) -> nn.Module:
    """The loss of the flags for a `head` of model.HEADS; `labels` are the training set's, for class weights."""
    weights = class_weights(labels, num_classes) if settings.class_weights == "balanced" else None
    if head == "binary":
        return BinaryLoss(weights, settings.label_smoothing)
    return nn.CrossEntropyLoss(weight=weights, label_smoothing=settings.label_smoothing)


def class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """(num_classes,), in inverse proportion to the class sizes; their mean over the images is 1."""
    counts = torch.bincount(labels, minlength=num_classes).clamp(min=1)
    return len(labels) / (num_classes * counts.float())


def batch_weight(criterion: nn.Module, labels: Tensor) -> float:
    """What a mean over `labels` was divided by: losses of parts of a batch, weighted by it, add up to the batch's."""
    weights = getattr(criterion, "weight", None)  # torch's CrossEntropyLoss divides by the labels' class weights
    return float(len(labels) if weights is None else weights[labels].sum())


def log_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """What networks are judged by, whatever they minimise: the mean of -log(probability of the right class), in nats.

    `logits` are (N, classes), or (N, 1) of a binary head.
    """
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits.squeeze(1), labels.to(logits.dtype))
    return functional.cross_entropy(logits, labels)


class BinaryLoss(nn.modules.loss._Loss):  # of this class, or smdebug refuses to watch it
    """Cross entropy of one logit: logits (N, 1), labels (N,) of 0 and 1 -> a scalar."""

    weights: Tensor | None

    def __init__(self, weights: Tensor | None, smoothing: float) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = labels.to(logits.dtype) * (1 - self.smoothing) + self.smoothing / 2
        weights = None if self.weights is None else self.weights[labels]
        return functional.binary_cross_entropy_with_logits(logits.squeeze(1), targets, weights)
