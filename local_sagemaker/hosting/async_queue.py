"""Asynchronous invocations between their acknowledgement and their outcome: a SQLite file of its own.

A row is there from before the client is answered until its output or its failure lies in S3. What the outcome is gets
written down before anything is uploaded, so that a server killed in between uploads the same again: an invocation never
has both an output and a failure.

Concurrency contract: any thread may call any method. What a method has changed is committed with synchronous=FULL.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

from local_sagemaker.state import database

MAX_WAITING = 100_000
"""Invocations that may be queued at once, all endpoints together."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS invocations (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, endpoint TEXT NOT NULL, accepted REAL NOT NULL,
    request TEXT NOT NULL, body BLOB, claimed INTEGER NOT NULL DEFAULT 0, losses INTEGER NOT NULL DEFAULT 0,
    outcome TEXT
);
CREATE INDEX IF NOT EXISTS by_endpoint ON invocations (endpoint, claimed, number);
"""


class QueueFullError(Exception):
    """As many invocations wait as may."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an invocation came to: an answer, which lies in a file, or why there is none."""

    failure: str | None
    content_type: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Queued:
    id: str
    endpoint: str
    accepted: float
    """Epoch seconds."""
    request: dict[str, Any]
    """What was asked for, in the words of its owner; JSON."""
    body: bytes | None
    losses: int = 0
    """How many workers have died over it."""
    outcome: Outcome | None = None


class AsyncQueue:
    def __init__(self, path: Path) -> None:
        """Opens the queue; what an earlier server had begun is waiting again. Raises ValueError for a broken file."""
        self._lock = threading.Lock()
        self._db = database.connect(path, SCHEMA, synchronous="FULL")
        self._db.execute("UPDATE invocations SET claimed = 0 WHERE claimed")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def put(self, queued: Queued) -> None:
        """Durable when it returns. Raises QueueFullError."""
        with self._lock:
            (waiting,) = self._db.execute("SELECT COUNT(*) FROM invocations").fetchone()
            if waiting >= MAX_WAITING:
                raise QueueFullError(f"{waiting} asynchronous invocations wait already")
            self._db.execute(
                "INSERT INTO invocations (id, endpoint, accepted, request, body) VALUES (?, ?, ?, ?, ?)",
                (queued.id, queued.endpoint, queued.accepted, json.dumps(queued.request), queued.body),
            )

    def claim(self, endpoint: str) -> Queued | None:
        """The oldest invocation of an endpoint that nobody works on; it is the caller's until it is removed."""
        with self._lock:
            rows = self._db.execute(
                "UPDATE invocations SET claimed = 1 WHERE number = (SELECT number FROM invocations "
                "WHERE endpoint = ? AND NOT claimed ORDER BY number LIMIT 1) "
                "RETURNING id, endpoint, accepted, request, body, losses, outcome",
                (endpoint,),
            ).fetchall()
        if not rows:
            return None
        ((identity, name, accepted, request, body, losses, outcome),) = rows
        return Queued(
            id=identity,
            endpoint=name,
            accepted=accepted,
            request=json.loads(request),
            body=body,
            losses=losses,
            outcome=outcome and Outcome(**json.loads(outcome)),
        )

    def unclaim(self, identity: str) -> None:
        """Let somebody else try."""
        self._change("claimed = 0", identity, returning="id")

    def lose(self, identity: str) -> int:
        """A worker has died over it; returns how many have."""
        return int(self._change("losses = losses + 1", identity, returning="losses"))

    def decide(self, identity: str, outcome: Outcome) -> None:
        """From now on nothing but the upload remains."""
        self._change("outcome = ?", identity, json.dumps(dataclasses.asdict(outcome)), returning="id")

    def remove(self, identity: str) -> None:
        with self._lock:
            self._db.execute("DELETE FROM invocations WHERE id = ?", (identity,))

    def endpoints(self) -> list[str]:
        """Those that something waits for."""
        with self._lock:
            return [name for (name,) in self._db.execute("SELECT DISTINCT endpoint FROM invocations")]

    def ids(self) -> set[str]:
        with self._lock:
            return {identity for (identity,) in self._db.execute("SELECT id FROM invocations")}

    def backlog(self, endpoint: str) -> int:
        """Invocations of an endpoint without an outcome yet."""
        with self._lock:
            (count,) = self._db.execute("SELECT COUNT(*) FROM invocations WHERE endpoint = ?", (endpoint,)).fetchone()
        return int(count)

    def _change(self, what: str, identity: str, *values: Any, returning: str) -> Any:
        with self._lock:
            rows = self._db.execute(
                f"UPDATE invocations SET {what} WHERE id = ? RETURNING {returning}", (*values, identity)
            ).fetchall()
        if not rows:
            raise KeyError(f"no asynchronous invocation '{identity}'")
        return rows[0][0]
