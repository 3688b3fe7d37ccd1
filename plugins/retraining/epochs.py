"""The epochs of a training, as its log tells them: the metric lines of `ml/train.py`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import KINDS

EPOCH = re.compile(r"(best )?epoch=(\d+)(?:\.0)?/(\d+) (.*)")
METRIC = re.compile(r"\b((?:train|validation):[a-z0-9_]+)=(\S+)")
MAX_EPOCHS = 500
"""More are told by every second, third … of them: a curve has no more points than a screen."""
MAX_METRICS = 20
MAX_PAGES = 10
"""Of a log, each up to a MB, from its end."""


def read_epochs(logs: Any, job: str, pages: int = MAX_PAGES) -> dict[str, Any] | None:
    """What `epochs` finds in the log of a training job; None where there is no log, or no epoch in it yet.

    `logs` is a CloudWatch Logs client. Of a log of more than so many `pages` the beginning is not read.
    """
    group = KINDS["training"].log_group
    try:
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/", limit=5)
        names = [stream["logStreamName"] for stream in streams["logStreams"]]
        # Of several machines only the first one tells its epochs.
        told = [told for name in sorted(names) if (told := epochs(_lines(logs, group, name, pages)))]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return None
        raise
    return {"job": job, **told[0]} if told else None


def _lines(logs: Any, group: str | None, stream: str, pages: int) -> list[str]:
    """The last so many pages, the oldest line first."""
    found: list[list[str]] = []
    token: dict[str, str] = {}
    for _ in range(pages):
        page = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=False, **token)
        found.append([event["message"] for event in page["events"]])
        before = page["nextBackwardToken"]
        if before == token.get("nextToken"):
            break
        token = {"nextToken": before}
    return [line for page in reversed(found) for line in page]


def epochs(lines: Iterable[str]) -> dict[str, Any] | None:
    """{"of": how many were asked for, "numbers": [1, 2, …], "best": its number or None, "metrics": {name: values}}.

    None without a line that tells an epoch. An epoch told twice (a training that was interrupted) counts as told last;
    a value that is no finite number, or is missing, is None.
    """
    told: dict[int, dict[str, float]] = {}
    best, of = None, 0
    for line in lines:
        if not (found := EPOCH.match(line.strip())):
            continue
        number, of = int(found[2]), int(found[3])
        if found[1]:
            best = number
        else:
            told[number] = {name: _number(text) for name, text in METRIC.findall(found[4])}
    if not told:
        return None
    numbers = _thinned(sorted(told), best)
    names = sorted({name for number in numbers for name in told[number]})[:MAX_METRICS]
    finite = {name: [_finite(told[number].get(name)) for number in numbers] for name in names}
    return {"of": of, "ended": max(told), "numbers": numbers, "best": best, "metrics": finite}


def _thinned(numbers: Sequence[int], best: int | None) -> list[int]:
    """At most MAX_EPOCHS and two more: the best and the last are among them."""
    step = -(-len(numbers) // MAX_EPOCHS)
    return sorted({*numbers[::step], numbers[-1], *(number for number in numbers if number == best)})


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
