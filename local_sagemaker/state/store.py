"""What the server remembers: one SQLite table of records, each a Describe response and what the server needs beside it.

Concurrency contract: any thread may call any method. All writing goes through one connection under one lock, so there
is one writer and every change is atomic, with the changes made inside it. A method returns only after SQLite has
committed with synchronous=FULL: acknowledged means durable, also after kill -9. Reading has a connection of its own and
never waits for a writer.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from local_sagemaker.state import database

#: The member of the Describe response that holds a record's status; kinds without one have none.
STATUS_MEMBER = {
    "training-job": "TrainingJobStatus",
    "hyper-parameter-tuning-job": "HyperParameterTuningJobStatus",
    "transform-job": "TransformJobStatus",
    "processing-job": "ProcessingJobStatus",
    "endpoint": "EndpointStatus",
    "model-package": "ModelApprovalStatus",
}

#: Kinds whose names are told apart by their capitals. Of all others a name is taken in any case of its letters, as on
#: AWS: SageMaker's ARNs are lower case.
CASE_SENSITIVE = frozenset({"alarm", "scalable-target", "model-package-token"})

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, name TEXT NOT NULL, parent TEXT, status TEXT,
    created REAL NOT NULL, modified REAL NOT NULL, describe TEXT NOT NULL, internal TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE INDEX IF NOT EXISTS by_creation ON records (kind, created);
CREATE INDEX IF NOT EXISTS by_name ON records (kind, name COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS by_parent ON records (kind, parent) WHERE parent IS NOT NULL;
"""

Rows = list[tuple[Any, ...]]
Order = Literal["created", "modified", "name", "status"]


class AlreadyExistsError(Exception):
    """A record of that kind and name exists."""


class GoneError(KeyError):
    """There is no such record, or no longer."""


class Record:
    """`describe` and `internal` are parsed when they are first looked at: most of what is listed never is."""

    def __init__(
        self,
        *,
        kind: str,
        name: str,
        describe: dict[str, Any] | str,
        internal: dict[str, Any] | str,
        parent: str | None,
        created: float,
        modified: float,
        row: int = 0,
    ) -> None:
        self.kind = kind
        self.name = name
        self.parent = parent
        self.created = created
        self.modified = modified
        self.row = row
        """Its place in the table: tells apart what was created at the same time."""
        self._describe = describe
        self._internal = internal

    @property
    def describe(self) -> dict[str, Any]:
        """The Describe response, in AWS's CamelCase; timestamps are epoch seconds."""
        if isinstance(self._describe, str):
            self._describe = json.loads(self._describe)
        return self._describe  # type: ignore[return-value]  # json.loads is Any

    @describe.setter
    def describe(self, value: dict[str, Any]) -> None:
        self._describe = value

    @property
    def internal(self) -> dict[str, Any]:
        """What AWS would keep to itself: process ids, folders, metric series, tags."""
        if isinstance(self._internal, str):
            self._internal = json.loads(self._internal)
        return self._internal  # type: ignore[return-value]

    @internal.setter
    def internal(self, value: dict[str, Any]) -> None:
        self._internal = value

    @property
    def status(self) -> str | None:
        member = STATUS_MEMBER.get(self.kind)
        return self.describe.get(member) if member else None

    @status.setter
    def status(self, value: str) -> None:
        self.describe[STATUS_MEMBER[self.kind]] = value


class Selection(Sequence[Record]):
    """The records that meet some conditions, oldest first, read when they are looked at."""

    def __init__(self, store: Store, conditions: tuple[str, ...], values: tuple[Any, ...]) -> None:
        self._store = store
        self._conditions = conditions
        self._values = values

    def where(self, condition: str, *values: Any) -> Selection:
        """Fewer of them: `condition` is SQL over the columns kind, name, parent, status, created and modified."""
        return Selection(self._store, (*self._conditions, condition), (*self._values, *values))

    def __iter__(self) -> Iterator[Record]:
        return iter(self.page(order="created"))

    def __len__(self) -> int:
        return int(self._store.read(f"SELECT COUNT(*) FROM records WHERE {self._where}", self._values)[0][0])

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        return self.page(order="created")[index]

    def page(
        self,
        *,
        order: Order,
        descending: bool = False,
        after: tuple[Any, int] | None = None,
        limit: int = -1,
    ) -> list[Record]:
        """At most `limit` records in that order, from behind the place `after` = (value of the column, row)."""
        conditions, values = self._where, [*self._values]
        if after is not None:
            conditions += f" AND (IFNULL({order}, ''), rowid) {'<' if descending else '>'} (?, ?)"
            values += after
        direction = "DESC" if descending else "ASC"
        by = f"ORDER BY IFNULL({order}, '') {direction}, rowid {direction}"
        if order == "created":  # a column that is never NULL, sorted by its index
            conditions, by = (
                conditions.replace("IFNULL(created, '')", "created"),
                f"ORDER BY created {direction}, rowid {direction}",
            )
        # The page is chosen first and read then, so that sorting never carries the large columns.
        rows = self._store.read(
            f"{_SELECT} WHERE rowid IN (SELECT rowid FROM records WHERE {conditions} {by} LIMIT ?) {by}",
            [*values, limit],
        )
        return [_record(row) for row in rows]

    @property
    def _where(self) -> str:
        return " AND ".join(self._conditions)


