"""Precision and recall of the debugger rules over real trainings with planted faults, and healthy ones.

    .venv/ml/bin/python -m bench.planted_faults            (--quick: one seed; --seeds N)

tests/ml/planted.py has the trainings: at least three faults for every rule, and five healthy trainings which every
rule judges. Of a rule, recall is the share of its faults that it found, precision the share of its findings that are
faults, when its own faults and all healthy trainings are judged. There is no peer: AWS's rules are closed, and smdebug
ships none.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "ml")]  # as in a container

import torch  # noqa: E402

from tests.ml.planted import FAULTS, HEALTHY, fault_verdict, healthy_statuses  # noqa: E402

ISSUE = "IssuesFound"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one seed")
    settings = parser.parse_args()
    seeds = range(1 if settings.quick else settings.seeds)
    torch.set_num_threads(1)
    started, found, healthy_found, errors = time.perf_counter(), Counter(), Counter(), []
    for seed in seeds:
        print(f"seed {seed + 1} of {len(seeds)}", file=sys.stderr, flush=True)
        for rule, faults in FAULTS.items():
            for name, plan in faults.items():
                with tempfile.TemporaryDirectory() as folder:
                    status = fault_verdict(Path(folder), rule, plan, seed)["RuleEvaluationStatus"]
                found[rule] += status == ISSUE
                errors += [f"{rule}, {name}, seed {seed}: {status}"] if status != ISSUE else []
        for name, plan in HEALTHY.items():
            with tempfile.TemporaryDirectory() as folder:
                verdicts = healthy_statuses(Path(folder), plan, seed)
            for rule, verdict in verdicts.items():
                healthy_found[rule] += verdict["RuleEvaluationStatus"] == ISSUE
                if verdict["RuleEvaluationStatus"] != "NoIssuesFound":
                    errors.append(f"{rule} on healthy '{name}', seed {seed}: {verdict['StatusDetails']}")
    print(f"`python -m bench.planted_faults --seeds {len(seeds)}`, {platform.machine()}, torch {torch.__version__}, "
          f"{time.perf_counter() - started:.0f} s\n")  # fmt: skip
    print("| rule | faults found | healthy ones named | precision | recall |\n|---|---|---|---|---|")
    for rule, faults in FAULTS.items():
        planted, healthy = len(faults) * len(seeds), len(HEALTHY) * len(seeds)
        hits, wrong = found[rule], healthy_found[rule]
        precision = f"{100 * hits / (hits + wrong):.1f} %" if hits + wrong else "-"
        print(f"| {rule} | {hits} of {planted} | {wrong} of {healthy} | {precision} | {100 * hits / planted:.1f} % |")
    for error in errors:
        print(f"missed or wrong: {error}")
    sys.exit(bool(errors))


if __name__ == "__main__":
    main()
