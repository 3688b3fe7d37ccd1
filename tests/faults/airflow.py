"""Airflow's part of a run, without Airflow: which task is next, its retries, its waits, and what it leaves behind.

The DAG, its operators, triggers and retry policy are the real ones. A process that dies is a Killed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from airflow.sdk import RetryAction
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    DownstreamTasksSkipped,
    TaskAwaitingInput,
    TaskDeferred,
)

from tests.faults.clock import Clock

DONE = ("success", "failed", "skipped", "upstream_failed")
ZOMBIE_S = 300  # until Airflow knows that a process is gone
TAKEN_OVER_S = 60
ANSWERED_S = 3600  # until a person has looked
MOST_WAITS = 20  # of one attempt; what waits more often never ends
SKIPPED_BY = "skipmixin_key"


class Killed(BaseException):
    """kill -9 of the process that runs a task."""


class Marked(BaseException):
    """A person has set the state of a task, which waits no longer."""


@dataclass
class DagRun:
    """One run: states and XComs by task."""

    dag: Any
    clock: Clock
    run_id: str
    params: dict[str, Any]
    states: dict[str, str | None] = field(default_factory=dict)
    xcoms: dict[str, dict[str, Any]] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    max_tries: dict[str, int] = field(default_factory=dict)
    at: Callable[[str], None] = lambda point: None
    """Called at each moment between two calls at which a process may die."""

    deaf: bool = False
    """While an attempt is awake that Airflow has given up: nothing that it says is heard."""
    waits: Callable[[Any, Any], None] = lambda task, trigger: None
    """Called with each task that waits, and its trigger; None for one that waits for a person."""
    answer: str | None = None
    """What the person says whom a task asks; None: nothing, until the time is over."""

    def __post_init__(self) -> None:
        self.attempt, self.fired = self.begin, fired
        self.run_after = datetime.fromtimestamp(self.clock.now, UTC)
        self.states = {task.task_id: None for task in self.dag.tasks}
        self.max_tries = {task.task_id: task.retries for task in self.dag.tasks}

    def finish(self) -> str:
        """Tasks one after the other until none is left; the run's state."""
        while (task := self.next()) is not None:
            self.run(task)
        return self.state

    def next(self) -> Any:
        """The first task that may start; what must not run gets its state on the way."""
        for task in self.dag.topological_sort():
            if self.states[task.task_id] is None:
                above = [self.states[name] for name in task.upstream_task_ids]
                if all(state in DONE for state in above):
                    verdict = _verdict(
                        getattr(task.trigger_rule, "value", task.trigger_rule), above
                    ) or self._skipped_before(task)
                    if verdict is None:
                        return task
                    self.states[task.task_id] = verdict
        return None

    @property
    def state(self) -> str:
        """By the leaves: work that failed, or a teardown that colours the run."""
        counted = [task for task in self.dag.tasks if not task.is_teardown or task.on_failure_fail_dagrun]
        leaves = [task for task in counted if not any(t in task.downstream_task_ids for t in _ids(counted))]
        return "failed" if any(self.states[t.task_id] in ("failed", "upstream_failed") for t in leaves) else "success"

    def _skipped_before(self, task: Any) -> str | None:
        """A task that was skipped by one just above it stays so when it is cleared by itself."""
        said = (self.xcoms.get(name, {}).get(SKIPPED_BY) or {} for name in task.upstream_task_ids)
        return "skipped" if any(task.task_id in one.get("skipped", ()) for one in said) else None

    def clear(self, task_id: str, downstream: bool) -> None:
        """As a person does in the UI."""
        task = self.dag.get_task(task_id)
        for name in {task_id} | (set(task.get_flat_relative_ids(upstream=False)) if downstream else set()):
            self.states[name] = None
            self.max_tries[name] = self.tries.get(name, 0) + self.dag.get_task(name).retries

    def mark(self, waiting: str, state: str) -> None:
        """The run, while a task waits: that one fails, or succeeds, and all others but teardowns are skipped."""
        for task in self.dag.tasks:
            if self.states[task.task_id] is None and not task.is_teardown:
                self.states[task.task_id] = "skipped"
        self.states[waiting] = state

    # --- one task ---------------------------------------------------------------------------------------------------

    def run(self, task: Any) -> None:
        """All attempts of a task, to its last state."""
        name = task.task_id
        while self.states[name] not in DONE:
            self.tries[name] = self.tries.get(name, 0) + 1
            self.xcoms[name] = {}
            try:
                self.states[name] = self.attempt(task)
            except Marked:
                return
            except Killed:
                self.clock.sleep(ZOMBIE_S)
                self._retry_or_fail(task, None)
            except (AirflowFailException, Exception) as error:
                self._retry_or_fail(task, error)

    def begin(self, task: Any) -> str:
        """One attempt with its waits, each resumption in a process of its own."""
        step, kwargs = "execute", {}
        for _ in range(MOST_WAITS):
            self.at(f"{task.task_id}: begin")
            copied = task.prepare_for_execution()
            context = self.context(copied)
            try:
                copied.render_template_fields(context)
                result = getattr(copied, step)(context, **kwargs)
            except TaskDeferred as wait:
                self.at(f"{task.task_id}: deferral")
                self.waits(task, wait.trigger)
                step, kwargs = wait.method_name, (wait.kwargs or {}) | {"event": self._event(wait.trigger)}
                continue
            except TaskAwaitingInput as wait:
                self.at(f"{task.task_id}: question")
                self.waits(task, None)
                step, kwargs = wait.method_name, {"event": self._said(copied, wait.timeout.total_seconds())}
                continue
            except AirflowSkipException:
                self.at(f"{task.task_id}: state")
                return "skipped"
            except DownstreamTasksSkipped as skip:
                self.at(f"{task.task_id}: state")
                names = [] if self.deaf else skip.tasks
                for name in names:
                    self.states[name if isinstance(name, str) else name[0]] = "skipped"
                return "success"
            self.at(f"{task.task_id}: result")
            if result is not None:
                context["ti"].xcom_push("return_value", result)
            self.at(f"{task.task_id}: state")
            return "success"
        raise AirflowFailException(f"{task.task_id} waited {MOST_WAITS} times and has not ended")

    def _event(self, trigger: Any) -> dict[str, Any]:
        """What the trigger fires; where its triggerer dies, another one takes it over."""
        while True:
            try:
                return self.fired(trigger)
            except Killed:
                self.clock.sleep(TAKEN_OVER_S)

    def _said(self, operator: Any, patience_s: float) -> dict[str, Any]:
        """What Airflow hands a task that asked; where nobody answered, its own default, from nobody."""
        self.clock.sleep(ANSWERED_S if self.answer else patience_s)
        return {
            "chosen_options": [self.answer] if self.answer else operator.defaults, "params_input": {},
            "responded_at": self.clock.date, "responded_by_user": {"id": "1", "name": "ann"} if self.answer else None,
        }  # fmt: skip

    def _retry_or_fail(self, task: Any, error: Exception | None) -> None:
        name = task.task_id
        number, most = self.tries[name], self.max_tries[name]
        delay = task.retry_delay
        final = number > most or isinstance(error, AirflowFailException)
        if error is not None and not final and task.retry_policy:
            decision = task.retry_policy.evaluate(error, number, most, self.context(task))
            final = decision.action == RetryAction.FAIL
            delay = decision.retry_delay or delay
        if final:
            self.states[name] = "failed"
            context = self.context(task) | {"exception": error}
            for tell in _listed(task.on_failure_callback):
                tell(context)
        else:
            self.clock.sleep(delay.total_seconds())

    def context(self, task: Any) -> dict[str, Any]:
        dag_run = SimpleNamespace(run_after=self.run_after, run_id=self.run_id, triggering_user_name=None)
        ti = TaskInstance(self, task.task_id)
        return {
            "ti": ti,
            "task_instance": ti,
            "dag_run": dag_run,
            "params": dict(self.params),
            "dag": self.dag,
            "task": task,
            "run_id": self.run_id,
            "outlet_events": {},
        }


