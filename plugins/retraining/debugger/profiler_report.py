"""The profiler's report of a training job: found where SageMaker left it, kept where the run's other results are."""

from __future__ import annotations

import json
from typing import Any

from retraining.s3.listing import list_keys

PAGE = "profiler-report.html"
MOST_PHASES, MAX_NAME = 8, 60


def keep_profiler_report(s3: Any, bucket: str, rule_output: str, keep_key: str) -> dict[str, Any] | None:
    """Copy the HTML of the report below `rule_output` (<output>/<job>/rule-output) to `keep_key`; None without one.

    What belongs to it (notebook, JSON, tables) goes into the folder profiler-output/ beside that key. The summary
    holds what fits into a line each: which sub-rules fired, the load of the machine, and how long steps waited for data
    (percent of the training time; None where steps were not recorded). "time" has the shares of steps and of the phases
    within them, in percent, MOST_PHASES of each at most.
    """
    # The rule is called ProfilerReport, or ProfilerReport-<time> in jobs of older SDKs.
    keys = list(list_keys(s3, bucket, f"{rule_output}/ProfilerReport"))
    page = max((key for key in keys if key.endswith(f"/{PAGE}")), default=None)
    if page is None:
        return None
    folder = page.removesuffix(PAGE)
    s3.copy_object(
        Bucket=bucket, Key=keep_key, CopySource={"Bucket": bucket, "Key": page}, ContentType="text/html; charset=utf-8",
        MetadataDirective="REPLACE",
    )  # fmt: skip
    beside = f"{keep_key.rpartition('/')[0]}/profiler-output/"
    reports = {}
    for key in keys:
        name = key.removeprefix(folder)
        if not key.startswith(folder) or key == page:
            continue
        s3.copy_object(Bucket=bucket, Key=beside + name, CopySource={"Bucket": bucket, "Key": key})
        if name.startswith("profiler-reports/") and name.endswith(".json"):
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            reports[name.rsplit("/", 1)[1].removesuffix(".json")] = json.loads(body)
    framework = reports.get("OverallFrameworkMetrics", {}).get("Details", {})
    usage = reports.get("OverallSystemUsage", {}).get("Details", {})
    return {
        "html": f"s3://{bucket}/{keep_key}",
        "triggered": sorted(name for name, report in reports.items() if report.get("RuleTriggered")),
        "usage": {device: nodes.get("algo-1", {}) for device, nodes in usage.items() if nodes},
        "waiting_percent": reports.get("Dataloader", {}).get("Details", {}).get("waiting_percent"),
        "time": {"steps": _largest(framework.get("phase")), "phases": _largest(framework.get("general"))},
    }


def _largest(shares: Any) -> dict[str, float]:
    """The largest of them; a training script may name as many phases as it likes."""
    known = shares if isinstance(shares, dict) else {}
    found = [(name[:MAX_NAME], value) for name, value in known.items() if isinstance(value, (int, float)) and value > 0]
    return dict(sorted(found, key=lambda one: (-one[1], one[0]))[:MOST_PHASES])
