"""CloudWatch metrics: numbers with a time, kept as statistics of short stretches in a SQLite file of its own.

What is put is gathered in memory and written about once a second by a thread that sleeps while nothing is put, so a
value costs an invocation microseconds. A caller who must promise durability calls `flush`; every read flushes first.
The platform's own values are kept by the second (an AWS endpoint publishes by the minute: an alarm here need not wait
for the minute to end); like on AWS they become minutes after three hours and are forgotten after 15 days. The file is
bounded besides: beyond `MAX_POINTS` stretches the oldest are forgotten.

Concurrency contract: any thread may call any method.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from local_sagemaker.state import database
from local_sagemaker.state.statistics import Statistics

log = logging.getLogger("local_sagemaker")

MAX_POINTS = 500_000

_HIGH_RESOLUTION_S = 3 * 3600
_RETENTION_S = 15 * 86_400
_FLUSH_S = 1.0
_TIDY_EVERY_S = 600.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, dimensions TEXT NOT NULL,
    last INTEGER NOT NULL DEFAULT 0, UNIQUE (namespace, name, dimensions)
);
CREATE TABLE IF NOT EXISTS points (
    series INTEGER NOT NULL, start INTEGER NOT NULL, span INTEGER NOT NULL, unit TEXT NOT NULL,
    statistics TEXT NOT NULL, PRIMARY KEY (series, start, span, unit)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_age ON points (start);
"""


