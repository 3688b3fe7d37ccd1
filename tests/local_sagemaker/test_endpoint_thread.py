"""An endpoint's thread notices each change of its record, whenever it comes, and ends when the endpoint is deleted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_sagemaker import app
from local_sagemaker.hosting.deployment import KIND
from local_sagemaker.hosting.endpoint import Endpoint, Endpoints
from local_sagemaker.hosting.retirement import Retirement
from local_sagemaker.hosting.served_model import ServedModel
from local_sagemaker.hosting.variant import Variant
from local_sagemaker.hosting.worker import Worker
from local_sagemaker.operations import endpoints
from local_sagemaker.platform import Platform
from local_sagemaker.settings import Settings
from local_sagemaker.state.store import Record
from tests.local_sagemaker.serving import SERVING_IMAGE, write_image_map
from tests.object_store import KEY_ID, SECRET
from tests.waiting import PATIENCE_S, wait_until

NAME = "at-rest"


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    settings = Settings(
        root=tmp_path / "root", images=write_image_map(tmp_path), access_key_id=KEY_ID, secret_access_key=SECRET
    )
    platform = app.build_platform(settings)
    yield platform
    platform.close()


@pytest.fixture
def live(platform: Platform) -> Iterator[Endpoints]:
    live = Endpoints(platform)
    yield live
    live.close()


def insert(platform: Platform) -> Record:
    """The record of an endpoint that is at rest; it has no workers, which these tests have no use for."""
    describe = {"EndpointName": NAME, "EndpointArn": f"arn:{NAME}", "EndpointStatus": "InService"}
    return platform.store.insert(KIND, NAME, describe)


def delete(platform: Platform, live: Endpoints) -> None:
    request = {"EndpointName": NAME}
    endpoints.delete_endpoint(request, endpoints=live, store=platform.store, settings=platform.settings)


def await_end(platform: Platform) -> None:
    wait_until(lambda: not platform.store.get(KIND, NAME), "the endpoint is Deleting for ever")


class LatePause(threading.Event):
    """A pause that has run out; before its owner goes on, something happens."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self._meanwhile: Callable[[], None] | None = meanwhile

    def wait(self, timeout: float | None = None) -> bool:
        woken = super().wait(timeout)
        if not woken and self._meanwhile:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        return woken


def test_change_at_the_very_end_of_a_pause_is_noticed(platform: Platform, live: Endpoints) -> None:
    endpoint = Endpoint(platform, insert(platform), live.forget)

    def change() -> None:
        platform.store.update(KIND, NAME, lambda record: record.describe.update(EndpointStatus="Deleting"))
        endpoint.wake()

    endpoint._wake = LatePause(change)
    await_end(platform)


def test_deletion_that_is_faster_than_its_answer_leaves_the_name_free(
    platform: Platform, live: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.carry(insert(platform))
    update = platform.store.update

    def slow_update(*arguments: Any) -> Record:
        record = update(*arguments)
        live._live[NAME].wake()
        await_end(platform)
        return record

    with monkeypatch.context() as patched:
        patched.setattr(platform.store, "update", slow_update)
        delete(platform, live)
    live.carry(insert(platform))
    delete(platform, live)
    await_end(platform)


def test_deletion_shortens_what_an_update_left_to_drain(platform: Platform) -> None:
    """A worker of the fleet before may have an hour for an asynchronous answer, but not when its endpoint goes."""
    model = ServedModel(name="m", image=SERVING_IMAGE, data=None, environment={})
    variant = Variant(name="v", model=model, weight=1.0, instance_count=1, instance_type=None, startup_timeout_s=20)
    slot = Worker(platform, NAME, variant, 1, lambda: None)
    slot.in_flight = 1
    retirement = Retirement(NAME)
    retirement.begin([slot])
    assert retirement.going_on()
    retirement.end_within(0.1)
    waiting = threading.Thread(target=retirement.wait, daemon=True)
    waiting.start()
    waiting.join(PATIENCE_S)
    assert not retirement.going_on()
