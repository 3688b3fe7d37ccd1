"""The network: built, filled with weights, partly frozen; and the artifact it is saved to and loaded from.

An artifact is a folder (SageMaker's model.tar.gz, unpacked):

    model.pth    the state dict, read back with weights_only=True: no code runs
    model.json   what it is and how to feed it (`description` below)
    code/        inference.py and the siblings it imports, as the serving container looks for them

This is the one home of that format.
"""

import json
import os
import shutil
from pathlib import Path

import torch
from torch import nn

from resnet import LAYERS, STEMS, ResNet

FORMAT = 1
ARCHITECTURES = tuple(LAYERS)
STEM_NAMES = tuple(STEMS)
TRAINABLE = {  # flag value -> the children of the network that train; None: all of them
    "all": None,
    "layer3+": ("layer3", "layer4", "fc"),
    "layer4": ("layer4", "fc"),
    "head": ("fc",),
}
SERVING_CODE = ("inference.py", "model.py", "resnet.py", "data.py")


def build(arch, num_classes, stem):
    """A network with random weights, in the memory layout convolutions are fastest in."""
    return ResNet(arch, num_classes, stem).to(memory_format=torch.channels_last)


def load_weights(network, source, arch, pretrained_dir=None):
    """Fill `network` from `source`: "none", "channel" (the one .pth of `pretrained_dir`) or "imagenet" (a download).

    Returns messages that say which layers start from random weights all the same. Raises ValueError when the weights
    are of another architecture.
    """
    if source == "none":
        return []
    state = imagenet_state(arch) if source == "imagenet" else read_state(only_checkpoint(pretrained_dir))
    own = network.state_dict()
    messages = []
    # The head has one row per class, and a small stem another first kernel: both may differ from the pretrained ones.
    for name in ("fc.weight", "fc.bias", "conv1.weight"):
        if name in state and state[name].shape != own[name].shape:
            shapes = f"{tuple(state[name].shape)} in the weights, {tuple(own[name].shape)} in this network"
            messages.append(f"'{name}' starts from random values: {shapes}")
            state[name] = own[name]
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"the pretrained weights do not fit --arch {arch}: {reason}") from error
    return messages


def only_checkpoint(folder):
    if folder is None:
        raise ValueError("--weights channel needs an input channel 'pretrained' (--pretrained-dir) with one .pth file")
    files = sorted(Path(folder).rglob("*.pth"))
    if len(files) != 1:
        raise ValueError(f"the pretrained channel must hold exactly one .pth file; it holds {[f.name for f in files]}")
    return files[0]


def read_state(path):
    """The state dict in `path`, without running any code that a pickle may carry."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"'{path.name}' is no plain state dict; write it by torch.save(model.state_dict(), …)"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"'{path.name}' holds something else than a state dict (names to tensors)")
    return dict(state)


def imagenet_state(arch):
    import torchvision  # only here: it is slow to import, and the rest does without

    try:
        return dict(torchvision.models.get_model_weights(arch).DEFAULT.get_state_dict(progress=False, check_hash=True))
    except OSError as error:
        raise ValueError(
            f"--weights imagenet could not download {arch} ({error}); without a network give the file as the input "
            f"channel 'pretrained' and use --weights channel"
        ) from error


def freeze(network, trainable):
    """Let only the part named by `trainable` (a key of TRAINABLE) receive gradients."""
    parts = TRAINABLE[trainable]
    for name, child in network.named_children():
        child.requires_grad_(parts is None or name in parts)


def pace_statistics(network, steps_per_epoch):
    """Let BatchNorm's running statistics follow within about a fifth of an epoch.

    At the usual pace (momentum 0.1) they lag on small data sets: early epochs then validate as if nothing were learnt.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = max(0.1, min(0.5, 5 / steps_per_epoch))


def train_mode(network):
    """Training mode, except for frozen parts: their BatchNorm statistics stay as they were learnt."""
    network.train()
    for child in network.children():
        child.train(any(parameter.requires_grad for parameter in child.parameters()))


def save_artifact(model_dir, network, description):
    """Write the artifact, replacing an earlier one. A reader never sees a half-written model.pth or model.json."""
    model_dir = Path(model_dir)
    code_dir = model_dir / "code"
    code_dir.mkdir(parents=True, exist_ok=True)
    for name in SERVING_CODE:
        shutil.copyfile(Path(__file__).with_name(name), code_dir / name)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    replace_file(model_dir / "model.pth", lambda path: torch.save(state, path))
    text = json.dumps({"format": FORMAT, **description}, indent=1)
    replace_file(model_dir / "model.json", lambda path: path.write_text(text, encoding="utf-8"))


def replace_file(path, write):
    temporary = path.with_name(path.name + ".partial")
    write(temporary)
    os.replace(temporary, path)


def load_artifact(model_dir):
    """The network of an artifact, ready to predict on the CPU, and its description."""
    model_dir = Path(model_dir)
    try:
        description = json.loads((model_dir / "model.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no model.json in {model_dir}; the artifact was not written by train.py") from None
    if description.get("format") != FORMAT:
        raise ValueError(f"model.json has format {description.get('format')!r}; this code reads format {FORMAT}")
    network = build(description["arch"], len(description["classes"]), description["stem"])
    network.load_state_dict(read_state(model_dir / "model.pth"))
    return network.eval(), description
