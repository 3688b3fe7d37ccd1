"""Wire 2, environment: what ml/ reads is what local_sagemaker sets for the job that the pipeline asks for."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from local_sagemaker.jobs import opt_ml, script
from retraining.container_images import resolve_images
from retraining.environment import Environment
from retraining.plan import Plan
from retraining.recipe import load_recipe
from retraining.requests.sagemaker import training_job

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "RETRAINING_ENVIRONMENT": "local",
    "RETRAINING_BUCKET": "bucket",
    "RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/r",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
}


def test_every_variable_the_scripts_read_is_set(tmp_path: Path) -> None:
    environment = Environment.of(ENVIRONMENT)
    recipe = load_recipe(ROOT / "dags/recipes/digits.yaml")
    plan = Plan.of(recipe, environment, datetime(2026, 11, 21, tzinfo=UTC), "manual__1")
    request = training_job(plan, resolve_images(recipe, environment), "f" * 64, "s3://bucket/sourcedir.tar.gz", {})
    folders = opt_ml.OptMl(tmp_path)
    folders.make(request)
    folders.write_config(request)
    given = script.environment(folders, request, num_cpus=1, num_gpus=0)
    read = {name for path in (ROOT / "ml").rglob("*.py") for name in re.findall(r"\bSM_[A-Z_]+\b", path.read_text())}
    # Only recipes with `weights: channel` have the pretrained channel.
    assert read - {"SM_CHANNEL_PRETRAINED"} <= set(given)
    assert {"SM_CHANNEL_TRAIN", "SM_CHANNEL_VALIDATION", "SM_MODEL_DIR"} <= read
    assert Path(given["SMDEBUG_CONFIG_FILE_PATH"]).is_file()
