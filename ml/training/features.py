"""What a frozen network sees in each image, computed once: training its head then costs next to nothing.

A network whose layers below the head are frozen turns an image into the same vector in every epoch, and a mirrored one
into another. So the images go through it once, or twice for `--augment flip`, and epochs run over the vectors, with the
same draws: the head that is learnt is the one of the long way, up to rounding (tests/ml/test_features.py: 1e-3). With
an ArrayCache the trials of a tuning job share the vectors too.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from dataset import augment, pixel_cache
from dataset.channel import MEAN, STD, chunks
from network import model, resnet
from training import frozen_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from torch import Tensor

    from dataset.channel import Channel
    from pictures.picture import Normalisation
    from training.frozen_part import FrozenPart, OpenVinoPart
    from training.settings import Images

VERSION = 2  # of what this file makes; another one invalidates stored vectors
VIEWS = {"none": 1, "flip": 2}  # how many pictures of an image each augmentation can make
BATCH = 64  # whatever the training's: stored vectors must not depend on it, not even in the last bit
CHANCE = ("p", "dropout", "attention_dropout", "drop_rate", "drop_prob")  # what modules call the share they drop


def usable(trainable: str, images: Images, watched: bool) -> bool:
    """Whether every epoch would compute the same vectors, and nobody wants to watch the layers do it."""
    fixed_images = images.augment in VIEWS and not images.mixup and not images.start_size
    return trainable == "head" and fixed_images and not watched


def head_of(network: nn.Module, side: int) -> nn.Sequential | None:
    """What comes after the frozen part, as a module of its own: the head, with dropout that stands right before it.

    None for a network that cannot be parted there: something follows the head, or chance is at work below it.
    `side` (px) is that of the images.
    """
    name = model.head_prefix(network)
    layer, parent = network.get_submodule(name), network.get_submodule(name.rpartition(".")[0])
    head = nn.Sequential(layer)
    if isinstance(parent, nn.Sequential):
        before = list(parent)[: list(parent).index(layer)]
        while before and isinstance(before[-1], nn.Dropout):
            head.insert(0, before.pop())
    model.train_mode(network)
    inside = set(head.modules())
    if any(module.training and drops(module) for module in network.modules() if module not in inside):
        return None
    return head if ends_in(network, head, side) else None


def drops(module: nn.Module) -> bool:
    shares = [getattr(module, name, 0) for name in CHANCE]
    return any(isinstance(share, float) and share > 0 for share in shares)


def ends_in(network: nn.Module, head: nn.Sequential, side: int) -> bool:
    """Whether the network's answer is what the head makes of the vectors that enter it."""
    device = next(network.parameters()).device
    if isinstance(network, resnet.ResNet):
        side = min(side, 32)  # it takes images of any size, and small ones cost nothing
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    network.eval()
    with torch.no_grad(), frozen_part.Entrance(network, head) as entrance:
        answers = network(images)
        vectors = entrance.take()
        return (
            vectors is not None and vectors.ndim == 2 and torch.allclose(head(vectors), answers, rtol=1e-3, atol=1e-4)
        )


