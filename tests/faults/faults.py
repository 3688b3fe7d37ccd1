"""What befalls a run. Each function makes all faults of one kind for a scenario, one simulated run for each."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import greenlet
from botocore.exceptions import ConnectionClosedError

from tests.faults.airflow import DagRun, Killed, Marked, carry
from tests.faults.branches import Branches
from tests.faults.installation import Installation
from tests.faults.invariants import CHAMPION, failed, harms, lost
from tests.faults.scenarios import SCENARIOS, STOCK, WEEK_S, Scenario
from tests.faults.wire import Answer, Refusal
from tests.faults.world import BUCKET, World

MUTATING = ("Create", "Update", "Delete", "Put", "Stop")
HOUR_S = 3600
Weather = tuple[str, tuple[str, str, int]]
"""What the calls of a service are answered with: how these begin, and a Refusal."""
THROTTLED: Weather = "sagemaker.", ("ThrottlingException", "Rate exceeded", 400)
STORE_AWAY: Weather = "s3.", ("SlowDown", "Please reduce your request rate.", 503)
EXPIRED: Weather = "", ("ExpiredToken", "The security token is expired", 400)
OCCUPIED: Weather = (
    "sagemaker.CreateT",
    (
        "ResourceLimitExceeded",
        "The account-level service limit 'ml.m5.large for transform job usage' is 1 Instances, with current "
        "utilization of 1 Instances and a request delta of 1 Instances.",
        400,
    ),
)
STALLS = ("signing", "before")
"""Hooks of a World: where an attempt may stall, before its request is signed and before it is sent."""


@dataclass
class Finding:
    """One simulated run, and what was wrong after it."""

    scenario: str
    point: str
    harmful: list[str]
    lost: list[str] = field(default_factory=list)


@dataclass
class Laboratory:
    """Where simulated runs are made."""

    installation: Installation
    worlds: dict[str, World] = field(default_factory=dict)
    known: dict[str, list[str]] = field(default_factory=dict)
    signed: dict[str, list[str]] = field(default_factory=dict)

    def begin(self, scenario: Scenario) -> tuple[World, DagRun, World]:
        """A world, a run that has not begun, and the world as it was."""
        world, run = scenario.begin(self.installation, self.worlds)
        return world, run, world.copy()

    def calls(self, scenario: Scenario) -> list[str]:
        """The calls of a run that nothing befalls."""
        if scenario.name in self.known:
            return self.known[scenario.name]
        world, run, before = self.begin(scenario)
        run.finish()
        found = harms(world, run, scenario, before) + lost(run, scenario)
        assert not found, (scenario.name, found, failed(run))
        self.known[scenario.name], self.signed[scenario.name] = list(world.calls), list(world.signed)
        return self.known[scenario.name]


Faults = Callable[..., Iterator[Finding]]


def kill(*_: Any) -> None:
    raise Killed


def kills(laboratory: Laboratory, scenario: Scenario, first: int = 0, step: int = 1) -> Iterator[Finding]:
    """A process dies before or after a call, or between two of them; at each `step`-th of these points."""
    world, run, before = laboratory.begin(scenario)
    branches = Branches(first, step)
    world.before = lambda number, call: branches.offer(f"before {number} {call}", kill)
    world.after = lambda number, call: branches.offer(f"after {number} {call}", kill)
    run.at = lambda point: branches.offer(f"at {point}", kill)
    yield from branches.ended(run.finish, lambda point: _found(world, run, scenario, before, point))


def kill_at_call(laboratory: Laboratory, scenario: Scenario, call: str, side: str = "after") -> Finding:
    """A process dies at the first call of an operation, such as sagemaker.CreateModel."""
    world, run, before = laboratory.begin(scenario)
    left = [call]

    def die(number: int, made: str) -> None:
        if made in left:
            left.clear()
            raise Killed

    setattr(world, side, die)
    return _judge(world, run, scenario, before, f"{side} {call}")


def undisturbed(laboratory: Laboratory, scenario: Scenario) -> Finding:
    world, run, before = laboratory.begin(scenario)
    return _judge(world, run, scenario, before, "nothing")


def mark_waiting(laboratory: Laboratory, scenario: Scenario, name: str, what: str, state: str) -> Finding:
    """A person marks a task that waits, or its run. Its job is stopped; the endpoint goes on changing."""
    world, run, before = laboratory.begin(scenario)
    run.waits = _marker(run, name, what, state)
    run.finish()
    told = [f"I5: job {job} is left running" for job in world.sagemaker.running()]
    world.clock.sleep(3600)
    told += harms(world, run, scenario, before)
    return Finding(scenario.name, f"mark {what} {state} while {name} waits", told)


def lost_replies(laboratory: Laboratory, scenario: Scenario) -> Iterator[Finding]:
    """The service has done it, and its answer is lost; botocore asks again."""

    def lose() -> None:
        raise ConnectionClosedError(endpoint_url="http://127.0.0.1:9")

    world, run, before = laboratory.begin(scenario)
    branches = Branches()
    world.after = lambda number, call: branches.offer(f"lost reply {number} {call}", lose) if _mutates(call) else None
    yield from branches.ended(run.finish, lambda point: _found(world, run, scenario, before, point))


def single_errors(laboratory: Laboratory, scenario: Scenario) -> Iterator[Finding]:
    """One 500."""

    def break_() -> None:
        raise Refusal("InternalFailure", "We encountered an internal error", 500)

    world, run, before = laboratory.begin(scenario)
    branches = Branches()
    world.before = lambda number, call: branches.offer(f"500 {number} {call}", break_)
    yield from branches.ended(run.finish, lambda point: _found(world, run, scenario, before, point))


def throttling(laboratory: Laboratory, scenario: Scenario, most: int | None = None) -> Iterator[Finding]:
    """Ten minutes of it."""
    yield from _weather(laboratory, scenario, THROTTLED, 600, most)


def throttling_hour(laboratory: Laboratory, scenario: Scenario, step: int = 1) -> Iterator[Finding]:
    yield from _weather(laboratory, scenario, THROTTLED, HOUR_S, step=step)


def store_away(laboratory: Laboratory, scenario: Scenario) -> Iterator[Finding]:
    """S3 answers 503 for two minutes."""
    yield from _weather(laboratory, scenario, STORE_AWAY, 120)


def store_away_hour(laboratory: Laboratory, scenario: Scenario, step: int = 1) -> Iterator[Finding]:
    yield from _weather(laboratory, scenario, STORE_AWAY, HOUR_S, step=step)


def expired(laboratory: Laboratory, scenario: Scenario) -> Iterator[Finding]:
    """Ten minutes with an old token."""
    yield from _weather(laboratory, scenario, EXPIRED, 600)


def expired_hour(laboratory: Laboratory, scenario: Scenario, step: int = 1) -> Iterator[Finding]:
    yield from _weather(laboratory, scenario, EXPIRED, HOUR_S, step=step)


def occupied(laboratory: Laboratory, scenario: Scenario) -> Iterator[Finding]:
    """Four hours, as long as a transform job may take, in which another one has the account's quota."""
    yield from _weather(laboratory, scenario, OCCUPIED, 4 * HOUR_S)


