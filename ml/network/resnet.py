"""ResNet-18 to -152, with the module names and state dict of torchvision's, so that weights travel both ways.

Why not import torchvision: its package pulls in torch.compile's machinery, which adds 3 s to the start of an endpoint
(torch 2.15, one core of a Xeon). tests/ml/test_model.py holds the two definitions together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class BlankConvolution(nn.Conv2d):
    """Its numbers are to come from a file, so no time goes into first ones."""

    def reset_parameters(self) -> None:
        pass


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, convolution: type[nn.Conv2d]) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = convolution(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(in_channels, channels, stride, convolution)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        result: Tensor = self.relu(x + identity)
        return result


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, convolution: type[nn.Conv2d]) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        # torchvision's choice ("ResNet v1.5"): the 3x3 convolution takes the stride, not the first 1x1.
        self.conv2 = convolution(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = convolution(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(in_channels, channels * self.expansion, stride, convolution)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        result: Tensor = self.relu(x + identity)
        return result


class Stem(TypedDict):
    kernel_size: int
    stride: int
    padding: int


LAYERS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}
STEMS: dict[str, Stem] = {  # how the image enters
    "standard": {"kernel_size": 7, "stride": 2, "padding": 3},  # torchvision's: with the pooling it quarters the image
    "small": {"kernel_size": 3, "stride": 1, "padding": 1},  # halves it, which suits images of up to about 64 px
}


class ResNet(nn.Module):
    """Images (N, 3, H, W), normalised -> logits (N, num_outputs). `arch` is a key of LAYERS, `stem` one of STEMS.

    Its weights are random. When `blank`, only those are that may differ from pretrained ones, in the first and the last
    layer; the others have no numbers yet: those take nearly all of the time that it takes to build.
    """

    def __init__(self, arch: str, num_outputs: int, stem: str = "standard", blank: bool = False) -> None:
        super().__init__()
        block, depths = LAYERS[arch]
        convolution = BlankConvolution if blank else nn.Conv2d
        self.conv1 = nn.Conv2d(3, 64, bias=False, **STEMS[stem])
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = stage(block, 64, 64, depths[0], 1, convolution)
        self.layer2 = stage(block, 64 * block.expansion, 128, depths[1], 2, convolution)
        self.layer3 = stage(block, 128 * block.expansion, 256, depths[2], 2, convolution)
        self.layer4 = stage(block, 256 * block.expansion, 512, depths[3], 2, convolution)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and not isinstance(module, BlankConvolution):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def stage(
    block: type[BasicBlock | Bottleneck],
    in_channels: int,
    channels: int,
    depth: int,
    stride: int,
    convolution: type[nn.Conv2d],
) -> nn.Sequential:
    first = block(in_channels, channels, stride, convolution)
    others = (block(channels * block.expansion, channels, 1, convolution) for _ in range(depth - 1))
    return nn.Sequential(first, *others)


def shortcut(in_channels: int, out_channels: int, stride: int, convolution: type[nn.Conv2d]) -> nn.Sequential | None:
    """The projection of a block's input where its shape changes, else None."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(convolution(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
