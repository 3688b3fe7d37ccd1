"""From the history of a tuning job to the next hyperparameters. Pure: the same history and seed give the same answer.

`Random` draws uniformly. `Bayesian` is Optuna's tree-structured Parzen estimator (Watanabe 2023, arXiv:2304.11127),
where SageMaker uses a Gaussian process of its own: another model for the same job. Trials that still run count as
pessimistic results ("constant liar"), so that parallel trials do not all try the same point.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Iterable
from typing import Any, Protocol

from local_sagemaker.wire.errors import validation

# Below this many finished trials the model knows nothing, and a random draw is as good.
_STARTUP_TRIALS = 3


class Range(Protocol):
    @property
    def name(self) -> str: ...

    def parse(self, text: str) -> Any: ...
    def format(self, value: Any) -> str: ...
    def draw(self, rng: random.Random) -> Any: ...
    def distribution(self) -> Any: ...
    def holds(self, text: str) -> bool: ...


@dataclasses.dataclass(frozen=True)
class Continuous:
    name: str
    low: float
    high: float
    scaling: str

    def parse(self, text: str) -> float:
        return float(text)

    def format(self, value: float) -> str:
        return repr(float(value))

    def draw(self, rng: random.Random) -> float:
        match self.scaling:
            case "Logarithmic":
                return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            case "ReverseLogarithmic":
                return 1 - math.exp(rng.uniform(math.log(1 - self.high), math.log(1 - self.low)))
            case _:
                return rng.uniform(self.low, self.high)

    def distribution(self) -> Any:
        import optuna

        return optuna.distributions.FloatDistribution(self.low, self.high, log=self.scaling == "Logarithmic")

    def holds(self, text: str) -> bool:
        return _is_number(text) and self.low <= float(text) <= self.high


@dataclasses.dataclass(frozen=True)
class Integer:
    name: str
    low: int
    high: int
    scaling: str

    def parse(self, text: str) -> int:
        return int(text)

    def format(self, value: int) -> str:
        return str(int(value))

    def draw(self, rng: random.Random) -> int:
        if self.scaling == "Logarithmic":
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high + 1)))
            return min(self.high, int(value))
        return rng.randint(self.low, self.high)

    def distribution(self) -> Any:
        import optuna

        return optuna.distributions.IntDistribution(self.low, self.high, log=self.scaling == "Logarithmic")

    def holds(self, text: str) -> bool:
        return _is_number(text) and float(text).is_integer() and self.low <= float(text) <= self.high


@dataclasses.dataclass(frozen=True)
class Categorical:
    name: str
    values: tuple[str, ...]

    def parse(self, text: str) -> str:
        return text

    def format(self, value: str) -> str:
        return value

    def draw(self, rng: random.Random) -> str:
        return rng.choice(self.values)

    def distribution(self) -> Any:
        import optuna

        return optuna.distributions.CategoricalDistribution(self.values)

    def holds(self, text: str) -> bool:
        return text in self.values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One training job of the tuning job."""

    hyperparameters: dict[str, str]
    """The tuned ones only, as text."""
    objective: float | None
    """None while it runs, and when it ended without a value."""
    running: bool


def parse_ranges(parameter_ranges: dict[str, Any]) -> list[Range]:
    """ParameterRanges of a request. Raises a ValidationException naming the range and the rule it breaks."""
    ranges: list[Range] = []
    for item in parameter_ranges.get("ContinuousParameterRanges", []):
        low, high = _bounds(item, float)
        ranges.append(Continuous(item["Name"], low, high, _scaling(item, low, high, continuous=True)))
    for item in parameter_ranges.get("IntegerParameterRanges", []):
        low, high = _bounds(item, int)
        ranges.append(Integer(item["Name"], low, high, _scaling(item, low, high, continuous=False)))
    for item in parameter_ranges.get("CategoricalParameterRanges", []):
        ranges.append(Categorical(item["Name"], tuple(item["Values"])))
    if parameter_ranges.get("AutoParameters"):
        raise validation("AutoParameters: local_sagemaker does not choose ranges by itself; give them.")
    names = [item.name for item in ranges]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise validation(f"Hyperparameter ranges must have unique names; repeated: {', '.join(sorted(repeated))}.")
    return ranges


