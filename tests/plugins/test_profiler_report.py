"""The profiler's report, kept in S3 under a key that stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retraining.debugger.advice import read_profiler_advice
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
    shares = {f"phase {place}": float(place) for place in range(9)} | {"x" * 90: 99.0, "none": None}
    framework = {"Details": {"phase": {"Step:ModeKeys.TRAIN": 80.0, "others": 20.0}, "general": shares}}
    put_report(s3, bucket, OverallSystemUsage=usage, Dataloader=loader, OverallFrameworkMetrics=framework)
    kept = keep_profiler_report(s3, bucket, "runs/one/training/job/rule-output", KEEP)
    assert kept == {
        "html": f"s3://{bucket}/{KEEP}",
        "triggered": ["Dataloader"],
        "usage": {"CPU": {"p50": 7}},
        "waiting_percent": 64.0,
        "time": {
            "steps": {"Step:ModeKeys.TRAIN": 80.0, "others": 20.0},
            "phases": {"x" * 60: 99.0} | {f"phase {place}": float(place) for place in range(8, 1, -1)},
        },
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


def test_each_rule_of_the_profiler_has_its_advice(tmp_path: Path) -> None:
    known = read_profiler_advice(Path(__file__).parents[2] / "ml")
    assert known["Dataloader"]["means"].startswith("Steps wait for their data")
    assert "--cache-dir" in known["Dataloader"]["advice"]
    assert read_profiler_advice(tmp_path) == {}
