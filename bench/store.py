"""What the store of the laptop costs as we set it, beside SeaweedFS with Go's own settings and with those of 0.2.0.

    make bench-store                  (ARGS='--rounds 5 --objects 1500 --rest 15')

A round starts each side in turn on an empty folder, puts the objects one after the other, leaves it alone, kills it,
starts it again and leaves it alone once more. The ratio is of a processor's seconds, a side's by ours, median (least to
most); at rest the store does nothing for anybody.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3
import psutil

from stack import store
from tests import object_store


@dataclass(frozen=True)
class Side:
    """How it is started."""

    variables: Mapping[str, str]
    goes_on: bool = False
    """With the master's log of before, which SeaweedFS does by itself."""

    def command(self, folder: Path, ports: Mapping[str, int]) -> Sequence[str]:
        words = object_store.of_the_laptop(folder, ports)
        return [word for word in words if not (self.goes_on and word == store.ANEW)]


SIDES = {
    "ours": Side(store.GARBAGE),
    "Go's own": Side({"GOGC": "100"}),
    "SeaweedFS's own": Side({"GOGC": "100"}, goes_on=True),
    "0.2.0": Side({"GOGC": "100", "GOMEMLIMIT": "256MiB"}, goes_on=True),
}
OBJECT_BYTES = 20_000


@dataclass(frozen=True)
class Cost:
    """Seconds of a processor for the objects, share of one at rest, resident MB then, the share when started again."""

    puts_s: float
    rest: float
    memory_mb: float
    again: float


def measured(side: Side, objects: int, rest_s: float) -> Cost:
    ports = object_store.store_ports()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with object_store.seaweedfs(folder, ports, side.command, side.variables) as endpoint:
            client = boto3.client("s3", endpoint_url=endpoint, **object_store.CLIENT)
            before = seconds(started())
            client.create_bucket(Bucket="bench")
            for number in range(objects):
                client.put_object(Bucket="bench", Key=f"k/{number}", Body=os.urandom(OBJECT_BYTES))
            puts_s = seconds(started()) - before
            rest, memory_mb = at_rest(rest_s), started().memory_info().rss / 1e6
        with object_store.seaweedfs(folder, ports, side.command, side.variables):
            return Cost(puts_s, rest, memory_mb, at_rest(rest_s))


def started() -> psutil.Process:
    (process,) = [child for child in psutil.Process().children() if child.name().startswith("weed")]
    return process


def at_rest(rest_s: float) -> float:
    time.sleep(5)  # what it was asked before still goes on
    before = seconds(started())
    time.sleep(rest_s)
    return (seconds(started()) - before) / rest_s


def seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def rows(costs: dict[str, list[Cost]]) -> Iterator[str]:
    yield "| side | processor for the objects | by ours | at rest, of a core | memory | at rest, started again | n |"
    yield "|---|---|---|---|---|---|---|"
    for side, found in costs.items():
        ratios = [theirs.puts_s / ours.puts_s for theirs, ours in zip(found, costs["ours"], strict=True)]
        puts_s, rest, memory_mb, again = (
            statistics.median(getattr(cost, name) for cost in found)
            for name in ("puts_s", "rest", "memory_mb", "again")
        )
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        yield f"| {side} | {puts_s:.1f} s | {spread} | {rest:.1%} | {memory_mb:.0f} MB | {again:.1%} | {len(found)} |"


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
            found.append(measured(SIDES[side], options.objects, options.rest))
    print("\n".join(rows(costs)))


if __name__ == "__main__":
    main()
