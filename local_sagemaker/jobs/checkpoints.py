"""The checkpoints of a job, in S3 and on its hosts: copied in before the script starts, copied out while it runs.

A file removed here is removed there, so the prefix always holds what the script wants to keep. Objects that others put
below the prefix are left alone. All hosts share the prefix; where two hold a file of one name, the first host's counts.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from local_sagemaker.s3 import ObjectStore, join, walk

# host's index, size, mtime in ns: a file is known by them without reading it.
_State = tuple[int, int, int]


class Checkpoints:
    """Not thread-safe: one thread owns it at a time.

    `memory` is a file beside the folders that remembers what was copied, so that a server that takes over a running
    job still sees what the script has removed since.
    """

    def __init__(self, objects: ObjectStore, uri: str, folders: list[Path], memory: Path) -> None:
        self._objects = objects
        self._uri = uri
        self._folders = folders
        self._memory = memory
        self._copied: dict[str, _State] = {}
        with contextlib.suppress(OSError, ValueError):
            self._copied = {
                name: (state[0], state[1], state[2]) for name, state in json.loads(memory.read_text()).items()
            }

    def restore(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Copy the prefix to every host. An empty prefix is a first run; one that cannot be read fails the job.

        `stopped`, asked now and then, ends it; nothing is remembered then, so nothing counts as removed.
        """
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            self._objects.download(self._objects.below(self._uri, stopped), folder, stopped)
        if not stopped():
            self._remember(self._present())

    def sync(self, *, settled_s: float = 0.0) -> None:
        """Upload what has changed, except within the last `settled_s` seconds, and remove what is gone.

        Costs one walk of the folders, and requests only for what has changed.
        """
        if not all(folder.is_dir() for folder in self._folders):
            return  # taken away whole: that is no wish to lose every checkpoint
        present = self._present()
        latest_ns = time.time_ns() - int(settled_s * 1e9)
        changed = {
            name: state for name, state in present.items() if self._copied.get(name) != state and state[2] <= latest_ns
        }
        gone = self._copied.keys() - present.keys()
        if not changed and not gone:
            return
        copied = dict(self._copied)
        for index, folder in enumerate(self._folders):
            names = [name for name, state in changed.items() if state[0] == index]
            copied |= {name: changed[name] for name in self._objects.upload_files(folder, names, self._uri)}
        self._objects.delete([join(self._uri, name) for name in sorted(gone)])
        self._remember({name: state for name, state in copied.items() if name not in gone})

    def _present(self) -> dict[str, _State]:
        found: dict[str, _State] = {}
        for index, folder in reversed(list(enumerate(self._folders))):
            found |= {name: (index, size, mtime_ns) for name, (size, mtime_ns) in walk(folder)}
        return found

    def _remember(self, copied: dict[str, _State]) -> None:
        self._copied = copied
        part = self._memory.with_suffix(".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(copied))
        part.replace(self._memory)