def zombies(laboratory: Laboratory, scenario: Scenario) -> Iterator[Finding]:
    """An attempt stalls before it signs a mutating call, or before it sends it, and wakes when its task, its run or
    next week's run has ended."""
    for stalls in STALLS:
        for number, call in enumerate(_calls(laboratory, scenario, stalls)):
            for moment in ("task", "run", "week") if _mutates(call) else ():
                yield _zombie(laboratory, scenario, stalls, number, moment, f"{number} {call}")


def zombie_at_call(laboratory: Laboratory, scenario: Scenario, stalls: str, call: str, moment: str) -> Finding:
    """The same at the first call of an operation, such as sagemaker.DeleteEndpoint."""
    return _zombie(laboratory, scenario, stalls, call, moment, call)


def clears(laboratory: Laboratory, scenario: Scenario) -> Iterator[Finding]:
    """After the end a person clears a task, alone or with what follows it."""
    world, run, _ = laboratory.begin(scenario)
    run.finish()
    for name in [name for name, state in run.states.items() if state is not None]:
        for downstream in (False, True):
            world, run, before = laboratory.begin(scenario)
            run.finish()
            world.clock.sleep(3600)
            run.clear(name, downstream)
            run.finish()
            yield Finding(
                scenario.name, f"clear {name}{' and downstream' * downstream}", harms(world, run, scenario, before)
            )


