"""What the jobs of a run were billed, by SageMaker's own answers: instance-seconds, and USD where prices are given.

Of a training BillableTimeInSeconds, to which spot's savings are already applied, and of its warm pool what it was kept
so far; of processing and transform jobs the time between start and end. An invoice also has storage, requests, logs
and the endpoint.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

Description = Mapping[str, Any]


def billed(jobs: Mapping[str, Sequence[Description]], usd_per_hour: Mapping[str, float]) -> dict[str, Any]:
    """`jobs`: task → the Describe answers of its training, processing or transform jobs."""
    rows: list[dict[str, Any]] = []
    for task, descriptions in jobs.items():
        by_type: dict[str, list[int]] = {}
        for description in descriptions:
            instance_type, seconds = instance_seconds(description)
            by_type.setdefault(instance_type, []).append(seconds)
        rows += [
            {"task": task, "jobs": len(seconds), "instance_type": instance_type, "instance_seconds": sum(seconds)}
            for instance_type, seconds in by_type.items()
        ]
    totals: Counter[str] = Counter()
    for row in rows:
        totals[row["instance_type"]] += row["instance_seconds"]
    priced = totals.keys() <= usd_per_hour.keys()
    usd = sum(seconds / 3600 * usd_per_hour[kind] for kind, seconds in totals.items()) if priced else None
    return {"tasks": rows, "instance_seconds": dict(totals), "usd": None if usd is None else round(usd, 4)}


def instance_seconds(description: Description) -> tuple[str, int]:
    """Instance type → what all instances of a job were billed together; 0 for one that never started."""
    if "TrainingJobName" in description:
        machine = description["ResourceConfig"]
        kept_warm = description.get("WarmPoolStatus", {}).get("ResourceRetainedBillableTimeInSeconds", 0)
        seconds = _training_seconds(description) + kept_warm
    elif "ProcessingJobName" in description:
        machine = description["ProcessingResources"]["ClusterConfig"]
        seconds = _between(description, "ProcessingStartTime", "ProcessingEndTime")
    else:
        machine = description["TransformResources"]
        seconds = _between(description, "TransformStartTime", "TransformEndTime")
    return machine["InstanceType"], seconds * machine["InstanceCount"]


def _training_seconds(description: Description) -> int:
    """A failed job may lack the member that says it."""
    if "BillableTimeInSeconds" in description:
        return int(description["BillableTimeInSeconds"])
    return _between(description, "TrainingStartTime", "TrainingEndTime")


def _between(description: Description, start: str, end: str) -> int:
    if not (description.get(start) and description.get(end)):
        return 0
    took: timedelta = description[end] - description[start]
    return math.ceil(took.total_seconds())
