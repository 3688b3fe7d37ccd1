"""`make kill-runs`: kills in real runs until there are enough, and a table of them; exit status 1 where one did harm.

python -m tests.faults.real [--kills N] [--seed N] [--every SECONDS] [--most N] [--folder FOLDER]

A folder that is given is kept, and a later call goes on from its ledger; else all of it is removed in the end, unless
there was harm.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import signal
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "plugins"))

from tests.faults.real.campaign import Campaign, Entry
from tests.faults.real.installation import Installation


def table(entries: Sequence[Entry]) -> str:
    """Kills by kind of process, then what became of the runs."""
    kinds = Counter(kill.kind for entry in entries for kill in entry.kills)
    lines = [f"{'killed':22} {'kills':>6} {'with all below':>15} {'back after, median (most)':>27}"]
    for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0])):
        of_it = [kill for entry in entries for kill in entry.kills if kill.kind == kind]
        back = [kill.recovered_s for kill in of_it if kill.recovered_s is not None]
        told = f"{statistics.median(back):.1f} s ({max(back):.1f} s)" if back else ""
        lines.append(f"{kind:22} {count:6} {sum(kill.whole for kill in of_it):15} {told:>27}")
    failed = sum(entry.failed for entry in entries)
    outages = [seconds for entry in entries for seconds in entry.outage_s]
    lines += [
        "",
        f"kills            {sum(kinds.values())} in {len(entries)} runs",
        f"harmful runs     {sum(bool(entry.harms) for entry in entries)}",
        f"lost runs        {sum(bool(entry.lost) for entry in entries)}",
        f"outcomes         {dict(Counter(entry.outcome for entry in entries))}",
        f"requests         {sum(entry.requests for entry in entries):,}, of which {failed:,} failed",
    ]
    if outages:
        most = max(outages)
        lines.append(f"outages          {len(outages)}, median {statistics.median(outages):.1f} s, most {most:.1f} s")
    for entry in entries:
        lines += [f"HARM {entry.run} (seed {entry.seed}): {harm}" for harm in entry.harms]
        lines += [f"LOST {entry.run} (seed {entry.seed}): {entry.lost}"] if entry.lost else []
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=30, help="mean seconds between two kills (default: 30)")
    parser.add_argument("--most", type=int, default=15, help="kills of one run (default: 15)")
    parser.add_argument("--folder", type=Path, help="where all of it is, and stays")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="kill-runs-"))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    installation = Installation(folder.resolve())
    say = functools.partial(print, flush=True)
    campaign = Campaign(installation, seed=given.seed, every_s=given.every, most=given.most, say=say)
    try:
        installation.start()
        for entry in campaign.go_on(given.kills):
            ended = f"  {entry.state} ({entry.outcome}) in {entry.seconds:.0f} s, {len(entry.kills)} kills"
            print(ended, *entry.harms, *filter(None, [entry.lost]), sep="\n    ", flush=True)
    finally:
        installation.stop()
    entries = campaign.entries()
    print(table(entries))
    harmful = any(entry.harms for entry in entries)
    if harmful:
        print(f"Databases, logs and the ledger: {folder}")
    elif given.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if harmful else 0


if __name__ == "__main__":
    sys.exit(main())
