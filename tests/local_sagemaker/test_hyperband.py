"""Hyperband: its brackets, its verdicts and its budget; and jobs that are really stopped at the rungs."""

from __future__ import annotations

import random
import statistics
from typing import Any

import pytest

from local_sagemaker.tuning import hyperband
from local_sagemaker.tuning.hyperband import Bracket
from tests.local_sagemaker.harness import Server
from tests.local_sagemaker.tuning import children, limits, run, tuning_request


def test_brackets_are_those_of_the_paper() -> None:
    """Li et al. 2018, table 1 (there 81 = R, so one bracket more), and MinResource in place of 1."""
    assert hyperband.brackets(1, 81) == [
        Bracket(81, (1, 3, 9, 27)),
        Bracket(34, (3, 9, 27)),
        Bracket(15, (9, 27)),
        Bracket(8, (27,)),
        Bracket(5, ()),
    ]
    assert hyperband.brackets(3, 9) == [Bracket(3, (3,)), Bracket(2, ())]
    assert hyperband.brackets(2, 5) == [Bracket(1, ())]


@pytest.mark.parametrize("count", [17, 34])
def test_trials_are_shared_out_among_the_brackets_in_proportion(count: int) -> None:
    brackets = hyperband.brackets(1, 9)
    chosen = [hyperband.bracket_of(index, brackets) for index in range(count)]
    assert [chosen.count(index) for index in range(3)] == [bracket.size * count // 17 for bracket in brackets]
    assert set(chosen[:4]) == {0, 1, 2}


def verdict(own: list[float], others: list[list[float]], *, arrived: float = 10, maximize: bool = True) -> bool:
    """`others` came to each unit before; `own` comes to all of its units at `arrived`."""
    return hyperband.is_stopped(
        Bracket(27, (1, 3, 9)),
        [(arrived, value) for value in own],
        [[(float(unit), value) for unit, value in enumerate(other)] for other in others],
        27,
        maximize=maximize,
    )


def test_only_the_best_third_passes_a_rung() -> None:
    nine = [[float(value)] for value in range(8)]  # with the job itself nine, of which three go on
    assert not verdict([5.5], nine)
    assert verdict([4.5], nine)
    assert verdict([2.5], nine, maximize=True)
    assert not verdict([1.5], nine, maximize=False)


def test_first_at_a_rung_goes_on_and_who_comes_later_does_not_count() -> None:
    assert not verdict([1.0], [])
    assert verdict([1.0], [[2.0]])
    assert not verdict([1.0], [[2.0]], arrived=-1)


def test_nothing_happens_between_rungs() -> None:
    better = [[9.0, 9.0, 9.0]] * 5
    assert not verdict([10.0, 1.0], better)
    assert verdict([10.0, 1.0, 1.0], better)


def test_job_beyond_max_resource_is_stopped_but_not_one_that_saves_its_model() -> None:
    assert not verdict([1.0] * 27, [])
    assert verdict([1.0] * 28, [])


def test_budget_is_near_what_hyperband_promises() -> None:
    """49 trials of up to 27 units, four at a time. Successive halving in four brackets spends 357 units, running all
    to their end 1323. Not waiting at the rungs costs up to half more in the median of 20 seeds; and a configuration
    among the best five of all reaches the end in each."""
    promised = 357
    spent = []
    for seed in range(20):
        jobs = simulated(seed)
        spent.append(sum(len(series) for _, series in jobs))
        finished = [quality for quality, series in jobs if len(series) == 27]
        assert max(finished) >= sorted(quality for quality, _ in jobs)[-5]
    assert statistics.median(spent) < 1.5 * promised
    assert max(spent) < 1323 / 2 + 50


def simulated(seed: int, max_resource: int = 27, count: int = 49) -> list[tuple[float, list[tuple[float, float]]]]:
    """(quality, series) of each job; what a job prints comes closer to its quality with each unit."""
    rng, brackets, clock = random.Random(seed), hyperband.brackets(1, max_resource), 0.0
    bracket_of = [hyperband.bracket_of(index, brackets) for index in range(count)]
    jobs: list[tuple[float, list[tuple[float, float]]]] = []
    running: list[int] = []
    while running or len(jobs) < count:
        while len(running) < 4 and len(jobs) < count:
            jobs.append((rng.random(), []))
            running.append(len(jobs) - 1)
        for index in list(running):
            quality, series = jobs[index]
            clock += 1
            series.append((clock, quality + rng.gauss(0, 0.1) / (len(series) + 1)))
            bracket = bracket_of[index]
            others = [other for place, (_, other) in enumerate(jobs) if place != index and bracket_of[place] == bracket]
            stopped = hyperband.is_stopped(brackets[bracket], series, others, max_resource, maximize=True)
            if stopped or len(series) == max_resource:
                running.remove(index)
    return jobs


#: Jobs 1, 3 and 5 are in the bracket with a rung at three units, 2 and 4 in the one without. The first is the best.
#: What nobody stops after its fourth unit runs on for ten minutes.
EPOCHS = """
import os, time
number = int(os.environ["TRAINING_JOB_NAME"].split("-")[-2])
for epoch in range(9):
    print(f"score={10 - number + 0.01 * epoch}", flush=True)
    time.sleep(600 if number in (3, 5) and epoch == 3 else 0)
"""


def test_bad_jobs_are_stopped_at_the_rung(server: Server) -> None:
    request = tuning_request(
        server,
        "hyperband",
        EPOCHS,
        Strategy="Hyperband",
        StrategyConfig={"HyperbandStrategyConfig": {"MinResource": 3, "MaxResource": 9}},
        ResourceLimits=limits(5, 1),
    )
    job = run(server, request)
    jobs = children(server, "hyperband")
    assert [child["TrainingJobStatus"] for child in jobs] == [
        "Completed",
        "Completed",
        "Stopped",
        "Completed",
        "Stopped",
    ]
    units = [units_of(server, child["TrainingJobName"]) for child in jobs]
    assert units == [9, 9, 4, 9, 4]
    assert job["BestTrainingJob"]["TrainingJobName"] == jobs[0]["TrainingJobName"]
    assert job["ObjectiveStatusCounters"]["Succeeded"] == 5


def units_of(server: Server, name: str) -> int:
    """How many objectives a job printed."""
    group: dict[str, Any] = {"logGroupName": "/aws/sagemaker/TrainingJobs"}
    streams = server.logs.describe_log_streams(**group, logStreamNamePrefix=f"{name}/algo")["logStreams"]
    (stream,) = (item["logStreamName"] for item in streams)
    events = server.logs.get_log_events(**group, logStreamName=stream, startFromHead=True)["events"]
    return sum("score=" in event["message"] for event in events)
