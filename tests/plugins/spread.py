"""A source in S3, and a sync of it whose images a job verifies, task by task as the DAG runs them."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from retraining.dataset.sources.memory import memory_key
from retraining.environment import AWS_CONN_ID
from retraining.operators.verification import VerificationOperator
from retraining.recipe import read_recipe
from retraining.run import Run
from retraining.steps import list_images, sync_dataset
from retraining.steps import task_requests as task_requests
from tests.plugins.release_run import IMAGES, Facts
from tests.plugins.task_run import IMAGE, context, finish

RECIPE = {
    "hyperparameters": {"arch": "resnet18"},
    "tuning": {"ranges": {"lr": {"type": "continuous", "min": 0.001, "max": 0.1}}},
}


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One source, for recipes of any name. The variables that tasks read are set."""

    s3: Any
    bucket: str

    @property
    def source(self) -> str:
        return f"s3://{self.bucket}/in"

    def put(self, files: dict[str, bytes]) -> None:
        for name, body in files.items():
            self.s3.put_object(Bucket=self.bucket, Key=f"in/{name}", Body=body)

    def put_folder(self, folder: Path) -> None:
        self.put({path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")})

    def run(self, name: str, week: int = 1, **sync: Any) -> Run:
        """One run of a recipe, before its first task."""
        recipe = read_recipe(RECIPE | {"name": name, "source": self.source, "sync": sync}, where="test")
        dag_run = SimpleNamespace(run_after=datetime(2026, 11, week, tzinfo=UTC), run_id=f"manual__{week}")
        facts = Facts(**{"preflight.return_value": {"images": dict.fromkeys(IMAGES, IMAGE)}})
        fake: Any = {"ti": facts, "params": {}, "dag_run": dag_run}
        return Run(recipe, fake)

    def documents(self, name: str) -> dict[str, bytes]:
        """All that the newest version has, with the recipe's own name left out; and what is remembered."""
        found = {}
        for key in self.keys(f"{name}/data/versions/"):
            body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            found[key.removeprefix(f"{name}/")] = body.replace(f"/{name}/".encode(), b"/NAME/")
        memory = self.s3.get_object(Bucket=self.bucket, Key=memory_key(name, self.source))["Body"].read()
        head, *rest = gzip.decompress(memory).splitlines()
        known = json.loads(head) | {"taken_ns": 0}
        return found | {"memory": b"\n".join([json.dumps(known).encode(), *rest])}

    def objects(self, name: str) -> dict[str, tuple[str, int]]:
        """Images and quarantined files, by their keys, with what S3 says of their bytes."""
        found = {}
        for folder in ("images", "quarantine"):
            for page in self.pages(f"{name}/data/{folder}/"):
                for entry in page.get("Contents", []):
                    found[entry["Key"].removeprefix(f"{name}/")] = (entry["ETag"], entry["Size"])
        return found

    def made(self, name: str) -> list[str]:
        """All below the recipe's data but what a job is told and tells."""
        return [key for key in self.keys(f"{name}/data/") if not key.startswith(f"{name}/data/verified/")]

    def keys(self, prefix: str) -> list[str]:
        return [entry["Key"] for page in self.pages(prefix) for entry in page.get("Contents", [])]

    def pages(self, prefix: str) -> Any:
        return self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)


def facts(run: Run) -> dict[str, Any]:
    ti: Any = run.context["ti"]
    known: dict[str, Any] = ti.known
    return known


def look(run: Run) -> dict[str, Any]:
    """The first task."""
    facts(run)["list_images.return_value"] = divided = list_images(run)
    return divided


def verifying(run: Run) -> VerificationOperator:
    """The second, to be executed."""
    config = task_requests.verification_request(run)
    return VerificationOperator(task_id="verify_images", config=config, aws_conn_id=AWS_CONN_ID, poll_seconds=0.1)


def verify(run: Run) -> None:
    try:
        facts(run)["verify_images.return_value"] = finish(verifying(run), context())
    except AirflowSkipException:
        facts(run)["verify_images.return_value"] = None


def by_job(run: Run) -> dict[str, Any]:
    """All three; returns what the last one does."""
    look(run)
    verify(run)
    return sync_dataset(run)
