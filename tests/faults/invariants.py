"""What must be true after every run, whatever befell it: the invariants that a simulation can see.

I1 a job is paid once, I2 an endpoint is asked once, I4 what serves is there, I5 nothing is left running, I6 who serves
was judged, I7 what was taken back is not Approved, I10 the run's state tells the truth.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.faults import stock
from tests.faults.airflow import DagRun
from tests.faults.scenarios import Scenario
from tests.faults.world import World

CHAMPION = "colors/champion.json"
ENDPOINT = "retraining-colors"


def champion(world: World) -> dict[str, Any]:
    """Empty where there is none."""
    return dict(json.loads(world.store.objects.get(CHAMPION, b"{}")))


def harms(world: World, run: DagRun, scenario: Scenario, before: World) -> list[str]:
    """What is wrong after a run of the scenario that began in `before`; empty when all is well."""
    world.sagemaker.settle()
    if scenario.dag == "stock":
        again = _platform_failures(scenario)
        return list(stock.harms(world, run, scenario.ends, scenario.promotes, again, before))
    return [
        *_jobs(world, scenario, before),
        *_registered_once(world, before),
        *_endpoint(world),
        *_watched(world, before),
        *_scaled(world, scenario),
        *_registry(world),
        *_taken_back(world, scenario, before),
        *_judged(world, scenario, before),
        *_told(world, run, scenario, before),
    ]


def lost(run: DagRun, scenario: Scenario) -> list[str]:
    """Where a run did not end as it would have, had nothing befallen it."""
    return [] if run.state == scenario.ends else [f"the run ended {run.state}, not {scenario.ends}: {failed(run)}"]


def failed(run: DagRun) -> dict[str, Any]:
    """Task → why."""
    return {name: str(run.xcoms.get(name, {}).get("failure"))[:200] for name, s in run.states.items() if s == "failed"}


def _jobs(world: World, scenario: Scenario, before: World) -> Iterator[str]:
    for name in world.sagemaker.running():
        yield f"I5: job {name} is left running"
    for kind, jobs in world.sagemaker.jobs.items():
        new = [name for name in jobs if name not in before.sagemaker.jobs[kind]]
        allowed = {
            "TrainingJob": 1 + _platform_failures(scenario),
            "TransformJob": 4 if scenario.recipe == "shadow" else 2,
        }.get(kind, 1)
        if len(new) > allowed:
            yield f"I1: {len(new)} jobs where {allowed} were enough: {new}"


def _platform_failures(scenario: Scenario) -> int:
    """After each of which one more training is worth its price."""
    return sum(why.startswith("Internal") for why in scenario.failures)


def _registered_once(world: World, before: World) -> Iterator[str]:
    new = [arn for arn in world.sagemaker.packages if arn not in before.sagemaker.packages]
    if len(new) > 1:
        yield f"I1: one model was registered {len(new)} times: {new}"


def _endpoint(world: World) -> Iterator[str]:
    named, endpoint = champion(world), world.sagemaker.endpoints.get(ENDPOINT)
    served = endpoint and endpoint["EndpointConfigName"]
    if served != named.get("endpoint_config"):
        yield f"I10: {served} serves, the champion is {named.get('endpoint_config')}"
    if endpoint and endpoint["EndpointStatus"] != "InService":
        yield f"I10: the endpoint is {endpoint['EndpointStatus']}"
    elif served and served not in world.sagemaker.configs:
        yield f"I4: configuration {served} serves and was deleted"
    elif served and world.sagemaker.configs[served]["ProductionVariants"][0]["ModelName"] not in world.sagemaker.models:
        yield f"I4: the model of {served} serves and was deleted"
    for operation in ("CreateEndpoint", "UpdateEndpoint"):
        asked = [config for what, config in world.sagemaker.asked if what == operation]
        if len(set(asked)) < len(asked):
            yield f"I2: {operation} was asked twice for {asked}"


def _watched(world: World, before: World) -> Iterator[str]:
    for name in world.cloudwatch.alarms.keys() - before.cloudwatch.alarms.keys():
        yield f"I5: alarm {name} is left behind"


def _scaled(world: World, scenario: Scenario) -> Iterator[str]:
    if scenario.scaled and ENDPOINT in world.sagemaker.endpoints and not world.scaling.of(ENDPOINT):
        yield f"I10: {ENDPOINT} is not scaled"


def _registry(world: World) -> Iterator[str]:
    named = champion(world)
    for arn, package in world.sagemaker.packages.items():
        model = package["CustomerMetadataProperties"]["run_name"]
        artifact = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"].split("/", 3)[3]
        if artifact not in world.store.objects:
            yield f"I6: package {arn} is of {artifact}, which no job of this deployment made"
            continue
        serves = json.loads(world.store.objects[artifact])
        status = package["ModelApprovalStatus"]
        if status == "Approved" and (serves["serves"] == "wrong" or not serves["starts"]):
            yield f"I7: package {arn} of a release that failed is Approved"
        if named.get("run_name") == model and status != "Approved":
            yield f"I7: package {arn} of the champion is {status}"


def _taken_back(world: World, scenario: Scenario, before: World) -> Iterator[str]:
    """A champion that a person took back stays out; one that made way for a drill alone does not."""
    left = champion(before).get("model_package_arn")
    if scenario.dag == "rollback" and left:
        status, moved = world.sagemaker.packages[left]["ModelApprovalStatus"], champion(world) != champion(before)
        if (status == "Approved") == (moved and scenario.promotes):
            yield f"I7: package {left} of the champion that was left is {status}"


def _judged(world: World, scenario: Scenario, before: World) -> Iterator[str]:
    moved = champion(world).get("run_name") != champion(before).get("run_name")
    if moved and not scenario.promotes:
        yield f"I6: a candidate of {scenario.name} became the champion"


def _told(world: World, run: DagRun, scenario: Scenario, before: World) -> Iterator[str]:
    moved = champion(world).get("run_name") != champion(before).get("run_name")
    if run.state == "success" and moved != scenario.promotes:
        yield f"I10: the run is green, and its candidate was {'' if moved else 'not '}promoted"
    if run.state == "success" and scenario.ends == "failed":
        yield "I10: the run is green, and its work was not done"
    if "report" in run.states and not any(key.endswith("report.json") for key in _new(world, before)):
        yield "I10: nobody wrote a report"


def _new(world: World, before: World) -> list[str]:
    return [key for key in world.store.objects if key not in before.store.objects]
