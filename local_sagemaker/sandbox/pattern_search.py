"""A program of its own: a user's regular expressions on a user's text, where they can be ended.

    python -I -S pattern_search.py CPU_SECONDS

A line of standard input is a request, `{"patterns": […], "text": "…"}`; the answer is a line for each pattern, as soon
as it is known, with the processor seconds that it took: `[[[line, number], …], 0.1]`, every number that the pattern's
first group (or, without groups, the whole match) holds, by the line of the text; or `["why", 0.1]` for a pattern that
does not compile. A pattern that uses more than CPU_SECONDS of processor time ends the program, by the kernel's timer:
what was not answered is what overran. Standard library only, and no state between requests.
"""

from __future__ import annotations

import functools
import json
import re
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from re import _parser  # type: ignore[attr-defined]  # how the pattern is understood is not offered elsewhere
from typing import Any

_MAX_MEMORY_BYTES = 2**30

# Without a literal to look for, the search from the right tries every place: worth it for long lines only.
_LONG = 200

Search = Callable[[str], Iterator["re.Match[str]"]]

#: Beginnings of a pattern after which a search tries the whole rest of a line at every place: what they are to the
#: parser, how many characters they take at least.
_HEADS = {
    ".*?": ("MIN_REPEAT", "ANY", 0), ".+?": ("MIN_REPEAT", "ANY", 1),
    ".*": ("MAX_REPEAT", "ANY", 0), ".+": ("MAX_REPEAT", "ANY", 1),
    r"\s*?": ("MIN_REPEAT", "IN", 0), r"\s*": ("MAX_REPEAT", "IN", 0),
}  # fmt: skip


def numbers(pattern: str, text: str) -> list[tuple[int, float]]:
    """(line, number) of every match. Text that is no number is none; a carriage return ends a line's part, too."""
    search, group = _search(pattern)
    return [
        (number, value)
        for number, line in enumerate(text.split("\n"))
        for part in line.split("\r")
        for match in search(part)
        if (value := _number(match.group(group))) is not None
    ]


def _number(text: str | None) -> float | None:
    """None also of a group that took no part in the match. Python alone reads 1_000 as a number."""
    try:
        return None if text is None or "_" in text else float(text)
    except ValueError:
        return None


@functools.lru_cache(maxsize=1024)
def _search(pattern: str) -> tuple[Search, int]:
    """A search that finds the same numbers as `finditer`, in time that grows with the line where that is known how."""
    compiled = re.compile(pattern)
    return _linear(pattern) or compiled.finditer, min(1, compiled.groups)


def _linear(pattern: str) -> Search | None:
    """`.*X` looks for X from the right, `.*?X` from the left, `\\s*X` for X: the same matches of X, and of its groups.

    Only where X is all that follows (no `.*X|Y`) and takes at least a character.
    """
    head = next((head for head in _HEADS if pattern.startswith(head)), None)
    if head is None:
        return None
    (kind, what, least), rest = _HEADS[head], pattern[len(head) :]
    try:
        whole, behind = _parser.parse(pattern), _parser.parse(rest)
    except re.error:
        return None
    if not _is_repeat(whole[0], kind, what, least) or str(list(whole)[1:]) != str(list(behind)):
        return None
    if behind.getwidth()[0] == 0:
        return None
    literal, compiled = _literal(behind), re.compile(rest)
    if what == "IN":
        return compiled.finditer if literal and not literal[0].isspace() else None
    if kind == "MIN_REPEAT":
        return functools.partial(_first, compiled, least)
    return functools.partial(_last, re.compile(pattern), compiled, literal, least)


def _is_repeat(item: Any, kind: str, what: str, least: int) -> bool:
    operation, detail = item
    if str(operation) != kind:
        return False
    low, high, repeated = detail
    name, argument = repeated[0]
    if len(repeated) != 1 or str(name) != what or low != least or str(high) != "MAXREPEAT":
        return False
    return what == "ANY" or [str(part) for part in argument[0]] == ["CATEGORY", "CATEGORY_SPACE"]


def _literal(parsed: Any) -> str:
    """The characters that a match begins with, as far as there is no choice."""
    found = ""
    for operation, detail in parsed:
        if str(operation) != "LITERAL":
            break
        found += chr(detail)
    return found


def _first(rest: re.Pattern[str], least: int, text: str) -> Iterator[re.Match[str]]:
    place = 0
    while match := rest.search(text, place + least):
        yield match
        place = match.end()


def _last(
    whole: re.Pattern[str], rest: re.Pattern[str], literal: str, least: int, text: str
) -> Iterator[re.Match[str]]:
    """The last place of a line where X matches; behind it there can be no other."""
    if not literal and len(text) <= _LONG:
        yield from whole.finditer(text)
        return
    end = len(text)
    while (place := text.rfind(literal, least, end)) >= 0:
        if match := rest.match(text, place):
            yield match
            return
        end = place + len(literal) - 1
        if end < least:
            return


def main(cpu_s: float) -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # it ends the program
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")  # of patterns that a later Python will read otherwise
    for line in sys.stdin.buffer:
        request = json.loads(line)
        for pattern in request["patterns"]:
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            began = time.process_time()
            try:
                answer: Any = numbers(pattern, request["text"])
            except (re.error, OverflowError, RecursionError, MemoryError) as error:
                answer = str(error) or type(error).__name__
            written = json.dumps([answer, time.process_time() - began])
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(written, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
