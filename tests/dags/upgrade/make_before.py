"""How `before.tar.gz` was made: a deployment of an earlier version of this package, on the day before it is upgraded.

    cd a clone at that version, with its environments made, and BUCKET in place of the random one of its Stack
    .venv/airflow/bin/python -m pytest -p no:cacheprovider tests/dags/test_make.py     (a copy of this file)

It holds the bucket (objects by key), local_sagemaker's databases, the recipe, and the images. Beside them lies an
artifact of that version's ml/train.py (`--arch squeezenet1_1 --image-size 32 --epochs 1 --serving torch`, its weights
then set to zero but for the last bias, so that it is small), a picture, and what that version's ml/serve.py answered.
Made at c156447, the last commit with one flat ml/.
"""

from __future__ import annotations

import shutil
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest

BUCKET = "retraining-upgrade"


@pytest.mark.slow
def test_make_a_deployment(stack: Any, colors: Path, tmp_path: Path) -> None:
    """A champion that was updated once, beside a candidate that was kept out."""
    outcomes = [run["state"] for run in stack.run({}, {"epochs": 5}, {"epochs": 1})]
    assert outcomes == ["success"] * 3, [report["reason"] for report in stack.reports()]
    target = tmp_path / "before"
    stack.server.stop()
    for path in sorted(stack.server.root.glob("*.sqlite*")) + sorted(stack.server.root.glob("*.db*")):
        if path.suffix in (".sqlite", ".db"):
            target.mkdir(exist_ok=True)
            with sqlite3.connect(path) as database:  # with what lies in its write-ahead log
                database.execute(f"VACUUM INTO '{target / path.name}'")
    pages = stack.server.s3.get_paginator("list_objects_v2").paginate(Bucket=stack.bucket)
    for item in (item for page in pages for item in page["Contents"]):
        place = target / "bucket" / item["Key"]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(stack.server.s3.get_object(Bucket=stack.bucket, Key=item["Key"])["Body"].read())
    shutil.copytree(colors, target / "images")
    shutil.copytree(tmp_path / "recipes", target / "recipes")
    with tarfile.open("before.tar.gz", "w:gz") as tar:
        tar.add(target, "before")
