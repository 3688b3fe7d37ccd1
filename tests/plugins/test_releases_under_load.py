"""Releases while clients never stop asking: none of their requests fails, and a bad model gets its canary's share.

`make releases` does more of them, and tells figures.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from retraining.recipe.deployment import Deployment
from retraining.release.rollback import Rollback
from retraining.run import Run
from tests.plugins.load import Load
from tests.plugins.release_run import GOLDEN, Runs, deploy, promote, served

UPDATES, BAD = (int(os.environ.get(name, few)) for name, few in (("UPDATES", 3), ("BAD", 1)))
REQUESTS = int(os.environ.get("REQUESTS", 0))
STRATEGIES = (
    Deployment(strategy="canary", percent=10, bake_seconds=1),
    Deployment(strategy="linear", percent=50, bake_seconds=1),
    Deployment(),
)
BAD_ONES = ({"label": "b"}, {"mumbles": ""}, {"answer": '{"predictions": 3}'})
"""They answer, and wrongly: what fails at a request loses it."""


def by(run: Run, deployment: Deployment) -> Run:
    run.recipe = replace(run.recipe, deployment=deployment, serving=replace(run.recipe.serving, instance_count=2))
    run.plan = replace(run.plan, recipe=run.recipe)
    return run


def rollback_of(run: Run) -> Rollback:
    plan = replace(run.plan, environment=replace(run.environment, poll_seconds=0.1))
    return Rollback(plan=plan, s3=run.s3, sagemaker=run.sagemaker, runtime=run.runtime, scaling=run.scaling)


@pytest.fixture
def first(runs: Runs) -> Iterator[Run]:
    """The champion: a release of its own."""
    run = by(runs(1), STRATEGIES[0])
    promote(run)
    yield run
    run.sagemaker.delete_endpoint(EndpointName=run.plan.endpoint)


def test_releases_lose_no_request(runs: Runs, first: Run) -> None:
    seconds = []
    with Load(first) as load:
        for number, strategy in zip(range(2, UPDATES + 2), itertools.cycle(STRATEGIES), strict=False):
            run = by(runs(number), strategy)
            promote(run)
            assert served(run) == run.plan.endpoint_config
            if number % 2 == 0:
                back = rollback_of(run)
                to = back.choose()
                began = time.monotonic()
                back.go_back(to, reason="a test", by="ada")
                seconds.append(time.monotonic() - began)
                back.go_back(run.plan.run_name, reason="a test", by="ada")
        load.wait_for(REQUESTS)
    assert load.failures == []
    print(f"\n{UPDATES} updates, {2 * len(seconds)} rollbacks, {load.asked} requests, 0 failed;")
    print(f"a rollback: {sorted(seconds)[len(seconds) // 2]:.1f} s in the middle, {max(seconds):.1f} s at most")


def test_a_bad_canary_costs_no_request(runs: Runs, first: Run) -> None:
    with Load(first) as load:
        load.wait_for(load.asked + 50)
        for number, model in zip(range(2, BAD + 2), itertools.cycle(BAD_ONES), strict=False):
            before, run = (
                load.labels.copy(),
                by(runs(number), Deployment(strategy="canary", percent=10, bake_seconds=3600)),
            )
            run.fact("compare", key="comparison")["golden"] = {GOLDEN: "a"}
            with pytest.raises(AirflowFailException, match=r"a/1\.png"):
                deploy(run, **model)
            assert served(run) == first.plan.endpoint_config
            since = load.labels - before
            assert since.total() - since["a"] <= 0.15 * since.total() + 5
        load.wait_for(REQUESTS)
    bad = load.asked - load.labels["a"] - len(load.failures)
    print(f"\n{BAD} bad models at a canary of 10 %: {load.asked} requests, {len(load.failures)} failed, {bad} wrong")