class Store:
    def __init__(self, path: Path) -> None:
        """Raises ValueError for a file that is no sound database."""
        self._write_lock = threading.RLock()
        self._read_lock = threading.Lock()
        self._writing: int | None = None
        self._db = database.connect(path, SCHEMA, synchronous="FULL")
        self._reader = database.connect(path, "", synchronous="FULL")
        self._reader.execute("PRAGMA query_only=1")

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._db.close()

    def insert(
        self,
        kind: str,
        name: str,
        describe: dict[str, Any],
        internal: dict[str, Any] | None = None,
        parent: str | None = None,
    ) -> Record:
        """Raises AlreadyExistsError; of two concurrent inserts of one name exactly one succeeds."""
        now = time.time()
        record = Record(
            kind=kind,
            name=name,
            describe=describe,
            internal=internal or {},
            parent=parent,
            created=describe.get("CreationTime", now),
            modified=now,
        )
        row = (kind, name, parent, record.status, record.created, now, json.dumps(describe), json.dumps(internal or {}))
        with self._transaction():
            if kind not in CASE_SENSITIVE and self.find(kind, name) is not None:
                raise AlreadyExistsError(f"{kind} '{name}'")
            try:
                cursor = self._db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:
                raise AlreadyExistsError(f"{kind} '{name}'") from None
        record.row = int(cursor.lastrowid or 0)
        return record

    def get(self, kind: str, name: str) -> Record | None:
        rows = self.read(f"{_SELECT} WHERE kind = ? AND name = ?", (kind, name))
        return _record(rows[0]) if rows else None

    def find(self, kind: str, name: str) -> Record | None:
        """Like `get` for a name out of an ARN, which has lost its capitals."""
        exact = self.get(kind, name)
        if exact is not None:
            return exact
        rows = self.read(f"{_SELECT} WHERE kind = ? AND name = ? COLLATE NOCASE ORDER BY rowid", (kind, name))
        return _record(rows[0]) if rows else None

    def update(self, kind: str, name: str, change: Callable[[Record], None]) -> Record:
        """Read, let `change` edit the record in place, write; nobody else writes in between.

        An exception from `change` leaves the record as it was, and undoes what `change` did to other records.
        Raises GoneError for an unknown record.
        """
        with self._transaction():
            record = self.get(kind, name)
            if record is None:
                raise GoneError(f"no {kind} '{name}'")
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
        with self._transaction():
            return self._db.execute("DELETE FROM records WHERE kind = ? AND name = ?", (kind, name)).rowcount > 0

    def list(self, kind: str, *, parent: str | None = None, status: str | None = None) -> Selection:
        """The records of a kind, oldest first."""
        found = Selection(self, ("kind = ?",), (kind,))
        if parent is not None:
            found = found.where("parent = ?", parent)
        return found if status is None else found.where("status = ?", status)

    def read(self, sql: str, values: Sequence[Any]) -> Rows:
        """Rows of a SELECT; inside an update they show what it has changed so far."""
        if self._writing == threading.get_ident():
            return self._db.execute(sql, values).fetchall()
        with self._read_lock:
            return self._reader.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """One commit for all that happens inside, in this thread; a transaction within another one joins it."""
        with self._write_lock:
            if self._writing is not None:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            self._writing = threading.get_ident()
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                self._writing = None
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")


_SELECT = "SELECT rowid, kind, name, describe, internal, parent, created, modified FROM records"


def _record(row: tuple[Any, ...]) -> Record:
    rowid, kind, name, describe, internal, parent, created, modified = row
    return Record(
        row=rowid,
        kind=kind,
        name=name,
        describe=describe,
        internal=internal,
        parent=parent,
        created=created,
        modified=modified,
    )
