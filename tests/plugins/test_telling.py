"""What strangers named or wrote never reaches a terminal as a command, whichever command shows it."""

from __future__ import annotations

import ast
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retraining.telling import PlainFormatter, plain, tell

PLUGINS = Path(__file__).parents[2] / "plugins"
EVIL = "\x1b]0;mine\x07\x1b[2J\u202e"
WRITTEN_OUT = "\\x1b]0;mine\\x07\\x1b[2J\\u202e"


def test_each_text_is_told_by_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell(f"a {EVIL}\nb\r", Path("c"))
    tell("no", error=True)
    assert capsys.readouterr() == (f"a {WRITTEN_OUT}\nb\\r\nc\n", "no\n")


def test_log_lines_are_plain_too() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "%s is read", (EVIL,), None)
    assert PlainFormatter("%(message)s").format(record) == f"{WRITTEN_OUT} is read"


@pytest.mark.parametrize("text", ["été 猫 می\u200cرو", "- a `b` (c): 1 → 2\n\n  * 3"])
def test_other_text_stays(text: str) -> None:
    assert plain(text) == text


def test_commands_print_in_no_other_way() -> None:
    """What is left: one program's answers to another, and the path that a shell takes up."""
    printing = set()
    for path in (PLUGINS / "retraining").rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        if any(isinstance(called, ast.Name) and called.id == "print" for called in calls):
            printing.add(str(path.relative_to(PLUGINS / "retraining")))
    assert printing == {"telling.py", "dataset/pictures/worker.py", "__main__.py"}


def test_the_name_of_a_tensor_is_no_command(tmp_path: Path) -> None:
    header = json.dumps({f"w{EVIL}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    nowhere = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1", "PYTHONPATH": str(PLUGINS)}
    command = [sys.executable, "-m", "retraining.pretrained", str(tmp_path / "w.safetensors"), "s3://bucket/recipe"]
    done = subprocess.run(command, env=os.environ | keys | nowhere, capture_output=True, text=True, timeout=120)
    assert f"the last one w{WRITTEN_OUT} [1]" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
