"""Which promotion policy serves best? Years of weekly retrains, with test sets of several sizes.

    python -m bench.promotion            (--seeds 20, --years 3, --quick)

Each week a model is trained and compared with the champion by the gate's own rule, on the same test images. What is
simulated is the world around it. A model's true accuracy is that of its week, scattered by chance (0.5 points; one
training in twenty loses 3). It is right about an image when its accuracy exceeds the image's difficulty, which all
models share, mixed with its own luck there (a Gaussian copula of correlation 0.8: two models of 93 % disagree about 6
images of 100). The luck of a champion lasts as long as its test images do; 0.5 % more come every week.

    steady      the data stays as it is
    growing     more data makes each later training better, by 2 points in the end
    drifting    what a model does not know yet costs it 0.05 points a week

lost: what the served model's true accuracy is short of the best model there was to serve, in points, as the mean over
all weeks. worse: the share of weeks in which a model serves that is worse by 0.1 points than one that it replaced. age:
of the champion, in weeks, and that of the oldest one. `always` has no gate, and is what the policies are held against.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "plugins")]

import numpy as np  # noqa: E402

from retraining.promotion.decision import judge  # noqa: E402
from retraining.promotion.evidence import RESAMPLES, Evidence, mcnemar  # noqa: E402
from retraining.recipe import Promotion  # noqa: E402

BASE, SCATTER, BAD_SHARE, BAD_LOSS = 0.93, 0.005, 0.05, 0.03
KEYS = ("lost", "worse", "age", "oldest")
CORRELATION, NEW_IMAGES, NOTICED = 0.8, 0.005, 0.001
Policy = Callable[[int, int, int], bool]
"""(test images, won, lost) → promote."""


@dataclass(frozen=True)
class World:
    name: str
    growth: float = 0.0
    drift: float = 0.0


WORLDS = (World("steady"), World("growing", growth=0.02), World("drifting", drift=0.0005))


@dataclass(frozen=True)
class Years:
    """All models and test images of one world and seed."""

    accuracy: Any
    """(weeks,): of each week's model, on images of its time."""
    week: Any
    """(images,), rising: when each image joined the test set."""
    right: Any
    """(weeks, images): whether each week's model gets each image right."""
    drift: float

    @classmethod
    def simulate(cls, world: World, num_weeks: int, images: int, seed: int) -> Years:
        random = np.random.default_rng(seed)
        times = np.arange(num_weeks)
        accuracy = BASE + world.growth * (1 - np.exp(-times / 52)) + random.normal(0, SCATTER, num_weeks)
        accuracy -= BAD_LOSS * (random.random(num_weeks) < BAD_SHARE)
        more = int(images * NEW_IMAGES)
        week = np.concatenate([np.zeros(images, int), np.repeat(times[1:], more)])
        difficulty = random.normal(size=len(week)) * CORRELATION
        right = np.empty((num_weeks, len(week)), bool)
        for model in times:
            known = accuracy[model] - world.drift * np.maximum(0, week - model)
            levels = {value: NormalDist().inv_cdf(min(0.9999, value)) for value in np.unique(known)}
            luck = random.normal(size=len(week)) * np.sqrt(1 - CORRELATION**2)
            right[model] = difficulty + luck < np.array([levels[value] for value in known])
        return cls(accuracy, week, right, world.drift)

    def live(self, model: int, now: int) -> float:
        return float(self.accuracy[model] - self.drift * (now - model))


def served(years: Years, policy: Policy) -> dict[str, float]:
    """What becomes of the endpoint under one policy."""
    champion, replaced = 0, list[int]()
    lost, worse, ages = [], 0, []
    num_weeks = len(years.accuracy)
    for now in range(1, num_weeks):
        seen = int(np.searchsorted(years.week, now, side="right"))
        ours, theirs = years.right[now, :seen], years.right[champion, :seen]
        if policy(seen, int((ours & ~theirs).sum()), int((theirs & ~ours).sum())):
            replaced.append(champion)
            champion = now
        live = years.live(champion, now)
        lost.append(max(years.live(model, now) for model in range(now + 1)) - live)
        worse += any(years.live(model, now) > live + NOTICED for model in replaced)
        ages.append(now - champion)
    return {"lost": fmean(lost), "worse": worse / num_weeks, "age": fmean(ages), "oldest": max(ages)}


def gate(rule: Promotion) -> Policy:
    random = np.random.default_rng(1)

    def promote(n: int, won: int, lost: int) -> bool:
        # For accuracy a bootstrap over images is a draw of how many of them are won and lost.
        drawn = random.multinomial(n, [won / n, lost / n, 1 - (won + lost) / n], size=RESAMPLES)
        gains = np.sort((drawn[:, 0] - drawn[:, 1]) / n)
        outside = int(RESAMPLES * (1 - rule.interval) / 2)
        low, high = float(gains[outside]), float(gains[-1 - outside])
        evidence = Evidence(
            metric="accuracy",
            n=n,
            won=won,
            lost=lost,
            gain=(won - lost) / n,
            low=low,
            high=high,
            confidence=rule.interval,
            p=mcnemar(won, lost),
        )
        return judge(evidence, rule)[0]

    return promote


POLICIES: dict[str, Policy] = {
    "always": lambda n, won, lost: True,
    "point": gate(Promotion(evidence="point")),
    "clearly_better": gate(Promotion(evidence="clearly_better")),
    "not_clearly_worse at 95 %": gate(Promotion(evidence="not_clearly_worse", confidence=0.95)),
    "not_clearly_worse at 80 %": gate(Promotion(evidence="not_clearly_worse", confidence=0.8)),
    "not_clearly_worse at 70 %": gate(Promotion(evidence="not_clearly_worse", confidence=0.7)),
    "not_clearly_worse at 60 %": gate(Promotion(evidence="not_clearly_worse", confidence=0.6)),
    "not_clearly_worse at 50 %": gate(Promotion(evidence="not_clearly_worse", confidence=0.5)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Which promotion policy serves best over years of weekly retrains?")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--years", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="two seeds, one year, no test set of 20,000")
    given = parser.parse_args()
    seeds, num_weeks = (2, 52) if given.quick else (given.seeds, 52 * given.years)
    begun = time.monotonic()
    print(f"{num_weeks} weeks, n = {seeds} seeds\n")
    print("| test images | world | policy | lost, points | worse, % of weeks | age, weeks | oldest |")
    print("|---|---|---|---|---|---|---|")
    for images in (200, 2_000) if given.quick else (200, 2_000, 20_000):
        for world in WORLDS:
            results: dict[str, list[dict[str, float]]] = {name: [] for name in POLICIES}
            for seed in range(seeds):
                years = Years.simulate(world, num_weeks, images, seed)
                for name, policy in POLICIES.items():
                    results[name].append(served(years, policy))
            for name, found in results.items():
                lost, worse, age, oldest = (fmean(one[key] for one in found) for key in KEYS)
                print(
                    f"| {images:,} | {world.name} | `{name}` | {100 * lost:.2f} | {100 * worse:.0f} | {age:.1f} "
                    f"| {oldest:.0f} |"
                )
    print(f"\n{time.monotonic() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