@dataclass
class TaskInstance:
    """What a task uses of its instance."""

    run: DagRun
    task_id: str
    map_index: int = -1
    id: str = "one"

    def xcom_push(self, key: str, value: Any) -> None:
        if not self.run.deaf:
            self.run.xcoms.setdefault(self.task_id, {})[key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.run.xcoms.get(task_ids, {}).get(key)

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
        return {self.run.run_id: dict(self.run.states)}


def _verdict(rule: str, above: list[str | None]) -> str | None:
    """The state of a task that its trigger rule keeps from running; None where it may."""
    failed = "failed" in above or "upstream_failed" in above
    if rule == "one_failed" and not failed:
        return "skipped"
    if rule in ("all_success", "none_failed") and failed:
        return "upstream_failed"
    return "skipped" if rule == "all_success" and "skipped" in above else None


async def _first(trigger: Any) -> dict[str, Any]:
    events = trigger.run()
    try:
        return dict((await anext(events)).payload)
    finally:
        await events.aclose()


def fired(trigger: Any) -> dict[str, Any]:
    """The first event of a trigger."""
    return dict(carry(_first(trigger)))


def carry(coroutine: Any) -> Any:
    """What a coroutine that waits for nothing real returns: no event loop is needed, which takes longer than a run."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError(f"{coroutine} waits for something that is not simulated")


def _listed(callbacks: Any) -> list[Any]:
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks] if callbacks else []


def _ids(tasks: list[Any]) -> list[str]:
    return [task.task_id for task in tasks]
