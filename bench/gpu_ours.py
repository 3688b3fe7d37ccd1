"""Our sides of bench/gpu.py, in the interpreter of ml/, and the sets that all sides use: see there."""

from __future__ import annotations

import io
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import inference
import train
from bench import photographs
from dataset import array_cache, augment
from dataset.channel import MEAN, STD, Channel, class_names, normalise
from network import artifact, model, runtime, weights
from pictures import picture
from training import distributed, flags
from training.loop import Training

NEVER = SimpleNamespace(requested=False, agreed=False)
RATE, MOMENTUM = 0.01, 0.9
STATISTICS = {"save_interval": "1", "reductions": "min,max,mean,std,l2_norm"}
HOOK = {
    "CollectionConfigurations": [
        {"CollectionName": name, "CollectionParameters": STATISTICS} for name in ("weights", "biases", "gradients")
    ]
}


@dataclass
class Place:
    """Where a side works, and how much of it."""

    device: torch.device
    folder: Path
    sizes: dict[str, int]

    def rest(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def allocated(self) -> int:
        """Bytes of the GPU's memory that this process holds now; the most is counted from here on."""
        if self.device.type != "cuda":
            return 0
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def most_allocated(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0

    def seconds(self, work: Callable[[], Any]) -> tuple[float, Any]:
        self.rest()
        began = time.perf_counter()
        found = work()
        self.rest()
        return time.perf_counter() - began, found


def roofline(place: Place) -> str:
    """What the device can do now, as torch has it: the best of some rounds."""
    side = 8192 if place.device.type == "cuda" else 256
    matrix = torch.ones(side, side, dtype=torch.bfloat16, device=place.device)
    products = min(place.seconds(lambda: matrix @ matrix)[0] for _ in range(10))
    other = torch.empty_like(matrix)
    copies = min(place.seconds(lambda: [other.copy_(matrix) for _ in range(10)])[0] for _ in range(10))
    rates = 2 * side**3 / products / 1e12, 10 * 2 * matrix.nbytes / copies / 1e9
    return f"bfloat16 product of {side} x {side}: {rates[0]:.3g} TFLOP/s; copy, read and written: {rates[1]:,.0f} GB/s"


@dataclass
class Work:
    """What one side is to do: a round of it, and the numbers that must be those of the other sides."""

    round: Callable[[], dict[str, Any]]
    numbers: list[float] = field(default_factory=list)
    close: Callable[[], None] = lambda: None


# -- the sets: the same in every process ------------------------------------------------------------------------------


class Made(Channel):
    """Pictures that no file holds, as a channel that has decoded its files."""

    def __init__(self, pixels: Any, labels: Any) -> None:
        self.image_size, self.cache, self.threads = pixels.shape[1], None, 1
        self.paths, self.labels, self.store = range(len(labels)), labels, (pixels, torch.arange(len(labels)))
        self.digests = [f"{len(labels)}-{index}" for index in range(len(labels))]


def coloured(count: int, side: int, classes: int, device: torch.device, seed: int = 7) -> tuple[Any, Any]:
    """Pixels uint8 (N, side, side, 3) and labels (N,), in memory: smooth noise in the colour of the class."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(classes, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(classes, (count,), generator=generator)
    pixels = torch.empty(count, side, side, 3, dtype=torch.uint8)
    for part in torch.arange(count).split(512):
        coarse = torch.rand(len(part), 3, 14, 14, generator=generator) / 2 + colours[labels[part]] / 2
        smooth = functional.interpolate(coarse.to(device), size=(side, side), mode="bilinear")
        pixels[part] = (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()
    return pixels, labels


def patterns(count: int, classes: int, device: torch.device, seed: int) -> tuple[Any, Any]:
    """Pixels uint8 (N, 32, 32, 3) and labels (N,): two gratings whose directions and wavelengths are the class's.

    Phases, strengths, colours and noise vary. A twentieth of the labels is wrong, so that no network has all right.
    """
    traits = torch.Generator().manual_seed(1)
    angles, waves = (
        torch.rand(classes, 2, 1, 1, generator=traits) * width + least for width, least in ((torch.pi, 0), (9, 4))
    )
    chance, pixels = torch.Generator().manual_seed(seed), torch.empty(count, 32, 32, 3, dtype=torch.uint8)
    labels = torch.randint(classes, (count,), generator=chance)
    y, x = (axis[None, None].float().to(device) for axis in torch.meshgrid(*[torch.arange(32)] * 2, indexing="ij"))

    def drawn(*shape: int, low: float, high: float) -> Any:
        return (torch.rand(*shape, generator=chance) * (high - low) + low).to(device)

    for part in torch.arange(count).split(5000):
        n, own = len(part), labels[part]
        angle = angles[own].to(device) + drawn(n, 2, 1, 1, low=-0.12, high=0.12)
        wave = waves[own].to(device) * drawn(n, 2, 1, 1, low=0.92, high=1.08)
        phase, strength = drawn(n, 2, 1, 1, low=0, high=2 * torch.pi), drawn(n, 2, 1, 1, low=0.5, high=1.5)
        way = x * torch.cos(angle) + y * torch.sin(angle)
        light = torch.sigmoid(1.5 * (strength * torch.sin(way * 2 * torch.pi / wave + phase)).sum(1))[..., None]
        dark, bright = drawn(n, 1, 1, 3, low=20, high=120), drawn(n, 1, 1, 3, low=130, high=240)
        noise = 30 * torch.randn(n, 32, 32, 3, generator=chance).to(device)
        pixels[part] = (dark + (bright - dark) * light + noise).clamp(0, 255).to(torch.uint8).cpu()
    wrong = torch.rand(count, generator=chance) < 0.05
    return pixels, torch.where(wrong, torch.randint(classes, (count,), generator=chance), labels)


def jpegs(place: Place) -> Path:
    """A folder of photographs; a comment makes each file another one, since equal files would be decoded once."""
    folder, sizes = place.folder / "photographs", place.sizes
    if not folder.exists():
        photographs.write(place.folder / "distinct", sizes["distinct"], 10)
        bodies = [(path.parent.name, path.read_bytes()) for path in sorted((place.folder / "distinct").rglob("*.jpg"))]
        for number in range(sizes["files"]):
            name, body = bodies[number % len(bodies)]
            (folder / name).mkdir(parents=True, exist_ok=True)
            comment = b"\xff\xfe\x00\x06" + number.to_bytes(4, "big")
            (folder / name / f"{number:06d}.jpg").write_bytes(body[:2] + comment + body[2:])
    return folder


def first_weights(arch: str, classes: int) -> dict[str, Any]:
    torch.manual_seed(7)
    return dict(model.build(arch, classes).state_dict())


def training(channel: Any, classes: int, **given: Any) -> Training:
    """A training as train.py makes it of the flags."""
    given = {"epochs": 1000, "schedule": "constant", "warm-up": 0, **given}
    given |= {name: given.get(name, ".") for name in ("train-dir", "validation-dir", "model-dir")}
    settings = flags.parse([word for name, value in given.items() for word in (f"--{name}", str(value))], "")
    group = distributed.join()
    train.prepare(settings.computation, settings.loop.batch_size, group)
    return Training(settings, train.network_shape(settings.network, range(classes)), classes, channel, group)


# -- G1: steps --------------------------------------------------------------------------------------------------------


def steps(arch: str, place: Place, compiled: bool = False) -> Work:
    sizes = place.sizes
    pixels, labels = coloured(sizes["images"], sizes["side"], 100, place.device)
    channel, one_batch = Made(pixels, labels), Made(pixels[: sizes["batch"]], labels[: sizes["batch"]])
    for each in (channel, one_batch):
        each.load(place.device)
    given = {"arch": arch, "image-size": sizes["side"], "batch-size": sizes["batch"], "optimizer": "sgd"}
    now = training(channel, 100, **given, lr=RATE, momentum=MOMENTUM, compile=compiled)
    now.network.load_state_dict(first_weights(arch, 100))
    first = now.epoch(one_batch, NEVER)["train:loss"]

    def round() -> dict[str, Any]:
        seconds, values = place.seconds(lambda: now.epoch(channel, NEVER))
        return {"value": len(channel) / seconds, "loss": values["train:loss"]}

    return Work(round, [first])


# -- G2: from JPEGs to pictures in the device's memory ----------------------------------------------------------------


def decoding(case: str, place: Place, cached: bool) -> Work:
    folder, side = jpegs(place), augment.stored_side("crop+flip", place.sizes["side"])
    classes = class_names(folder)

    def loaded() -> Any:
        work = tempfile.mkdtemp(dir=place.folder)
        channel = Channel(folder, classes, side, array_cache.ArrayCache(work, print) if cached else None)
        channel.load(place.device)
        assert channel.store, "the set is too large to stay decoded"
        shutil.rmtree(work)
        return channel

    def round() -> dict[str, Any]:
        seconds, channel = place.seconds(loaded)
        return {"value": len(channel) / seconds}

    pictures, places = loaded().store
    return Work(round, sample(pictures[places[:8].to(pictures.device)]))


def sample(pictures: Any) -> list[float]:
    """Means of 8 x 8 px of uint8 pictures (N, H, W, 3), to be compared."""
    blocks = functional.avg_pool2d(pictures.permute(0, 3, 1, 2).float(), 8)
    return [float(value) for value in blocks.reshape(-1).tolist()]


# -- G3: time to an accuracy ------------------------------------------------------------------------------------------


def small_sets(place: Place) -> list[tuple[Any, Any]]:
    sizes = place.sizes
    counts = ((sizes["small images"], 2), (sizes["small validation"], 3))
    return [patterns(count, sizes["small classes"], place.device, seed) for count, seed in counts]


def learning(case: str, place: Place) -> Work:
    sizes, seeds = place.sizes, iter(range(1000))
    channels = [Made(*each) for each in small_sets(place)]
    given = {"arch": "resnet18", "stem": "small", "image-size": 32, "augment": "shift"}
    given |= {"batch-size": sizes["small batch"]}
    given |= {"optimizer": "sgd", "lr": 0.2, "weight-decay": 0.0005, "schedule": "onecycle", "warm-up": 0.3}
    given |= {"epochs": sizes["our epochs"], "label-smoothing": 0.1}

    def whole() -> tuple[Training, list[tuple[float, float]]]:
        began, curve = time.perf_counter(), []
        now = training(channels[0], sizes["small classes"], **given, seed=next(seeds))
        for channel in channels:
            channel.load(place.device)
        for _ in range(sizes["our epochs"]):
            now.epoch(channels[0], NEVER)
            accuracy = now.evaluate(channels[1])["validation:accuracy"]
            place.rest()
            curve.append((time.perf_counter() - began, accuracy))
        return now, curve

    def round() -> dict[str, Any]:
        seconds, (now, curve) = place.seconds(whole)
        weights.write(place.folder / "learnt.safetensors", now.network.state_dict())
        return {"value": seconds, "curve": curve}

    return Work(round)


# -- G4: trials of a head ---------------------------------------------------------------------------------------------


def head_sets(place: Place) -> list[tuple[Any, Any]]:
    counts = (place.sizes["head images"], 5), (max(16, place.sizes["head images"] // 8), 6)
    return [coloured(count, place.sizes["side"], 10, place.device, seed) for count, seed in counts]


def backbone(place: Place, pixels: Any) -> Path:
    """Without trained weights the deep layers see next to nothing: BatchNorm is given statistics of the pictures."""
    folder = place.folder / "pretrained"
    folder.mkdir()
    torch.manual_seed(7)
    network = model.build("resnet18", 1000).to(place.device).train()
    with torch.no_grad():
        for _ in range(20):
            network(normalise(pixels[:64].to(place.device)))
    torch.save({name: value.cpu() for name, value in network.state_dict().items()}, folder / "weights.pth")
    return folder


def trials(case: str, place: Place) -> Work:
    sizes, sets = place.sizes, head_sets(place)
    given = {"weights": "channel", "pretrained-dir": backbone(place, sets[0][0]), "trainable": "head"}
    given |= {"image-size": sizes["side"], "batch-size": sizes["head batch"]}
    channels = [Made(*each) for each in sets]
    for channel in channels:
        channel.load(place.device)

    def trial(number: int, cache: Any) -> Any:
        for channel in channels:
            channel.cache = cache
        now = training(channels[0], 10, **given, lr=10 ** random.Random(number).uniform(-4, -1))
        seen = now.look_once(*channels)
        for _ in range(sizes["head epochs"]):
            now.epoch(seen[0], NEVER)
            now.evaluate(seen[1])
        return seen[0]

    def round() -> dict[str, Any]:
        work = tempfile.mkdtemp(dir=place.folder)
        cache = array_cache.ArrayCache(work, print)
        taken = [place.seconds(partial(trial, number, cache))[0] for number in range(sizes["measured trials"])]
        shutil.rmtree(work)
        return {"value": taken[0] + sum(taken[1:]) / (len(taken) - 1) * (sizes["trials"] - 1)}

    return Work(round, trial(0, None).vectors[:16, 0].reshape(-1).tolist())


# -- G5: serving ------------------------------------------------------------------------------------------------------


def images(case: str, place: Place) -> Any:
    """What is asked: normalised images, float32 (N, 3, side, side)."""
    count = 1 if case == "1 image" else place.sizes["asked"]
    pixels, _ = coloured(count, place.sizes["side"], 100, place.device)
    return np.ascontiguousarray(picture.normalise(pixels.numpy(), MEAN, STD))


def asked(case: str, place: Place, batch: Any, logits: Callable[[Any], Any]) -> Work:
    """One call after the other: the median of their milliseconds for one image, images a second for many."""

    def round() -> dict[str, Any]:
        taken = [place.seconds(lambda: logits(batch))[0] for _ in range(place.sizes["calls"])]
        if case == "1 image":
            return {"value": float(np.median(taken)) * 1000}
        return {"value": len(batch) * len(taken) / sum(taken)}

    return Work(round, np.asarray(logits(batch)[:16]).reshape(-1).tolist())


def serving(case: str, place: Place, request: bool = False) -> Work:
    torch.backends.cudnn.benchmark = False  # a server has not what train.py sets
    folder, side = place.folder / "model", place.sizes["side"]
    shape = {"arch": "resnet18", "num_outputs": 100}
    look = {"image_size": side, "mean": MEAN, "std": STD}
    named = {"network": shape, "classes": [f"class {number}" for number in range(100)]}
    artifact.save(folder, first_weights("resnet18", 100), named | look)
    served = inference.model_fn(folder)
    inference.model_warmup_fn(folder, served)
    assert place.device.type == "cpu" or runtime.has_gpu(), "ml/network/runtime.py does not see the GPU"
    batch = images(case, place)
    if not request:
        return asked(case, place, batch, served.runtime.logits)

    def answered(batch: Any) -> Any:
        body = io.BytesIO()
        np.save(body, batch)
        prediction = inference.predict_fn(inference.input_fn(body.getvalue(), "application/x-npy"), served)
        return np.load(io.BytesIO(inference.output_fn(prediction, "application/x-npy; logits=1")[0]))

    return asked(case, place, batch, answered)


# -- G6: the hook -----------------------------------------------------------------------------------------------------


def watched(precision: str, place: Place, name: str = "own") -> Work:
    """A training with a hook beside one without, in turns: what the hook adds to a step, per cent.

    Also the peer's: `name` is "smdebug" there, and the folder that of its tensors.
    """
    sizes = place.sizes
    pixels, labels = coloured(sizes["hook batch"] * sizes["hook steps"], sizes["side"], 10, place.device)
    channel, trainings = Made(pixels, labels), []
    channel.load(place.device)
    for document in (None, HOOK):
        given = {"image-size": sizes["side"], "batch-size": sizes["hook batch"], "precision": precision}
        if document:
            given |= {
                "debug-hook-config": json.dumps(document),
                "output-data-dir": place.folder / f"{name}-{precision}",
            }
        trainings.append(training(channel, 10, **given, arch="resnet18", optimizer="sgd", lr=RATE))
        trainings[-1].network.load_state_dict(first_weights("resnet18", 10))
    alone, under = trainings
    for each in trainings:
        each.epoch(channel, NEVER)

    def round() -> dict[str, Any]:
        without, with_hook = (place.seconds(lambda each=each: each.epoch(channel, NEVER))[0] for each in (alone, under))
        assert under.debugger.active, "the hook gave up; see above"
        return {"value": 100 * (with_hook - without) / without, "alone_ms": 1000 * without / sizes["hook steps"]}

    return Work(round, close=under.close)


MAKERS = {
    "G1": {"ours": steps, "ours-compiled": partial(steps, compiled=True)},
    "G2": {"ours": partial(decoding, cached=False), "ours-cache": partial(decoding, cached=True)},
    "G3": {"ours": learning},
    "G4": {"ours": trials},
    "G5": {"ours": serving, "ours-request": partial(serving, request=True)},
    "G6": {"ours": watched},
}
