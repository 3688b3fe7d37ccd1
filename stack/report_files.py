"""Finds the report that a run left in the bucket, and copies its files here."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from stack.settings import BUCKET


def find_report(s3: Any, recipe: str, run_after: datetime) -> dict[str, Any] | None:
    """The parsed report.json of the run that was due at `run_after`; None if it wrote none.

    Run names carry that moment (digits-261121-030000-a1b2c). Should several fit, the latest written counts.
    """
    stamp = f"{run_after:%y%m%d-%H%M%S}"
    candidates = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{recipe}/runs/"):
        for item in page.get("Contents", []):
            folder, _, file = item["Key"].removeprefix(f"{recipe}/runs/").partition("/")
            if file == "report.json" and stamp in folder:
                candidates.append((item["LastModified"], item["Key"]))
    if not candidates:
        return None
    body = s3.get_object(Bucket=BUCKET, Key=max(candidates)[1])["Body"].read()
    return dict(json.loads(body))


def download(s3: Any, report: dict[str, Any], folder: Path) -> list[Path]:
    """Writes report.json and, if there is one, the profiler report into `folder`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "report.json"]
    written[0].write_text(json.dumps(report, indent=2) + "\n")
    address = report.get("profiler_report")
    if address:
        bucket, _, key = str(address).removeprefix("s3://").partition("/")
        written.append(folder / "profiler-report.html")
        written[-1].write_bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    return written
