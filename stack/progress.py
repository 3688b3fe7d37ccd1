"""One run in the terminal: a line per task, kept alive while it works."""

import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from stack.airflow_api import moment
from stack.plain import plain

FINISHED = {"success": "✓", "failed": "✗", "upstream_failed": "✗", "skipped": "-", "removed": "-"}
ACTIVE = {
    "queued": "·",
    "running": "●",
    "deferred": "●",
    "up_for_retry": "↻",
    "up_for_reschedule": "●",
    "restarting": "↻",
}
ACTIVE_WORDS = {"deferred": "waiting for the job", "up_for_retry": "failed, will be tried again", "running": ""}
NAME_WIDTH = 24


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of the run as of now."""

    name: str
    state: str  # Airflow's word; "none" before it is scheduled
    seconds: float | None  # from its first start to its end, or to now
    try_number: int

    @property
    def is_at_work(self) -> bool:
        return self.state in ("running", "deferred")


class TaskClock:
    """How long each task has taken since its first start.

    Airflow moves start_date when a deferred task resumes or a failed one is tried again; the time since the first start
    is what a person waited.
    """

    def __init__(self) -> None:
        self._first: dict[str, datetime] = {}

    def tasks(self, instances: Iterable[dict[str, Any]], now: datetime) -> list[Task]:
        """The task instances of the REST API, in the order in which they started, those yet to start last."""
        found = []
        for instance in instances:
            name, state = str(instance["task_id"]), instance.get("state") or "none"
            start, end = moment(instance.get("start_date")), moment(instance.get("end_date"))
            if start:
                self._first[name] = min(self._first.get(name, start), start)
            first = self._first.get(name)
            last = end if state in FINISHED and end else now
            found.append(
                Task(
                    name=name,
                    state=state,
                    seconds=max(0.0, (last - first).total_seconds()) if first and state != "skipped" else None,
                    try_number=int(instance.get("try_number") or 1),
                )
            )
        never = datetime.max.replace(tzinfo=UTC)
        return sorted(found, key=lambda task: self._first.get(task.name, never))


def line(task: Task, detail: str | None = None) -> str:
    """`  ✓ sync_dataset              3.2 s`, with what is going on behind it for an active task."""
    sign = FINISHED.get(task.state) or ACTIVE.get(task.state, " ")
    took = "" if task.seconds is None else f"{task.seconds:7.1f} s"
    words = detail or (ACTIVE_WORDS.get(task.state, task.state) if task.state not in ("success",) else "")
    if task.try_number > 1:
        words = f"{words} (try {task.try_number})".strip()
    words = plain(" ".join(words.split()))
    return f"  {sign} {task.name:<{NAME_WIDTH}} {took:>9}  {words}".rstrip()


class Terminal:
    """Prints finished tasks once and for all, and what is under way below them.

    On a terminal the lower part is drawn anew on every update; elsewhere (a CI log) each change is one line with the
    time since the start.
    """

    def __init__(self, output: TextIO = sys.stdout, *, live: bool | None = None) -> None:
        self._output = output
        self._live = output.isatty() if live is None else live
        self._began = time.monotonic()
        self._told: dict[str, str] = {}
        self._drawn = 0
        self._before: str | None = None

    def wait_for(self, run_id: str | None) -> None:
        """Says, once for each, which other run has to end before any task of this one begins."""
        if run_id and run_id != self._before:
            self.clear()
            self._output.write(f"  · waits for {plain(run_id)}, which is at work: one run of a DAG at a time\n")
            self._output.flush()
        self._before = run_id

    def update(self, tasks: list[Task], detail_of: Callable[[Task], str | None]) -> None:
        finished = [task for task in tasks if task.state in FINISHED and self._told.get(task.name) != task.state]
        active = [task for task in tasks if task.state in ACTIVE]
        if not self._live:
            for task in finished:
                self._tell(task, line(task))
            for task in active:
                detail = detail_of(task)
                said = f"{task.state}/{task.try_number}/{detail}"
                if self._told.get(task.name) != said and task.state != "queued":
                    self._tell(task, line(task, detail), said)
            return
        self.clear()
        for task in finished:
            self._output.write(line(task) + "\n")
            self._told[task.name] = task.state
        columns = shutil.get_terminal_size((100, 24)).columns
        below = [line(task, detail_of(task))[: columns - 1] for task in active]
        waiting = sum(task.state not in FINISHED and task.state not in ACTIVE for task in tasks)
        if waiting:
            elapsed = time.monotonic() - self._began
            below.append(f"    {waiting} more task{'s' if waiting > 1 else ''} to come, {elapsed:.0f} s so far")
        self._output.write("".join(text + "\n" for text in below))
        self._output.flush()
        self._drawn = len(below)

    def clear(self) -> None:
        """Takes the part that is redrawn off the screen, so that other text can follow."""
        if self._drawn:
            self._output.write(f"\x1b[{self._drawn}A\x1b[J")
            self._output.flush()
            self._drawn = 0

    def _tell(self, task: Task, text: str, said: str | None = None) -> None:
        self._told[task.name] = said or task.state
        self._output.write(f"[{time.monotonic() - self._began:6.1f} s]{text}\n")
        self._output.flush()
