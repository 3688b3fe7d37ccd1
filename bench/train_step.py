"""A training step of ResNet-18 at 224 px beside torchvision's reference and timm's, in one interleaved run.

    python -m bench.train_step            (--quick for small n, --compile for timm's and our compiled rows)

Each side is a process of its own that holds the network, the same weights, one batch of 32 images as uint8 pixels, and
SGD with momentum; a round is a few steps of one after the other, and the ratio the median of the rounds' ratios.

- ours: `Training.epoch` of ml/training.py in .venv/ml, as a training job calls it (the rate of the step, augmentation
  "none", normalisation, loss, metrics, optimizer); in the format that `--precision auto` takes here, and in float32.
- torchvision: the body of `train_one_epoch` of its references/classification/train.py, float32, with its accuracy
  meters. Its batch is normalised beforehand, as its loader's workers would; that time is not counted.
- timm: its `PrefetchLoader` (which normalises), `ClassificationTask` and optimizer as its train.py joins them, default,
  with `--channels-last`, and with `--amp --amp-dtype bfloat16` as well. The better one of the tuned rows is the one to
  compare with: not every processor with bfloat16 instructions is faster with them.

Before the rounds all sides compute the loss of the same weights and batch, and after them the losses have taken a few
dozen equal steps: the first must agree within 1e-4 in float32 and 2e-2 in bfloat16, else it ends with status 1.
One thread comes first: its figures suffer least from other work on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
NUM_CLASSES, BATCH, QUICK_BATCH, SIDE = 100, 32, 4, 224
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


def batch(size: int) -> tuple[Any, Any, Any]:
    """Pixels uint8 (N, H, W, 3), labels (N,), and the weights that every side starts from; the same in each process."""
    import torch

    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(size, 3, 14, 14, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    pixels = (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    labels = torch.randint(NUM_CLASSES, (size,), generator=generator)
    sys.path.insert(0, str(REPOSITORY / "ml"))
    import model

    torch.manual_seed(7)
    return pixels, labels, model.build("resnet18", NUM_CLASSES).state_dict()


def ours(size: int, precision: str = "auto", compiled: bool = False) -> Any:
    pixels, labels, weights = batch(size)
    import distributed
    import flags
    import training

    arguments = ["--image-size", str(SIDE), "--batch-size", str(size), "--optimizer", "sgd", "--lr", str(RATE)]
    arguments += ["--momentum", str(MOMENTUM), "--schedule", "constant", "--warm-up", "0", "--precision", precision]
    arguments += ["--compile", str(compiled).lower()]
    arguments += [word for name in ("train", "validation", "model") for word in (f"--{name}-dir", ".")]
    settings = flags.parse(arguments, "")
    shape = {"arch": "resnet18", "num_outputs": NUM_CLASSES}
    now = training.Training(settings, shape, NUM_CLASSES, Steps(pixels, labels, 1000), distributed.join())
    now.network.load_state_dict(weights)
    never = SimpleNamespace(requested=False, agreed=False)
    return lambda steps: now.epoch(Steps(pixels, labels, steps), never)["train:loss"]


class Steps:
    """An epoch of so many batches, all the same one; it stands in for the images of a training."""

    loaders = 0

    def __init__(self, pixels: Any, labels: Any, count: int) -> None:
        self.batch, self.labels, self.count = (pixels, labels), labels.repeat(count), count

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size: int, order: Any) -> Any:
        return (self.batch for _ in range(self.count))


def torchvision_reference(size: int) -> Any:
    pixels, labels, weights = batch(size)
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


def timm_task(size: int, channels_last: bool = False, amp: bool = False, compiled: bool = False) -> Any:
    pixels, labels, weights = batch(size)
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


def work(name: str, size: int) -> None:
    """Answer each number of steps on stdin with their mean loss and seconds, one line of JSON each."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    run = MAKERS[name](size)
    print(json.dumps({"torch": torch.__version__, "bfloat16": fast_in_bfloat16()}), flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        loss = run(int(line))
        print(json.dumps({"loss": loss, "seconds": time.perf_counter() - started}), flush=True)


def fast_in_bfloat16() -> bool:
    """By which `--precision auto` decides."""
    sys.path.insert(0, str(REPOSITORY / "ml"))
    import numerics

    return bool(numerics.fast_in_bfloat16())


# -- the rounds -------------------------------------------------------------------------------------------------------


class Side:
    """One of the processes; its steps are asked for one round at a time."""

    def __init__(self, name: str, threads: int, batch_size: int) -> None:
        self.name = name
        folder, self.title = (SIDES | COMPILED)[name]
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONPATH": "",
            "SMDEBUG_CONFIG_FILE_PATH": os.devnull + "/none",  # a hook of the caller's would slow only ours
        }
        command = [str(REPOSITORY / f".venv/{folder}/bin/python"), __file__, "--side", name, str(batch_size)]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = self._answer()
        self.batch_size = batch_size
        self.losses: list[float] = []
        self.step_s: list[float] = []

    def steps(self, count: int) -> float:
        """Seconds for each of `count` steps."""
        assert self._process.stdin
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.losses.append(answer["loss"])
        return float(answer["seconds"]) / count

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self._process.wait()}")
        return dict(json.loads(line))

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


