"""The network: built, filled with weights, partly frozen."""

from __future__ import annotations

import argparse
import difflib
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from network import artifact, weights
from network.resnet import LAYERS, STEMS, ResNet
from pictures.picture import MEAN, STD, Normalisation

if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any

    from torch import Tensor

STEM_NAMES = tuple(STEMS)
HEADS = ("softmax", "binary")
TRAINABLE = {  # flag value -> the parts of the network that train, by name; None: all of them
    "all": None,
    "layer3+": ("layer3", "layer4"),
    "layer4": ("layer4",),
    "head": (),
}
# Networks whose weights in torchvision expect pixels from -1 to 1: by their transforms, or by `transform_input`, which
# torchvision switches on only where it fills the network itself.
SYMMETRIC = ("efficientnet_v2_l", "googlenet", "inception_v3")
HALVES = (0.5, 0.5, 0.5)
STEM = ("conv1", "bn1")  # of a ResNet: scales and statistics of the second belong to the filters of the first


def architecture(name: str) -> str:
    """An argparse type: a ResNet of ours, or any classification network of torchvision."""
    if name in LAYERS:
        return name
    from torchvision import models  # only here: it is slow to import, and ResNets do without

    known = models.list_models(module=models)
    if name not in known:
        close = ", ".join(difflib.get_close_matches(name, known, n=3)) or "resnet18, for example"
        raise argparse.ArgumentTypeError(f"{name!r} is no classification network of torchvision; {close} is")
    return name


def build(
    arch: str,
    num_outputs: int,
    stem: str = "standard",
    hidden_units: int = 0,
    dropout: float = 0.0,
    blank: bool = False,
) -> nn.Module:
    """A network with random weights, in the memory layout convolutions are fastest in.

    Images (N, 3, H, W), normalised -> logits (N, num_outputs). With `hidden_units` one more layer of that width stands
    before the last one. `blank` is for whoever fills it with a whole state dict, or by `load_weights`, and need not
    wait for random weights below the head.
    """
    network: nn.Module
    if arch in LAYERS:
        network = ResNet(arch, num_outputs, stem, blank)
    elif stem != "standard":
        raise ValueError(f"--stem {stem} is for ResNets; {arch} has only its own stem")
    else:
        network = torchvision_network(arch, num_outputs)
    if hidden_units or dropout:
        extend_head(network, hidden_units, dropout)
    return network.to(memory_format=torch.channels_last)


def torchvision_network(arch: str, num_outputs: int) -> nn.Module:
    from torchvision import models

    # Auxiliary heads make them answer a tuple instead of logits.
    extra = {"aux_logits": False, "init_weights": True} if arch in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(arch, weights=None, num_classes=num_outputs, **extra)
    return network


def normalisation(arch: str) -> Normalisation:
    """What the network's pretrained weights expect; as good as any for training from scratch."""
    return (HALVES, HALVES) if arch in SYMMETRIC else (MEAN, STD)


def extend_head(network: nn.Module, hidden_units: int, dropout: float) -> None:
    name = head_name(network)
    last = network.get_submodule(name)
    if not isinstance(last, nn.Linear):
        raise ValueError("--hidden-units and --dropout need a network that ends in a linear layer; this one does not")
    layers: dict[str, nn.Module] = {}
    if hidden_units:
        layers |= {"hidden": nn.Linear(last.in_features, hidden_units), "relu": nn.ReLU()}
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["logits"] = nn.Linear(hidden_units, last.out_features) if hidden_units else last
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Sequential(OrderedDict(layers)))


def head_name(network: nn.Module) -> str:
    """The dotted name of the layer that makes the logits: the last linear layer, or the last convolution."""
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return str(names[-1])


def head_prefix(network: nn.Module) -> str:
    """The part of the network that belongs to the task: the last layer, with those that --hidden-units added."""
    name = head_name(network)
    return name.removesuffix(".logits")


def predictions(logits: Tensor) -> Tensor:
    """The class of each image (N,)."""
    return logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()


