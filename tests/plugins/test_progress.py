"""A person at a terminal sees a bar, a log a line now and then."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest

from retraining.dataset.progress import at_terminal, in_log
from tests.plugins.imported import noise
from tests.waiting import PATIENCE_S

PLUGINS = Path(__file__).parents[2] / "plugins"


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


def test_an_import_shows_a_bar(tmp_path: Path) -> None:
    """Of two files, the second of which makes the whole longer."""
    for split in ("train", "test"):
        numpy.save(tmp_path / f"x_{split}.npy", noise(30, 20, 20))
        numpy.save(tmp_path / f"y_{split}.npy", numpy.arange(30) % 2)
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "retraining.dataset", "import", "npy", tmp_path, tmp_path / "out"]
    environment = os.environ | {"PYTHONPATH": str(PLUGINS), "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(
        command, env=environment, stderr=theirs, stdout=subprocess.PIPE, timeout=PATIENCE_S, check=True
    )
    os.close(theirs)
    shown = os.read(ours, 1_000_000).decode()
    os.close(ours)
    assert "Written" in shown and "60/60" in shown
    assert done.returncode == 0 and done.stdout.startswith(b"60 images in 2 classes")


def test_what_is_no_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level(logging.INFO)
    with at_terminal() as progress:
        assert progress is in_log
        for done in range(1, 12_001):
            progress("Verified", done, 12_000)
    assert [record.message for record in caplog.records] == [f"Verified {n} of 12000." for n in (5000, 10_000, 12_000)]