def measure(names: list[str], threads: int, rounds: int, steps: int, batch_size: int) -> list[Side]:
    sides = [Side(name, threads, batch_size) for name in names]
    for _ in range(2):  # the first step plans the convolutions; its loss is compared
        for side in sides:
            side.steps(1)
    for _ in range(rounds):
        for side in sides:
            side.step_s.append(side.steps(steps))
    for side in sides:
        side.close()
    return sides


def table(sides: list[Side], threads: int) -> str:
    best = next(side for side in sides if side.name == OURS)
    ours_compiled = next((side for side in sides if side.name == "ours-compiled"), best)
    lines = []
    for side in sides:
        reference = ours_compiled if side.name == "timm-compiled" else best
        ratios = [theirs / ours for theirs, ours in zip(side.step_s, reference.step_s, strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        cells = (
            side.title,
            str(threads),
            f"{side.batch_size / statistics.median(side.step_s):.1f}",
            "" if side is reference else ratio,
            TARGETS.get(side.name, ""),
            str(len(side.step_s)),
            f"{side.losses[0]:.4f}",
            f"{side.losses[-1]:.4f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def disagreements(sides: list[Side]) -> list[str]:
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


def run(quick: bool, compiled: bool, threads: list[int]) -> int:
    rounds, steps, batch_size = (2, 1, QUICK_BATCH) if quick else (7, 3, BATCH)
    print(f"machine: {machine()}")
    print(
        "| side | threads | images/s | its time / ours | goal | n | first loss | last loss |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    complaints = []
    for count in threads:
        sides = measure([*SIDES, *(COMPILED if compiled else ())], count, rounds, steps, batch_size)
        print(table(sides, count), flush=True)
        complaints += disagreements(sides)
    versions = {side.about["torch"] for side in sides}
    gain = statistics.median(side.about["bfloat16"] for side in sides)
    print(
        f"torch {' and '.join(sorted(versions))}; a convolution in bfloat16 is {gain:.1f} times as fast as in float32"
    )
    for complaint in complaints:
        print(f"NO AGREEMENT: {complaint}")
    return 1 if complaints else 0


def machine() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{model or platform.processor()}, {os.cpu_count()} cores; load average at the start {load}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small n: whether it runs, not what it measures")
    parser.add_argument("--compile", action="store_true", help="also the compiled rows (minutes more)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)  # name and batch size: one process of the bench
    options = parser.parse_args()
    if options.side:
        work(options.side[0], int(options.side[1]))
    else:
        sys.exit(run(options.quick, options.compile, options.threads))
