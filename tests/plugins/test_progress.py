"""A person at a terminal sees a bar, a log a line now and then."""

from __future__ import annotations

import io
import logging
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from retraining.dataset.progress import at_terminal, in_log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_several_threads_move_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with at_terminal() as progress, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda done: progress("Verified", done, 400), range(1, 401)))
        progress("Uploaded", 7, 7)
    last = terminal.getvalue()[-1000:].rpartition("Verified")[2]
    assert "/400" in last
    assert "7/7" in last
    assert terminal.getvalue()[-1000:].count("/400") == terminal.getvalue()[-1000:].count("Verified")


def test_what_is_no_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level(logging.INFO)
    with at_terminal() as progress:
        assert progress is in_log
        for done in range(1, 12_001):
            progress("Verified", done, 12_000)
    assert [record.message for record in caplog.records] == [f"Verified {n} of 12000." for n in (5000, 10_000, 12_000)]
