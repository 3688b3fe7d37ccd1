"""Kinds of weeks: what training gives, and how such a run ends where nothing befalls it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults.airflow import DagRun
from tests.faults.installation import Installation
from tests.faults.service import GOOD
from tests.faults.world import World

WEEK_S = 7 * 24 * 3600


@dataclass(frozen=True)
class Scenario:
    """`first`: nothing serves yet. `ends`: the run's state; `promotes`: whether the candidate serves then."""

    name: str
    ends: str
    promotes: bool = False
    first: bool = False
    candidate: dict[str, Any] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    force: bool = True
    shadow: bool = False
    """Whether the recipe asks for one, of images that clients sent."""

    def begin(self, installation: Installation, worlds: dict[str, World]) -> tuple[World, DagRun]:
        """A world of its own and the run in it. `worlds` keeps the one with a champion, which takes a run to make."""
        if not self.first and "served" not in worlds:
            served = installation.world()
            assert installation.begin(served).finish() == "success"
            worlds["served"] = served
        world = installation.world() if self.first else worlds["served"].copy()
        world.clock.sleep(WEEK_S)
        world.sagemaker.candidate = GOOD | self.candidate
        world.sagemaker.failures = list(self.failures)
        world.sagemaker.asked.clear()
        if self.shadow:
            world.store.objects[f"{CAPTURED}/2026/11/28/03/requests.jsonl"] = _captured(world.pictures)
        return world, installation.begin(world, shadow=self.shadow, force=self.force)


def _captured(pictures: Mapping[bytes, str]) -> bytes:
    """As the endpoint's data capture writes it."""
    sent = {"observedContentType": "image/png", "mode": "INPUT", "encoding": "BASE64"}
    inputs = [sent | {"data": base64.b64encode(body).decode()} for body in pictures]
    return b"".join(json.dumps({"captureData": {"endpointInput": one}}).encode() + b"\n" for one in inputs)


CAPTURED = "colors/captured/retraining-colors/AllTraffic"
WRONG, BROKEN, WORSE = {"serves": "wrong"}, {"starts": False}, {"batch": "wrong"}
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("first-good", "success", promotes=True, first=True),
        Scenario("first-wrong", "failed", first=True, candidate=WRONG),
        Scenario("first-broken", "failed", first=True, candidate=BROKEN),
        Scenario("update-good", "success", promotes=True),
        Scenario("update-rolled-back", "failed", candidate=BROKEN),
        Scenario("update-wrong", "failed", candidate=WRONG),
        Scenario("kept", "success", candidate=WORSE),
        Scenario("skipped", "success", force=False),
        Scenario("shadow-good", "success", promotes=True, shadow=True),
        Scenario("shadow-refused", "failed", candidate={"captured": "wrong"}, shadow=True),
        Scenario("train-fails", "failed", failures=("AlgorithmError: the loss is no number",)),
        Scenario("platform-failure", "success", promotes=True, failures=("InternalServerError: a host was lost",)),
    )
}
