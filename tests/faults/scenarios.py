"""Kinds of weeks: what training gives, and how such a run ends where nothing befalls it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.faults import stock
from tests.faults.airflow import DagRun
from tests.faults.installation import Installation
from tests.faults.recipes import PHOTOS, RECIPES
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
    conf: Mapping[str, Any] = field(default_factory=lambda: {"force": True})
    """What the run was triggered with."""
    answer: str | None = None
    """What a person says whom the run asks."""
    dag: str = "retrain"
    recipe: str = "plain"
    """Of recipes.RECIPES."""

    @property
    def scaled(self) -> bool:
        """Whether the recipe asks for autoscaling."""
        return "autoscaling" in RECIPES[self.recipe].get("serving", {})

    def begin(self, installation: Installation, worlds: dict[str, World]) -> tuple[World, DagRun]:
        """A world of its own and the run in it. `worlds` keeps those with champions, which take a run each to make."""
        if self.dag == "stock":
            world = installation.world()
            stock.put_champion(world)
            return self._week(installation, world)
        world = installation.world() if self.first else self._served(installation, worlds).copy()
        return self._week(installation, world)

    def _week(self, installation: Installation, world: World) -> tuple[World, DagRun]:
        world.clock.sleep(WEEK_S)
        world.sagemaker.candidate = GOOD | self.candidate
        world.sagemaker.failures = list(self.failures)
        world.sagemaker.asked.clear()
        world.cloudwatch.answer("PutMetricAlarm", {"AlarmName": "pager"})
        if self.scaled:
            world.scaling.answer("RegisterScalableTarget", {"ResourceId": VARIANT})
        if self.recipe == "shadow":
            world.store.objects[f"{CAPTURED}/2026/11/28/03/requests.jsonl"] = _captured(world.pictures)
        if self.recipe == "spread":
            named = {
                f"{PHOTOS}/{label}/{number}.png": body for number, (body, label) in enumerate(world.pictures.items())
            }
            world.store.objects |= named
        world.sagemaker.debugger_open = self.recipe != "watched"
        return world, self.run(installation, world)

    def run(self, installation: Installation, world: World) -> DagRun:
        """One more in the same world."""
        run = installation.begin(world, self.recipe, self.dag, **self.conf)
        run.answer = self.answer
        return run

    def _served(self, installation: Installation, worlds: dict[str, World]) -> World:
        """What a week finds: a champion, and where a model is to be taken back, one before it."""
        champions = 2 if self.dag == "rollback" else 1
        for number in range(1, champions + 1):
            if f"served {number}" not in worlds:
                world = worlds["served 1"].copy() if number > 1 else installation.world()
                world.clock.sleep(WEEK_S)
                assert installation.begin(world, force=True).finish() == "success"
                worlds[f"served {number}"] = world
        return worlds[f"served {champions}"]


def _captured(pictures: Mapping[bytes, str]) -> bytes:
    """As the endpoint's data capture writes it."""
    sent = {"observedContentType": "image/png", "mode": "INPUT", "encoding": "BASE64"}
    inputs = [sent | {"data": base64.b64encode(body).decode()} for body in pictures]
    return b"".join(json.dumps({"captureData": {"endpointInput": one}}).encode() + b"\n" for one in inputs)


VARIANT = "endpoint/retraining-colors/variant/AllTraffic"
CAPTURED = "colors/captured/retraining-colors/AllTraffic"
WRONG, BROKEN, WORSE, FAILING = {"serves": "wrong"}, {"starts": False}, {"batch": "wrong"}, {"rings": "-5xx"}
ASKS, BACK = {"force": True, "approval": True}, {"reason": "people complain"}
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
        Scenario("skipped", "success", conf={"force": False}),
        Scenario("shadow-good", "success", promotes=True, recipe="shadow"),
        Scenario("shadow-refused", "failed", candidate={"captured": "wrong"}, recipe="shadow"),
        Scenario("canary-good", "success", promotes=True, recipe="canary"),
        Scenario("canary-wrong", "failed", candidate=WRONG, recipe="canary"),
        Scenario("canary-alarm", "failed", candidate=FAILING, recipe="canary"),
        Scenario("linear-good", "success", promotes=True, recipe="linear"),
        Scenario("linear-broken", "failed", candidate=BROKEN, recipe="linear"),
        Scenario("approved", "success", promotes=True, conf=ASKS, answer="Approve"),
        Scenario("rejected", "success", conf=ASKS, answer="Reject"),
        Scenario("unanswered", "success", conf=ASKS),
        Scenario("spread-good", "success", promotes=True, recipe="spread"),
        Scenario("watched-good", "success", promotes=True, recipe="watched"),
        Scenario("taken-back", "success", promotes=True, dag="rollback", conf=BACK),
        Scenario("drill", "success", dag="rollback", conf=BACK | {"drill": True}),
        Scenario("train-fails", "failed", failures=("AlgorithmError: the loss is no number",)),
        Scenario("platform-failure", "success", promotes=True, failures=("InternalServerError: a host was lost",)),
    )
}
#: The weeks that any DAG has, driven by the provider's own operators.
STOCK = {
    f"stock {name}": replace(SCENARIOS[name], name=f"stock {name}", dag="stock", conf={})
    for name in ("update-good", "update-wrong", "update-rolled-back", "kept", "train-fails", "platform-failure")
}
# What is wrong with the training is as wrong each time that it is paid for.
STOCK["stock train-fails"] = replace(STOCK["stock train-fails"], failures=4 * SCENARIOS["train-fails"].failures)
