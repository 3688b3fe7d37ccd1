"""A user's patterns on a user's text: found the same, in bounded time, in a process that can be ended."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from local_sagemaker.sandbox import pattern_search
from local_sagemaker.sandbox.patterns import PatternProcesses

HEADS = (".*", ".*?", ".+", ".+?", r"\s*", r"\s*?")
RESTS = (
    "loss=([0-9.]+)", "loss=([0-9.]+).*", "loss ?= ?([0-9]+)", "([0-9.]+)", "a|loss=([0-9])", "a|.*b", "(?=loss)l",
    "(a)?", "[ab]=([0-9]+)", " ([0-9])", "^([0-9])", r"(?<=a)([0-9])", r"\b([0-9]+)\b", "?", "+", "{2}", "(a)(b)|c",
    "$", "(?:ab)+([0-9])",
)  # fmt: skip
PIECES = ("loss=1", "loss = 23", "loss=", "a=", " ", "ab7", "\n", "\r", "x", "0", "1.5", "b=2")


@pytest.fixture(scope="module")
def processes() -> Iterator[PatternProcesses]:
    with PatternProcesses(cpu_s=0.3) as running:
        yield running


def plainly(pattern: str, text: str) -> list[tuple[int, float]]:
    """What `numbers` has to find, by nothing but finditer."""
    compiled = re.compile(pattern)
    found = []
    for number, line in enumerate(text.split("\n")):
        for part in line.split("\r"):
            for match in compiled.finditer(part):
                try:
                    found.append((number, float(match.group(min(1, compiled.groups)))))
                except (TypeError, ValueError):
                    continue
    return found


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rest", RESTS)
def test_linear_form_finds_what_the_pattern_finds(head: str, rest: str) -> None:
    try:
        re.compile(head + rest)
    except re.error:
        return
    draw = random.Random(head + rest)
    for size in (*range(12), *[90] * 10):
        text = "".join(draw.choices(PIECES, k=size))
        assert pattern_search.numbers(head + rest, text) == plainly(head + rest, text), text


@pytest.mark.parametrize(
    "pattern",
    [r".*train:loss ([0-9\.]+).*", r".*?train:loss ([0-9\.]+)", r".+train:loss ([0-9\.]+)", r"\s*train:loss ([0-9]+)"],
)
def test_common_greedy_pattern_is_linear_on_a_long_line(processes: PatternProcesses, pattern: str) -> None:
    line = " 3%|##  " * 30_000 + "train:loss 0.5 more"
    (found,) = processes.numbers([pattern], [line, line.replace("train", "valid")])
    assert found and found[0][0] == 0 and len(found) == 1


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(a|a?)+$", "(.*a){20}b", "(x+x+)+y|(a+)+$"])
def test_endless_pattern_costs_itself_alone(processes: PatternProcesses, pattern: str) -> None:
    began = time.monotonic()
    found = processes.numbers(["(1)", pattern, "(2)"], ["a" * 80 + "! 1 2"])
    assert found == [[(0, 1.0)], None, [(0, 2.0)]]
    assert time.monotonic() - began < 120


@pytest.mark.parametrize("pattern", ["(", "[", "*", "(?P<a>x)(?P<a>y)", "a{99999999999}", "(?<=a*)b", "(" * 500])
def test_pattern_that_does_not_compile_is_told(processes: PatternProcesses, pattern: str) -> None:
    (problem,) = processes.problems([pattern])
    assert problem


def test_pattern_of_endless_compilation_is_told(processes: PatternProcesses) -> None:
    pattern = "(?i:" + "".join(f"[{chr(start)}-\U0010ffff]" for start in range(0x4E00, 0x4E00 + 150)) + ")"
    assert processes.problems(["a", pattern, "b"]) == [None, "it takes more than 0.3 s to compile", None]


def test_process_that_somebody_kills_is_replaced(processes: PatternProcesses) -> None:
    assert processes.numbers(["(1)"], ["1"]) == [[(0, 1.0)]]
    for process in processes.idle:
        os.kill(process.popen.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.popen.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
    assert processes.numbers(["(1)"], ["1"]) == [[(0, 1.0)]]


def test_no_process_is_left() -> None:
    with PatternProcesses(cpu_s=0.3) as running:
        running.numbers(["(a+)+$", "(1)"], ["a" * 60 + "!1"])
        mine = {process.popen.pid for process in running.idle}
    assert mine and not any(psutil.pid_exists(pid) for pid in mine)
