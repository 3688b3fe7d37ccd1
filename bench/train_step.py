"""A training step of ResNet-18 beside torchvision's reference and timm's, in one interleaved run.

    python -m bench.train_step            (--quick for small n; --cores 1; --compile for timm's and our compiled rows;
                                           --pixels 32 --batch-size 8: as trainings of small images do)

Each side is a process of its own that holds the network, the same weights, one batch of images as uint8 pixels, and SGD
with momentum; a round is a few steps of one after the other, and the ratio the median of the rounds' ratios.

- ours: `Training.epoch` of ml/training/loop.py in .venv/ml, as a training job calls it (the rate of the step,
  augmentation "none", normalisation, loss, metrics, optimizer); in the format that `--precision auto` takes here,
  and in float32.
- torchvision: the body of `train_one_epoch` of its references/classification/train.py, float32, with its accuracy
  meters. Its batch is normalised beforehand, as its loader's workers would; that time is not counted.
- timm: its `PrefetchLoader` (which normalises), `ClassificationTask` and optimizer as its train.py joins them, default,
  with `--channels-last`, and with `--amp --amp-dtype bfloat16` as well. The better one of the tuned rows is the one to
  compare with: not every processor with bfloat16 instructions is faster with them.

Before the rounds all sides compute the loss of the same weights and batch, and after them the losses have taken a few
dozen equal steps: the first must agree within 1e-4 in float32 and 2e-2 in bfloat16, else it ends with status 1.
One core comes first: its figures suffer least from other work on the machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

from bench.sides import REPOSITORY, Side, machine, ratio, serve

NUM_CLASSES, BATCH, QUICK_BATCH, PIXELS = 100, 32, 4, 224
SMALL, MORE_STEPS = 64, 10  # up to this side a step is short, and a round has more of them
RATE, MOMENTUM = 0.01, 0.9
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# name -> (interpreter's folder, what it is in the table)
OURS, OURS_FP32 = "ours", "ours-fp32"
SIDES = {
    OURS: ("ml", "ours, --precision auto"),
    OURS_FP32: ("ml", "ours, --precision fp32"),
    "torchvision": ("peers", "torchvision reference, fp32"),
    "timm": ("peers", "timm, defaults (fp32)"),
    "timm-channels-last": ("peers", "timm, --channels-last (fp32)"),
    "timm-tuned": ("peers", "timm, --amp --amp-dtype bfloat16 --channels-last"),
}
COMPILED = {
    "ours-compiled": ("ml", "ours, --compile true"),
    "timm-compiled": ("peers", "timm, tuned and --torchcompile"),
}
TARGETS = {"torchvision": ">= 3.5", "timm-channels-last": ">= 1.15", "timm-tuned": ">= 1.15"}


# -- the sides: each makes a function from a number of steps to their mean loss, in its own interpreter ---------------


def batch(size: int, side: int) -> tuple[Any, Any, Any]:
    """Pixels uint8 (N, H, W, 3), labels (N,), and the weights that every side starts from; the same in each process."""
    import torch

    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(size, 3, 14, 14, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    pixels = (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    labels = torch.randint(NUM_CLASSES, (size,), generator=generator)
    sys.path.insert(0, str(REPOSITORY / "ml"))
    from network import model

    torch.manual_seed(7)
    return pixels, labels, model.build("resnet18", NUM_CLASSES).state_dict()


def ours(size: int, side: int, precision: str = "auto", compiled: bool = False) -> Any:
    pixels, labels, weights = batch(size, side)
    from training import distributed, flags, loop
    from training.freed_memory import keep_freed_memory

    keep_freed_memory()  # as train.py does
    arguments = ["--image-size", str(side), "--batch-size", str(size), "--optimizer", "sgd", "--lr", str(RATE)]
    arguments += ["--momentum", str(MOMENTUM), "--schedule", "constant", "--warm-up", "0", "--precision", precision]
    arguments += ["--compile", str(compiled).lower()]
    arguments += [word for name in ("train", "validation", "model") for word in (f"--{name}-dir", ".")]
    settings = flags.parse(arguments, "")
    shape = {"arch": "resnet18", "num_outputs": NUM_CLASSES}
    now = loop.Training(settings, shape, NUM_CLASSES, Batches(pixels, labels, 1000), distributed.join())
    now.network.load_state_dict(weights)
    never = SimpleNamespace(requested=False, agreed=False)
    return lambda steps: now.epoch(Batches(pixels, labels, steps), never)["train:loss"]


class Batches:
    """An epoch of so many batches, all the same one; it stands in for the images of a training."""

    loaders = 0

    def __init__(self, pixels: Any, labels: Any, count: int) -> None:
        self.batch, self.labels, self.count = (pixels, labels), labels.repeat(count), count

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size: int, order: Any) -> Any:
        return (self.batch for _ in range(self.count))


def torchvision_reference(size: int, side: int) -> Any:
    pixels, labels, weights = batch(size, side)
    import torch
    import torchvision

    network = torchvision.models.resnet18(num_classes=NUM_CLASSES)
    network.load_state_dict(weights)
    network.train()
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=0, nesterov=True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    image = ((pixels.permute(0, 3, 1, 2) / 255 - mean) / std).contiguous()

    def accuracy(output: Any, target: Any, topk: tuple[int, ...]) -> list[Any]:
        """As in its references/classification/utils.py."""
        with torch.inference_mode():
            _, predicted = output.topk(max(topk), 1, True, True)
            correct = predicted.t().eq(target[None])
            return [correct[:k].flatten().sum(dtype=torch.float32) * (100 / len(target)) for k in topk]

    def run(steps: int) -> float:
        losses = []
        for _ in range(steps):
            output = network(image)
            loss = criterion(output, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            first, fifth = accuracy(output, labels, topk=(1, 5))
            losses.append(loss.item())
            first.item(), fifth.item()
        return statistics.mean(losses)

    return run


def timm_task(size: int, side: int, channels_last: bool = False, amp: bool = False, compiled: bool = False) -> Any:
    pixels, labels, weights = batch(size, side)
    from contextlib import nullcontext

    import timm
    import torch
    from timm.data.loader import PrefetchLoader
    from timm.optim import create_optimizer_v2
    from timm.task import ClassificationTask

    network = timm.create_model("resnet18", num_classes=NUM_CLASSES)
    network.load_state_dict(weights)
    if channels_last:
        network.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(network, opt="sgd", lr=RATE, momentum=MOMENTUM, weight_decay=0)
    task = ClassificationTask(network, criterion=torch.nn.CrossEntropyLoss(), verbose=False)
    if compiled:
        task.compile()
    task.train()
    autocast = partial(torch.autocast, "cpu", dtype=torch.bfloat16) if amp else nullcontext
    # Its collate function gives uint8 (N, 3, H, W), contiguous.
    loader = PrefetchLoader([(pixels.permute(0, 3, 1, 2).contiguous(), labels)], device=torch.device("cpu"))

    def run(steps: int) -> float:
        losses = []
        for _ in range(steps):
            for image, target in loader:
                if channels_last:
                    image = image.contiguous(memory_format=torch.channels_last)
                with autocast():
                    loss = task(image, target)["loss"]
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())
        return statistics.mean(losses)

    return run


MAKERS = {
    OURS: ours,
    OURS_FP32: partial(ours, precision="fp32"),
    "ours-compiled": partial(ours, compiled=True),
    "torchvision": torchvision_reference,
    "timm": timm_task,
    "timm-channels-last": partial(timm_task, channels_last=True),
    "timm-tuned": partial(timm_task, channels_last=True, amp=True),
    "timm-compiled": partial(timm_task, channels_last=True, amp=True, compiled=True),
}


def prepare(name: str, size: int, side: int, cores: int) -> Any:
    """What bench.sides serves: takes a number of steps, and answers with their mean loss and seconds."""
    import torch

    torch.set_num_threads(cores)
    run = MAKERS[name](size, side)

    def answer(steps: int) -> dict[str, float]:
        started = time.perf_counter()
        loss = run(steps)
        return {"loss": loss, "seconds": time.perf_counter() - started}

    return {"torch": torch.__version__, "bfloat16": fast_in_bfloat16()}, answer


def fast_in_bfloat16() -> bool:
    """By which `--precision auto` decides."""
    sys.path.insert(0, str(REPOSITORY / "ml"))
    from training import numerics

    return bool(numerics.fast_in_bfloat16())


# -- the rounds -------------------------------------------------------------------------------------------------------


@dataclass
class Steps:
    """What one side answered."""

    name: str
    about: dict[str, Any]
    batch_size: int
    losses: list[float] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)

    @property
    def title(self) -> str:
        return (SIDES | COMPILED)[self.name][1]


def measure(names: list[str], cores: int, rounds: int, steps: int, batch_size: int, pixels: int) -> list[Steps]:
    shape = ("--batch-size", str(batch_size), "--pixels", str(pixels))
    sides = {name: Side("bench.train_step", name, (SIDES | COMPILED)[name][0], cores, *shape) for name in names}
    found = {name: Steps(name, side.about, batch_size) for name, side in sides.items()}
    for count in (1, 1, *[steps] * rounds):  # the first step plans the convolutions; its loss is compared
        for name, side in sides.items():
            answer = side.ask(steps=count)
            found[name].losses.append(answer["loss"])
            found[name].step_s.append(answer["seconds"] / count)
    for name, side in sides.items():
        del found[name].step_s[:2]
        side.close()
    return list(found.values())


def table(sides: list[Steps], cores: int) -> str:
    best = next(side for side in sides if side.name == OURS)
    ours_compiled = next((side for side in sides if side.name == "ours-compiled"), best)
    lines = []
    for side in sides:
        reference = ours_compiled if side.name == "timm-compiled" else best
        cells = (
            side.title,
            str(cores),
            f"{side.batch_size / statistics.median(side.step_s):.1f}",
            "" if side is reference else ratio(side.step_s, reference.step_s),
            TARGETS.get(side.name, ""),
            str(len(side.step_s)),
            f"{side.losses[0]:.4f}",
            f"{side.losses[-1]:.4f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def disagreements(sides: list[Steps]) -> list[str]:
    """Sides whose first loss is not that of torchvision, which computes in float32."""
    expected = next(side for side in sides if side.name == "torchvision").losses[0]
    found = []
    for side in sides:
        reduced = side.name in (OURS, *COMPILED, "timm-tuned")
        if abs(side.losses[0] - expected) > (2e-2 if reduced else 1e-4) * expected:
            found.append(f"{side.name}: first loss {side.losses[0]:.5f}, torchvision's {expected:.5f}")
        if side.losses[-1] >= side.losses[0]:
            found.append(f"{side.name}: the loss did not fall ({side.losses[0]:.4f} to {side.losses[-1]:.4f})")
    return found


def run(quick: bool, compiled: bool, cores: list[int], batch_size: int, pixels: int) -> int:
    rounds, steps = (2, 1) if quick else (5, MORE_STEPS if pixels <= SMALL else 2)
    print(f"machine: {machine()}")
    print(
        "| side | cores | images/s | its time / ours | goal | n | first loss | last loss |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    complaints = []
    for count in cores:
        sides = measure([*SIDES, *(COMPILED if compiled else ())], count, rounds, steps, batch_size, pixels)
        print(table(sides, count), flush=True)
        complaints += disagreements(sides)
    versions = {side.about["torch"] for side in sides}
    precision = "bfloat16" if sides[0].about["bfloat16"] else "float32"
    print(f"torch {' and '.join(sorted(versions))}; --precision auto computes in {precision} on this processor")
    for complaint in complaints:
        print(f"NO AGREEMENT: {complaint}")
    return 1 if complaints else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small n: whether it runs, not what it measures")
    parser.add_argument("--compile", action="store_true", help="also the compiled rows (minutes more)")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--side", choices=MAKERS, help=argparse.SUPPRESS)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--pixels", type=int, default=PIXELS)
    options = parser.parse_args()
    if options.side:
        serve(options.cores[0], lambda: prepare(options.side, options.batch_size, options.pixels, options.cores[0]))
    else:
        size = options.batch_size or (QUICK_BATCH if options.quick else BATCH)
        sys.exit(run(options.quick, options.compile, options.cores, size, options.pixels))
