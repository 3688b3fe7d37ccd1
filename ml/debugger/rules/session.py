"""All debugger rules of one training, judged in one process: beside it while it runs, or once it has ended.

Each step is read once and shown to every rule that has no verdict yet. A verdict is handed on at once, by `publish`.
The training is over when the end marker lies beside its tensors, or when `job_ended` says so; a training that died
without either is given up after `timeout_s` without a new step.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from debugger.tensors.records import CorruptTensors
from debugger.tensors.stream import TensorStream
from recordings.storage import END_MARKER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from debugger.rules.judge import Judge

RETRY_S = 30.0  # for a store that does not answer
MISSING_MARKER = (
    f"'{END_MARKER}' is missing, so the saved tensors may be incomplete; no issue is found in what there is. "
    "If the training has ended, write an empty file of that name beside them"
)


class RuleSession:
    def __init__(
        self,
        judges: Sequence[Judge],
        stream: TensorStream,
        publish: Callable[[dict[str, Any]], object],
        job_ended: Callable[[], bool] = lambda: False,
    ) -> None:
        self.judges, self.stream, self.publish, self.job_ended = judges, stream, publish, job_ended
        self.incomplete = ""
        self.failing_since: float | None = None
        self.published: set[str] = set()
        self.hand_on()

    @property
    def undecided(self) -> list[Judge]:
        return [judge for judge in self.judges if judge.document is None]

    def judge_what_is_there(self) -> None:
        """Of a training that has ended, or of one as far as it has come."""
        self.stream.ended = True
        if self.stream.files.ended_at() is None and not self.job_ended():
            self.incomplete = MISSING_MARKER
        self.drain()
        self.end()

    def follow(self, poll_s: float, timeout_s: float) -> None:
        """Of a training that is running, until every rule has a verdict or the training is over."""
        last_news = time.monotonic()
        while self.undecided and not self.stream.finished:
            self.stream.ended = self.stream.ended or self.job_ended()
            if self.advance():
                last_news = time.monotonic()
            elif not self.stream.ended and time.monotonic() - last_news > timeout_s:
                self.stream.ended = True
                self.incomplete = f"no step was saved for {timeout_s:g} s and there is no '{END_MARKER}'"
            if not self.stream.finished:
                for judge in self.undecided if not self.stream.ended else ():
                    judge.idle(time.time())
                self.hand_on()
                time.sleep(poll_s)
        if self.undecided and self.stream.steps_came_late():
            self.start_again()
        self.end()

    def advance(self) -> bool:
        """Show the rules what is new; whether anything was."""
        news = False
        try:
            for step in self.stream.poll():
                news = True
                for judge in self.undecided:
                    judge.look(step)
                self.hand_on()
                if not self.undecided:
                    break
            self.failing_since = None
        except CorruptTensors as error:
            self.fail(error)
        except Exception as error:  # S3 has many ways not to answer
            now = time.monotonic()
            self.failing_since = self.failing_since or now
            if now - self.failing_since > RETRY_S:
                self.fail(error)
        return news

    def start_again(self) -> None:
        """Judge everything once more, in order: some steps appeared after later ones had been looked at."""
        self.stream = TensorStream(self.stream.files)
        self.judges = [judge.anew(self.stream) if judge.document is None else judge for judge in self.judges]
        self.stream.ended = True
        self.drain()

    def drain(self) -> None:
        """Until everything there is has been looked at; a file that is not whole is waited for, a while."""
        while self.undecided and not self.stream.finished:
            if not self.advance():
                time.sleep(0.05)

    def end(self) -> None:
        for judge in self.undecided:
            judge.end(self.incomplete)
        self.hand_on()

    def fail(self, error: Exception) -> None:
        for judge in self.undecided:
            judge.fail(error)
        self.hand_on()

    def hand_on(self) -> None:
        for judge in self.judges:
            if judge.document is not None and judge.name not in self.published:
                self.published.add(judge.name)
                self.publish(judge.document)
