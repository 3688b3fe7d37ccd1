"""Which process is what, and whom a seed picks."""

from __future__ import annotations

import random
from collections import Counter

from tests.faults.real.campaign import below
from tests.faults.real.tree import Row, pick, targets

SERVICES = {10: "scheduler", 20: "triggerer", 30: "local_sagemaker"}
ROWS = [
    Row(10, 1, "airflow scheduler"),
    Row(11, 10, "airflow worker -- LocalExecutor: 01a2        "),
    Row(12, 11, "airflow worker -- 01a2"),
    Row(13, 10, "airflow worker -- LocalExecutor: <idle>      "),
    Row(14, 12, "python -m retraining.dataset.pictures.worker"),
    Row(20, 1, "airflow triggerer"),
    Row(21, 20, "airflow triggerer"),
    Row(30, 1, "python -m local_sagemaker"),
    Row(31, 30, "python keeper.py training-job/tiny-1", mark="training-job/tiny-1"),
    Row(32, 31, "python train.py", mark="training-job/tiny-1"),
    Row(33, 30, "python serve.py", mark="endpoint/tiny-endpoint-1/AllTraffic"),
    # Its scheduler was killed, and it works on.
    Row(41, 1, "airflow worker -- LocalExecutor: 01b7"),
    Row(42, 41, "airflow worker -- LocalExecutor: 01b7"),
]


def test_processes_are_told_by_parents_and_titles() -> None:
    found = {kind: [row.pid for row in rows] for kind, rows in targets(ROWS, SERVICES).items()}
    assert found == {
        "scheduler": [10],
        "task's supervisor": [11, 41],
        "task": [12, 42],
        "triggerer": [20],
        "trigger runner": [21],
        "local_sagemaker": [30],
        "training-job's keeper": [31],
        "training-job": [32],
        "model server": [33],
    }


def test_same_seed_picks_the_same() -> None:
    found = targets(ROWS, SERVICES)
    first, again = ([pick(rng, found, SERVICES.values()) for _ in range(20)] for rng in map(random.Random, (7, 7)))
    assert first == again
    assert first != [pick(random.Random(8), found, SERVICES.values()) for _ in range(20)]


def test_every_kind_is_picked() -> None:
    found, rng = targets(ROWS, SERVICES), random.Random(1)
    picks = [pick(rng, found, SERVICES.values()) for _ in range(1000)]
    counts = Counter(one.kind for one in picks if one)
    assert counts.keys() == found.keys() and min(counts.values()) > 10
    assert {one.whole for one in picks if one and one.kind == "scheduler"} == {True, False}
    assert not [one for one in picks if one and one.whole and one.kind == "task"]
    assert pick(rng, {}, ()) is None


def test_what_falls_with_a_service_is_its_own() -> None:
    assert [row.pid for row in below(ROWS, 10)] == [11, 13, 12, 14]
