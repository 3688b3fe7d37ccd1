"""The frozen part of a network: what enters its head for images, by torch or, where it pays, by OpenVINO.

OpenVINO takes about two thirds of torch's time: 27 ms against 40 for an image of 224 px and a ResNet-18, on one core of
a Xeon. It is for float32 on a processor, and only after the first images have shown that its vectors are torch's
(TOLERANCE). Whether it is tried depends on the amount of work, never on the clock: a training that is repeated, or goes
on after a kill, computes the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from network import runtime
from training import graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

WORTH = 200 * 224**2  # pixels: 200 images of 224 px. Below it, a conversion of a second or so does not pay
TOLERANCE = 1e-4  # of a vector's norm: another order of summation, nothing more


class Entrance:
    """Catches what enters the head while the network computes."""

    def __init__(self, network: nn.Module, head: nn.Sequential) -> None:
        self.seen: list[Tensor] = []
        self.hook = head[0].register_forward_pre_hook(lambda _, inputs: self.seen.append(inputs[0]))

    def __enter__(self) -> Entrance:
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def take(self) -> Tensor | None:
        """The vectors (N, width) of the last forward pass; None if there was not exactly one."""
        seen, self.seen = self.seen, []
        return seen[0] if len(seen) == 1 else None


class FrozenPart(nn.Module):
    """Images (N, 3, side, side), normalised -> what enters the head for them (N, width)."""

    def __init__(self, network: nn.Module, head: nn.Sequential) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, images: Tensor) -> Tensor | None:
        with Entrance(self.network, self.head) as entrance:
            self.network(images)
            return entrance.take()


class OpenVinoPart:
    """The same on a processor, float32. Raises runtime.Unusable where that cannot be had for this network."""

    def __init__(self, part: FrozenPart, side: int) -> None:
        openvino = runtime.import_openvino()
        if sum(tensor.numel() * tensor.element_size() for tensor in part.parameters()) > graph.MAX_GRAPH_BYTES:
            raise runtime.Unusable("its weights are so many that the conversion would take minutes")
        try:
            converted = graph.convert(part, torch.zeros(2, 3, side, side))
            converted.reshape([-1, 3, side, side])
            compiled = openvino.Core().compile_model(
                converted, "CPU", runtime.processor_settings("fp32", torch.get_num_threads())
            )
        except Exception as error:  # the converter raises whatever an operation it does not know leads to
            raise runtime.Unusable(f"the network cannot become an OpenVINO graph: {str(error)[:200]}") from error
        self.requests = runtime.Requests(compiled)

    def __call__(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.requests.logits(images.numpy()).copy())


def fastest(part: FrozenPart, images: Tensor, say: Callable[[str], object]) -> FrozenPart | OpenVinoPart:
    """OpenVINO's version of a `part` if it makes of `images` what that makes of them, else the part itself."""
    try:
        other = OpenVinoPart(part, images.shape[-1])
    except runtime.Unusable as reason:
        say(f"torch computes the frozen layers: {reason}")
        return part
    with torch.no_grad():
        expected, vectors = part(images), other(images)
    far = float(((vectors - expected).norm(dim=1) / expected.norm(dim=1).clamp_min(1e-12)).max())
    if not far <= TOLERANCE:
        say(f"torch computes the frozen layers: OpenVINO's vectors differ by {far:.2g} of their norm")
        return part
    say("OpenVINO computes the frozen layers")
    return other


def openvino_version() -> str | None:
    """None where it is not installed."""
    try:
        return str(runtime.import_openvino().__version__)
    except runtime.Unusable:
        return None