def load_weights(
    network: nn.Module, source: str, arch: str, pretrained_dir: Path | str | None = None
) -> dict[str, str]:
    """Fill `network` from `source`: "none", "channel" (the one file of `pretrained_dir`) or "imagenet" (a download).

    Returns what starts from random values all the same: by the weight's name, a message that says why. Raises
    ValueError when the weights are of another architecture.
    """
    if source == "none":
        return {}
    state = imagenet_state(arch) if source == "imagenet" else read_state(only_checkpoint(pretrained_dir))
    own, head, random = network.state_dict(), head_prefix(network), {}
    for name in list(state):
        # torchvision's networks with auxiliary heads keep those weights in the file.
        if name not in own and name.startswith((f"{head}.", "AuxLogits.", "aux1.", "aux2.")):
            del state[name]
    # The head has one row per class, and a small stem another first kernel: both may differ from the pretrained ones.
    for name in own:
        expected = name.startswith(f"{head}.") or name == "conv1.weight"
        if expected and (name not in state or state[name].shape != own[name].shape):
            theirs = tuple(state[name].shape) if name in state else "nothing"
            random[name] = (
                f"'{name}' starts from random values: {theirs} in the weights, {tuple(own[name].shape)} in this network"
            )
            state[name] = own[name]
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"the pretrained weights do not fit --arch {arch}: {reason}") from error
    return random


def only_checkpoint(folder: Path | str | None) -> Path:
    if folder is None:
        raise ValueError("--weights channel needs an input channel 'pretrained' (--pretrained-dir) with one .pth file")
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".pth", ".safetensors"))
    if len(files) != 1:
        names = [file.name for file in files]
        raise ValueError(f"the pretrained channel must hold exactly one .pth or .safetensors file; it holds {names}")
    return files[0]


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in `path`, without running any code that a pickle may carry."""
    if path.suffix == ".safetensors":
        return weights.read(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"'{path.name}' is no plain state dict; write it by torch.save(model.state_dict(), …)"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"'{path.name}' holds something else than a state dict (names to tensors)")
    return dict(state)


def imagenet_state(arch: str) -> dict[str, Tensor]:
    import torchvision  # only here: it is slow to import, and the rest does without

    try:
        return dict(torchvision.models.get_model_weights(arch).DEFAULT.get_state_dict(progress=False, check_hash=True))
    except OSError as error:
        raise ValueError(
            f"--weights imagenet could not download {arch} ({error}); without a network give the file as the input "
            f"channel 'pretrained' and use --weights channel"
        ) from error


def freeze(network: nn.Module, trainable: str, random: Container[str] = ()) -> str:
    """Let only the part named by `trainable` (a key of TRAINABLE) receive gradients; the head always does.

    So does a first layer whose weights are among the `random` ones; returns a message that says so, else "".
    """
    parts = TRAINABLE[trainable]
    if parts is None:
        return ""
    missing = [part for part in parts if not hasattr(network, part)]
    if missing:
        raise ValueError(f"--trainable {trainable} is for ResNets; this network has no {missing[0]}. Use head or all")
    stem = STEM if "conv1.weight" in random else ()
    learning = tuple(f"{part}." for part in (*stem, *parts, head_prefix(network)))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(learning))
    return f"{' and '.join(stem)} learn as well: the weights have nothing for them to keep" if stem else ""


def only_head_learns(network: nn.Module) -> bool:
    head = f"{head_prefix(network)}."
    return all(name.startswith(head) for name, parameter in network.named_parameters() if parameter.requires_grad)


def pace_statistics(network: nn.Module, steps_per_epoch: int) -> None:
    """Let BatchNorm's running statistics follow within about a fifth of an epoch.

    At the usual pace (momentum 0.1) they lag on small data sets: early epochs then validate as if nothing were learnt.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = max(0.1, min(0.5, 5 / steps_per_epoch))


def train_mode(network: nn.Module) -> None:
    """Training mode, except for frozen parts: their BatchNorm statistics stay as they were learnt."""
    network.train()
    for module in network.modules():
        if is_frozen(module):
            module.eval()


def is_frozen(module: nn.Module) -> bool:
    """Whether it has weights of its own, and none of them learns."""
    own = list(module.parameters())
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def learning(network: nn.Module) -> set[str]:
    """Names in the state dict of what training changes: weights that learn, and statistics of what is not frozen."""
    names = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    for prefix, module in network.named_modules():
        if not is_frozen(module):
            names |= {f"{prefix}.{name}".lstrip(".") for name, _ in module.named_buffers(recurse=False)}
    return names & network.state_dict().keys()


def load_artifact(model_dir: Path | str) -> tuple[nn.Module, dict[str, Any]]:
    """The network of an artifact, ready to predict on the CPU, and its description."""
    description = artifact.read_description(model_dir)
    network = build(**description["network"], blank=True)
    network.load_state_dict(read_state(Path(model_dir) / artifact.WEIGHTS))
    return network.eval(), description
