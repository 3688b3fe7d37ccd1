"""How fast the rule engine is, how much memory it takes, how soon it tells; beside smdebug's own reader and rule loop.

    .venv/peers/bin/python -m bench.rules            (--quick for small n)

Three figures:
1. 10,000 steps x 200 tensors (weights, gradients, activations, a loss; 128 float32 each) judged by eight rules in one
   process, `ml/evaluate_rules.py`: wall time and peak RSS.
2. The same files, fewer steps, judged by one rule that smdebug users write themselves: VanishingGradient, as a
subclass of
   smdebug's Rule run by its invoke_rule over create_trial. Ours is evaluate_rules.py with that rule alone. Interleaved
   rounds, each a new process, ratio of wall times and of peak RSS (> 1: ours is better). Both are told to read what
   has ended, and smdebug's waits (SMDEBUG_TRAINING_END_DELAY_REFRESH) are set to 0. Agreement: both must find the same
   smallest gradient.
3. Latency with --follow: from the moment the step at which a rule fires lies on disk to the moment its verdict does.

The files are written by tests/ml/tensor_writer.py, which tests hold against smdebug's reader.
"""

from __future__ import annotations

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
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "ml")]  # as in a container

from tests.ml.tensor_writer import TensorWriter  # noqa: E402

ENGINE = [sys.executable, str(REPOSITORY / "ml" / "evaluate_rules.py")]
LOSS = "CrossEntropyLoss_output_0"
EIGHT = {
    "LossNotDecreasing": {},
    "VanishingGradient": {},
    "ExplodingTensor": {},
    "Overtraining": {"patience_train": "100000"},
    "DeadRelu": {},
    "WeightUpdateRatio": {},
    "UnchangedTensor": {"collection_names": "weights"},
    "AllZero": {"collection_names": "weights,gradients"},
}
PEER = """
import json, sys
from smdebug.exceptions import NoMoreData
from smdebug.rules import Rule, invoke_rule
from smdebug.trials import create_trial

class VanishingGradient(Rule):
    def __init__(self, base_trial):
        super().__init__(base_trial, "")
        self.smallest = float("inf")
    def invoke_at_step(self, step):
        for name in self.base_trial.tensor_names(collection="gradients", step=step):
            size = float(self.base_trial.tensor(name).reduction_value(step, "mean", abs=True))
            self.smallest = min(self.smallest, size)
            if size < 1e-7:
                return True
        return False

rule = VanishingGradient(create_trial(sys.argv[1]))
try:
    invoke_rule(rule, raise_eval_cond=True)
except NoMoreData:
    pass
print(json.dumps(rule.smallest))
"""