class Features:
    """A channel whose images have become vectors; it stands in for Channel."""

    loaders = 0

    def __init__(self, vectors: Tensor, labels: Tensor) -> None:
        self.vectors, self.labels = vectors, labels  # (N, views, width), (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, device: torch.device) -> None:
        """They were loaded when they were made."""

    def batches(self, batch_size: int, order: Tensor | list[Tensor] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (vectors, labels): (n, width), or (n, 2, width) for `augment.flip` to choose from."""
        for chunk in chunks(len(self), batch_size, order):
            vectors = self.vectors.index_select(0, chunk.to(self.vectors.device))
            yield vectors[:, 0] if vectors.shape[1] == 1 else vectors, self.labels[chunk]


class Extractor:
    """Turns channels into Features of one network; `prepare` makes the network's input of a batch of pixels.

    `arch`, `precision` and `normalisation` are those of the network, of `autocast`, which makes a context, and of
    `prepare`. `pixels` is how many the network will see in all: OpenVINO is tried where they are worth it.
    """

    def __init__(
        self,
        network: nn.Module,
        head: nn.Sequential,
        prepare: Callable[[Tensor], Tensor],
        autocast: Callable[[], AbstractContextManager[object]],
        arch: str,
        precision: torch.dtype,
        say: Callable[[str], object],
        pixels: int = 0,
        normalisation: Normalisation = (MEAN, STD),
    ) -> None:
        self.network, self.head, self.prepare, self.autocast = network, head, prepare, autocast
        self.arch, self.precision, self.say, self.normalisation = arch, precision, say, normalisation
        self.device = next(network.parameters()).device
        self.part: FrozenPart | OpenVinoPart = frozen_part.FrozenPart(network, head)
        on_processor = self.device.type == "cpu" and precision is torch.float32
        worth = on_processor and pixels >= frozen_part.WORTH
        self.openvino = frozen_part.openvino_version() if worth else None
        self.undecided = self.openvino is not None

    def features(self, channel: Channel, views: int) -> Features:
        """Of the images as they are, and mirrored if two `views` are wanted."""
        array, cache = None, channel.cache
        if cache is not None:
            shape = (len(channel), views, self.width)
            name = self.name(channel, views)
            array = cache.array(name, shape, np.float32, lambda: self.blocks(channel, views))
        if array is None:
            array = np.concatenate(list(self.blocks(channel, views)))
        return Features(pixel_cache.torch_of(array).to(self.device), channel.labels)

    @property
    def width(self) -> int:
        layers = [layer for layer in self.head.modules() if isinstance(layer, nn.Linear)]
        return layers[0].in_features

    def blocks(self, channel: Channel, views: int) -> Iterator[NDArray[np.float32]]:
        """Vectors of the channel's images in their order, float32 (n, views, width)."""
        self.network.eval()
        said, count = time.monotonic(), 0
        for pixels, labels in channel.batches(BATCH):
            seen = [self.vectors(pixels)]
            if views == 2:
                everyone = torch.ones(len(pixels), dtype=torch.bool)
                seen.append(self.vectors(augment.mirror(pixels.clone(), everyone)))
            yield torch.stack(seen, dim=1).cpu().numpy()
            count += len(labels)
            if time.monotonic() - said > pixel_cache.SAY_EVERY_S:
                said = time.monotonic()
                self.say(f"the frozen layers have seen {count} of {len(channel)} images")

    def vectors(self, pixels: Tensor) -> Tensor:
        images = self.prepare(pixels)
        if self.undecided:
            assert isinstance(self.part, frozen_part.FrozenPart)
            self.part, self.undecided = frozen_part.fastest(self.part, images, self.say), False
        with torch.no_grad(), self.autocast():
            seen: Tensor = self.part(images).float()
        return seen

    def name(self, channel: Channel, views: int) -> str:
        """What all the vectors were made of: images, weights, code, number format."""
        torchvision = sys.modules.get("torchvision")
        return pixel_cache.name(
            "features",
            *(VERSION, self.arch, channel.image_size, views, str(self.precision), *self.normalisation),
            *(self.frozen_weights, hashlib.sha256(Path(resnet.__file__).read_bytes()).hexdigest()),
            *(torch.__version__, getattr(torchvision, "__version__", None), self.openvino, self.device_name()),
            *(pixel_cache.recipe(), channel.digests),
        )

    @functools.cached_property
    def frozen_weights(self) -> str:
        """A digest of all weights but the head's."""
        digest, learnt = hashlib.sha256(), {id(tensor) for tensor in self.head.state_dict(keep_vars=True).values()}
        for name, tensor in self.network.state_dict(keep_vars=True).items():
            if id(tensor) not in learnt:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(in_memory(tensor.detach().cpu()).reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


def in_memory(tensor: Tensor) -> Tensor:
    """The same numbers in an order that they already lie in, where that is a usual one: rearranging takes time."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1)
    return tensor.contiguous()