def suggest(
    ranges: list[Range], trials: Iterable[Trial], *, strategy: str, maximize: bool, seed: int
) -> dict[str, str]:
    """The next trial's tuned hyperparameters, as text."""
    history = list(trials)
    rng = random.Random(f"{seed}/{len(history)}")
    finished = [trial for trial in history if trial.objective is not None]
    if strategy == "Random" or len(finished) < _STARTUP_TRIALS:
        return {item.name: item.format(item.draw(rng)) for item in ranges}
    return _suggest_by_model(ranges, history, maximize, rng.getrandbits(32))


def hopeless(values: list[float], finished: list[list[float]], *, maximize: bool) -> bool:
    """SageMaker's early stopping (Auto): worse now than the median of the others' running averages at this point.

    `values` are the objectives a running job has printed so far, `finished` those of the jobs that ended. The median
    stopping rule of Golovin et al. 2017 (Google Vizier), section 3.2, with the latest value instead of the best.
    """
    step = len(values)
    comparable = [other for other in finished if len(other) >= step]
    if not values or not comparable:
        return False
    averages = [statistics.fmean(other[:step]) for other in comparable]
    median = statistics.median(averages)
    return values[-1] < median if maximize else values[-1] > median


def usable(ranges: list[Range], hyperparameters: dict[str, str]) -> dict[str, str] | None:
    """A warm-start parent's hyperparameters as far as these ranges tune them; None when they lie outside."""
    chosen = {item.name: hyperparameters.get(item.name, "") for item in ranges}
    return chosen if all(item.holds(chosen[item.name]) for item in ranges) else None


def _suggest_by_model(ranges: list[Range], history: list[Trial], maximize: bool, seed: int) -> dict[str, str]:
    import optuna  # half a second, and only tuning needs it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=_STARTUP_TRIALS, multivariate=True, constant_liar=True
    )
    study = optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)
    distributions = {item.name: item.distribution() for item in ranges}
    for trial in history:
        state = optuna.trial.TrialState.FAIL
        if trial.objective is not None:
            state = optuna.trial.TrialState.COMPLETE
        elif trial.running:
            state = optuna.trial.TrialState.RUNNING
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params={item.name: item.parse(trial.hyperparameters[item.name]) for item in ranges},
                distributions=distributions,
                value=trial.objective,
            )
        )
    suggestion = study.ask(distributions)
    return {item.name: item.format(suggestion.params[item.name]) for item in ranges}


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _bounds(item: dict[str, str], number: type[float] | type[int]) -> tuple[Any, Any]:
    try:
        low, high = number(item["MinValue"]), number(item["MaxValue"])
    except ValueError:
        raise validation(
            f"Range '{item['Name']}': MinValue '{item['MinValue']}' and MaxValue '{item['MaxValue']}' must both be "
            f"{'integers' if number is int else 'numbers'}."
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise validation(f"Range '{item['Name']}': MinValue {low} must be less than MaxValue {high}, and both finite.")
    return low, high


def _scaling(item: dict[str, str], low: float, high: float, *, continuous: bool) -> str:
    scaling = item.get("ScalingType", "Auto")
    if scaling == "Logarithmic" and low <= 0:
        raise validation(f"Range '{item['Name']}': Logarithmic scaling needs MinValue > 0, got {low}.")
    if scaling == "ReverseLogarithmic" and not (continuous and low >= 0 and high < 1):
        raise validation(
            f"Range '{item['Name']}': ReverseLogarithmic scaling is for continuous ranges within 0 <= x < 1."
        )
    # Auto: a positive range over two orders of magnitude is searched by its logarithm, as people mean it.
    if scaling == "Auto":
        return "Logarithmic" if low > 0 and high / low >= 100 else "Linear"
    return scaling
