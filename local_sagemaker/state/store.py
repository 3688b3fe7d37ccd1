"""What the server remembers: one SQLite table of records, each a Describe response and what the server needs beside it.

Concurrency contract: any thread may call any method. All access goes through one connection under one lock, so there
is one writer and every change is atomic. A method returns only after SQLite has committed with synchronous=FULL:
acknowledged means durable, also after kill -9.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: The member of the Describe response that holds a record's status; kinds without one have none.
STATUS_MEMBER = {
    "training-job": "TrainingJobStatus",
    "hyper-parameter-tuning-job": "HyperParameterTuningJobStatus",
    "transform-job": "TransformJobStatus",
    "processing-job": "ProcessingJobStatus",
    "endpoint": "EndpointStatus",
    "model-package": "ModelApprovalStatus",
}

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, name TEXT NOT NULL, parent TEXT, status TEXT,
    created REAL NOT NULL, modified REAL NOT NULL, describe TEXT NOT NULL, internal TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE INDEX IF NOT EXISTS by_creation ON records (kind, created);
CREATE INDEX IF NOT EXISTS by_parent ON records (kind, parent) WHERE parent IS NOT NULL;
"""


class AlreadyExistsError(Exception):
    """A record of that kind and name exists."""


@dataclasses.dataclass(kw_only=True)
class Record:
    kind: str
    name: str
    describe: dict[str, Any]
    """The Describe response, in AWS's CamelCase; timestamps are epoch seconds."""
    internal: dict[str, Any]
    """What AWS would keep to itself: process ids, folders, metric series, tags."""
    parent: str | None
    created: float
    modified: float

    @property
    def status(self) -> str | None:
        member = STATUS_MEMBER.get(self.kind)
        return self.describe.get(member) if member else None


class Store:
    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def insert(
        self,
        kind: str,
        name: str,
        describe: dict[str, Any],
        internal: dict[str, Any] | None = None,
        parent: str | None = None,
    ) -> Record:
        """Raises AlreadyExistsError; of many concurrent inserts of one name exactly one succeeds."""
        now = time.time()
        created = describe.get("CreationTime", now)
        record = Record(
            kind=kind,
            name=name,
            describe=describe,
            internal=internal or {},
            parent=parent,
            created=created,
            modified=now,
        )
        with self._lock:
            try:
                self._db.execute(
                    "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        kind,
                        name,
                        parent,
                        record.status,
                        created,
                        now,
                        json.dumps(describe),
                        json.dumps(record.internal),
                    ),
                )
            except sqlite3.IntegrityError:
                raise AlreadyExistsError(f"{kind} '{name}'") from None
        return record

    def get(self, kind: str, name: str) -> Record | None:
        with self._lock:
            row = self._db.execute(f"{_SELECT} WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        return _record(row) if row else None

    def update(self, kind: str, name: str, change: Callable[[Record], None]) -> Record:
        """Read, let `change` edit the record in place, write; nobody else writes in between.

        An exception from `change` leaves the record as it was. Raises KeyError for an unknown record.
        """
        with self._lock:
            record = self.get(kind, name)
            if record is None:
                raise KeyError(f"no {kind} '{name}'")
            change(record)
            record.modified = time.time()
            if "LastModifiedTime" in record.describe:
                record.describe["LastModifiedTime"] = record.modified
            self._db.execute(
                "UPDATE records SET status = ?, modified = ?, describe = ?, internal = ? WHERE kind = ? AND name = ?",
                (
                    record.status,
                    record.modified,
                    json.dumps(record.describe),
                    json.dumps(record.internal),
                    kind,
                    name,
                ),
            )
        return record

    def delete(self, kind: str, name: str) -> bool:
        with self._lock:
            return self._db.execute("DELETE FROM records WHERE kind = ? AND name = ?", (kind, name)).rowcount > 0

    def list(self, kind: str, *, parent: str | None = None, status: str | None = None) -> list[Record]:
        """All records of a kind, oldest first."""
        clauses, values = ["kind = ?"], [kind]
        for column, value in (("parent", parent), ("status", status)):
            if value is not None:
                clauses.append(f"{column} = ?")
                values.append(value)
        with self._lock:
            rows = self._db.execute(f"{_SELECT} WHERE {' AND '.join(clauses)} ORDER BY created, rowid", values)
            return list(_records(rows))


_SELECT = "SELECT kind, name, describe, internal, parent, created, modified FROM records"


def _record(row: tuple[Any, ...]) -> Record:
    kind, name, describe, internal, parent, created, modified = row
    return Record(
        kind=kind,
        name=name,
        describe=json.loads(describe),
        internal=json.loads(internal),
        parent=parent,
        created=created,
        modified=modified,
    )


def _records(rows: sqlite3.Cursor) -> Iterator[Record]:
    return (_record(row) for row in rows)
