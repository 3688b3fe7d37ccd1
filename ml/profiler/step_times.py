"""Where the time of a training goes: each step and its phases, in the files of SageMaker's framework metrics.

    <folder>/framework/pevents/<YYYYMMDDHH>/<end µs>_<pid>-<host>_pythontimeline.json     as smdebug reads them
    <folder>/traces/<host>-<pid>-steps-<first>-<last>.pt.trace.json.gz                    torch.profiler, a few steps

On when the job has a profiler configuration (or a folder is given), else every call returns at once. A step lasts from
asking for its batch to the end of the optimizer's work, so waiting for data is part of it. smdebug's own steps, which
end with the forward pass, are switched off, for a step would otherwise be counted twice.

A mark costs a clock reading and a list entry; files are written every few seconds, at first sooner. Times are the
host's, on CUDA the device's: kernels run after the call that starts them returns, so the host's clock would book one
phase's work on the next. Not thread-safe: one training, one thread.
"""

from __future__ import annotations

import ast
import atexit
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from profiler.phases import BACKWARD, EVAL, FORWARD, LOADER, OPTIMIZER, PREPARING, STEP, TRAIN, WAITING
from recordings.notes import give_up, mark_end
from recordings.rank import is_first_of_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

DEFAULT_CONFIG = "/opt/ml/input/config/profilerconfig.json"
DEFAULT_FOLDER = "/opt/ml/output/profiler"
FIRST_FILE_S = 5  # then twice as long each time, up to the configured interval: short jobs leave files too
ROTATE_S = 60
MAX_EVENTS = 20_000  # kept in memory, about 100 bytes each in the file
WARM_UP_STEPS = 5  # the first steps choose kernels and fill caches; they tell little
MAX_TRACE_STEPS = 10  # a step of a ResNet makes a few MB of trace
MAX_TRACE_BYTES = 64 * 2**20

# Events of two phases are named as smdebug names them.
EVENT_NAMES = {WAITING: "ChannelDataLoaderIter::GetNext", LOADER: "ChannelDataLoaderIter.__init__"}
PROCESSES = (
    *(TRAIN, EVAL, LOADER),
    *(WAITING, PREPARING, FORWARD, BACKWARD, OPTIMIZER),
)

Batch = TypeVar("Batch")
Event = tuple[str, Any, Any, int, str]  # phase, begin and end by its clock, number of the step, more arguments


