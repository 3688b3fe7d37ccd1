"""How weights move: the optimizer, the rate over the steps, clipping, and averaged weights."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from torch import nn

    from training.settings import Optimizer, Schedule


def make_optimizer(settings: Optimizer, network: nn.Module, compiled: bool = False) -> torch.optim.Optimizer:
    """The optimizer of the flags over the parameters that learn; `compiled`: for a network that torch.compile made."""
    learning = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    # A penalty on scales and biases only distorts what normalisation does (He et al. 2019, arXiv:1812.01187, 3.1).
    decayed = [p for _, p in learning if settings.decay_all or p.ndim > 1]
    spared = [p for _, p in learning if not (settings.decay_all or p.ndim > 1)]
    groups = [
        {"params": parameters, "weight_decay": weight_decay}
        for parameters, weight_decay in ((decayed, settings.weight_decay), (spared, 0.0))
        if parameters
    ]
    options: dict[str, Any] = {"lr": settings.lr}
    if settings.optimizer == "sgd":
        name = "SGD"
        options |= {"momentum": settings.momentum, "nesterov": settings.momentum > 0}
    else:
        name = "AdamW" if settings.optimizer == "adamw" else "Adam"
    kind: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, name) if compiled else uncompiled(name)
    try:
        return kind(groups, fused=True, **options)  # halves an Adam step of ResNet-18 on one core
    except (RuntimeError, TypeError):  # torch before 2.4 has none for this device or optimizer
        return kind(groups, **options)


def lay_out_like_weights(optimizer: torch.optim.Optimizer) -> None:
    """What an optimizer keeps beside each weight lies in memory as the weight does, whatever a checkpoint had.

    A fused step goes through both in the order of their memory, and would take one filter's mean for another's.
    """
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if torch.is_tensor(value) and value.shape == parameter.shape and value.stride() != parameter.stride():
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


@functools.cache
def uncompiled(name: str) -> type[torch.optim.Optimizer]:
    """The optimizer of torch by that name, without what torch.compile needs around its methods.

    That imports the compiler at the first step: 1.7 s of processor time, in a training that may last five.
    """
    kind = getattr(torch.optim, name)
    guarded = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods = {method: inspect.unwrap(getattr(kind, method)) for method in guarded}
    return type(name, (kind,), methods | {"step": torch.no_grad()(inspect.unwrap(kind.step))})


def rate(settings: Schedule, progress: float) -> float:
    """The share of --lr at `progress` (0 to 1) of all steps. The rise is linear, over the share --warm-up of them."""
    warm_up = settings.warm_up
    if progress < warm_up:
        return 0.04 + 0.96 * progress / warm_up
    after = (progress - warm_up) / (1 - warm_up)
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "step":
        return float(0.1 ** int(after * 3))  # a tenth after each third
    # One cycle (Smith 2018, arXiv:1803.09820) ends at zero; a plain cosine keeps a hundredth.
    floor = 0.0 if settings.schedule == "onecycle" else 0.01
    return floor + (1 - floor) * (0.5 + 0.5 * math.cos(math.pi * after))


class Ema:
    """Weights averaged over the steps, which often validate better than the last ones. decay 0 is no averaging."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.steps = network, decay, 0
        self.shadow = {name: value.detach().clone() for name, value in network.state_dict().items()} if decay else {}

    def update(self) -> None:
        if not self.decay:
            return
        self.steps += 1
        # Early on the average would remember random weights; so it begins short (as TensorFlow's does).
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.shadow[name].lerp_(value, 1 - decay)
                else:
                    self.shadow[name].copy_(value)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the network has the averaged weights."""
        if not self.decay:
            yield
            return
        kept = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.shadow)
        try:
            yield
        finally:
            self.network.load_state_dict(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "shadow": self.shadow}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]
        for name, value in state["shadow"].items():
            self.shadow[name].copy_(value)
