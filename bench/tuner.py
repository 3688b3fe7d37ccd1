"""Does the tuner learn? Searches of known noisy functions, strategy against strategy, over many seeds.

    python -m bench.tuner --seeds 30

Each figure is the median over the seeds of what the found hyperparameters miss to the optimum, by the function's true
value without noise; "found" is the trial with the best noisy value, which is what a tuning job calls its best. The
ratio says how many times as much Random misses. All strategies get the same number of trials, or, where Hyperband takes
part, the same number of epochs. Suggestions come from `local_sagemaker.tuning.search`, without server and jobs, and
trials end before the next one starts, unless --parallel says how many run at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from local_sagemaker.tuning import hyperband, ranges, search
from local_sagemaker.tuning.ranges import Range
from local_sagemaker.tuning.search import Trial

Chosen = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Function:
    name: str
    value: Callable[[Chosen], float]
    """Higher is better."""
    optimum: float
    noise: float
    """Standard deviation of what a job prints."""
    parameter_ranges: dict[str, Any]

    @property
    def space(self) -> list[Range]:
        return ranges.parse(self.parameter_ranges)


def training(chosen: Chosen) -> float:
    """Accuracy as of a small network: best with adam, at a learning rate of 0.001, five layers, momentum 0.95."""
    rates = {"sgd": -1.2, "adam": -3.0, "rmsprop": -3.3}
    bonus = {"sgd": 0.0, "adam": 0.03, "rmsprop": 0.01}
    off = math.log10(float(chosen["lr"])) - rates[chosen["optimizer"]]
    slow = math.log10(1 - float(chosen["momentum"])) + 1.3
    layers = int(chosen["layers"]) - 5
    return 0.90 + bonus[chosen["optimizer"]] - 0.05 * off**2 - 0.006 * layers**2 - 0.03 * slow**2


def branin(chosen: Chosen) -> float:
    """The classic with three equal optima, upside down."""
    x, y = float(chosen["x"]), float(chosen["y"])
    bent = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
    return -(bent**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


def hartmann(chosen: Chosen) -> float:
    """Six dimensions, six local optima."""
    point = [float(chosen[f"x{index}"]) for index in range(6)]
    return sum(
        weight * math.exp(-sum(a * (x - p) ** 2 for a, x, p in zip(steep, point, place, strict=True)))
        for weight, steep, place in zip(_WEIGHTS, _STEEPNESS, _PLACES, strict=True)
    )


_WEIGHTS = (1.0, 1.2, 3.0, 3.2)
_STEEPNESS = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
_PLACES = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def _continuous(name: str, low: str, high: str, scaling: str = "Linear") -> dict[str, str]:
    return {"Name": name, "MinValue": low, "MaxValue": high, "ScalingType": scaling}


TRAINING = Function(
    "training",
    training,
    optimum=0.93 - 0.03 * (math.log10(0.05) + 1.3) ** 2,
    noise=0.01,
    parameter_ranges={
        "ContinuousParameterRanges": [
            _continuous("lr", "0.00001", "1", "Logarithmic"),
            _continuous("momentum", "0", "0.999", "ReverseLogarithmic"),
        ],
        "IntegerParameterRanges": [{"Name": "layers", "MinValue": "1", "MaxValue": "12"}],
        "CategoricalParameterRanges": [{"Name": "optimizer", "Values": ["sgd", "adam", "rmsprop"]}],
    },
)
FUNCTIONS = (
    TRAINING,
    Function(
        "branin",
        branin,
        optimum=-0.397887,
        noise=1.0,
        parameter_ranges={"ContinuousParameterRanges": [_continuous("x", "-5", "10"), _continuous("y", "0", "15")]},
    ),
    Function(
        "hartmann",
        hartmann,
        optimum=3.32237,
        noise=0.05,
        parameter_ranges={"ContinuousParameterRanges": [_continuous(f"x{index}", "0", "1") for index in range(6)]},
    ),
)


def missed(function: Function, strategy: str, seed: int, jobs: int, parallel: int) -> float:
    """One search; what its best trial misses to the optimum."""
    noise, space = random.Random(f"{function.name}/{seed}"), function.space
    trials: list[Trial] = []
    for index in range(jobs):
        if index >= parallel:
            trials[index - parallel] = _ended(function, trials[index - parallel], noise)
        chosen = search.suggest(space, trials, strategy=strategy, maximize=True, seed=str(seed))
        trials.append(Trial(hyperparameters=chosen, objective=None, running=True))
    ended = [trial if trial.objective is not None else _ended(function, trial, noise) for trial in trials]
    best = max(ended, key=lambda trial: trial.objective or -math.inf)
    return function.optimum - function.value(best.hyperparameters)


def _ended(function: Function, trial: Trial, noise: random.Random) -> Trial:
    value = function.value(trial.hyperparameters) + noise.gauss(0, function.noise)
    return Trial(hyperparameters=trial.hyperparameters, objective=value)


#: Learning curves: epochs of a full training, and after how many a job has learned two thirds of what it will.
_EPOCHS, _PACE = 27, 6


def missed_by_epochs(function: Function, strategy: str, seed: int, budget: int) -> float:
    """Like `missed`, for jobs that print their objective every epoch: as many of them as `budget` epochs pay for."""
    noise, space = random.Random(f"{function.name}/{seed}"), function.space
    brackets = hyperband.brackets(1, _EPOCHS)
    trials: list[Trial] = []
    curves: list[list[tuple[float, float]]] = []
    spent = 0
    while spent < budget:
        chosen = search.suggest(space, trials, strategy=strategy, maximize=True, seed=str(seed))
        bracket = hyperband.bracket_of(len(trials), brackets)
        others = [curve for place, curve in enumerate(curves) if hyperband.bracket_of(place, brackets) == bracket]
        curve: list[tuple[float, float]] = []
        curves.append(curve)
        while len(curve) < _EPOCHS and spent < budget:
            spent += 1
            learned = 1 - math.exp(-(len(curve) + 1) / _PACE)
            curve.append((spent, function.value(chosen) * learned + noise.gauss(0, function.noise)))
            if strategy == "Hyperband" and hyperband.is_stopped(
                brackets[bracket], curve, others, _EPOCHS, maximize=True
            ):
                break
        trials.append(Trial(hyperparameters=chosen, objective=curve[-1][1]))
    best = max(trials, key=lambda trial: trial.objective or -math.inf)
    return function.optimum - function.value(best.hyperparameters)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def compare(seeds: range, jobs: Sequence[int], parallel: int) -> None:
    print(f"| function | trials | Bayesian misses | Random misses | ratio | Bayesian better | n |\n|{'---|' * 7}")
    for function in FUNCTIONS:
        for count in jobs:
            learned, drawn = (
                [missed(function, strategy, seed, count, parallel) for seed in seeds]
                for strategy in ("Bayesian", "Random")
            )
            better = sum(a < b for a, b in zip(learned, drawn, strict=True))
            print(
                f"| {function.name} | {count} | {median(learned):.4f} | {median(drawn):.4f} "
                f"| {median(drawn) / median(learned):.1f} | {better} of {len(seeds)} | {len(seeds)} |",
                flush=True,
            )


def compare_by_epochs(seeds: range, budgets: Sequence[int]) -> None:
    print(f"\n| function | epochs | Hyperband misses | Bayesian | Random | Random / Hyperband | n |\n|{'---|' * 7}")
    for budget in budgets:
        found = {
            strategy: median([missed_by_epochs(TRAINING, strategy, seed, budget) for seed in seeds])
            for strategy in ("Hyperband", "Bayesian", "Random")
        }
        print(
            f"| {TRAINING.name} | {budget} | {found['Hyperband']:.4f} | {found['Bayesian']:.4f} "
            f"| {found['Random']:.4f} | {found['Random'] / found['Hyperband']:.1f} | {len(seeds)} |",
            flush=True,
        )


def cost(counts: Sequence[int]) -> None:
    """Processor time of one suggestion."""
    print(f"\n| results so far | one suggestion, ms |\n|{'---|' * 2}")
    space = TRAINING.space
    for count in counts:
        trials: list[Trial] = []
        for _ in range(count):
            chosen = search.suggest(space, trials, strategy="Random", maximize=True, seed="1")
            trials.append(Trial(hyperparameters=chosen, objective=training(chosen)))
        spent = []
        for seed in range(5):
            start = time.process_time()
            search.suggest(space, trials, strategy="Bayesian", maximize=True, seed=str(seed))
            spent.append(time.process_time() - start)
        print(f"| {count} | {1000 * median(spent):.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bayesian and Hyperband against Random, on known noisy functions.")
    parser.add_argument("--seeds", type=int, default=30, help="searches per figure (default: 30)")
    parser.add_argument("--trials", type=int, nargs="+", default=[15, 30], help="trials per search (default: 15 30)")
    parser.add_argument("--parallel", type=int, default=1, help="trials that run at once (default: 1)")
    parser.add_argument("--epochs", type=int, nargs="+", default=[135, 270], help="budgets for Hyperband, in epochs")
    given = parser.parse_args()
    seeds = range(given.seeds)
    print(f"{given.seeds} seeds, {given.parallel} trial(s) at once, {os.cpu_count()} processors\n")
    compare(seeds, given.trials, given.parallel)
    compare_by_epochs(seeds, given.epochs)
    cost([8, 15, 30, 50, 500])


if __name__ == "__main__":
    main()