class StepTimes:
    """Records one training. Without a `folder` it is off and costs nothing but the calls."""

    def __init__(
        self,
        folder: Path | str | None = None,
        device: torch.device | None = None,
        trace: Trace | None = None,
        rotate_s: float = ROTATE_S,
    ) -> None:
        self.folder = Path(folder) if folder else None
        self.host, self.pid = os.environ.get("SM_CURRENT_HOST", "algo-1"), os.getpid()
        self.clock: DeviceClock | HostClock = (
            DeviceClock() if device is not None and device.type == "cuda" else HostClock()
        )
        self.events: list[Event] = []
        self.marks: list[tuple[str, Any]] = []
        self.counts = {"TRAIN": 0, "EVAL": 0}
        self.rotate_s, self.interval_s = rotate_s, min(FIRST_FILE_S, rotate_s)
        self.trace, self.written = trace or Trace(), False
        self.marks_end = False  # where the platform asked for the files, it tells of their end
        if self.folder:
            self.guarded("could not write its files", self.write)  # now: a folder that refuses is known at once
            atexit.register(self.close)

    @classmethod
    def configured(cls, folder: Path | str | None = None, device: torch.device | None = None) -> StepTimes:
        """As SageMaker's profilerconfig.json says, or into the given `folder`; off without either."""
        path = os.environ.get("SMPROFILER_CONFIG_PATH", DEFAULT_CONFIG)
        if not Path(path).is_file():
            return cls.given(folder, device)
        os.environ["SMPROFILER_CONFIG_PATH"] = os.devnull  # smdebug reads it when its hook is made; see above
        given, folder = folder, folder or DEFAULT_FOLDER
        try:
            config = lower(json.loads(Path(path).read_text(encoding="utf-8")))
            if config.get("disableprofiler"):
                return cls.given(given, device)
            parameters = lower(config.get("profilingparameters") or {})
            folder = given or parameters.get("localpath") or folder
            rotate_s = float(parameters.get("rotatefilecloseintervalinseconds", ROTATE_S))
            make = cls.given if given else cls
            return make(folder, device, traced_steps(parameters), rotate_s)
        except Exception:
            give_up("profiler", folder, f"the profiler configuration {path} cannot be used", "step times")
            return cls()

    @classmethod
    def given(cls, folder: Path | str | None, *others: Any) -> StepTimes:
        """Into a folder of the user's, whose end nobody else marks."""
        times = cls(folder, *others)
        times.marks_end = is_first_of_host()
        return times

    def steps(self, mode: str, batches: Iterable[Batch], loaders: int = 0) -> Iterator[Batch]:
        """Pass on `batches`, timing the wait for each and then the caller's step. `mode` is "train" or "eval".

        `loaders`: threads or processes that load while the training runs, 0 if the data are in memory.
        """
        if self.folder is None:
            yield from batches
            return
        mode = mode.upper()
        self.begin(mode)
        batches = iter(batches)
        self.ended(LOADER)
        self.finish(mode, f', "num_workers": {int(loaders)}, "pin_memory": false', step=False)
        while True:
            self.begin(mode)
            try:
                batch = next(batches)
            except StopIteration:
                self.marks.clear()
                return
            self.ended(WAITING)
            try:
                yield batch
            finally:  # also when the caller breaks off
                self.finish(mode)

    def ended(self, phase: str) -> None:
        """`phase` ends now; it began with the step or with the end of the phase before it."""
        if self.folder is not None:
            self.marks.append((phase, self.clock.now()))

    def begin(self, mode: str) -> None:
        if self.folder is None:  # it has given up meanwhile
            return
        if self.counts[mode] == self.trace.first:
            self.guarded("could not start its trace", lambda: self.trace.begin(mode))
        self.marks = [("", self.clock.now())]

    def finish(self, mode: str, arguments: str = "", step: bool = True) -> None:
        if self.folder is None or not self.marks:
            return
        number = self.counts[mode]
        _, start = self.marks[0]
        for phase, end in self.marks[1:]:
            self.events.append((phase, start, end, number, arguments))
            start = end
        if step:
            self.events.append((f"{STEP}{mode}", self.marks[0][1], self.marks[-1][1], number, ""))
            self.counts[mode] += 1
        self.marks = []
        if self.trace.profiler is not None:
            self.guarded("could not write its trace", lambda: self.trace.end(mode, number, self.path_of_trace))
        if len(self.events) >= MAX_EVENTS or time.monotonic() >= self.rotate_at:
            self.guarded("could not write its files", self.write)

    def write(self) -> None:
        """One file of everything since the last one. Its name tells the end of its last event."""
        assert self.folder is not None
        events, self.events = self.clock.resolved(self.events), []
        self.rotate_at = time.monotonic() + self.interval_s
        self.interval_s = min(2 * self.interval_s, self.rotate_s)
        if not events and self.written:
            return
        self.written = True
        base = min((start for _, start, *_ in events), default=time.time_ns() // 1000)
        end = max((end for _, _, end, *_ in events), default=base)
        lines = [json.dumps(line) for line in metadata(base)]
        head = {name: event_head(name, index) for index, name in enumerate(PROCESSES, start=1)}
        for phase, start, stop, number, arguments in events:  # json.dumps would take ten times as long
            known = f'"pid": {self.pid}, "step_num": "{number}"{arguments}'
            lines.append(f'{head[phase]}, "ts": {start - base}, "dur": {stop - start}, "args": {{{known}}}}}')
        hour = time.strftime("%Y%m%d%H", time.gmtime(end / 1e6))
        path = self.folder / "framework/pevents" / hour / f"{end}_{self.pid}-{self.host}_pythontimeline.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "framework" / f"{self.pid}-{self.host}_pythontimeline.json.tmp"
        partial.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
        os.replace(partial, path)

    def path_of_trace(self, first: int, last: int) -> Path:
        assert self.folder is not None
        folder = self.folder / "traces"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.host}-{self.pid}-steps-{first}-{last}.pt.trace.json.gz"

    def close(self) -> None:
        """Write what is left. Once is enough; it also happens when the process ends in another way."""
        if self.folder is not None:
            self.guarded("could not write its trace", lambda: self.trace.write(self.path_of_trace))
        if self.folder is not None:
            self.guarded("could not write its files", self.write)
        if self.folder is not None and self.marks_end:
            mark_end(self.folder / "framework")
        self.folder = None
        atexit.unregister(self.close)

    def guarded(self, complaint: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception:
            folder, self.folder = self.folder, None
            self.events, self.marks = [], []
            assert folder is not None  # else there was nothing to do
            give_up("profiler", folder, f"the profiler {complaint} in {folder}", "step times")


class HostClock:
    """Microseconds since the epoch that never run backwards."""

    def __init__(self) -> None:
        self.base = time.time_ns() - time.perf_counter_ns()

    def now(self) -> int:
        return (self.base + time.perf_counter_ns()) // 1000

    def resolved(self, events: list[Event]) -> list[Event]:
        return events


class DeviceClock:
    """Marks in the stream of the CUDA device, read in one go when a file is written.

    elapsed_time is a float of 32 bits in milliseconds, so times are told from the last mark of the file before.
    """

    def __init__(self) -> None:
        self.host = HostClock()
        self.origin: tuple[torch.cuda.Event, int] | None = None

    def now(self) -> torch.cuda.Event:
        mark = torch.cuda.Event(enable_timing=True)
        mark.record()
        if self.origin is None:
            mark.synchronize()
            self.origin = mark, self.host.now()
        return mark

    def resolved(self, events: list[Event]) -> list[Event]:
        if not events:
            return events
        events[-1][2].synchronize()
        assert self.origin is not None  # since the first mark
        first, base = self.origin

        def moment(mark: torch.cuda.Event) -> int:
            return int(base + round(first.elapsed_time(mark) * 1000))

        self.origin = events[-1][2], moment(events[-1][2])
        return [(phase, moment(start), moment(end), number, more) for phase, start, end, number, more in events]


class Trace:
    """torch.profiler over `num_steps` training steps from `start_step` on; 0 steps: off."""

    def __init__(self, start_step: int = WARM_UP_STEPS, num_steps: int = 0) -> None:
        self.first, self.last = start_step, start_step + min(num_steps, MAX_TRACE_STEPS) - 1
        self.profiler: torch.profiler.profile | None = None

    def begin(self, mode: str) -> None:
        if mode == "TRAIN" and self.profiler is None and self.last >= self.first:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self.profiler = torch.profiler.profile(activities=activities)
            self.profiler.start()

    def end(self, mode: str, step: int, path_of: Callable[[int, int], Path]) -> None:
        if self.profiler is not None and mode == "TRAIN" and step >= self.last:
            self.write(path_of)

    def write(self, path_of: Callable[[int, int], Path]) -> None:
        if self.profiler is None:
            return
        profiler, self.profiler, path = self.profiler, None, path_of(self.first, self.last)
        self.first, self.last = 0, -1  # once is enough
        profiler.stop()
        profiler.export_chrome_trace(str(path))
        if path.stat().st_size > MAX_TRACE_BYTES:
            size = path.stat().st_size
            path.unlink()
            print(f"the trace of torch.profiler was {size:,} bytes and is dropped; trace fewer steps", flush=True)


def event_head(phase: str, index: int) -> str:
    """A complete event of one phase up to its times, as JSON without the end."""
    name = json.dumps(EVENT_NAMES.get(phase, phase))
    return f'{{"name": {name}, "pid": {index}, "tid": 0, "ph": "X"'


def metadata(base: int) -> Iterator[dict[str, Any]]:
    """The events at the head of a file: what times are relative to, in µs since the epoch, and the phases' names."""
    yield {"name": "process_name", "ph": "M", "pid": 0, "args": {"start_time_since_epoch_in_micros": base}}
    for index, name in enumerate(PROCESSES, start=1):
        yield {"name": "process_name", "ph": "M", "pid": index, "args": {"name": name}}
        yield {"name": "process_sort_index", "ph": "M", "pid": index, "args": {"sort_index": index}}


def traced_steps(parameters: Mapping[str, str]) -> Trace:
    """The Trace of the steps that SageMaker's DetailedProfilingConfig names; of none without it.

    The text is Python's rather than JSON's: SDKs leave a comma at its end.
    """
    detailed = lower(ast.literal_eval(parameters.get("detailedprofilingconfig") or "{}"))
    return Trace(int(detailed.get("startstep", WARM_UP_STEPS)), int(detailed.get("numsteps", 1)) if detailed else 0)


def lower(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Keys as smdebug compares them."""
    return {str(key).lower(): value for key, value in mapping.items()}
