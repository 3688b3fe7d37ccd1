"""SQLite files as this server keeps them: write-ahead logged, of bounded size, and refused where they are broken."""

from __future__ import annotations

import sqlite3
from pathlib import Path

# Checking every page takes about 3 ms a megabyte; beyond this size only what is read at the start is checked.
_CHECKED_BYTES = 32 * 2**20

_MAX_WAL_BYTES = 32 * 2**20


def connect(path: Path, schema: str, *, synchronous: str) -> sqlite3.Connection:
    """A connection that any one thread at a time may use, in autocommit mode.

    Raises ValueError, with the way out, for a file that is no sound database; such a file is left as it is.
    """
    try:
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        # The log is cut back to this after a checkpoint; without a limit it keeps the size of its worst moment.
        connection.execute(f"PRAGMA journal_size_limit={_MAX_WAL_BYTES}")
        # The system keeps the file in memory too; six connections with SQLite's own 2 MB each would fill within a day.
        connection.execute("PRAGMA cache_size=-512")
        if schema:  # a further connection to a file has none, and the file is known to be sound
            _check(connection, path)
            connection.executescript(schema)
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"{path} cannot be used ({error}). Nothing in it was changed. Restore it from a copy, or move it away to "
            "start without what it held; the other files beside it need not go"
        ) from error
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size <= _CHECKED_BYTES:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
