"""An upgrade is a `git pull`: what an earlier version left in S3, in the server and at the endpoint is gone on with.

`upgrade/before.tar.gz` was made by that version; `upgrade/make_before.py` says how.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.dags.conftest import Stack
from tests.object_store import delete_bucket
from tests.waiting import wait_until

BUCKET = "retraining-upgrade"
BEFORE = Path(__file__).parent / "upgrade/before.tar.gz"

pytestmark = pytest.mark.slow


@pytest.fixture
def stack(tmp_path: Path, s3_endpoint: str) -> Iterator[Stack]:
    """The deployment of the earlier version, with this version's code."""
    with tarfile.open(BEFORE) as tar:
        tar.extractall(tmp_path, filter="data")
    before = tmp_path / "before"
    upgraded = Stack(tmp_path, s3_endpoint, BUCKET)
    shutil.copytree(before / "recipes", tmp_path / "recipes")
    recipe = tmp_path / "recipes/colors.yaml"
    lines = recipe.read_text().splitlines()
    # The gate of that version; by default this one's is another, and a rejected candidate is tried again.
    said = {"source": f"source: {before}/images", "promotion": "promotion: {min_value: 0.2, evidence: point}"}
    recipe.write_text("\n".join(said.get(line.partition(":")[0], line) for line in lines))
    upgraded.server.root.mkdir()
    for path in before.glob("*.db"):
        shutil.copy(path, upgraded.server.root)
    try:
        upgraded.start()
        for path in (before / "bucket").rglob("*"):
            if path.is_file():
                key = str(path.relative_to(before / "bucket"))
                upgraded.server.s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        yield upgraded
    finally:
        upgraded.server.stop()
        delete_bucket(upgraded.server.s3, BUCKET)


def told(stack: Stack, colour: tuple[int, int, int]) -> str:
    body = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(body, "PNG")
    answer = stack.server.runtime.invoke_endpoint(
        EndpointName="retraining-colors", ContentType="image/png", Body=body.getvalue()
    )
    return str(json.loads(answer["Body"].read())["label"])


def test_a_deployment_goes_on_after_an_upgrade(stack: Stack) -> None:
    sagemaker = stack.server.sagemaker
    champion, before = stack.champion(), stack.reports()
    assert champion and [report["outcome"] for report in before] == ["promoted", "promoted", "kept"]

    # The server's databases: jobs, packages, the endpoint and its configuration.
    def describe() -> dict[str, Any]:
        return dict(sagemaker.describe_endpoint(EndpointName="retraining-colors"))

    wait_until(lambda: describe()["EndpointStatus"] == "InService")
    assert (describe()["EndpointConfigName"], told(stack, (20, 20, 220))) == (champion["endpoint_config"], "blue")
    jobs = {job["TrainingJobName"] for job in sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"]}
    assert {report["training"]["job"] for report in before} <= jobs

    # The bucket: champion, version of the data, rejected candidates, code. Nothing has changed, so nothing is paid.
    same, tried, forced = stack.run({"epochs": 5}, {"epochs": 1}, {"epochs": 1, "force": True})
    reports = stack.reports()[len(before) :]
    assert [report["outcome"] for report in reports] == ["skipped", "skipped", "kept"], reports
    assert "data, code and recipe are those of champion" in reports[0]["reason"]
    assert f"run {before[2]['run_name']} already tried this" in reports[1]["reason"]
    assert all(run["state"] == "success" for run in (same, tried, forced))
    # The earlier version's champion was judged anew, on the same images, and stays.
    assert reports[2]["champion"]["accuracy"] == 1 > reports[2]["candidate"]["accuracy"]
    assert reports[2]["champion"]["n"] == reports[2]["candidate"]["n"] == before[2]["candidate"]["n"]
    assert (stack.champion() or {})["run_name"] == champion["run_name"]
