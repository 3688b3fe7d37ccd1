"""CloudWatch Logs, the part that is read: what jobs and endpoints print, kept in a SQLite file of its own.

Concurrency contract: any thread may call any method; readers do not wait for writers. Events are acknowledged after a
commit with synchronous=NORMAL: a killed server loses nothing, a power cut may lose the last lines. Within a stream,
sequence numbers count without gaps and timestamps never go back, so a position found once stays right while lines are
appended.
"""

from __future__ import annotations

import bisect
import dataclasses
import heapq
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from local_sagemaker.state import database

TRAINING_JOBS = "/aws/sagemaker/TrainingJobs"
PROCESSING_JOBS = "/aws/sagemaker/ProcessingJobs"
TRANSFORM_JOBS = "/aws/sagemaker/TransformJobs"
ENDPOINTS = "/aws/sagemaker/Endpoints"

#: CloudWatch's own bound on one event's message.
MAX_MESSAGE_BYTES = 262_144

#: A stream that outgrows this loses its oldest quarter: an endpoint may print for months.
MAX_STREAM_BYTES = 256 * 2**20

# SQLite searches a table WITHOUT ROWID by whole rows: one that does not fit its page is read to its end at each step.
# So a long message lies in a table searched by two numbers, and `events` has the empty blob in its place.
SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    id INTEGER PRIMARY KEY, log_group TEXT NOT NULL, name TEXT NOT NULL,
    created INTEGER NOT NULL, first INTEGER, last INTEGER, bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (log_group, name)
);
CREATE TABLE IF NOT EXISTS events (
    stream INTEGER NOT NULL, seq INTEGER NOT NULL, timestamp INTEGER NOT NULL, message TEXT NOT NULL,
    PRIMARY KEY (stream, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS long_messages (
    stream INTEGER NOT NULL, seq INTEGER NOT NULL, message TEXT NOT NULL, PRIMARY KEY (stream, seq)
);
CREATE TABLE IF NOT EXISTS log_groups (name TEXT PRIMARY KEY, created INTEGER NOT NULL, retention_days INTEGER);
INSERT OR IGNORE INTO log_groups SELECT log_group, MIN(created), NULL FROM streams GROUP BY log_group;
"""

_MESSAGE = """CASE WHEN typeof(message) = 'text' THEN message ELSE (
    SELECT m.message FROM long_messages m WHERE m.stream = events.stream AND m.seq = events.seq) END"""
_IN_PLACE = b""
_MAX_SHORT_BYTES = 900
"""A row of at most 1,002 bytes fits its page, with SQLite's 4,096."""
_SURELY_SHORT = _MAX_SHORT_BYTES // 4

_CHUNK = 500
_LINES_AT_ONCE = 5_000
_FAR = 2**62
_DAY_MS = 86_400_000

Event = dict[str, Any]
#: Where an event stands among those of all streams: timestamp, stream, sequence number.
Place = tuple[int, int, int]

log = logging.getLogger("local_sagemaker")


@dataclasses.dataclass(frozen=True)
class Found:
    """Part of a search: `after` is where to go on; None when there is nothing more."""

    events: list[Event]
    after: Place | None


class Logs:
    def __init__(self, path: Path) -> None:
        """Raises ValueError for a file that is no sound database."""
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._db = database.connect(path, SCHEMA, synchronous="NORMAL")
        self._reader = database.connect(path, "", synchronous="NORMAL")
        self._expire()

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._db.close()

    def put(self, group: str, stream: str, messages: Iterable[str]) -> None:
        """Append lines, stamped with the time of this call (ms), as SageMaker's agent does.

        Lines that the disk has no room for are dropped, with a warning in the server's own log: a job goes on without
        its output rather than end because of it.
        """
        lines = [message.encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore") for message in messages]
        if not lines:
            return
        for start in range(0, len(lines), _LINES_AT_ONCE):  # others write, too
            part = lines[start : start + _LINES_AT_ONCE]
            with self._write_lock:
                try:
                    with self._db:
                        self._db.execute("BEGIN IMMEDIATE")
                        self._append(group, stream, part)
                except sqlite3.OperationalError as error:
                    log.warning("%d lines of the log stream '%s' could not be kept: %s", len(part), stream, error)

    def _append(self, group: str, stream: str, lines: list[str]) -> None:
        now = int(time.time() * 1000)
        found = self._db.execute(
            "SELECT id, last, bytes FROM streams WHERE log_group = ? AND name = ?", (group, stream)
        )
        stream_id, last, size = found.fetchone() or (self._create(group, stream, now), now, 0)
        now = max(now, last)
        (seq,) = self._db.execute(
            "SELECT COALESCE(MAX(seq), -1) + 1 FROM events WHERE stream = ?", (stream_id,)
        ).fetchone()
        long = {at: line for at, line in enumerate(lines, start=seq) if len(line) > _SURELY_SHORT and _is_long(line)}
        self._db.executemany(
            "INSERT INTO events VALUES (?, ?, ?, ?)",
            [(stream_id, at, now, _IN_PLACE if at in long else line) for at, line in enumerate(lines, start=seq)],
        )
        self._db.executemany(
            "INSERT INTO long_messages VALUES (?, ?, ?)", [(stream_id, at, line) for at, line in long.items()]
        )
        size += sum(len(line) for line in lines)
        if size > MAX_STREAM_BYTES:
            size -= self._trim(stream_id, seq)
        self._db.execute("UPDATE streams SET last = ?, bytes = ? WHERE id = ?", (now, size, stream_id))

    def _create(self, group: str, stream: str, now: int) -> int:
        self._db.execute("INSERT OR IGNORE INTO log_groups VALUES (?, ?, NULL)", (group, now))
        cursor = self._db.execute(
            "INSERT INTO streams (log_group, name, created, first, last) VALUES (?, ?, ?, ?, ?)",
            (group, stream, now, now, now),
        )
        return int(cursor.lastrowid or 0)

    def _trim(self, stream_id: int, seq: int) -> int:
        """Forget the oldest quarter of a stream's events; returns their size."""
        (first,) = self._db.execute("SELECT MIN(seq) FROM events WHERE stream = ?", (stream_id,)).fetchone()
        return sum(self._forget(table, stream_id, first + (seq - first) // 4) for table in ("events", "long_messages"))

    def _forget(self, table: str, stream_id: int, stop: int) -> int:
        old = (stream_id, stop)
        (size,) = self._db.execute(
            f"SELECT COALESCE(SUM(LENGTH(message)), 0) FROM {table} WHERE stream = ? AND seq < ?", old
        ).fetchone()
        self._db.execute(f"DELETE FROM {table} WHERE stream = ? AND seq < ?", old)
        return int(size)

    def groups(self) -> list[dict[str, Any]]:
        rows = self._read(
            "SELECT g.name, g.created, g.retention_days, COALESCE(SUM(s.bytes), 0) FROM log_groups g"
            " LEFT JOIN streams s ON s.log_group = g.name GROUP BY g.name ORDER BY g.name"
        )
        return [
            {"logGroupName": name, "creationTime": created, "storedBytes": size}
            | ({"retentionInDays": days} if days else {})
            for name, created, days, size in rows
        ]

    def has_group(self, group: str) -> bool:
        return bool(self._read("SELECT 1 FROM log_groups WHERE name = ?", group))

    def has_stream(self, group: str, stream: str) -> bool:
        return bool(self._read("SELECT 1 FROM streams WHERE log_group = ? AND name = ?", group, stream))

    def streams(
        self,
        group: str,
        *,
        prefix: str = "",
        by_time: bool = False,
        descending: bool = False,
        after: tuple[Any, str] | None = None,
        limit: int = -1,
    ) -> list[dict[str, Any]]:
        """The streams of a group by name, or by their last event; from behind `after` = (last event's ms, name)."""
        order, direction, beyond = "last" if by_time else "0", *(("DESC", "<") if descending else ("ASC", ">"))
        condition = "log_group = ? AND name >= ? AND name < ?"
        values: list[Any] = [group, prefix, prefix + chr(0x10FFFF)]
        if after is not None:
            condition += f" AND ({order}, name) {beyond} (?, ?)"
            values += [after[0] if by_time else 0, after[1]]
        rows = self._read(
            f"SELECT name, created, first, last, bytes FROM streams WHERE {condition}"
            f" ORDER BY {f'last {direction}, ' if by_time else ''}name {direction} LIMIT ?",
            *values,
            limit,
        )
        return [
            {
                "logStreamName": name,
                "creationTime": created,
                "firstEventTimestamp": first,
                "lastEventTimestamp": last,
                "storedBytes": size,
            }
            for name, created, first, last, size in rows
        ]

    def count(self, group: str, stream: str) -> int:
        """One past the last sequence number of a stream."""
        ((count,),) = self._read(
            "SELECT COALESCE(MAX(seq), -1) + 1 FROM events"
            " WHERE stream = (SELECT id FROM streams WHERE log_group = ? AND name = ?)",
            group,
            stream,
        )
        return int(count)

    def read(
        self,
        group: str,
        stream: str,
        *,
        start_seq: int = 0,
        stop_seq: int | None = None,
        start_ms: int = 0,
        end_ms: int | None = None,
        limit: int = 10_000,
        newest: bool = False,
    ) -> list[Event]:
        """Events with start_seq ≤ seq < stop_seq and start_ms ≤ timestamp < end_ms, oldest first.

        Where more than `limit` match, the oldest ones, or the newest with `newest`. Each has seq, timestamp, message.
        """
        found = self._read("SELECT id FROM streams WHERE log_group = ? AND name = ?", group, stream)
        if not found:
            return []
        stream_id, order = found[0][0], "DESC" if newest else "ASC"
        first = max(start_seq, self._seq_at(stream_id, start_ms))
        stop = _FAR if end_ms is None else self._seq_at(stream_id, end_ms)
        rows = self._read(
            f"SELECT seq, timestamp, {_MESSAGE} FROM events WHERE stream = ? AND seq >= ? AND seq < ?"
            f" ORDER BY seq {order} LIMIT ?",
            stream_id,
            first,
            stop if stop_seq is None else min(stop, stop_seq),
            limit,
        )
        if newest:
            rows.reverse()
        return [{"seq": seq, "timestamp": timestamp, "message": message} for seq, timestamp, message in rows]

    def search(
        self,
        group: str,
        *,
        names: list[str] | None = None,
        prefix: str = "",
        start_ms: int = 0,
        end_ms: int | None = None,
        matches: Callable[[str], bool] = lambda message: True,
        after: Place | None = None,
        limit: int = 10_000,
        max_bytes: int = 2**20,
        max_scanned: int = 100_000,
        max_scanned_bytes: int = 2**24,
    ) -> Found:
        """Events of several streams in the order of their time; each has logStreamName, timestamp, message, place.

        A part of them: at most `limit` and `max_bytes` of messages, out of `max_scanned` events looked at, which have
        `max_scanned_bytes`: a filter of many words on long messages is work, too.
        """
        events: list[Event] = []
        size, seen, merged = 0, 0, self._merged(group, names, prefix, max(start_ms, after[0] if after else 0), after)
        for scanned, (place, name, message) in enumerate(merged, start=1):
            if end_ms is not None and place[0] >= end_ms:
                return Found(events, None)
            seen += len(message)
            if matches(message):
                events.append({"logStreamName": name, "timestamp": place[0], "message": message, "place": place})
                size += len(message)
            if len(events) == limit or scanned == max_scanned or size >= max_bytes or seen >= max_scanned_bytes:
                return Found(events, place)
        return Found(events, None)

    def _merged(
        self, group: str, names: list[str] | None, prefix: str, start_ms: int, after: Place | None
    ) -> Iterator[tuple[Place, str, str]]:
        """Streams are opened when the time of their first event comes: a group may have thousands."""
        rows = self._read(
            "SELECT MAX(first, ?) AS opens, id, name FROM streams WHERE log_group = ? AND name >= ? AND name < ?"
            " AND last >= ? ORDER BY opens, id",
            start_ms,
            group,
            prefix,
            prefix + chr(0x10FFFF),
            start_ms,
        )
        chosen = [row for row in rows if names is None or row[2] in names]
        heap: list[tuple[Place, str, str, Iterator[tuple[Place, str]]]] = []
        while chosen or heap:
            while chosen and (not heap or chosen[0][0] <= heap[0][0][0]):
                _, stream_id, name = chosen.pop(0)
                _push(heap, name, self._events(stream_id, start_ms, after))
            if heap:
                place, name, message, rest = heapq.heappop(heap)
                yield place, name, message
                _push(heap, name, rest)

    def _events(self, stream_id: int, start_ms: int, after: Place | None) -> Iterator[tuple[Place, str]]:
        """The events of one stream from start_ms on, and behind `after` in the order of all streams."""
        seq = self._seq_at(stream_id, start_ms)
        while rows := self._read(
            f"SELECT timestamp, seq, {_MESSAGE} FROM events WHERE stream = ? AND seq >= ? ORDER BY seq LIMIT ?",
            stream_id,
            seq,
            _CHUNK,
        ):
            for timestamp, number, message in rows:
                place = (timestamp, stream_id, number)
                if after is None or place > after:
                    yield place, message
            seq = rows[-1][1] + 1

    def tail(self, group: str, prefix: str, lines: int) -> list[str]:
        """The last lines of the stream last written to, of those whose name starts with `prefix`."""
        newest = self.streams(group, prefix=prefix, by_time=True, descending=True, limit=1)
        if not newest:
            return []
        return [event["message"] for event in self.read(group, newest[0]["logStreamName"], limit=lines, newest=True)]

    def delete(self, group: str, stream: str | None = None) -> None:
        """Forget a stream, or a group with all its streams."""
        which, values = "log_group = ? AND name = ?", (group, stream)
        if stream is None:
            which, values = "log_group = ? AND ? IS NULL", (group, None)
        with self._write_lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for table in ("events", "long_messages"):
                self._db.execute(f"DELETE FROM {table} WHERE stream IN (SELECT id FROM streams WHERE {which})", values)
            self._db.execute(f"DELETE FROM streams WHERE {which}", values)
            if stream is None:
                self._db.execute("DELETE FROM log_groups WHERE name = ?", (group,))

    def retain(self, group: str, days: int | None) -> None:
        """Forget events older than that now, and at every start of the server; None keeps them for ever."""
        with self._write_lock:
            self._db.execute("UPDATE log_groups SET retention_days = ? WHERE name = ?", (days, group))
        self._expire()

    def _expire(self) -> None:
        now = int(time.time() * 1000)
        for stream_id, days in self._read(
            "SELECT s.id, g.retention_days FROM streams s JOIN log_groups g ON g.name = s.log_group"
            " WHERE g.retention_days IS NOT NULL"
        ):
            seq = self._seq_at(stream_id, now - days * _DAY_MS)
            with self._write_lock, self._db:
                self._db.execute("BEGIN IMMEDIATE")
                (last,) = self._db.execute("SELECT MAX(seq) FROM events WHERE stream = ?", (stream_id,)).fetchone()
                if last is not None:
                    for table in ("events", "long_messages"):  # the last one stays: sequence numbers go on from it
                        self._forget(table, stream_id, min(seq, last))

    def _seq_at(self, stream_id: int, at_ms: int) -> int:
        """The first sequence number with that time or a later one, found by halving, because a stream may be long."""
        # One aggregate a query: SQLite takes MIN and MAX from the index only when it is asked for one of them.
        ((first,),) = self._read("SELECT MIN(seq) FROM events WHERE stream = ?", stream_id)
        ((last,),) = self._read("SELECT MAX(seq) FROM events WHERE stream = ?", stream_id)
        if at_ms <= 0 or first is None:
            return int(first or 0)

        def timestamp(seq: int) -> int:
            rows = self._read("SELECT timestamp FROM events WHERE stream = ? AND seq >= ? LIMIT 1", stream_id, seq)
            return int(rows[0][0]) if rows else _FAR

        return int(first) + bisect.bisect_left(range(first, last + 1), at_ms, key=timestamp)

    def _read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._read_lock:
            return self._reader.execute(sql, values).fetchall()


def _is_long(message: str) -> bool:
    return len(message.encode()) > _MAX_SHORT_BYTES


def _push(heap: list[Any], name: str, events: Iterator[tuple[Place, str]]) -> None:
    for place, message in events:
        heapq.heappush(heap, (place, name, message, events))
        return
