"""The tensors a training saved, step by step as they appear, read without smdebug.

Rules look at each step once and keep what they need of it, so a training of any length takes the memory of one step.
A step is given when all its workers have written it, when a later one is complete (as smdebug's trials do), or when the
training has ended; steps are given in the order of their numbers. Files that are not whole yet are looked at again for
a while; then they count as damaged, and whoever asks for their tensors gets CorruptTensors.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from debugger.hook_config import MODES
from debugger.tensors.records import CorruptTensors, RecordReader
from debugger.tensors.steps import Index, Step
from recordings.storage import tensor_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from debugger.tensors.steps import Entries, Reduction
    from recordings.storage import Bucket, Folder

INDEX_FILE = re.compile(r"(\d{1,18})_(.+)\.json")
COLLECTIONS_FILE = re.compile(r"(.+)_collections\.json")
FAILURE_NOTE = re.compile(r"recording-failure-.+\.json")  # left by a hook that had to give up
REDUCTION = re.compile(r"smdebug/reductions/(abs_)?([^/]+)/(.+)", re.DOTALL)
STEPS_PER_FOLDER = 1000
WRITE_GRACE_S = 5.0  # for a file that is not whole: it may still be being copied
MOST_PATTERNS = 100  # different sets of tensors that a selection remembers
MOST_PENDING_STEPS = 5000  # looked for at once
MOST_INCOMPLETE_STEPS = 1000  # then the older half is taken without the workers that are missing, as smdebug does


class TensorStream:
    """The steps of one training. Not thread-safe; `ended` may be set by whoever knows that no more will come."""

    def __init__(self, place: Folder | Bucket | Path | str, clock: Callable[[], float] = time.monotonic) -> None:
        self.files, self.clock = tensor_files(place), clock
        self.records = RecordReader()
        # name -> (names of tensors, expressions), once the hook has written them
        self.collections: dict[str, tuple[frozenset[str], tuple[str, ...]]] | None = None
        self.num_workers = 1
        self.ended = self.finished = False
        self.ended_at: float | None = None
        self.last_step = -1
        self.given: Counter[int] = Counter()  # folder of the index -> how many of its steps have been given
        self.pending: defaultdict[int, dict[str, str]] = defaultdict(dict)  # step -> worker -> name of its index file
        self.unfinished: dict[int, float] = {}  # step -> when it was first seen not to be whole
        self.split_names: dict[str, tuple[str, Reduction | None]] = {}

    def poll(self) -> Iterator[Step]:
        """The steps that have become ready since the last call. Raises CorruptTensors if one cannot be read at all."""
        if self.ended_at is None:
            self.ended_at = self.files.ended_at()
            self.ended = self.ended or self.ended_at is not None
        ended = self.ended  # as it was before looking for files: then nothing can be missed
        if self.collections is None and not self.read_collections(ended):
            self.finished = ended
            return
        found_all = self.find_files()
        for number in self.ready(ended):
            step = self.open_step(number)
            if step is None:
                return
            del self.pending[number]
            self.last_step = number
            self.given[number // STEPS_PER_FOLDER] += 1
            yield step
        self.finished = ended and found_all and not self.pending

    def selection(self, collections: Iterable[str] = (), regexes: Iterable[str] = ()) -> Selection:
        """Which tensors belong to any of the collections or match any of the expressions."""
        return Selection(self, collections, regexes)

    def failure_notes(self) -> list[str]:
        """What the hook wrote down when it stopped recording, if it did."""
        notes = []
        for name in sorted(filter(FAILURE_NOTE.fullmatch, self.files.list(""))):
            try:
                notes.append(str(json.loads(self.files.read(name))["complaint"]))
            except (OSError, ValueError, KeyError, TypeError):
                notes.append(f"{self.files}/{name} cannot be read")
        return notes

    def read_collections(self, ended: bool) -> bool:
        """Whether they are there. Of several workers the first one's count, as for smdebug's trials."""
        folder = "collections/000000000"
        name = min(filter(COLLECTIONS_FILE.fullmatch, self.files.list(folder)), default=None)
        if name is None:
            return False
        try:
            written = json.loads(self.files.read(f"{folder}/{name}"))
            self.num_workers = int(written.get("_meta", {}).get("num_workers", 1))
            self.collections = {
                collection: (frozenset(of.get("tensor_names") or ()), tuple(of.get("include_regex") or ()))
                for collection, of in written["collections"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if self.whole_by_now(-1):
                message = f"{self.files}/{folder}/{name} is not a list of collections: {error!r}"
                raise CorruptTensors(message) from error
        return self.collections is not None

    def find_files(self) -> bool:
        """Add to `pending` what is new in the index: folders of 1000 steps, of which only the newest still grow."""
        for folder in self.index_folders(max(0, self.last_step) // STEPS_PER_FOLDER):
            for number, worker, name in self.index_files(folder):
                if number > self.last_step:
                    self.pending[number][worker] = name
            if len(self.pending) > MOST_PENDING_STEPS:
                return False
        return True

    def index_folders(self, first: int = 0) -> list[str]:
        return sorted(name for name in self.files.list("index") if name.isdigit() and int(name) >= first)

    def index_files(self, folder: str) -> Iterator[tuple[int, str, str]]:
        """(step, worker, path) of each file of one folder of the index, in no order."""
        for name in self.files.list(f"index/{folder}"):
            if found := INDEX_FILE.fullmatch(name):
                yield int(found[1]), found[2], f"index/{folder}/{name}"

    def steps_came_late(self) -> bool:
        """Whether steps appeared after a later one had been given, as they may where files are copied out of order."""
        return any(
            len({number for number, _, _ in self.index_files(folder)}) > self.given[int(folder)]
            for folder in self.index_folders()
        )

    def ready(self, ended: bool) -> list[int]:
        numbers = sorted(self.pending)
        if ended:
            return numbers
        complete = [number for number in numbers if len(self.pending[number]) >= self.num_workers]
        upto = complete[-1] if complete else -1
        if len(numbers) > MOST_INCOMPLETE_STEPS:
            upto = max(upto, numbers[MOST_INCOMPLETE_STEPS // 2])
        return [number for number in numbers if number <= upto]

    def open_step(self, number: int) -> Step | None:
        """The step, or None if one of its files is not whole yet."""
        indices = []
        for worker, name in sorted(self.pending[number].items()):
            try:
                indices.append(self.read_index(name, worker))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                if not self.whole_by_now(number):
                    return None
                raise CorruptTensors(f"{self.files}/{name} is not an index of tensors: {error!r}") from error
        damage = next((index.damage for index in indices if index.damage), "")
        if damage and not self.whole_by_now(number):
            return None
        self.unfinished.pop(number, None)
        return Step(number, indices)

    def whole_by_now(self, number: int) -> bool:
        """Whether a file that is not whole has been so for too long to be still being written."""
        return self.clock() - self.unfinished.setdefault(number, self.clock()) >= WRITE_GRACE_S

    def read_index(self, name: str, worker: str) -> Index:
        written = json.loads(self.files.read(name))
        entries: Entries = {}
        shapes: dict[str, tuple[int, ...]] = {}
        meta, end = written["meta"], 0
        for entry in written.get("tensor_payload") or ():
            start, length = int(entry["start_idx"]), int(entry["length"])
            tensor, reduction = self.split(entry["tensorname"])
            entries.setdefault(tensor, {})[reduction] = start, length
            end = max(end, start + length)
        for entry in written.get("shape_payload") or ():
            shapes[entry["tensorname"]] = tuple(entry["shape"])
        mode = meta["mode"].strip()
        if mode not in MODES:
            raise ValueError(f"unknown mode '{mode}'")
        events = meta.get("event_file_name", "") if entries else ""
        if entries and (not events.startswith("events/") or ".." in events):
            raise ValueError(f"event file '{events}' is not below events/")
        return Index(self.files, self.records, worker, mode, int(meta["mode_step"]), entries, shapes, events, end)

    def split(self, name: str) -> tuple[str, Reduction | None]:
        """A saved name -> (tensor, (reduction, whether of absolute values) or None for the tensor itself)."""
        known = self.split_names.get(name)
        if known is None:
            found = REDUCTION.fullmatch(name)
            known = (found[3], (found[2], bool(found[1]))) if found else (name, None)
            self.split_names[name] = known
        return known


class Selection:
    """Tensors by collection or name; both together are their union, neither is every tensor."""

    def __init__(self, stream: TensorStream, collections: Iterable[str], regexes: Iterable[str]) -> None:
        self.stream, self.collections, self.regexes = stream, tuple(collections), tuple(regexes)
        self.known: dict[str, bool] = {}  # by name
        self.chosen: dict[tuple[str, ...], list[str]] = {}  # by the names of a step, which repeat themselves

    def __str__(self) -> str:
        named = [f"the collection '{name}'" for name in self.collections]
        return " or ".join(named + [f"a tensor matching '{regex}'" for regex in self.regexes]) or "any tensor"

    def of(self, step: Step) -> list[str]:
        """The names saved at a step that belong to the selection, in order."""
        chosen = self.chosen.get(step.names)
        if chosen is None:
            if len(self.chosen) > MOST_PATTERNS:
                self.chosen.clear()
            chosen = self.chosen[step.names] = [name for name in step.names if self.holds(name)]
        return chosen

    def holds(self, name: str) -> bool:
        known = self.known.get(name)
        if known is None:
            known = self.known[name] = self.matches(name)
        return known

    def matches(self, name: str) -> bool:
        if not self.collections and not self.regexes:
            return True
        if any(re.search(regex, name) for regex in self.regexes):
            return True
        written = self.stream.collections or {}
        for collection in self.collections:
            names, expressions = written.get(collection, (frozenset(), ()))
            if name in names or any(re.search(expression, name) for expression in expressions):
                return True
        return False