class Metric(NamedTuple):
    """What CloudWatch knows a metric by. Each combination of dimensions is a metric of its own."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    """Sorted (name, value) pairs."""

    @classmethod
    def of(cls, namespace: str, name: str, dimensions: Mapping[str, str]) -> Metric:
        return cls(namespace, name, tuple(sorted(dimensions.items())))


class Point(NamedTuple):
    start: int
    """Epoch seconds."""
    unit: str
    statistics: Statistics


#: metric, start of the stretch, its length in seconds, unit
_Key = tuple[Metric, int, int, str]


class MetricStore:
    def __init__(self, path: Path) -> None:
        """Raises ValueError for a file that is no sound database."""
        self._lock = threading.Lock()
        self._db = database.connect(path, SCHEMA, synchronous="NORMAL")
        self._gathered: dict[_Key, Statistics] = {}
        self._gathering = threading.Lock()
        """Guards `_gathered` alone, so that whoever puts never waits for the disk."""
        self._something = threading.Event()
        self._closed = threading.Event()
        self._tidied = 0.0
        self.on_put: Callable[[Metric], None] = lambda metric: None
        """Called after each put with its metric; must be quick and must not call back."""
        self._writer = threading.Thread(target=self._write, name="metrics", daemon=True)
        self._writer.start()

    def put(
        self,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        value: float,
        unit: str = "None",
        timestamp: float | None = None,
    ) -> None:
        """One value, at `timestamp` (epoch seconds, now by default); durable within about a second."""
        one = Statistics()
        one.add(value)
        self.put_statistics(Metric.of(namespace, name, dimensions), one, unit, timestamp)

    def put_statistics(
        self,
        metric: Metric,
        statistics: Statistics,
        unit: str = "None",
        timestamp: float | None = None,
        resolution_s: int = 1,
    ) -> None:
        """Several values of one moment; with `resolution_s` 60 they are kept by the minute."""
        moment = int(time.time() if timestamp is None else timestamp)
        key = (metric, moment - moment % resolution_s, resolution_s, unit)
        with self._gathering:
            gathered = self._gathered.get(key)
            if gathered is None:
                gathered = self._gathered[key] = Statistics()
            gathered.merge(statistics)
        self._something.set()
        self.on_put(metric)

    def flush(self) -> None:
        """Return once everything put before is in the file."""
        with self._lock:
            self._flush()

    def close(self) -> None:
        self._closed.set()
        self._something.set()
        self._writer.join(5.0)
        with self._lock:
            self._flush()
            self._db.close()

    def read(self, metric: Metric, start: float, end: float, period_s: int, unit: str | None = None) -> list[Point]:
        """The stretches of `period_s` seconds with data in start ≤ time < end, oldest first, one per unit.

        Stretches begin at multiples of the period; `start` is rounded down to one.
        """
        first = int(start) - int(start) % period_s
        with self._lock:
            self._flush()
            rows = self._db.execute(
                "SELECT start, unit, statistics FROM points JOIN series ON series.id = points.series "
                "WHERE namespace = ? AND name = ? AND dimensions = ? AND start >= ? AND start < ? ORDER BY start",
                (metric.namespace, metric.name, json.dumps(metric.dimensions), first, end),
            ).fetchall()
        found: defaultdict[tuple[int, str], Statistics] = defaultdict(Statistics)
        for at, its_unit, text in rows:
            if unit is None or unit == its_unit:
                found[at - at % period_s, its_unit].merge(Statistics.from_json(text))
        return [Point(at, its_unit, statistics) for (at, its_unit), statistics in sorted(found.items())]

    def metrics(self, *, since: float = 0.0) -> list[Metric]:
        """All metrics with data at or after `since` (epoch seconds), sorted."""
        with self._lock:
            self._flush()
            rows = self._db.execute(
                "SELECT namespace, name, dimensions FROM series WHERE last >= ? ORDER BY namespace, name, dimensions",
                (since,),
            ).fetchall()
        return [
            Metric(namespace, name, tuple((key, value) for key, value in json.loads(dimensions)))
            for namespace, name, dimensions in rows
        ]

    # -- writing --------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        while not self._closed.is_set():
            self._something.wait()
            self._closed.wait(_FLUSH_S)  # gather for a moment
            self._something.clear()
            try:
                self.flush()
                self._tidy(time.time())
            except sqlite3.Error:
                log.exception("metrics cannot be written")

    def _flush(self) -> None:
        with self._gathering:
            gathered, self._gathered = self._gathered, {}
        if not gathered:
            return
        with self._transaction():
            for (metric, start, span, unit), statistics in gathered.items():
                series = self._series(metric, start)
                key = (series, start, span, unit)
                row = self._db.execute(f"SELECT statistics FROM points WHERE {_POINT}", key).fetchone()
                if row:
                    statistics.merge(Statistics.from_json(row[0]))
                self._db.execute("INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?)", (*key, statistics.to_json()))

    def _series(self, metric: Metric, start: int) -> int:
        key = (metric.namespace, metric.name, json.dumps(metric.dimensions))
        self._db.execute(
            "INSERT INTO series (namespace, name, dimensions, last) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET last = MAX(last, excluded.last)",
            (*key, start),
        )
        row = self._db.execute("SELECT id FROM series WHERE namespace = ? AND name = ? AND dimensions = ?", key)
        return int(row.fetchone()[0])

    def _tidy(self, now: float) -> None:
        """Turn old seconds into minutes, forget what is too old or too much."""
        if now - self._tidied < _TIDY_EVERY_S:
            return
        self._tidied = now
        with self._lock, self._transaction():
            self._thin_out(now - _HIGH_RESOLUTION_S)
            self._db.execute("DELETE FROM points WHERE start < ?", (now - _RETENTION_S,))
            (count,) = self._db.execute("SELECT COUNT(*) FROM points").fetchone()
            if count > MAX_POINTS:
                (limit,) = self._db.execute(
                    "SELECT start FROM points ORDER BY start LIMIT 1 OFFSET ?", (count - MAX_POINTS,)
                ).fetchone()
                self._db.execute("DELETE FROM points WHERE start < ?", (limit,))
            self._db.execute("DELETE FROM series WHERE id NOT IN (SELECT series FROM points)")

    def _thin_out(self, before: float) -> None:
        minutes: defaultdict[tuple[int, int, str], Statistics] = defaultdict(Statistics)
        rows = self._db.execute(
            "SELECT series, start, unit, statistics FROM points WHERE start < ? AND span < 60", (before,)
        ).fetchall()
        for series, start, unit, text in rows:
            minutes[series, start - start % 60, unit].merge(Statistics.from_json(text))
        self._db.execute("DELETE FROM points WHERE start < ? AND span < 60", (before,))
        for (series, start, unit), statistics in minutes.items():
            key = (series, start, 60, unit)
            row = self._db.execute(f"SELECT statistics FROM points WHERE {_POINT}", key).fetchone()
            if row:
                statistics.merge(Statistics.from_json(row[0]))
            self._db.execute("INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?)", (*key, statistics.to_json()))

    def _transaction(self) -> contextlib.AbstractContextManager[object]:
        self._db.execute("BEGIN")
        return self._db  # commits, or rolls back on an exception


_POINT = "series = ? AND start = ? AND span = ? AND unit = ?"
