"""When a worker that lives and answers pings is replaced all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_sagemaker import app
from local_sagemaker.hosting import served_model
from local_sagemaker.hosting.variant import Variant
from local_sagemaker.hosting.worker import Worker
from local_sagemaker.settings import Settings
from tests.local_sagemaker.serving import SERVING_IMAGE, write_image_map
from tests.object_store import KEY_ID, SECRET
from tests.waiting import wait_until

PROGRAM = """
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

http.server.HTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Worker]:
    """A slot whose worker answers every ping, tended by the test."""
    (tmp_path / "serve.py").write_text(PROGRAM)
    images = write_image_map(tmp_path)
    images.write_text(
        images.read_text().replace(str(Path(__file__).with_name("model_server.py")), str(tmp_path / "serve.py"))
    )
    settings = Settings(root=tmp_path / "root", images=images, access_key_id=KEY_ID, secret_access_key=SECRET)
    platform = app.build_platform(settings)
    model = served_model.ServedModel(name="m", image=SERVING_IMAGE, data=None, environment={})
    variant = Variant(
        name="v", model=model, weight=1.0, instance_count=1, instance_type="ml.m5.large", startup_timeout_s=20
    )
    slot = Worker(platform, "endpoint", variant, 1, lambda: None)
    tend_until(slot, lambda: slot.port is not None)
    yield slot
    slot.stop(1.0)
    platform.close()


def tend_until(slot: Worker, condition: Callable[[], bool]) -> None:
    def tended() -> bool:
        if condition():
            return True
        slot.tend()
        return False

    wait_until(tended, lambda: str(slot.failure))


def test_worker_whose_invocations_all_time_out_is_replaced(slot: Worker) -> None:
    pid = slot.pid
    for _ in range(3):
        slot.timed_out()
    assert slot.port is None  # nobody else is sent to it
    tend_until(slot, lambda: slot.pid not in (pid, None))
    assert slot.failure
    assert "3 invocations in a row timed out" in slot.failure
    tend_until(slot, lambda: slot.port is not None)
    assert slot.failure is None


def test_worker_that_answers_in_between_is_kept(slot: Worker) -> None:
    pid = slot.pid
    for _ in range(2):
        slot.timed_out()
        slot.timed_out()
        slot.answered()
        tend_until(slot, lambda: slot.port is not None)
    assert slot.pid == pid
