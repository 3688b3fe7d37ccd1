"""What one NVIDIA GPU makes of our code: training, decoding, tuning, serving and the debug hook, beside their peers.

    python -m bench.gpu            (--only G1 G4; --rounds 5; --quick: tiny sizes; --device cpu --quick: no GPU needed)

Two processes share the GPU and work in turns: ours in .venv/ml, the peers in .venv/peers, or both in the interpreter
that runs this where there are no such folders; a peer that is not installed is left out, with the reason. A round is
each side once, and the ratio the median of the rounds' ratios (above 1: ours is better). Times end when the GPU has
done its work (torch.cuda.synchronize); memory is the most that torch allocated for a side, its images included.

- G1, training at 224 px, images in the GPU's memory: `Training.epoch` of ml/training/loop.py over a channel that
  `Channel.load` put there (augmentation "none", --precision auto), beside torchvision's reference loop (float32, as its
  defaults are, its images normalised beforehand) and timm's task, optimizer and PrefetchLoader (bfloat16, channels
  last; losses stay on the GPU), eager and compiled; and timm fed from JPEGs by a worker for each processor.
- G2, from a folder of JPEGs to squares of 256 px in the GPU's memory: `Channel` and its `load`. Ours decodes on
  the processor (Pillow, in threads), since ml/ has no decoder for GPUs. nvJPEG, through torchvision, is beside it.
- G3, seconds to an accuracy on 32 px images of 100 classes: one of our trainings (24 epochs, one cycle, bfloat16)
  beside the usual recipe of 200 epochs in float32, same network, images in the GPU's memory. The target is what the
  recipe reaches in the end in the same round, within 0.3 points (the standard error on 10,000 images); inf: never.
- G4, 256 trials of 5 epochs of a head on a frozen ResNet-18: each trial as ml/ does it (Training, look_once, epochs),
  the first one with the images' pass through the network; 8 are measured, and the later ones stand for all others.
  Beside an Optuna study that sends the images through the network in each epoch (one trial is measured), and the same
  heads in one matrix product, which is what the GPU allows.
- G5, serving raw tensors: what `runtime.load` gives, arrays in and out, beside torch eager; and a whole request through
  ml/inference.py (an .npy body in, one out) without HTTP.
- G6, five statistics of all weights and gradients at every step: what the hook adds to the epoch of a Training without,
  per cent; smdebug's in place of ours in the same Training.

Agreement, else status 1: the first losses (G1), pictures (G2), vectors (G4) and logits (G5) of the sides are the same
within the share of their norm that the row states; torchvision's network finds the accuracy that ours said with our
weights, within 0.01 (G3); both hooks saved the same tensors, steps and statistics (G6).

G3 takes about half an hour at five rounds (estimated for an H200), the others minutes each: `--only G3 --rounds 1`.

Without a GPU it says so and ends with status 2. `--device cpu --quick` runs every row on a processor with tiny sizes,
compilation switched off: whether the logic holds; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from bench.gpu_rows import FULL, QUICK, ROWS
from bench.sides import REPOSITORY, Side, machine, ratio, serve

ROUNDS = 5
POINTS = 0.003  # of accuracy, that G3's target lies below what the peer reached
JUDGED = 0.01  # by how much two evaluations of the same weights may differ
# -- the sides: see gpu_ours.py and gpu_peers.py ----------------------------------------------------------------------


def prepare(process: str, device: str, folder: Path, quick: bool) -> Any:
    sys.path.insert(0, str(REPOSITORY / "ml"))
    import torch

    about = {"torch": torch.__version__, "cuda": torch.version.cuda, "gpu": None}
    if torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    elif device == "cuda":
        return about, lambda **_: {"error": "its torch finds no GPU"}
    module = importlib.import_module(f"bench.gpu_{process}")
    ours = importlib.import_module("bench.gpu_ours")
    one = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
    place = ours.Place(one, folder, QUICK if quick else FULL)
    ready: dict[str, Any] = {}
    held: dict[str, int] = {}

    def answer(question: str, row: str = "", case: str = "", side: str = "") -> dict[str, Any]:
        try:
            if question == "end":
                for work in ready.values():
                    work.close()
                ready.clear()
                gc.collect()
                torch.cuda.empty_cache()
                return {}
            if question == "roofline":
                return {"text": ours.roofline(place)}
            if question == "compare":
                return {"complaints": module.saved_alike(case, place)}
            if question == "make":
                before = place.allocated()
                ready[side] = module.MAKERS[row][side.partition("@")[0]](case, place)
                held[side] = place.allocated() - before
                return {"numbers": ready[side].numbers}
            others = place.allocated() - held[side]
            found = ready[side].round()
            return found | {"memory": (place.most_allocated() - others) / 2**20}
        except Exception as error:  # a peer that is absent, or fails, costs its own figures alone
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {str(error)[:200]}"}

    return about, answer


# -- the rounds -------------------------------------------------------------------------------------------------------


class Measured:
    """One case of a row: what its sides answered, round by round."""

    def __init__(self, name: str, case: str) -> None:
        self.name, self.row, self.case = name, ROWS[name], case
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.failures: dict[str, str] = {}
        self.complaints: list[str] = []

    def measure(self, processes: dict[str, Side], rounds: int) -> None:
        numbers = {}
        sides = self.row.sides(self.case)
        for side, process in sides.items():
            made = processes[process].ask(question="make", row=self.name, case=self.case, side=side)
            self.note(side, made)
            numbers[side] = made.get("numbers")
        whole = 0 if self.name == "G3" else 1  # a training to the end needs no round to warm up
        for number in range(rounds + whole):
            for side, process in sides.items():
                if side not in self.failures:
                    found = processes[process].ask(question="round", row=self.name, side=side)
                    self.note(side, found)
                    if number >= whole and "error" not in found:
                        self.answers.setdefault(side, []).append(found)
        for one in processes.values():
            self.note("ours" if one.name == "ours" else "peers", one.ask(question="end", row=self.name))
        self.check(numbers)
        if self.name == "G6" and "smdebug@fp32" in self.answers:
            found = processes["peers"].ask(question="compare", row=self.name, case=self.case)
            self.complaints += found.get("complaints", [found.get("error")])

    def note(self, side: str, found: dict[str, Any]) -> None:
        if "error" in found:
            self.failures[side] = found["error"]
            if side in self.row.ours:
                self.complaints.append(f"{side} failed: {found['error']}")

    def check(self, numbers: dict[str, Any]) -> None:
        if self.row.agreement and numbers.get("ours"):
            for side, theirs in numbers.items():
                if theirs and not (far := distance(theirs, numbers["ours"])) <= self.row.agreement:
                    self.complaints.append(f"{side} is {far:.2%} from ours, allowed are {self.row.agreement:.0%}")
        if self.name == "G1":
            for side, answers in self.answers.items():
                first, last = (numbers[side] or [math.inf])[0], answers[-1]["loss"]
                if "jpeg" not in side and not last < first:  # from files it sees other images than in its first step
                    self.complaints.append(f"{side}: the loss did not fall ({first:.4f} to {last:.4f})")
        if self.name == "G3":
            self.find_targets()

    def find_targets(self) -> None:
        """G3: seconds to what the recipe reached in the same round, in place of those of the whole training."""
        if "recipe" not in self.answers:
            self.failures.setdefault("ours", "without the recipe there is no target")
        pairs = zip(self.answers.get("ours", []), self.answers.get("recipe", []), strict=False)
        for ours, theirs in pairs:
            said, target = ours["curve"][-1][1], theirs["curve"][-1][1] - POINTS
            for answer in (ours, theirs):
                reached = (seconds for seconds, accuracy in answer["curve"] if accuracy >= target)
                answer["value"] = next(reached, math.inf)
            if abs(theirs["judged"] - said) > JUDGED:
                self.complaints.append(f"ours said {said:.4f}, torchvision's network finds {theirs['judged']:.4f}")

    def table(self) -> str:
        lines = []
        for side in self.row.sides(self.case):
            title, goal = self.row.say(side)
            goal = goal or (self.row.cases[self.case] if side == "ours" else "")
            lead = f"| {self.name} | {self.case} | {title} |"
            if side in self.failures or side not in self.answers:
                lines.append(f"{lead} not measured: {self.failures.get(side, 'no round')} | | {goal} | | |")
                continue
            values = self.values(side)
            cells = [spread(values), self.against(side), goal, self.memory(side), str(len(values))]
            lines.append(f"{lead} {' | '.join(cells)} |")
        return "\n".join(lines)

    def values(self, side: str) -> list[float]:
        return [answer["value"] for answer in self.answers[side]]

    def memory(self, side: str) -> str:
        most = max(answer["memory"] for answer in self.answers[side])
        return f"{most:,.0f}" if most else ""

    def against(self, side: str) -> str:
        """How many times better ours was than this side."""
        if side not in self.row.peers or not self.answers.get("ours"):
            return ""
        pair = self.values(side), self.values("ours")
        if self.row.more_is_better and self.case != "1 image":
            pair = pair[1], pair[0]
        usable = all(math.isfinite(value) and value > 0 for values in pair for value in values)
        return ratio(*pair) if usable and len(pair[0]) == len(pair[1]) else "none"

    def remarks(self) -> list[str]:
        """What the table has no column for."""
        said = []
        for side, answers in self.answers.items():
            if self.name == "G3":
                best = [max(accuracy for _, accuracy in answer["curve"]) for answer in answers]
                said.append(f"G3, {side}: best accuracy {spread(best)}")
            if self.name == "G6":
                alone = [answer["alone_ms"] for answer in answers]
                said.append(f"G6, {self.case}, {side}: a step without the hook takes {spread(alone)} ms")
        return said


def distance(theirs: list[float], ours: list[float]) -> float:
    if len(theirs) != len(ours):
        return math.inf
    return math.dist(theirs, ours) / max(math.hypot(*theirs), 1e-12)


def spread(values: list[float]) -> str:
    return f"{figure(statistics.median(values))} ({figure(min(values))} to {figure(max(values))})"


def figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def run(names: list[str], rounds: int, device: str, quick: bool) -> int:
    folder = Path(tempfile.mkdtemp(prefix="bench-gpu-"))
    cores = len(os.sched_getaffinity(0))
    options = ["--device", device, "--folder", str(folder), *["--quick"] * quick]
    processes: dict[str, Side] = {}
    try:
        processes["ours"] = Side("bench.gpu", "ours", "ml", cores, *options)
        about = processes["ours"].about
        if device == "cuda" and not about["gpu"]:
            print("there is no GPU here: torch finds none that it can use (--device cpu --quick checks the logic)")
            return 2
        processes["peers"] = Side("bench.gpu", "peers", "peers", cores, *options)
        print(headline(processes, device, quick, rounds), flush=True)
        return measure_all(processes, names, rounds, quick)
    finally:
        for process in processes.values():
            process.close()
        shutil.rmtree(folder, ignore_errors=True)


def measure_all(processes: dict[str, Side], names: list[str], rounds: int, quick: bool) -> int:
    complaints, remarks = [], []
    for name in names:
        row = ROWS[name]
        ratio_title = "its time / ours" if not row.more_is_better else "ours / its rate"
        print(f"\n{name}: {row.title}; {row.unit}\n")
        print(
            f"| row | case | side | median (least to most) | {ratio_title} | goal | MiB at most | n |\n|" + "---|" * 8
        )
        for case in list(row.cases)[:1] if quick and name == "G1" else row.cases:
            measured = Measured(name, case)
            measured.measure(processes, rounds)
            print(measured.table(), flush=True)
            complaints += [f"{name}, {case}: {complaint}" for complaint in measured.complaints]
            remarks += measured.remarks()
    print("", *remarks, *(f"NO AGREEMENT: {complaint}" for complaint in complaints), sep="\n")
    return 1 if complaints else 0


def headline(processes: dict[str, Side], device: str, quick: bool, rounds: int) -> str:
    about = processes["ours"].about
    versions = " and ".join(sorted({side.about["torch"] for side in processes.values()}))
    lines = [f"machine: {machine()}; torch {versions}; {rounds} rounds"]
    if device == "cuda":
        lines.append(f"GPU: {about['gpu']}, driver {driver()}, CUDA {about['cuda']}")
    found = processes["ours"].ask(question="roofline")
    lines.append(found.get("text") or found["error"])
    if device == "cpu":
        lines.append("NO MEASUREMENT: tiny sizes on a processor, to see that every row runs; the figures mean nothing")
    elif quick:
        lines.append("NO MEASUREMENT: tiny sizes, to see that every row runs; the figures mean nothing")
    return "\n".join(lines)


def driver() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown (no nvidia-smi)"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it runs, not what it measures")
    parser.add_argument(
        "--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help="of " + " ".join(ROWS)
    )
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: with --quick, to check the logic"
    )
    parser.add_argument("--side", choices=("ours", "peers"), help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cpu" and not options.quick:
        parser.error("argument --device: a processor measures nothing here; cpu goes with --quick")
    if options.side:
        serve(options.cores, lambda: prepare(options.side, options.device, options.folder, options.quick))
        sys.exit()
    # What a job on SageMaker finds in its environment must not change these trainings.
    os.environ = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}  # noqa: B003
    if options.device == "cpu":
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "TORCHDYNAMO_DISABLE": "1"}
    sys.exit(run(options.only, options.rounds or (2 if options.quick else ROUNDS), options.device, options.quick))
