"""The profiler's report of a training job: found where SageMaker left it, kept where the run's other results are."""

from __future__ import annotations

import json
from typing import Any

from retraining.transform_outputs import list_keys


def keep_profiler_report(s3: Any, bucket: str, job_prefix: str, keep_key: str) -> dict[str, Any] | None:
    """Copy the HTML of the report below `job_prefix` (<output>/<job>) to `keep_key`; None when there is no report.

    The summary holds what fits into a line each: which sub-rules fired, and the load of the machine.
    """
    # The rule is called ProfilerReport, or ProfilerReport-<time> in jobs of older SDKs.
    keys = list(list_keys(s3, bucket, f"{job_prefix}/rule-output/ProfilerReport"))
    html = next((key for key in keys if key.endswith("/profiler-report.html")), None)
    if html is None:
        return None
    s3.copy_object(
        Bucket=bucket, Key=keep_key, CopySource={"Bucket": bucket, "Key": html}, ContentType="text/html; charset=utf-8",
        MetadataDirective="REPLACE",
    )  # fmt: skip
    reports = {
        key.rsplit("/", 1)[1].removesuffix(".json"): json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        for key in keys
        if "/profiler-reports/" in key and key.endswith(".json")
    }
    usage = reports.get("OverallSystemUsage", {}).get("Details", {})
    return {
        "html": f"s3://{bucket}/{keep_key}",
        "triggered": sorted(name for name, report in reports.items() if report.get("RuleTriggered")),
        "usage": {device: nodes.get("algo-1", {}) for device, nodes in usage.items() if nodes},
    }
