"""One step of a training: which tensors were saved at it, their values, and statistics of them.

A hook may have saved a tensor itself, or reductions of it (`smdebug/reductions/abs_mean/<tensor>`), or both. Statistics
come from reductions where those were saved, else from the values; values are read when a rule asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from debugger.tensors.records import CorruptTensors, wall_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from debugger.tensors.records import RecordReader
    from recordings.storage import Bucket, Folder

Reduction = tuple[str, bool]  # its name, and whether it is of absolute values
Entries = dict[str, dict[Reduction | None, tuple[int, int]]]  # tensor -> itself or a reduction -> its place and length
WHOLE_STEP_BYTES = 4 << 20  # a step up to this size is read at once, a larger one tensor by tensor


class MissingTensors(Exception):
    """A rule cannot judge because what it needs was not saved; the message says what, and how to have it saved."""


class Index:
    """What one worker wrote at one step, and where it lies in its event file."""

    def __init__(
        self,
        files: Folder | Bucket,
        records: RecordReader,
        worker: str,
        mode: str,
        mode_step: int,
        entries: Entries,
        shapes: Mapping[str, tuple[int, ...]],
        events: str,
        end: int,
    ) -> None:
        self.files, self.records = files, records
        self.worker, self.mode, self.mode_step = worker, mode, mode_step
        self.entries, self.shapes, self.events, self.end = entries, shapes, events, end
        self.bytes: bytes | None = None
        self.values: dict[tuple[str, Reduction | None], NDArray[Any]] = {}
        size = files.size(events) if entries else 0
        self.damage = ""
        if size < end:
            what = "is missing" if size < 0 else f"ends after {size} of {end} bytes"
            self.damage = f"{files}/{events} {what}"

    def record(self, tensor: str, reduction: Reduction | None) -> bytes:
        start, length = self.entries[tensor][reduction]
        try:
            if self.end > WHOLE_STEP_BYTES:
                record = self.files.read(self.events, start, length)
            else:
                if self.bytes is None:
                    self.bytes = self.files.read(self.events, 0, self.end)
                record = self.bytes[start : start + length]
        except OSError as error:
            raise CorruptTensors(self.damage or f"{self.files}/{self.events} cannot be read: {error}") from error
        if len(record) < length:
            raise CorruptTensors(self.damage or f"{self.files}/{self.events} ends within '{tensor}'")
        return record

    def value(self, tensor: str, reduction: Reduction | None) -> NDArray[Any]:
        known = self.values.get((tensor, reduction))
        if known is not None:
            return known
        name = tensor if reduction is None else saved_name(tensor, reduction)
        try:
            value = self.records.value(self.record(tensor, reduction), name)
        except CorruptTensors as error:
            raise CorruptTensors(f"{error} (in {self.files}/{self.events})") from error
        if self.bytes is not None:  # views of what is in memory anyway; several rules ask for the same tensor
            self.values[tensor, reduction] = value
        return value

    def number(self, tensor: str, reduction: Reduction) -> float:
        """A saved reduction; smdebug writes it with the shape () or (1,)."""
        value = self.value(tensor, reduction)
        if value.size != 1:
            raise CorruptTensors(
                f"{label(reduction)} of '{tensor}' has {value.size} values (in {self.files}/{self.events})"
            )
        return float(value.reshape(-1)[0])


class Step:
    """What was saved at one global step. `mode_step` is the step's number among those of its mode.

    Where several workers saved a tensor, the first worker's is taken, as smdebug's trials do. Arrays are views of the
    step's memory: copy what must outlive it.
    """

    def __init__(self, number: int, indices: Sequence[Index]) -> None:
        self.number, self.indices = number, indices
        self.mode, self.mode_step = indices[0].mode, indices[0].mode_step
        if len(indices) == 1:
            self.holders = dict.fromkeys(sorted(indices[0].entries), indices[0])
        else:
            names = sorted({name for index in indices for name in index.entries})
            self.holders = {name: next(index for index in indices if name in index.entries) for name in names}
        self.names = tuple(self.holders)

    @property
    def workers(self) -> list[str]:
        return [index.worker for index in self.indices]

    def holder(self, name: str, worker: str | None) -> Index:
        if worker is None:
            return self.holders[name]
        return next(index for index in self.indices if index.worker == worker)

    def has_value(self, name: str, worker: str | None = None) -> bool:
        """Whether the tensor itself was saved, not only reductions of it."""
        return None in self.holder(name, worker).entries[name]

    def value(self, name: str, worker: str | None = None) -> NDArray[Any]:
        """Raises MissingTensors if only reductions were saved."""
        holder = self.holder(name, worker)
        if None not in holder.entries[name]:
            raise self.only_reductions(name, worker)
        return holder.value(name, None)

    def only_reductions(self, name: str, worker: str | None = None) -> MissingTensors:
        saved = ", ".join(label(reduction) for reduction in self.holder(name, worker).entries[name])
        return MissingTensors(
            f"of '{name}' only {saved} was saved at step {self.number}, and the rule needs its values; "
            "add save_raw_tensor to its collection"
        )

    def shape(self, name: str, worker: str | None = None) -> tuple[int, ...]:
        index = self.holder(name, worker)
        return index.shapes[name] if name in index.shapes else self.value(name, worker).shape

    def reductions(self, name: str, worker: str | None = None) -> dict[Reduction, float]:
        """{(reduction, whether of absolute values): number}, as saved."""
        holder = self.holder(name, worker)
        return {key: holder.number(name, key) for key in holder.entries[name] if key is not None}

    def reduction(self, name: str, reduction: str, absolute: bool = False) -> float | None:
        """A number that was saved instead of the tensor or beside it; None if this one was not."""
        holder = self.holders[name]
        if (reduction, absolute) not in holder.entries[name]:
            return None
        return holder.number(name, (reduction, absolute))

    def wall_time(self) -> float | None:
        """When the step's first tensor was written, in epoch seconds; None if nothing tells."""
        for name, index in self.holders.items():
            return wall_time(index.record(name, next(iter(index.entries[name]))))
        return None

    # Statistics: of what was saved, whichever way.

    def mean(self, name: str) -> float:
        saved = self.reduction(name, "mean")
        return float(self.value(name).mean()) if saved is None else saved

    def abs_mean(self, name: str) -> float:
        saved = self.reduction(name, "mean", True)
        return float(np.abs(self.value(name)).mean()) if saved is None else saved

    def variance(self, name: str) -> float:
        saved = self.reduction(name, "variance")
        if saved is None and (deviation := self.reduction(name, "std")) is not None:
            saved = deviation * deviation
        return float(self.value(name).var()) if saved is None else saved

    def spread(self, name: str) -> float:
        """The 95th minus the 5th percentile; of reductions, maximum minus minimum, which is at least as large."""
        if self.has_value(name):
            low, high = np.percentile(self.value(name), [5, 95])
            return float(high - low)
        low, high = self.reduction(name, "min"), self.reduction(name, "max")
        if low is None or high is None:
            raise self.only_reductions(name)
        return high - low


def label(reduction: Reduction | None) -> str:
    return "its values" if reduction is None else ("abs_" if reduction[1] else "") + reduction[0]


def saved_name(tensor: str, reduction: Reduction) -> str:
    return f"smdebug/reductions/{label(reduction)}/{tensor}"
