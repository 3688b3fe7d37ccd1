"""This package installed on a World: the modules that reach outside, or look at a clock, are turned to it."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import airflow.providers.amazon.aws.utils.waiter_with_logging as waiter_with_logging
import airflow.providers.standard.operators.hitl as questions
import botocore.endpoint
import botocore.waiter
import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
from airflow.providers.amazon.aws.operators import sagemaker
from PIL import Image

import retraining.dataset.pictures.pool
import retraining.dataset.sources.bucket
import retraining.dataset.versions.shards
import retraining.dataset.versions.store
import retraining.dataset.versions.strips
import retraining.operators.durable
import retraining.operators.endpoint
import retraining.operators.training
import retraining.promotion.traits
import retraining.promotion.transform_outputs
import retraining.release.canary
import retraining.release.drill
import retraining.release.rollback
import retraining.release.serving
import retraining.sensors
import retraining.triggers
from retraining.recipe import read_recipe
from tests.faults import stock
from tests.faults.airflow import DagRun
from tests.faults.recipes import recipe
from tests.faults.wire import Clients
from tests.faults.world import BUCKET, World

ROOT = Path(__file__).parents[2]
TIMED = (
    retraining.operators.durable, retraining.operators.endpoint, retraining.operators.training,
    retraining.release.canary, retraining.release.drill, retraining.release.rollback, retraining.release.serving,
    retraining.sensors, retraining.triggers,
)  # fmt: skip
PICTURES_OF_A_CLASS = 20
POLL_S = 200  # few looks at a job: each is a call, and calls are what a run's time goes to


SERIAL = (
    retraining.dataset.sources.bucket, retraining.dataset.versions.shards, retraining.dataset.versions.store,
    retraining.dataset.versions.strips, retraining.dataset.pictures.pool, retraining.promotion.traits,
    retraining.promotion.transform_outputs,
)  # fmt: skip


class Serial:
    """A pool of threads without threads: calls come in the same order in each run."""

    def __init__(self, *_: Any) -> None: ...

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *_: Any) -> None: ...

    map = staticmethod(map)

    def submit(self, call: Any, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(call(*arguments))
        return future


class Installation:
    """The DAGs of some recipes, and the clients they are given."""

    def __init__(self, folder: Path) -> None:
        self.clients, self.folder = Clients(), folder
        self.pictures = _pictures(folder / "images")
        (folder / "ml").mkdir()
        (folder / "ml" / "train.py").write_text("print('trained')\n")
        spec = importlib.util.spec_from_file_location("retrain_classifier", ROOT / "dags" / "retrain_classifier.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._module, self.number = module, 0
        self.dags: dict[tuple[str, str], Any] = {}

    def dag(self, name: str, kind: str) -> Any:
        """The DAG `name`_colors of a recipe, made once: that takes as long as a run."""
        if name == "stock" and (name, kind) not in self.dags:
            self.dags[name, kind] = stock.weekly()
        if (name, kind) not in self.dags:
            written = read_recipe(recipe(kind, self.folder / "images"), where="test")
            self.dags[name, kind] = getattr(self._module, name)(written)
        return self.dags[name, kind]

    def world(self) -> World:
        return World(self.pictures)

    def begin(self, world: World, kind: str = "plain", dag: str = "retrain", **conf: Any) -> DagRun:
        """A run of the week, of one kind of recipe; the world's clients are this installation's now."""
        self.use(world)
        self.number += 1
        made = self.dag(dag, kind)
        run = DagRun(made, world.clock, f"manual__{self.number}", dict(made.params.dump()) | conf)
        if dag == "stock":
            run.fired = stock.fired
        return run

    def use(self, world: World) -> None:
        world.calls.clear()
        world.signed.clear()
        self.clients.answer, self.clients.sign = world.answer, world.sign
        for module in TIMED:
            module.time = world.clock.as_time_module()
        retraining.triggers.asyncio = world.clock.as_asyncio_module()
        for module in (botocore.endpoint, botocore.waiter, waiter_with_logging, sagemaker):
            module.time = world.clock.as_time_module()


@contextmanager
def installed(folder: Path) -> Iterator[Installation]:
    """Undone at the end: other tests of this process have real clocks and clients."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (*TIMED, botocore.endpoint, botocore.waiter, waiter_with_logging, sagemaker):
            patch.setattr(module, "time", module.time)
        patch.setattr(retraining.triggers, "asyncio", retraining.triggers.asyncio)
        patch.setattr(questions, "upsert_hitl_detail", lambda **_: None)
        for module in SERIAL:
            patch.setattr(module, "ThreadPoolExecutor", Serial)
        for name, value in {
            "RETRAINING_ENVIRONMENT": "local", "RETRAINING_BUCKET": BUCKET, "AWS_DEFAULT_REGION": "us-east-1",
            "RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/local", "RETRAINING_SOURCE_DIR": str(folder / "ml"),
            "AIRFLOW_CONN_AWS_DEFAULT": "aws://", "RETRAINING_POLL_SECONDS": str(POLL_S),
        }.items():  # fmt: skip
            patch.setitem(os.environ, name, value)
        made = Installation(folder)
        logging.disable(logging.CRITICAL)  # it would take half of a run's time

        @asynccontextmanager
        async def connected() -> Any:
            yield _Awaited(made.clients.get("sagemaker"))

        async def connect(trigger: Any) -> Any:
            return connected()

        patch.setattr(AwsGenericHook, "conn", property(lambda hook: made.clients.get(hook.client_type)))
        patch.setattr(AwsGenericHook, "get_client_type", lambda hook, **_: made.clients.get(hook.client_type))
        patch.setattr(retraining.triggers.SageMakerJobTrigger, "_connect", connect)
        try:
            yield made
        finally:
            logging.disable(logging.NOTSET)


class _Awaited:
    """A boto3 client as aiobotocore's: its operations are awaited."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.client, name)

        async def call(**request: Any) -> Any:
            return operation(**request)

        return call


def _pictures(folder: Path) -> dict[bytes, str]:
    """Body → class, of small pictures that lie in the folders of their classes."""
    bodies = {}
    for label, red in (("red", 255), ("blue", 0)):
        (folder / label).mkdir(parents=True)
        for number in range(PICTURES_OF_A_CLASS):
            body = io.BytesIO()
            Image.new("RGB", (16, 16), (red, number, 255 - red)).save(body, "PNG")
            (folder / label / f"{number}.png").write_bytes(body.getvalue())
            bodies[body.getvalue()] = label
    return bodies
