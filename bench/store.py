"""What the store of the laptop costs as we set it, beside SeaweedFS with Go's own settings and with those of 0.2.0.

    make bench-store                  (ARGS='--rounds 5 --objects 1500 --rest 15')

A round starts each side in turn on an empty folder, puts the objects one after the other, and then leaves it alone. The
ratio is of a processor's seconds, a side's by ours, median (least to most); at rest the store does nothing for anybody.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import psutil

from stack import store
from tests import object_store

#: Variables of each side.
SIDES = {"ours": store.GARBAGE, "Go's own": {"GOGC": "100"}, "0.2.0": {"GOGC": "100", "GOMEMLIMIT": "256MiB"}}
OBJECT_BYTES = 20_000


@dataclass(frozen=True)
class Cost:
    """Of one start: seconds of a processor for the objects, share of one at rest, resident MB at the end."""

    puts_s: float
    rest: float
    memory_mb: float


def measured(side: str, objects: int, rest_s: float) -> Cost:
    with tempfile.TemporaryDirectory() as name, object_store.seaweedfs(Path(name), variables=SIDES[side]) as endpoint:
        client = boto3.client("s3", endpoint_url=endpoint, **object_store.CLIENT)
        (process,) = [child for child in psutil.Process().children() if child.name().startswith("weed")]
        before = seconds(process)
        client.create_bucket(Bucket="bench")
        for number in range(objects):
            client.put_object(Bucket="bench", Key=f"k/{number}", Body=os.urandom(OBJECT_BYTES))
        puts_s = seconds(process) - before
        time.sleep(3)  # what the objects still cause
        before = seconds(process)
        time.sleep(rest_s)
        return Cost(puts_s, (seconds(process) - before) / rest_s, process.memory_info().rss / 1e6)


def seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def rows(costs: dict[str, list[Cost]]) -> Iterator[str]:
    yield "| side | processor for the objects | by ours | at rest, of a core | memory | n |"
    yield "|---|---|---|---|---|---|"
    for side, found in costs.items():
        ratios = [theirs.puts_s / ours.puts_s for theirs, ours in zip(found, costs["ours"], strict=True)]
        puts_s, rest, memory_mb = (
            statistics.median(getattr(cost, name) for cost in found) for name in ("puts_s", "rest", "memory_mb")
        )
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        yield f"| {side} | {puts_s:.1f} s | {spread} | {rest:.1%} | {memory_mb:.0f} MB | {len(found)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--objects", type=int, default=1500)
    parser.add_argument("--rest", type=float, default=15, help="seconds")
    options = parser.parse_args()
    print(f"{options.objects} objects of {OBJECT_BYTES} bytes; {os.cpu_count()} cores, {platform.machine()}; load "
          f"{os.getloadavg()[0]:.1f}")  # fmt: skip
    costs: dict[str, list[Cost]] = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side, found in costs.items():
            found.append(measured(side, options.objects, options.rest))
    print("\n".join(rows(costs)))


if __name__ == "__main__":
    main()