def write_training(folder: Path, num_steps: int) -> None:
    """60 weights, 60 gradients, 79 outputs of ReLUs and a loss at each step; nothing wrong with any."""
    writer, random = TensorWriter(folder, {"relu_output": [".*relu_output"]}), np.random.default_rng(0)
    pool = random.normal(size=(64, 128)).astype(np.float32)
    for step in range(num_steps):
        tensors: dict[str, Any] = {LOSS: np.float32(2 * 0.9996**step)}
        for i in range(60):
            tensors[f"ResNet_layer{i}.weight"] = pool[i % 64] * np.float32(1 + step / 1e4)
            tensors[f"gradient/ResNet_layer{i}.weight"] = pool[(i + step) % 64] * np.float32(0.01)
        for i in range(79):
            tensors[f"layer{i}.relu_output_0"] = np.maximum(pool[(i + step) % 64], 0).reshape(2, 64)
        writer.save("TRAIN", tensors)
    writer.end()


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """(seconds, peak RSS in MB, stdout) of a process of its own."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with status {process.returncode}: {text}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024, text


def engine(folder: Path, rules: dict[str, dict[str, str]], output: Path) -> list[str]:
    configurations = [{"RuleConfigurationName": name, "RuleParameters": given} for name, given in rules.items()]
    path = output.with_suffix(".json")
    path.write_text(json.dumps(configurations))
    return [*ENGINE, "--tensors", str(folder), "--rules", str(path), "--output", str(output)]


def evaluation(base: Path, environment: dict[str, str], num_steps: int) -> None:
    folder = base / "large"
    write_training(folder, num_steps)
    seconds, megabytes, text = timed(engine(folder, EIGHT, base / "eight"), environment)
    if text.count("NoIssuesFound") != len(EIGHT):
        raise RuntimeError(f"something was found in a healthy training: {text}")
    of = f"{num_steps:,} steps x 200 tensors, {len(EIGHT)} rules"
    print(f"| {of}: wall time | {seconds:.1f} s ({1e3 * seconds / num_steps:.2f} ms a step) | <= 60 s | 1 |")
    print(f"| {of}: peak RSS | {megabytes:.0f} MB | <= 500 MB | 1 |", flush=True)
    shutil.rmtree(folder)


def beside_smdebug(base: Path, environment: dict[str, str], num_steps: int, rounds: int) -> None:
    folder = base / "small"
    write_training(folder, num_steps)
    ours, theirs = [], []
    for number in range(rounds):
        output = base / f"one-{number}"
        ours.append(timed(engine(folder, {"VanishingGradient": {}}, output), environment))
        theirs.append(timed([sys.executable, "-c", PEER, str(folder)], environment))
        verdict = json.loads((output / "VanishingGradient" / "verdict.json").read_text())
        found = verdict["Evidence"]["smallest_abs_mean"], json.loads(theirs[-1][2].splitlines()[-1])
        if not np.isclose(*found, rtol=1e-6):
            raise RuntimeError(f"the smallest gradients differ: ours {found[0]}, smdebug's {found[1]}")
    for column, what, unit in ((0, "wall time", "s"), (1, "peak RSS", "MB")):
        ratios = sorted(peer[column] / own[column] for own, peer in zip(ours, theirs, strict=True))
        mine, peers = (statistics.median(row[column] for row in rows) for rows in (ours, theirs))
        spread = f"{statistics.median(ratios):.1f} x ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        of = f"{num_steps:,} steps x 200 tensors, VanishingGradient: {what}"
        print(f"| {of} | {mine:.1f} {unit}; smdebug {peers:.1f} {unit}; {spread} | > 1 | {rounds} |", flush=True)


def latency(base: Path, environment: dict[str, str], rounds: int) -> None:
    waits = []
    for number in range(rounds):
        folder, output = base / f"follow-{number}", base / f"follow-out-{number}"
        writer = TensorWriter(folder)
        command = [*engine(folder, {"ExplodingTensor": {}, "VanishingGradient": {}}, output), "--follow"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        tensors = {f"gradient/layer{i}.weight": np.full(128, 0.1, np.float32) for i in range(200)}
        try:
            for _ in range(40):
                writer.save("TRAIN", tensors)
                time.sleep(0.05)
            writer.save("TRAIN", tensors | {"gradient/layer7.weight": np.full(128, np.nan, np.float32)})
            written, verdict = time.perf_counter(), output / "ExplodingTensor" / "verdict.json"
            while not verdict.exists() and time.perf_counter() - written < 30:
                time.sleep(0.002)
            waits.append(time.perf_counter() - written)
            writer.end()
            process.wait(30)
        finally:
            process.kill()
            process.wait()
    print(f"| step on disk to verdict on disk, --follow | median {statistics.median(waits):.2f} s, "
          f"most {max(waits):.2f} s | <= 2 s | {rounds} |", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000, help="of the large training")
    parser.add_argument("--peer-steps", type=int, default=500, help="of the training that smdebug reads too")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="300 and 50 steps, 2 rounds")
    settings = parser.parse_args()
    if settings.quick:
        settings.steps, settings.peer_steps, settings.rounds = 300, 50, 2
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "SMDEBUG_LOG_LEVEL": "error",
        "SMDEBUG_TRAINING_END_DELAY_REFRESH": "0",
    }
    asked = f"--steps {settings.steps} --peer-steps {settings.peer_steps} --rounds {settings.rounds}"
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    print(f"`python -m bench.rules {asked}`, {machine}, load average {os.getloadavg()[0]:.1f}\n")
    print("| figure | value | target | n |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as text:
        base = Path(text)
        evaluation(base, environment, settings.steps)
        beside_smdebug(base, environment, settings.peer_steps, settings.rounds)
        latency(base, environment, max(settings.rounds, 3))


if __name__ == "__main__":
    main()
