"""profiler-report.ipynb: the figures of a ProfilerReport for those who want to go on from them.

The notebook needs nothing but Python: in Jupyter tables and charts are shown as HTML, elsewhere as text. It reads the
files beside it, so it is the same for every job.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

TITLE = """# Profiler report of {job}
What the sub-rules found, where the time of the training went, and how the machine was used.
The page `profiler-report.html` beside this notebook says the same in pictures. Every cell reads only files of this
folder: `profiler-reports/*.json`, `steps.csv` and `system.csv`."""

LOAD = '''
import csv, html, json, statistics
from pathlib import Path

FOLDER = Path(".")
reports = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("profiler-reports/*.json"))}


def rows_of(name):
    path = FOLDER / name
    return list(csv.DictReader(path.open())) if path.exists() else []


steps, system = rows_of("steps.csv"), rows_of("system.csv")


def show(titles, rows):
    """A table: HTML in Jupyter, text elsewhere."""
    rows = [[str(cell) for cell in row] for row in rows]
    try:
        from IPython.display import HTML, display
    except ImportError:
        for row in [titles, *rows]:
            print("  ".join(f"{cell:<24}" for cell in row).rstrip())
        return
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    display(HTML(f"<table><thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table>"))


def bars(values):
    """(label, number) as text bars."""
    longest = max((number for _, number in values), default=0) or 1
    for label, number in values:
        print(f"{label:<34} {'#' * round(40 * number / longest):<40} {number:.4g}")


print(f"{len(reports)} sub-rules, {len(steps)} steps, {len(system)} readings of the machine")
'''
RULES = """
order = sorted(reports.items(), key=lambda item: -item[1]["RuleTriggered"])
titles = ["Rule", "Triggered", "Violations", "Data points", "Limits"]
show(titles, [[name, r["RuleTriggered"], r["Violations"], r["Datapoints"],
               r["RuleParameters"].replace("\\n", ", ")] for name, r in order])
"""
USAGE = """
details = reports.get("OverallSystemUsage", {}).get("Details", {})
columns = ["max", "p99", "p95", "p50", "min"]
show(["Resource", "Node", *columns],
     [[resource, node, *(figures[c] for c in columns)] for resource, nodes in details.items()
      for node, figures in nodes.items()])
"""
PHASES = """
phases = ["waiting", "preparing", "forward", "backward", "optimizer"]
for mode in sorted({row["mode"] for row in steps}, reverse=True):
    chosen = [row for row in steps if row["mode"] == mode]
    print(f"{mode}: {len(chosen)} steps, {sum(float(row['seconds']) for row in chosen):.1f} s in all; by phase (s)")
    bars([(phase, sum(float(row[phase]) for row in chosen)) for phase in phases])
if not steps:
    print("No step times were recorded.")
"""
HISTOGRAM = """
seconds = sorted(float(row["seconds"]) for row in steps if row["mode"] == "TRAIN")
if len(seconds) > 1:
    low, high = seconds[0], seconds[min(len(seconds) - 1, int(0.99 * len(seconds)))]
    width = (high - low) / 20 or 1
    counts = [0] * 20
    for value in seconds:
        if value <= high:
            counts[min(19, int((value - low) / width))] += 1
    print(f"median {statistics.median(seconds):.4g} s, slowest {seconds[-1]:.4g} s; steps by duration (up to 99 %)")
    bars([(f"{low + k * width:.4g} to {low + (k + 1) * width:.4g} s", count) for k, count in enumerate(counts)])
"""
SLOWEST = """
slowest = sorted(steps, key=lambda row: -float(row["seconds"]))[:10]
show(["mode", "step", "seconds", *phases], [[row[c] for c in ["mode", "step", "seconds", *phases]] for row in slowest])
"""
GO_ON = """
# With pandas these are two lines:  import pandas as pd;  pd.read_csv("steps.csv").describe()
try:
    import pandas as pd
    print(pd.read_csv(FOLDER / "system.csv").describe().round(2).to_string())
except ImportError:
    print("pandas is not installed here")
"""
CELLS = (
    ("## Load", LOAD),
    ("## Rules\nHow often each sub-rule was triggered, and under which limits.", RULES),
    ("## Use of the machine\nPercent, network in bytes a second.", USAGE),
    ("## Time by phase\nA step lasts from asking for its batch to the end of the optimizer's work.", PHASES),
    ("## Durations of training steps", HISTOGRAM),
    ("## The slowest steps", SLOWEST),
    ("## Go on from here", GO_ON),
)


def notebook(job: str) -> str:
    """The notebook's text, format 4.5."""
    cells = [markdown(TITLE.format(job=job or "a training job"), 0)]
    for number, (text, code) in enumerate(CELLS, start=1):
        cells += [markdown(text, 2 * number - 1), program(code.strip(), 2 * number)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def markdown(text: str, number: int) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}


def program(text: str, number: int) -> dict[str, Any]:
    empty: dict[str, Any] = {"execution_count": None, "metadata": {}, "outputs": []}
    return {"cell_type": "code", "id": f"cell-{number}", **empty, "source": text.splitlines(keepends=True)}
