"""What others named, printed or wrote never reaches a terminal as a command."""

import pytest

from stack import __main__ as program
from stack.plain import plain
from stack.progress import Task, line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;mine\x07", "\\x1b[2J\\x1b]0;mine\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("done\rFAILED", "done\\rFAILED"),
        ("\u202egnp.tac", "\\u202egnp.tac"),
        ("\udcff", "\\udcff"),
        ("a\u2028b", "a\\u2028b"),
        ("one\n\ttwo", "one\n\ttwo"),
        ("été 猫 می\u200cرو", "été 猫 می\u200cرو"),
    ],
)
def test_what_a_terminal_obeys_is_written_out(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_whatever_is_said_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """Reasons, class names and rules' details come from a report that a run wrote."""
    program._say("KEPT\n  \x1b]0;mine\x07")
    assert capsys.readouterr().out == "KEPT\n  \\x1b]0;mine\\x07\n"


def test_a_log_line_stays_on_the_line_of_its_task() -> None:
    task = Task(name="train", state="running", seconds=1.0, try_number=1)
    assert line(task, "epoch 1\n\x1b[31m  ✗ train failed").endswith("epoch 1 \\x1b[31m ✗ train failed")
