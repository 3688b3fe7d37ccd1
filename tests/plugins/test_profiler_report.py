"""The profiler's report, kept in S3 under a key that stays."""

from __future__ import annotations

import json
from typing import Any

from retraining.debugger.profiler_report import keep_profiler_report

REPORT = "runs/one/training/job/rule-output/{}/profiler-output"
KEEP = "runs/one/profiler-report.html"


def put_report(s3: Any, bucket: str, rule: str = "ProfilerReport", page: bytes = b"<html>", **reports: Any) -> None:
    folder = REPORT.format(rule)
    s3.put_object(Bucket=bucket, Key=f"{folder}/profiler-report.html", Body=page)
    s3.put_object(Bucket=bucket, Key=f"{folder}/profiler-report.ipynb", Body=b"{}")
    s3.put_object(Bucket=bucket, Key=f"{folder}/steps.csv", Body=b"process,mode\n")
    for name, report in reports.items():
        s3.put_object(Bucket=bucket, Key=f"{folder}/profiler-reports/{name}.json", Body=json.dumps(report).encode())


def test_report_and_what_belongs_to_it_are_kept(s3: Any, bucket: str) -> None:
    usage = {"Details": {"CPU": {"algo-1": {"p50": 7}}, "GPU": {}}, "RuleTriggered": 0}
    loader = {"Details": {"waiting_percent": 64.0}, "RuleTriggered": 1}
    put_report(s3, bucket, OverallSystemUsage=usage, Dataloader=loader)
    kept = keep_profiler_report(s3, bucket, "runs/one/training/job/rule-output", KEEP)
    assert kept == {
        "html": f"s3://{bucket}/{KEEP}",
        "triggered": ["Dataloader"],
        "usage": {"CPU": {"p50": 7}},
        "waiting_percent": 64.0,
    }
    found = {entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix="runs/one/profiler-")["Contents"]}
    inside = ("profiler-report.ipynb", "steps.csv", "profiler-reports/Dataloader.json")
    assert {KEEP, *(f"runs/one/profiler-output/{name}" for name in inside)} <= found
    assert s3.head_object(Bucket=bucket, Key=KEEP)["ContentType"] == "text/html; charset=utf-8"


def test_of_several_reports_the_latest_is_kept_whole(s3: Any, bucket: str) -> None:
    put_report(s3, bucket, "ProfilerReport-1636338020", b"old", Dataloader={"RuleTriggered": 1})
    put_report(s3, bucket, "ProfilerReport-1736338020", b"new", StepOutlier={"RuleTriggered": 2})
    kept = keep_profiler_report(s3, bucket, "runs/one/training/job/rule-output", KEEP)
    assert kept is not None
    assert (kept["triggered"], kept["waiting_percent"]) == (["StepOutlier"], None)
    assert s3.get_object(Bucket=bucket, Key=KEEP)["Body"].read() == b"new"


def test_a_job_without_a_report_has_none(s3: Any, bucket: str) -> None:
    assert keep_profiler_report(s3, bucket, "runs/one/training/job/rule-output", KEEP) is None
