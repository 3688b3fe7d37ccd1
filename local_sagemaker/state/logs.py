"""CloudWatch Logs, the part that is read: what jobs and endpoints print, kept in a SQLite file of its own.

Concurrency contract: any thread may call any method. Events are acknowledged after a commit with synchronous=NORMAL:
a killed server loses nothing, a power cut may lose the last lines.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TRAINING_JOBS = "/aws/sagemaker/TrainingJobs"
PROCESSING_JOBS = "/aws/sagemaker/ProcessingJobs"
TRANSFORM_JOBS = "/aws/sagemaker/TransformJobs"
ENDPOINTS = "/aws/sagemaker/Endpoints"

#: CloudWatch's own bound on one event's message.
MAX_MESSAGE_BYTES = 262_144

SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    id INTEGER PRIMARY KEY, log_group TEXT NOT NULL, name TEXT NOT NULL,
    created INTEGER NOT NULL, first INTEGER, last INTEGER, bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (log_group, name)
);
CREATE TABLE IF NOT EXISTS events (
    stream INTEGER NOT NULL, seq INTEGER NOT NULL, timestamp INTEGER NOT NULL, message TEXT NOT NULL,
    PRIMARY KEY (stream, seq)
) WITHOUT ROWID;
"""

Event = dict[str, Any]


class Logs:
    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def put(self, group: str, stream: str, messages: Iterable[str]) -> None:
        """Append lines, stamped with the time of this call (ms), as SageMaker's agent does."""
        now = int(time.time() * 1000)
        lines = [message.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore") for message in messages]
        if not lines:
            return
        with self._lock, self._db:
            self._db.execute(
                "INSERT OR IGNORE INTO streams (log_group, name, created, first) VALUES (?, ?, ?, ?)",
                (group, stream, now, now),
            )
            (stream_id,) = self._db.execute(
                "SELECT id FROM streams WHERE log_group = ? AND name = ?", (group, stream)
            ).fetchone()
            (seq,) = self._db.execute(
                "SELECT COALESCE(MAX(seq), -1) + 1 FROM events WHERE stream = ?", (stream_id,)
            ).fetchone()
            self._db.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?)",
                [(stream_id, seq + offset, now, line) for offset, line in enumerate(lines)],
            )
            size = sum(len(line) for line in lines)
            self._db.execute("UPDATE streams SET last = ?, bytes = bytes + ? WHERE id = ?", (now, size, stream_id))

    def groups(self) -> list[dict[str, Any]]:
        with self._lock:
            rows = self._db.execute(
                "SELECT log_group, MIN(created), SUM(bytes) FROM streams GROUP BY log_group ORDER BY log_group"
            ).fetchall()
        return [{"logGroupName": group, "creationTime": created, "storedBytes": size} for group, created, size in rows]

    def streams(self, group: str) -> list[dict[str, Any]]:
        """The streams of a group by name; empty when there is no such group."""
        with self._lock:
            rows = self._db.execute(
                "SELECT name, created, first, last, bytes FROM streams WHERE log_group = ? ORDER BY name", (group,)
            ).fetchall()
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
        with self._lock:
            (count,) = self._db.execute(f"SELECT COALESCE(MAX(seq), -1) + 1 {_FROM}", (group, stream)).fetchone()
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
        order = "DESC" if newest else "ASC"
        far = 2**62
        with self._lock:
            rows = self._db.execute(
                f"SELECT seq, timestamp, message {_FROM} AND seq >= ? AND seq < ? AND timestamp >= ? AND timestamp < ?"
                f" ORDER BY seq {order} LIMIT ?",
                (
                    group,
                    stream,
                    start_seq,
                    far if stop_seq is None else stop_seq,
                    start_ms,
                    far if end_ms is None else end_ms,
                    limit,
                ),
            ).fetchall()
        if newest:
            rows.reverse()
        return [{"seq": seq, "timestamp": timestamp, "message": message} for seq, timestamp, message in rows]

    def tail(self, group: str, prefix: str, lines: int) -> list[str]:
        """The last lines of the newest stream whose name starts with `prefix`."""
        names = [stream["logStreamName"] for stream in self.streams(group)]
        matching = [name for name in names if name.startswith(prefix)]
        if not matching:
            return []
        return [event["message"] for event in self.read(group, matching[-1], limit=lines, newest=True)]


_FROM = "FROM events JOIN streams ON streams.id = events.stream WHERE log_group = ? AND name = ?"