def marks(laboratory: Laboratory, scenario: Scenario) -> Iterator[Finding]:
    """While a task waits a person marks it, or its run, as failed or as a success."""
    waiting: list[str] = []
    _, run, _ = laboratory.begin(scenario)
    run.waits = lambda task, trigger: waiting.append(task.task_id)
    run.finish()
    for name in dict.fromkeys(waiting):
        for what in ("task", "run"):
            for state in ("failed", "success"):
                yield mark_waiting(laboratory, scenario, name, what, state)


def interleaved(laboratory: Laboratory, scenario: Scenario, seeds: range = range(20)) -> Iterator[Finding]:
    """Two runs of one DAG at once, task by task."""
    for seed in seeds:
        chance = random.Random(seed)
        world, run, before = laboratory.begin(scenario)
        world.clock.sleep(1)
        world.sagemaker.failures *= 2  # of either run's training
        runs = [run, scenario.run(laboratory.installation, world)]
        open_ = list(runs)
        while open_:
            one = chance.choice(open_)
            if (task := one.next()) is None:
                open_.remove(one)
            else:
                one.run(task)
        # Jobs are counted by run, and there are two; one may have lost to the other, and is red then.
        told = [h for h in harms(world, runs[0], scenario, before) if not h.startswith(("I1:", "I10: the run", "I2"))]
        yield Finding(scenario.name, f"seed {seed}", told)


def namesakes(laboratory: Laboratory, scenario: Scenario) -> Iterator[Finding]:
    """Another deployment of the account has a job of the name that the run will ask for, and it ended well."""
    world, run, before = laboratory.begin(scenario)
    run.finish()
    for kind, jobs in world.sagemaker.jobs.items():
        for name in jobs.keys() - before.sagemaker.jobs[kind].keys():
            text = json.dumps(jobs[name]).replace(f"s3://{BUCKET}/", "s3://another/")
            taken, run, untouched = laboratory.begin(scenario)
            _found_under_any_name(taken, kind, json.loads(text))
            run.finish()
            told = harms(taken, run, scenario, untouched)
            if run.state == "success":
                told.append("I1: the run is green, by the job of another deployment")
            yield Finding(scenario.name, f"namesake {kind} {name}", told)


