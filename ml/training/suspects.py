"""Labels that the trained network's own vectors speak against, for a person to look at: labels.json.

    {"format": 1, "images": 1524, "count": 2, "unjudged": ["rare class"], "suspects": [
        {"image": "cat/1f….png", "split": "train", "class": "cat", "likely": "dog", "gap": 0.93}, …]}

Of the images that training saw, train and validation; names are those below the channels. The surest come first, MOST
of them at most; `count` is how many there are. A network that trained on all of them has seen each wrong label, too:
that it did not follow it is what augmentation, early stopping and the heads that did not see it (label_votes.py) are
for. Nothing is changed by this.
"""

from __future__ import annotations

import json
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dataset import augment
from dataset.channel import normalise
from network import model
from training import features, frozen_part, label_votes
from training.features import Features

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from torch import Tensor

    from dataset.channel import Channel
    from pictures.picture import Normalisation

NAME = "labels.json"
FORMAT = 1
MOST = 500
BATCH = 64
MEMORY_BYTES = 2**30
"""For vectors and votes: 110,000 images of 133 classes and a ResNet-50 take all of it. More are not judged."""


def write(
    folder: Path | str,
    model_dir: Path | str,
    channels: Mapping[str, Channel],
    learnt: Iterable[Channel | Features],
    device: torch.device,
) -> str:
    """Judge the labels of `channels`, by split, and write labels.json into `folder` -> what is to be said of it.

    `learnt` are the same images in the same order, as training went over them: those of a frozen network are vectors.
    Never raises: a training that went well does not fail for want of this.
    """
    began = time.monotonic()
    try:
        document = judged(model_dir, channels, learnt, device)
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / NAME).write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    except Exception as error:
        traceback.print_exc()
        return f"the labels were not checked: {type(error).__name__}: {str(error)[:200]}"
    seconds = time.monotonic() - began
    return f"the labels of {document['count']} of {document['images']} images are doubted ({seconds:.1f} s)"


def judged(
    model_dir: Path | str,
    channels: Mapping[str, Channel],
    learnt: Iterable[Channel | Features],
    device: torch.device,
) -> dict[str, Any]:
    """The document; ValueError where there is too much of it."""
    network, description = model.load_artifact(model_dir)
    classes, side = description["classes"], description["image_size"]
    names = [(split, channel, index) for split, channel in channels.items() for index in range(len(channel))]
    width = len(classes) * len(label_votes.HEADS) + 2048
    if len(names) * width * 4 > MEMORY_BYTES:
        raise ValueError(
            f"{len(names)} images of {len(classes)} classes are more than fit into {MEMORY_BYTES >> 20} MB"
        )
    labels = torch.cat([channel.labels for channel in channels.values()])
    seen = [
        images.vectors[:, 0].cpu()
        if isinstance(images, Features)
        else vectors(network.to(device), images, side, (description["mean"], description["std"]), device)
        for images in learnt
    ]
    votes = label_votes.vote(torch.cat(seen), labels, len(classes))
    found = votes.suspects(labels).tolist()
    return {
        "format": FORMAT,
        "images": len(names),
        "count": len(found),
        "unjudged": [classes[index] for index in (~votes.judged).nonzero()[:, 0].tolist()],
        "suspects": [
            {
                "image": channel.paths[index].relative_to(channel.folder).as_posix(),
                "split": split,
                "class": classes[int(labels[place])],
                "likely": classes[int(votes.likely[place])],
                "gap": round(float(votes.gap[place]), 4),
            }
            for place in found[:MOST]
            for split, channel, index in [names[place]]
        ],
    }


def vectors(
    network: torch.nn.Module, channel: Channel, side: int, normalisation: Normalisation, device: torch.device
) -> Tensor:
    """What enters the head for each image, (N, width) on the CPU; the logits of a network that has no such place."""
    head = features.head_of(network, side)
    part = network if head is None else frozen_part.FrozenPart(network, head)
    network.eval()
    seen = []
    with torch.no_grad():
        for pixels, _ in channel.batches(BATCH):
            images = augment.resized(normalise(pixels.to(device), *normalisation), side)
            seen.append(part(images).float().cpu())
    return torch.cat(seen)
