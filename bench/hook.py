"""What watching a training costs: our debug hook beside smdebug's, saving the same tensors in the same process.

    .venv/ml/bin/python bench/hook.py            (make bench-hook; --quick for small n, --side 64 or 224 for one size)
    taskset -c 0 .venv/ml/bin/python bench/hook.py                     where no core is free for the hook's own thread

Three equal ResNet-18s train on the same batch: one alone, one under our hook, one under smdebug 1.0.34. A round is some
steps of each in turn; the overhead is (watched - alone) / alone of a round, given as the median over the rounds with
the smallest and the largest. Rows: the default configuration (losses every 500 steps), and minimum, maximum, mean,
standard deviation and l2 norm of all weights and gradients at every step. Afterwards both folders are read by smdebug's
own reader, and the statistics must agree.

Our hook works in a thread beside the training's: on a machine with a core to spare that is faster than on one without,
so both are worth a row. A step's time is a wall time, and wants a machine that does nothing else.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ML = Path(__file__).resolve().parents[1] / "ml"
FIVE = {"save_interval": "1", "reductions": "min,max,mean,std,l2_norm"}
ROWS = {
    "losses every 500 steps": [{"CollectionName": "losses"}],
    "5 statistics of weights and gradients, every step": [
        {"CollectionName": "weights", "CollectionParameters": FIVE},
        {"CollectionName": "biases", "CollectionParameters": FIVE},
        {"CollectionName": "gradients", "CollectionParameters": FIVE},
    ],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, help="of the images, px (default: 64, then 224)")
    settings = parser.parse_args()
    if settings.row:
        measure(settings)
        return
    cpus, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{platform.machine()}, {cpus} cores, Python {platform.python_version()}, load {load:.1f}", end="; ")
    print(f"ResNet-18, batch 16, fp32, {settings.threads} thread(s)\n")
    print("| saved | images | a step alone | our hook | smdebug | n |\n|---|---|---|---|---|---|", flush=True)
    for side in [settings.side] if settings.side else (64, 224):
        for row in ROWS:
            command = [sys.executable, __file__, f"--row={row}", f"--side={side}", f"--threads={settings.threads}"]
            subprocess.run(command + ["--quick"] * settings.quick, check=True)


def measure(settings):
    """One row, in a process of its own: smdebug keeps one hook for each."""
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    os.environ.pop("TRAINING_JOB_NAME", None)
    sys.path.insert(0, str(ML))
    folder = Path(tempfile.mkdtemp(prefix="bench-hook-"))
    try:
        sides = {kind: Side(kind, settings, folder / kind) for kind in ("none", "own", "smdebug")}
        rounds, steps = (3, 2) if settings.quick else (9, 8 if settings.side == 64 else 2)
        taken = {kind: [] for kind in sides}
        for number in range(rounds + 1):
            for kind, side in sides.items():
                seconds = side.run(steps)
                if number:  # the first round warms up
                    taken[kind].append(seconds / steps)
        for side in sides.values():
            side.debugger.close()
        check(folder)
        alone = taken["none"]
        cells = [overhead(taken[kind], alone) for kind in ("own", "smdebug")]
        step = f"{statistics.median(alone) * 1e3:.0f} ms"
        print(
            f"| {settings.row} | {settings.side} px | {step} | {cells[0]} | {cells[1]} | {rounds} x {steps} |",
            flush=True,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def overhead(watched, alone):
    shares = [100 * (with_hook - without) / without for with_hook, without in zip(watched, alone, strict=True)]
    return f"{statistics.median(shares):+.1f} % ({min(shares):+.1f} to {max(shares):+.1f})"


class Side:
    """A network in training, watched or not."""

    def __init__(self, kind, settings, folder):
        import torch

        from debugger.watcher import Debugger
        from network import model

        torch.set_num_threads(settings.threads)
        torch.manual_seed(0)
        self.network = model.build("resnet18", 10)
        self.criterion = torch.nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01)
        images = torch.randn(16, 3, settings.side, settings.side)
        self.images = images.to(memory_format=torch.channels_last)
        self.labels = torch.arange(16) % 10
        os.environ["RETRAINING_DEBUG_HOOK"] = kind
        config = folder / "hook.json"
        if kind != "none":
            folder.mkdir()
            document = {"LocalPath": str(folder / "tensors"), "CollectionConfigurations": ROWS[settings.row]}
            config.write_text(json.dumps(document))
        os.environ["SMDEBUG_CONFIG_FILE_PATH"] = str(config)
        self.debugger = Debugger()
        self.debugger.watch(self.network, self.criterion)
        self.debugger.phase("train")
        assert self.debugger.active == (kind != "none")

    def run(self, steps):
        started = time.perf_counter()
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.criterion(self.network(self.images), self.labels).backward()
            self.debugger.gradients()
            self.optimizer.step()
        return time.perf_counter() - started


def check(folder):
    """Both hooks must have saved the same."""
    import numpy as np
    from smdebug.trials import create_trial

    ours, theirs = (create_trial(str(folder / kind / "tensors")) for kind in ("own", "smdebug"))
    assert ours.tensor_names() == theirs.tensor_names(), "the hooks saved different tensors"
    assert ours.steps() == theirs.steps(), "the hooks saved different steps"
    step = theirs.steps()[-1]
    for name in theirs.tensor_names(step=step):
        saved = theirs.tensor(name).reduction_values(step) or {}
        own = ours.tensor(name).reduction_values(step) or {}
        assert own.keys() == saved.keys(), name
        for what, value in saved.items():
            np.testing.assert_allclose(own[what], value, rtol=1e-3, atol=1e-6, err_msg=f"{name} {what}")


if __name__ == "__main__":
    main()
