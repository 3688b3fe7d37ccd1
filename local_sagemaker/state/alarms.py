"""CloudWatch metric alarms: kept in the store, judged again when their metric gets data or one of their periods ends.

One thread judges. It sleeps while there is no alarm; an alarm that nothing happens to costs one query a period. What an
alarm should do (SNS, auto scaling) is kept and not done: an endpoint's deployment looks at the state itself.

Concurrency contract: any thread may call any method.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from local_sagemaker.state.alarm_rule import AlarmRule, State
from local_sagemaker.state.metrics import Metric, MetricStore
from local_sagemaker.state.store import AlreadyExistsError, Record, Store

log = logging.getLogger("local_sagemaker")

KIND = "alarm"

_MAX_HISTORY = 100
_ROUND_S = 0.25
"""Pause between two rounds, so that a metric under load is not judged at every value."""

_SET_BY_HAND_S = 60.0
"""A state set with SetAlarmState holds for one period, at most this long. AWS corrects it "often within seconds"."""


class Alarms:
    def __init__(self, store: Store, metrics: MetricStore) -> None:
        self._store = store
        self._metrics = metrics
        self._lock = threading.Lock()
        self._rules: dict[str, AlarmRule] = {}
        self._due: dict[str, float] = {}
        """When an alarm is to be judged next, in epoch seconds."""
        self._held: dict[str, float] = {}
        """Until when a state set by hand holds."""
        self._by_metric: dict[Metric, frozenset[str]] = {}
        self._wake = threading.Event()
        self._closed = threading.Event()
        for record in store.list(KIND):
            self._watch(record.name, AlarmRule.of(record.describe))
        metrics.on_put = self._on_put
        self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        self._thread.join(5.0)

    def put(self, describe: dict[str, Any], tags: list[dict[str, str]]) -> None:
        """Create or overwrite an alarm; one that exists keeps its state. `describe` lacks only the state's members."""
        now = time.time()
        name = describe["AlarmName"]
        describe |= {"AlarmConfigurationUpdatedTimestamp": now}
        fresh = {
            "StateValue": "INSUFFICIENT_DATA",
            "StateReason": "Unchecked: Initial alarm creation",
            "StateUpdatedTimestamp": now,
            "StateTransitionedTimestamp": now,
        }

        def overwrite(record: Record) -> None:
            record.describe = describe | {key: record.describe[key] for key in record.describe if key in _STATE}
            _remember(record, "ConfigurationUpdate", f'Alarm "{name}" updated', now)

        history = [_item("ConfigurationUpdate", f'Alarm "{name}" created', now)]
        try:
            self._store.insert(KIND, name, describe | fresh, {"tags": tags, "history": history})
        except AlreadyExistsError:
            self._store.update(KIND, name, overwrite)
        with self._lock:
            self._watch(name, AlarmRule.of(describe))
        self._wake.set()

    def get(self, name: str) -> dict[str, Any] | None:
        """A MetricAlarm; None when there is none of that name."""
        record = self._store.get(KIND, name)
        return record.describe if record else None

    def records(self) -> list[Record]:
        """All alarms by name."""
        return self._store.list(KIND).page(order="name")

    def in_alarm(self, names: Iterable[str]) -> list[str]:
        """Those of the alarms `names` that are in ALARM."""
        return [name for name in names if (alarm := self.get(name)) and alarm["StateValue"] == "ALARM"]

    def delete(self, name: str) -> None:
        with self._lock:
            self._unwatch(name)
        self._store.delete(KIND, name)

    def set_state(self, name: str, state: State, reason: str, data: str | None) -> None:
        """By hand; it holds until the next judgement. Raises KeyError for an unknown alarm."""
        now = time.time()
        with self._lock:
            rule = self._rules[name]
            self._held[name] = self._due[name] = now + min(rule.period_s, _SET_BY_HAND_S)
        self._transition(name, state, reason, data)
        self._wake.set()

    def set_actions_enabled(self, name: str, enabled: bool) -> None:
        """Raises KeyError for an unknown alarm."""
        self._store.update(KIND, name, lambda record: record.describe.update(ActionsEnabled=enabled))

    # -- the thread -----------------------------------------------------------------------------------------------

    def _on_put(self, metric: Metric) -> None:
        names = self._by_metric.get(metric)
        if not names:
            return
        with self._lock:
            for name in names & self._rules.keys():
                self._due[name] = self._held.get(name, 0.0)
        self._wake.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.clear()
            try:
                for name, rule in self._take_due(time.time()):
                    self._judge(name, rule)
            except Exception:
                log.exception("alarms cannot be judged")
            with self._lock:
                next_due = min(self._due.values(), default=None)
            self._closed.wait(_ROUND_S)
            self._wake.wait(None if next_due is None else max(0.0, next_due - time.time()))

    def _take_due(self, now: float) -> list[tuple[str, AlarmRule]]:
        with self._lock:
            due = [name for name, moment in self._due.items() if moment <= now]
            for name in due:
                self._due[name] = self._rules[name].next_due(now)
                self._held.pop(name, None)
            return [(name, self._rules[name]) for name in due]

    def _judge(self, name: str, rule: AlarmRule) -> None:
        now = time.time()
        alarm = self.get(name)
        if alarm is None:
            return
        points = self._metrics.read(rule.metric, rule.range_start(now), now + 1, rule.period_s, rule.unit)
        verdict = rule.judge(points, now, alarm["StateValue"])
        if verdict.state != alarm["StateValue"]:
            self._transition(name, verdict.state, verdict.reason, verdict.data)

    def _transition(self, name: str, state: State, reason: str, data: str | None) -> None:
        now = time.time()

        def change(record: Record) -> None:
            before = record.describe["StateValue"]
            record.describe |= {"StateValue": state, "StateReason": reason, "StateUpdatedTimestamp": now}
            record.describe.pop("StateReasonData", None)
            if data is not None:
                record.describe["StateReasonData"] = data
            if before != state:
                record.describe["StateTransitionedTimestamp"] = now
                _remember(record, "StateUpdate", f"Alarm updated from {before} to {state}", now)
                log.info("alarm '%s' is %s: %s", name, state, reason)

        try:
            self._store.update(KIND, name, change)
        except KeyError:  # deleted in this very moment
            log.debug("alarm '%s' is gone", name)

    def _watch(self, name: str, rule: AlarmRule) -> None:
        self._unwatch(name)
        self._rules[name] = rule
        self._due[name] = 0.0
        self._by_metric[rule.metric] = self._by_metric.get(rule.metric, frozenset()) | {name}

    def _unwatch(self, name: str) -> None:
        rule = self._rules.pop(name, None)
        self._due.pop(name, None)
        self._held.pop(name, None)
        if rule:
            rest = self._by_metric.pop(rule.metric) - {name}
            if rest:
                self._by_metric[rule.metric] = rest


_STATE = frozenset(
    {"StateValue", "StateReason", "StateReasonData", "StateUpdatedTimestamp", "StateTransitionedTimestamp"}
)


def _item(kind: str, summary: str, moment: float) -> dict[str, Any]:
    return {"HistoryItemType": kind, "HistorySummary": summary, "Timestamp": moment}


def _remember(record: Record, kind: str, summary: str, moment: float) -> None:
    record.internal["history"] = [*record.internal["history"], _item(kind, summary, moment)][-_MAX_HISTORY:]
