"""How a promoted model takes over the endpoint's requests."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from retraining.recipe.refusal import require
from retraining.recipe.rules import SECTION, Between, Where

# SageMaker's MaximumExecutionTimeoutInSeconds is at least 10 minutes and at most 8 hours; beside the waits, starting a
# fleet has half an hour of it.
LEAST_SECONDS, MOST_SECONDS, START_SECONDS = 600, 28_800, 1800
MAX_ALARMS = 10
BOUNDS = ("max_5xx_percent", "max_4xx_percent", "max_model_error_percent", "max_latency_ratio")
# CloudWatch's shortest period, and what it takes until a run that waits is woken and asks golden images.
LEAST_BAKE_SECONDS = 60
MIN_SHADOW = 20
BAKE_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """Requests that candidate and champion answer both, before the candidate has any traffic."""

    __pydantic_config__ = SECTION

    requests: Annotated[int, Between(MIN_SHADOW, 5000)] = 200
    """The newest that the endpoint captured; test images where the recipe keeps none, or fewer than 20 were."""
    min_agreement: Annotated[float, Between(0, 1)] | None = None
    """The share of them that both have to answer with the same class."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """SageMaker's blue/green update: a fresh fleet beside the one that serves, which comes back if an alarm goes off.

    Source of the bounds: SageMaker's API reference, TrafficRoutingConfig and BlueGreenUpdatePolicy.
    """

    __pydantic_config__ = SECTION

    strategy: Literal["all_at_once", "canary", "linear"] = "all_at_once"
    percent: Annotated[int, Between(1, 50, " percent")] | None = None
    """Of the instances: the canary's, or those of each linear step. 10 for a canary and 25 for a step when left out."""
    bake_seconds: (
        Annotated[
            int,
            Between(0, 3600),
            Where(
                lambda seconds: seconds == 0 or seconds >= LEAST_BAKE_SECONDS,
                "in so short a time nobody notices that it bakes, and no golden image is asked",
                f"Bake {LEAST_BAKE_SECONDS} seconds or more, or 0.",
            ),
        ]
        | None
    ) = None
    """How long the alarms are watched after each shift. 300 when left out, 0 for all_at_once without alarms."""
    termination_wait_seconds: Annotated[int, Between(0, 3600)] = 0
    """How long the fleet that served stays, paid for, after the last shift, while the alarms are still watched."""
    alarms: Annotated[
        list[str],
        Where(lambda names: len(names) <= MAX_ALARMS, f"SageMaker watches {MAX_ALARMS} alarms at most"),
        Where(
            lambda names: all(name.strip() and re.fullmatch(r".{1,255}", name) for name in names),
            "must be names of CloudWatch alarms, of one line and at most 255 characters",
        ),
    ] = field(default_factory=list)
    """CloudWatch alarms of your own: one that goes off takes all requests back to the model that served."""
    max_5xx_percent: Annotated[float, Between(0, 100, " percent")] | None = None
    """Of the new model's requests within a minute; the run makes an alarm for it and for the next ones."""
    max_4xx_percent: Annotated[float, Between(0, 100, " percent")] | None = None
    max_model_error_percent: Annotated[float, Between(0, 100, " percent")] | None = None
    """Of requests that the model refused, failed at or did not answer in time."""
    max_latency_ratio: Annotated[float, Between(1, 100)] | None = None
    """What the new model takes for a request, on average within a minute, in multiples of the champion's."""
    shadow: Shadow | None = None

    def __post_init__(self) -> None:
        require(
            self.percent is None or self.strategy != "all_at_once",
            "percent",
            self.percent,
            "all_at_once shifts all requests",
            "Set strategy: canary or linear, or leave it out.",
        )
        require(
            self.strategy != "linear" or self.step_percent >= 10,
            "percent",
            self.percent,
            "a linear step is 10 to 50 percent",
        )
        require(
            not self.bounds or self.bake >= LEAST_BAKE_SECONDS,
            "bake_seconds",
            self.bake_seconds,
            f"CloudWatch judges {', '.join(self.bounds)} by the minute",
            f"Bake {LEAST_BAKE_SECONDS} seconds or more.",
        )
        require(
            len(self.alarms) + self.own_alarms <= MAX_ALARMS,
            "alarms",
            self.alarms,
            f"SageMaker watches {MAX_ALARMS} alarms at most, and {self.own_alarms} are the run's own",
        )
        require(
            self.wait_seconds <= MOST_SECONDS - START_SECONDS,
            "bake_seconds",
            self.bake_seconds,
            f"{self.shifts} shifts of {self.bake} s and {self.termination_wait_seconds} s in the end are "
            f"{self.wait_seconds} s; SageMaker gives a deployment {MOST_SECONDS} s, of which starting needs "
            f"{START_SECONDS}",
            "Bake shorter, or take larger steps.",
        )

    @property
    def guarded(self) -> bool:
        """Whether SageMaker has to be told anything: its own default is all at once, watched by nobody."""
        return self.strategy != "all_at_once" or bool(self.alarms or self.bake or self.termination_wait_seconds)

    @property
    def bounds(self) -> dict[str, float]:
        """The key of each bound that is set → its value."""
        return {name: value for name in BOUNDS if (value := getattr(self, name)) is not None}

    @property
    def own_alarms(self) -> int:
        """How many alarms the run makes at most: one for each bound and, where it bakes, one for golden images."""
        return len(self.bounds) + bool(self.bake)

    @property
    def step_percent(self) -> int:
        return self.percent or {"all_at_once": 100, "canary": 10, "linear": 25}[self.strategy]

    @property
    def bake(self) -> int:
        """Seconds after each shift."""
        if self.bake_seconds is not None:
            return self.bake_seconds
        return BAKE_SECONDS if self.alarms or self.bounds or self.strategy != "all_at_once" else 0

    @property
    def shifts(self) -> int:
        return {"all_at_once": 1, "canary": 2, "linear": math.ceil(100 / self.step_percent)}[self.strategy]

    @property
    def wait_seconds(self) -> int:
        """What an update takes beyond starting the fresh fleet."""
        return self.shifts * self.bake + self.termination_wait_seconds

    @property
    def timeout_seconds(self) -> int:
        """After which SageMaker gives the update up and goes back."""
        return max(LEAST_SECONDS, self.wait_seconds + START_SECONDS)