def pointer_moved(laboratory: Laboratory, scenario: Scenario) -> Iterator[Finding]:
    """Somebody writes champion.json in the moment before the run does."""
    world, run, before = laboratory.begin(scenario)
    put, note = world.store._put, b" "  # still the same document, by another ETag

    def put_second(key: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if key == CHAMPION and note not in moved:
            moved.append(note)
            world.store.objects[key] = before.store.objects.get(key, b"{}") + note
        return put(key, headers, body)

    moved: list[bytes] = []
    world.store._put = put_second  # type: ignore[method-assign]
    run.finish()
    if not moved:
        return
    told = harms(world, run, scenario, before)
    if not world.store.objects[CHAMPION].endswith(note):
        told.append("I6: champion.json was written over what another had written meanwhile")
    yield Finding(scenario.name, "champion.json moved", told)


KINDS: dict[str, Faults] = {
    faults.__name__: faults
    for faults in (
        kills, lost_replies, single_errors, throttling, throttling_hour, store_away, store_away_hour, expired,
        expired_hour, occupied, zombies, clears, marks, interleaved, namesakes, pointer_moved,
    )
}  # fmt: skip


# --- parts ----------------------------------------------------------------------------------------------------------


def _judge(world: World, run: DagRun, scenario: Scenario, before: World, point: str) -> Finding:
    run.finish()
    return _found(world, run, scenario, before, point)


def _found(world: World, run: DagRun, scenario: Scenario, before: World, point: str) -> Finding:
    return Finding(scenario.name, point, harms(world, run, scenario, before), lost(run, scenario))


def _calls(laboratory: Laboratory, scenario: Scenario, stalls: str) -> list[str]:
    sent = laboratory.calls(scenario)
    return sent if stalls == "before" else laboratory.signed[scenario.name]


def _zombie(laboratory: Laboratory, scenario: Scenario, stalls: str, at: int | str, moment: str, point: str) -> Finding:
    world, run, before = laboratory.begin(scenario)
    sleeper = _Sleeper(run, world, stalls, at)
    sleeper.wakes_with_task = moment == "task"
    run.finish()
    run_at_end, of = run, scenario
    if moment == "week":
        before = world.copy()
        world.clock.sleep(WEEK_S)
        of = SCENARIOS["update-good" if world.sagemaker.endpoints else "first-good"]
        if scenario.dag == "stock":
            of = STOCK["stock update-good"]
        world.sagemaker.candidate = {"batch": "right", "serves": "right", "starts": True}
        world.sagemaker.asked.clear()
        run_at_end = laboratory.installation.begin(world, dag=of.dag, **of.conf)
        run_at_end.finish()
    if moment != "task":
        sleeper.wake()
    world.clock.sleep(3600)
    found = harms(world, run_at_end, of, before), lost(run_at_end, of)
    return Finding(scenario.name, f"zombie {moment} {stalls} {point}", *found)


def _weather(
    laboratory: Laboratory,
    scenario: Scenario,
    weather: Weather,
    seconds: float,
    most: int | None = None,
    step: int = 1,
) -> Iterator[Finding]:
    """From each call to the service on, or from each `step`-th, or from the first `most` of them."""
    service, error = weather
    world, run, before = laboratory.begin(scenario)
    branches = Branches(step=step, most=most)
    ends: list[float] = []

    def begins() -> None:
        ends.append(world.clock.now + seconds)

    def hook(number: int, call: str) -> None:
        if call.startswith(service):
            if not ends:
                branches.offer(f"{error[0]} {number} {call}", begins)
            if ends and world.clock.now < ends[0]:
                raise Refusal(*error)

    world.before = hook
    yield from branches.ended(run.finish, lambda point: _found(world, run, scenario, before, point))


def _found_under_any_name(world: World, kind: str, job: dict[str, Any]) -> None:
    """The first job of this kind that is looked for and is not there."""
    describe, jobs = world.sagemaker._describe_job, world.sagemaker.jobs[kind]
    left = [job]

    def found(asked: str, request: Mapping[str, Any]) -> dict[str, Any]:
        name = request[f"{asked}Name"]
        if asked == kind and name not in jobs and left:
            jobs[name] = left.pop() | {f"{kind}Name": name}
        return describe(asked, request)

    world.sagemaker._describe_job = found  # type: ignore[method-assign]


def _mutates(call: str) -> bool:
    return call.partition(".")[2].startswith(MUTATING)


def _marker(run: DagRun, name: str, what: str, state: str) -> Callable[[Any, Any], None]:
    def waits(task: Any, trigger: Any) -> None:
        if task.task_id != name:
            return
        run.waits = lambda task, trigger: None
        if what == "run":
            run.mark(name, state)
        run.states[name] = state
        if trigger is not None:
            carry(trigger.on_kill())
        raise Marked

    return waits


class _Sleeper:
    """The attempt of a run that makes a call, told by its number or its name, and sleeps before it (or signs it)."""

    def __init__(self, run: DagRun, world: World, stalls: str, at: int | str) -> None:
        self.run, self.asleep, self.wakes_with_task = run, None, False
        self._begin, self._own = run.attempt, run.run
        run.attempt, run.run = self._attempt, self._run  # type: ignore[method-assign]
        setattr(world, stalls, lambda number, call: self._sleep() if at in (number, call) else None)

    def _sleep(self) -> None:
        if self.asleep is not None:
            return
        self.asleep = greenlet.getcurrent()
        self.asleep.parent.switch("asleep")

    def _attempt(self, task: Any) -> str:
        state = greenlet.greenlet(self._begin).switch(task)
        if state == "asleep":
            raise Killed
        return str(state)

    def _run(self, task: Any) -> None:
        was = self.asleep
        self._own(task)
        if self.wakes_with_task and self.asleep is not None and was is None:
            self.wake()

    def wake(self) -> None:
        """Goes on with what it was about to do; Airflow no longer listens."""
        if self.asleep is None or self.asleep.dead:
            return
        self.run.deaf = True
        try:
            self.asleep.parent = greenlet.getcurrent()
            self.asleep.switch()
        except (Exception, Killed, Marked):
            pass
        self.run.deaf = False
