"""The pages behind a real port, without Airflow's sign-in: what a browser looks at."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from retraining.page.app import report_page, static, weeks_page
from retraining.page.weeks import line
from tests.object_store import free_ports
from tests.page.runs import documents
from tests.waiting import wait_until

DIGITS = [str(digit) for digit in range(10)]
BREEDS = [f"{number:03}.<b>Breed</b>_of_a_dog_with_a_long_name" for number in range(133)]
NOTHING = dict.fromkeys(("dataset", "tuning", "comparison", "endpoint", "smoke_test", "billed"))
STATES = {
    "promoted": lambda: documents(DIGITS),
    "kept": lambda: documents(DIGITS, wrong=6),
    "many": lambda: documents(BREEDS),
    "skipped": lambda: documents(
        DIGITS, need={"needed": False, "reason": "data, code and recipe are the champion's"}, rules=(), **NOTHING
    ),
    "failed": lambda: documents(DIGITS, failed="train", rules=(), **NOTHING),
    "running": lambda: documents(DIGITS, state="running", rules=(), **NOTHING),
}
AROUND = '<!doctype html><html class="dark"><body><iframe src="run?state=promoted"></iframe></body></html>'


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Its address; `run?state=…` is the report of that state, `around` a dark page with one in a frame."""
    app = FastAPI()
    app.get("/run")(lambda state: report_page(STATES[state]()))
    app.get("/weeks")(lambda: weeks_page("digits", two_years()))
    app.get("/static/{name}")(static)
    app.get("/around", response_class=_html())(lambda: AROUND)
    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, lambda: "the server does not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def two_years() -> list[dict[str, Any]]:
    """104 weeks, each accuracy and outcome another one."""
    kinds = [line(run.record, run.report) for run in (STATES[state]() for state in ("promoted", "kept", "failed"))]
    return [dict(kinds[week % 3], accuracy=0.98 - week * 2e-4 - (week % 3) * 5e-3) for week in range(104)]


def _html() -> type:
    from fastapi.responses import HTMLResponse

    return HTMLResponse
