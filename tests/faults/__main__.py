"""`make faults`: every fault of every kind for every scenario, as a table; exit status 1 where one did harm.

python -m tests.faults [--dag stock] [--kinds kills zombies …] [--scenarios update-good …] [--jobs N]

`--dag stock`: the week of the provider's own operators (`stock.py`) instead of ours.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-faults-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "CRITICAL")
sys.path.insert(0, str(Path(__file__).parents[2] / "plugins"))

from tests.faults.faults import KINDS, Finding, Laboratory
from tests.faults.installation import installed
from tests.faults.scenarios import SCENARIOS, STOCK

SHOWN = 400  # characters of a finding


def tried(pair: tuple[str, str]) -> tuple[str, str, list[Finding]]:
    """All faults of one kind for one scenario."""
    kind, scenario = pair
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, installed(Path(folder)) as installation:
        return kind, scenario, list(KINDS[kind](Laboratory(installation), (SCENARIOS | STOCK)[scenario]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--dag", choices=("ours", "stock"), default="ours")
    parser.add_argument("--scenarios", nargs="*", choices=[*SCENARIOS, *STOCK])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    scenarios = given.scenarios or list(STOCK if given.dag == "stock" else SCENARIOS)
    print(f"{'fault':14} {'scenario':20} {'runs':>6} {'harmful':>8} {'lost':>6}")
    harmful = 0
    with ProcessPoolExecutor(given.jobs) as pool:
        for kind, scenario, findings in pool.map(tried, product(given.kinds, scenarios)):
            bad, lost = [f for f in findings if f.harmful], [f for f in findings if f.lost]
            harmful += len(bad)
            print(f"{kind:14} {scenario:20} {len(findings):6,} {len(bad):8,} {len(lost):6,}")
            for finding in bad:
                print(f"    HARM {finding.point}: {'; '.join(finding.harmful)}"[:SHOWN])
            for finding in lost:
                print(f"    LOST {finding.point}: {'; '.join(finding.lost)}"[:SHOWN], flush=True)
    return 1 if harmful else 0


if __name__ == "__main__":
    sys.exit(main())
