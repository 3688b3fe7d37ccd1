"""What went wrong while a training was watched: notes beside what was recorded, which the reports show.

The debugger's hook and the profiler are guests in a training: when one fails the training goes on without it. So that
nobody takes silence for health, a failure leaves `recording-failure-<who>.json` in the folder it was recording to.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from recordings.storage import END_MARKER

if TYPE_CHECKING:
    from typing import Any

NOTE = "recording-failure-{}.json"


def give_up(who: str, folder: Path | str, complaint: str, lost: str) -> None:
    """Say loudly that `who` records no more, with the exception now handled, and leave a note in `folder`."""
    error = sys.exc_info()[1]
    if error is not None:
        traceback.print_exc()
    print(f"WARNING: {complaint}; training goes on WITHOUT {lost}", file=sys.stderr, flush=True)
    note = {"who": who, "complaint": complaint, "error": repr(error) if error else None, "time": time.time()}
    try:
        Path(folder).mkdir(exist_ok=True)
        (Path(folder) / NOTE.format(who)).write_text(json.dumps(note), encoding="utf-8")
    except OSError as problem:  # a full disk, perhaps the very reason; or no such place, outside of a container
        print(f"WARNING: and no note of it could be left in {folder}: {problem}", file=sys.stderr, flush=True)


def clear(folder: Path | str) -> None:
    """An empty folder to record in: what is there is of an earlier training, or of steps that this one takes again."""
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True, exist_ok=True)


def mark_end(folder: Path | str) -> None:
    """Tell readers of what is recorded in `folder` that no more will come, as the platform does for its own."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / END_MARKER).touch()
    except OSError as problem:
        print(f"WARNING: no '{END_MARKER}' could be left in {folder}: {problem}", file=sys.stderr, flush=True)


def failures(*folders: Path | str) -> list[dict[str, Any]]:
    """The notes found in these folders and below, oldest first; a folder may be missing."""
    found = []
    for folder in folders:
        for path in Path(folder).rglob(NOTE.format("*")):
            try:
                note = json.loads(path.read_text(encoding="utf-8"))
                found.append({"who": str(note["who"]), "complaint": str(note["complaint"])} | note)
            except (OSError, ValueError, KeyError, TypeError):
                found.append({"who": path.stem, "complaint": f"{path.name} cannot be read", "error": None, "time": 0})
    return sorted(found, key=lambda note: note.get("time") or 0)
