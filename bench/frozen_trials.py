"""Tuning a head on a frozen ResNet-18: 20 trials of 5 epochs beside an Optuna loop that runs the backbone each epoch.

    python -m bench.frozen_trials            (--quick for small n; --images, --trials, --rounds, --cores)

Both sides start from the same weights file and the same folder of JPEGs (procedural, bench/photographs.py; an eighth as
many images validate), at 224 px, with learning rate and batch size drawn anew for each trial, on the same processors.

- ours: `train.main` of ml/ for each trial, with a fresh --cache-dir for each round: the first trial decodes and runs
  the frozen layers once, all others find their vectors there. Precision "auto": bfloat16 where that is faster, and then
  the row `ours, fp32` computes in float32. Each trial writes its history and its best artifact, and leaves the choice
  of a serving runtime to the final training (`--serving torch`).
- Optuna: a study with the usual PyTorch objective: torchvision's resnet18, all frozen but `fc`, float32, each epoch
  through the whole network. In its favour the images are decoded once and stay in memory, building the network is not
  counted, and nothing is saved. `tuned` computes channels last, in bfloat16 where that is faster. All epochs do the
  same work, so one epoch of one trial is measured in each round, and counts as many times as there are.

The ratio grows with the number of images (their one pass is shared by 20 trials) towards the ratio of the passes: it
is stated for the given number. A trial of ours is a call in one process; as processes of their own, as jobs are, each
costs the start of Python and torch besides, printed below the table.

Agreement: our vectors of the first validation images are what the peer's backbone makes of the same pixels, within 1 %
of their norm in float32 and 3 % in bfloat16; else it ends with status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import photographs
from bench.sides import REPOSITORY, Side, machine, ratio, serve

SIDE, EPOCHS, CLASSES, CHECKED = 224, 5, 10, 16
OURS, OURS_FP32 = "ours", "ours-fp32"
# name -> (interpreter's folder, what it is in the table, goal)
SIDES = {
    OURS: ("ml", "ours, bf16 where there is hardware for it", ""),
    OURS_FP32: ("ml", "ours, --precision fp32", ""),
    "optuna": ("peers", "Optuna, fp32", ">= 150"),
    "optuna-tuned": ("peers", "Optuna, channels last, bf16 where there is hardware for it", ""),
}


# -- the sides --------------------------------------------------------------------------------------------------------


def ours(root: Path, cores: int, precision: str) -> Any:
    sys.path.insert(0, str(REPOSITORY / "ml"))
    import random

    import torch

    import train

    torch.set_num_threads(cores)

    def arguments(work: Path, number: int) -> list[str]:
        draw = random.Random(number)
        given = {
            "train-dir": root / "train",
            "validation-dir": root / "validation",
            "pretrained-dir": root / "pretrained",
            "model-dir": work / "model",
            "cache-dir": work / "cache",
            "weights": "channel",
            "trainable": "head",
            "image-size": SIDE,
            "epochs": EPOCHS,
            "precision": precision,
            "serving": "torch",
            "lr": 10 ** draw.uniform(-4, -1),
            "batch-size": draw.choice((16, 32, 64, 128)),
        }
        return [word for name, value in given.items() for word in (f"--{name}", str(value))]

    def trials(count: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="frozen-trials-") as work:
            began = time.perf_counter()
            seconds = []
            for number in range(count):
                status = train.main(arguments(Path(work), number))
                assert status == 0, f"trial {number} ended with status {status}"
                seconds.append(time.perf_counter() - began)
        return {"seconds": seconds}

    def process() -> dict[str, Any]:
        """Seconds of a trial as a job of its own, the vectors being there."""
        with tempfile.TemporaryDirectory(prefix="frozen-trials-") as work:
            command = [sys.executable, str(REPOSITORY / "ml/train.py"), *arguments(Path(work), 0)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return {"seconds": time.perf_counter() - began}

    def vectors() -> dict[str, Any]:
        import numpy as np

        from dataset import array_cache
        from dataset.channel import Channel, class_names
        from training import distributed, features, flags
        from training.loop import Training

        with tempfile.TemporaryDirectory(prefix="frozen-trials-") as work:
            settings = flags.parse(arguments(Path(work), 0), "")
            classes = class_names(root / "validation")
            channel = Channel(root / "validation", classes, SIDE, array_cache.ArrayCache(work, print))
            shape = train.network_shape(settings.network, classes)
            training = Training(settings, shape, len(classes), channel, distributed.join())
            seen, _ = training.look_once(channel, channel)
            assert isinstance(seen, features.Features), "the short cut was not taken"
            pixels, _ = next(channel.batches(CHECKED))
            np.save(root / "checked.npy", pixels.numpy())
            return {"vectors": seen.vectors[:CHECKED, 0].tolist()}

    def answer(question: str, trials_wanted: int = 0) -> dict[str, Any]:
        with contextlib.redirect_stdout(io.StringIO()):
            return {"vectors": vectors, "process": process, "trials": lambda: trials(trials_wanted)}[question]()

    return {}, answer


def optuna_study(root: Path, cores: int, tuned: bool) -> Any:
    import numpy as np
    import optuna
    import torch
    import torchvision
    from torch import nn
    from torchvision import transforms

    sys.path.insert(0, str(REPOSITORY / "ml"))
    from training import numerics

    torch.set_num_threads(cores)
    autocast = tuned and numerics.fast_in_bfloat16()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    steps = [
        transforms.Resize(SIDE),
        transforms.CenterCrop(SIDE),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    loaded = {}
    for channel in ("train", "validation"):
        found = list(torchvision.datasets.ImageFolder(root / channel, transforms.Compose(steps)))
        loaded[channel] = torch.stack([image for image, _ in found]), torch.tensor([label for _, label in found])

    def network() -> Any:
        made = torchvision.models.resnet18()
        made.load_state_dict(torch.load(root / "pretrained/weights.pth", weights_only=True))
        made.requires_grad_(False)
        made.fc = nn.Linear(512, CLASSES)
        return made.to(memory_format=torch.channels_last) if tuned else made

    def forward(model: Any, images: Any) -> Any:
        if not tuned:
            return model(images)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return model(images.contiguous(memory_format=torch.channels_last)).float()

    epochs: list[float] = []  # seconds of each

    def objective(trial: Any) -> float:
        model = network()
        optimizer = torch.optim.Adam(model.fc.parameters(), lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True))
        size = trial.suggest_categorical("batch_size", [16, 32, 64, 128])
        began = time.perf_counter()
        model.train()
        images, labels = loaded["train"]
        for chosen in torch.randperm(len(labels)).split(size):
            loss = nn.functional.cross_entropy(forward(model, images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        images, labels = loaded["validation"]
        with torch.no_grad():
            right = [forward(model, part).argmax(1) for part in images.split(64)]
        accuracy = (torch.cat(right) == labels).float().mean().item()
        epochs.append(time.perf_counter() - began)
        return accuracy

    def answer(question: str, trials_wanted: int = 0) -> dict[str, Any]:
        if question == "vectors":
            model = network().eval()
            model.fc = nn.Identity()
            pixels = torch.from_numpy(np.load(root / "checked.npy")).permute(0, 3, 1, 2) / 255
            with torch.no_grad():
                return {"vectors": forward(model, steps[-1](pixels)).tolist()}
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
        study.optimize(objective, n_trials=1)
        return {"seconds": [epochs[-1] * EPOCHS * trials_wanted]}

    return {}, answer


def prepare(name: str, root: Path, cores: int) -> Any:
    return {
        OURS: lambda: ours(root, cores, "auto"),
        OURS_FP32: lambda: ours(root, cores, "fp32"),
        "optuna": lambda: optuna_study(root, cores, tuned=False),
        "optuna-tuned": lambda: optuna_study(root, cores, tuned=True),
    }[name]()


# -- the rounds -------------------------------------------------------------------------------------------------------


def write_images(root: Path, images: int) -> None:
    photographs.write(root / "train", images, CLASSES)
    photographs.write(root / "validation", max(CHECKED, images // 8), CLASSES)
    (root / "pretrained").mkdir()
    script = "import sys, torch; from network import model; torch.manual_seed(7)\n"
    # Without trained weights the deep layers of a random network see next to nothing: BatchNorm is given statistics.
    script += (
        "network = model.build('resnet18', 1000).train()\n"
        "for _ in range(20): network(torch.randn(8, 3, 224, 224))\n"
        "torch.save(network.state_dict(), sys.argv[1])\n"
    )
    command = [str(REPOSITORY / ".venv/ml/bin/python"), "-c", script, str(root / "pretrained/weights.pth")]
    subprocess.run(command, cwd=REPOSITORY / "ml", check=True)


def differences(vectors: dict[str, Any]) -> list[str]:
    import numpy as np

    complaints, in_float32 = [], OURS_FP32 if OURS_FP32 in vectors else OURS
    other = np.array(vectors["optuna"])
    for name, most in {OURS: 0.03, in_float32: 0.01}.items():
        one = np.array(vectors[name])
        far = float((np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)).max())
        print(f"vectors of {name} and of Optuna's network differ by at most {far:.2%} of their norm (n={len(one)})")
        if not far <= most:
            complaints.append(f"{name}: {far:.2%}, allowed are {most:.0%}")
    return complaints


def run(images: int, trials: int, rounds: int, cores: list[int]) -> int:
    print(f"machine: {machine()}; {images} images, {trials} trials of {EPOCHS} epochs, {rounds} rounds")
    complaints: list[str] = []
    names = [name for name in SIDES if name != OURS_FP32 or bfloat16_is_fast()]
    root = Path(tempfile.mkdtemp(prefix="frozen-trials-"))
    try:
        write_images(root, images)
        print(f"\n| side | cores | {trials} trials, s | a later trial, s | time, of ours | goal | n |\n|" + "---|" * 7)
        for count in cores:
            sides = [Side("bench.frozen_trials", name, SIDES[name][0], count, "--folder", str(root)) for name in names]
            vectors = {side.name: side.ask(question="vectors")["vectors"] for side in sides}
            taken: dict[str, list[list[float]]] = {side.name: [] for side in sides}
            for _ in range(rounds):
                for side in sides:
                    taken[side.name].append(side.ask(question="trials", trials_wanted=trials)["seconds"])
            print(table(taken, count, trials), flush=True)
            started = sides[0].ask(question="process")["seconds"]
            for side in sides:
                side.close()
        print(f"\na later trial of ours as a process of its own: {started:.1f} s on {cores[-1]} core(s)")
        complaints = differences(vectors)
    finally:
        shutil.rmtree(root)
    for complaint in complaints:
        print(f"NO AGREEMENT: {complaint}")
    return 1 if complaints else 0


def bfloat16_is_fast() -> bool:
    command = [
        str(REPOSITORY / ".venv/ml/bin/python"),
        "-c",
        "from training import numerics; print(numerics.fast_in_bfloat16())",
    ]
    answer = subprocess.run(command, cwd=REPOSITORY / "ml", check=True, capture_output=True, text=True)
    return answer.stdout.strip() == "True"


def table(taken: dict[str, list[list[float]]], cores: int, trials: int) -> str:
    whole = {name: [seconds[-1] for seconds in rounds] for name, rounds in taken.items()}
    lines = []
    for name, rounds in taken.items():
        later = [
            (seconds[-1] - seconds[0]) / (len(seconds) - 1) if len(seconds) > 1 else seconds[0] / trials
            for seconds in rounds
        ]
        cells = (
            SIDES[name][1],
            str(cores),
            f"{statistics.median(whole[name]):.1f}",
            f"{statistics.median(later):.2f}",
            "" if name == OURS else ratio(whole[name], whole[OURS]),
            SIDES[name][2],
            str(len(rounds)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small n: whether it runs, not what it measures")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, nargs="+", default=[1])
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        os.environ = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}  # noqa: B003
        serve(options.cores[0], lambda: prepare(options.side, options.folder, options.cores[0]))
    elif options.quick:
        sys.exit(run(32, 3, 1, options.cores))
    else:
        sys.exit(run(options.images, options.trials, options.rounds, options.cores))
