"""What the processes of the installation are: told by whose children they are and by what they call themselves."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

EXECUTOR = "airflow worker -- LocalExecutor:"
TASK = "airflow worker -- "
IDLE = "<idle>"
MODEL_SERVER = "model server"
#: What is always there is picked half as often as Airflow's tasks, and a job rarely: its run is over then, and what
#: follows in it is not seen.
ALWAYS_WEIGHT, TASK_WEIGHT, JOB_WEIGHT = 4, 8, 1


@dataclass(frozen=True)
class Row:
    """One process."""

    pid: int
    parent: int
    title: str
    mark: str = ""
    """Of a job or a model server: the folder that `local_sagemaker` gave it, below its root."""


def kind(row: Row, rows: Mapping[int, Row], services: Mapping[int, str]) -> str | None:
    """What a kill of it would be a kill of; None for what is not worth one (a worker without work, a shell's child)."""
    if row.pid in services:
        return services[row.pid]
    if row.mark:
        return _job(row)
    above = rows.get(row.parent)
    if row.title.startswith(TASK) and above and above.title.startswith(EXECUTOR):
        return "task"
    if row.title.startswith(EXECUTOR):
        return None if row.title.rstrip().endswith(IDLE) else "task's supervisor"
    return {"triggerer": "trigger runner", "dag-processor": "DAG parser"}.get(services.get(row.parent, ""))


def _job(row: Row) -> str:
    folder = row.mark.partition("/")[0]
    of = {"endpoint": MODEL_SERVER}.get(folder, folder)
    return f"{of}'s keeper" if "keeper.py" in row.title else of


def targets(rows: Sequence[Row], services: Mapping[int, str]) -> dict[str, list[Row]]:
    """Kind → the processes of that kind."""
    by_pid = {row.pid: row for row in rows}
    found: dict[str, list[Row]] = {}
    for row in rows:
        if named := kind(row, by_pid, services):
            found.setdefault(named, []).append(row)
    return found


@dataclass(frozen=True)
class Pick:
    """Whom SIGKILL hits."""

    kind: str
    row: Row
    whole: bool
    """All that the service started falls with it, as under systemd and in a container; else it alone."""


def pick(rng: random.Random, found: Mapping[str, Sequence[Row]], services: Collection[str]) -> Pick | None:
    """A kind first, so that the one scheduler falls as often as one of many tasks; None where nothing is there."""
    kinds = sorted(found)
    if not kinds:
        return None
    weights = [_weight(name, services) for name in kinds]
    (named,) = rng.choices(kinds, weights)
    row = rng.choice(sorted(found[named], key=lambda one: one.pid))
    return Pick(named, row, whole=named in services and rng.random() < 0.5)


def _weight(kind: str, services: Collection[str]) -> int:
    if kind in services or kind == MODEL_SERVER:
        return ALWAYS_WEIGHT
    return TASK_WEIGHT if kind.startswith("task") else JOB_WEIGHT if "job" in kind else ALWAYS_WEIGHT
