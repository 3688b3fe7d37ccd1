"""A sync that is killed at any moment leaves no version that lacks an object, and the next one ends clean.

KILLS=50 for as many random moments as that; a few in every run of the tests.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from retraining.dataset.split import SPLITS
from retraining.dataset.sync import sync_dataset
from retraining.dataset.versions.kept import Versions
from retraining.plan import Plan
from tests.object_store import KEY_ID, SECRET, empty_bucket
from tests.plugins.task_run import ROLE
from tests.plugins.test_sync import keys, picture, read_json

PLUGINS = Path(__file__).parents[2] / "plugins"
KILLS = int(os.environ.get("KILLS", "5"))


def source(folder: Path) -> Path:
    """Images to keep, to convert and to keep out."""
    for label, first in (("cat", 0), ("dog", 1000)):
        (folder / label).mkdir(parents=True)
        for number in range(120):
            (folder / label / f"{number}.png").write_bytes(picture(first + number))
        for number in range(4):
            Image.effect_noise((32, 32), 90).save(folder / label / f"{number}.bmp")
        (folder / label / "broken.jpg").write_bytes(b"\xff\xd8\xff" + label.encode())
    return folder


def require_whole(s3: Any, plan: Plan) -> list[str]:
    """Every object has the bytes of its name, and every version all of its objects; returns the versions."""
    bucket, found = plan.environment.bucket, keys(s3, plan.environment.bucket)
    for key in (key for key in found if key.startswith((plan.images_key, f"{plan.data_key}quarantine/"))):
        digest = hashlib.sha256(s3.get_object(Bucket=bucket, Key=key)["Body"].read()).hexdigest()
        assert digest.startswith(key.rpartition("/")[2].partition(".")[0]), key
    for key in (key for key in found if key.endswith("/index.json")):
        for shard in read_json(s3, bucket, key)["shardlist"]:
            body = s3.get_object(Bucket=bucket, Key=key.replace("index.json", shard["url"]))["Body"].read()
            assert hashlib.sha256(body).hexdigest() == shard["sha256"], key
    versions = Versions(s3=s3, plan=plan)
    for version in versions.all():
        assert {plan.shards_key(version.fingerprint, split) + "index.json" for split in SPLITS} <= found
        assert {f"{plan.images_key}{name}" for name in versions.images(version.fingerprint)} <= found
    return [version.fingerprint for version in versions.all()]


def test_a_sync_killed_at_any_moment_ends_clean(
    s3: Any, s3_endpoint: str, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    sync = {"shards": "File"}
    plan, recipes = make_plan(bucket, source=str(source(tmp_path / "in")), sync=sync), tmp_path / "dags/recipes"
    recipes.mkdir(parents=True)
    (recipes / "shapes.yaml").write_text(
        f"name: shapes\nsource: {tmp_path / 'in'}\nhyperparameters: {{}}\nsync: {{shards: File}}\n"
        "tuning: {ranges: {lr: {type: continuous, min: 0.001, max: 0.1}}}\n"
    )
    environment = os.environ | {
        "PYTHONPATH": str(PLUGINS), "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"), "RETRAINING_BUCKET": bucket,
        "RETRAINING_ENVIRONMENT": "local", "RETRAINING_ROLE_ARN": ROLE, "AWS_ENDPOINT_URL_S3": s3_endpoint,
        "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip

    def start() -> subprocess.Popen[str]:
        """Comes back where the work begins: what is killed before has done nothing."""
        command = [sys.executable, "-m", "retraining.dataset", "sync", "shapes"]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr
        assert any("Verifying 250 files" in line for line in process.stderr)
        return process

    whole, began = start(), time.monotonic()
    assert whole.communicate() and whole.returncode == 0
    takes_s, (expected,) = time.monotonic() - began, require_whole(s3, plan)
    chance, killed = random.Random(7), 0
    for _ in range(KILLS):
        empty_bucket(s3, bucket)
        process = start()
        time.sleep(chance.uniform(0, takes_s))
        process.kill()
        process.communicate()
        killed += process.returncode == -9
        assert require_whole(s3, plan) in ([], [expected])
        assert sync_dataset(plan, s3).version.fingerprint == expected
        assert require_whole(s3, plan) == [expected]
        assert sync_dataset(plan, s3).uploaded == 0
    assert killed
