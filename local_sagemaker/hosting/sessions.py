"""Stateful sessions: the requests of one session go to one worker, because only that one knows the session.

A model opens a session by answering a request with SessionId NEW_SESSION with its id (`<id>; Expires=…`), and ends it
with the id in the closing header. A session whose worker is gone goes to any other, which will have to refuse it:
AWS does not say what it does.

For the one event loop that serves. Sessions are forgotten when the server ends, as their workers are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from local_sagemaker.hosting.worker import Worker

_MAX_SESSIONS = 10_000


class Sessions:
    def __init__(self) -> None:
        self._workers: OrderedDict[tuple[str, str], Worker] = OrderedDict()
        """(endpoint, session) → worker, the longest unused first."""

    def worker(self, endpoint: str, session: str | None) -> Worker | None:
        """Where the requests of a session go; None for any worker."""
        if session is None or (endpoint, session) not in self._workers:
            return None
        self._workers.move_to_end((endpoint, session))
        return self._workers[endpoint, session]

    def note(self, endpoint: str, answer: Mapping[str, str], worker: Worker) -> None:
        """Remember what a worker's answer opens and closes; `answer` are its headers, in lower case."""
        if opened := answer.get("x-amzn-sagemaker-new-session-id"):
            self._workers[endpoint, opened.partition(";")[0].strip()] = worker
            if len(self._workers) > _MAX_SESSIONS:
                self._workers.popitem(last=False)
        if closed := answer.get("x-amzn-sagemaker-closed-session-id"):
            self._workers.pop((endpoint, closed), None)
