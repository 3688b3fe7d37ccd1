"""The pages behind a real port, without Airflow's sign-in: what a browser looks at."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import uvicorn
from fastapi import FastAPI

from retraining.page.app import models_page, report_page, static, weeks_page
from retraining.page.documents import Documents
from retraining.page.models import Model, way_back
from retraining.page.weeks import told
from tests.object_store import free_ports
from tests.page.runs import BEGAN, documents
from tests.waiting import wait_until

DIGITS = [str(digit) for digit in range(10)]
BREEDS = [f"{number:03}.<b>Breed</b>_of_a_dog_with_a_long_name" for number in range(133)]
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(3)>',
    "</style></title><b>",
    "{{ 7 * 7 }}",
    "javascript:alert(4)",
    "\u202egnp.exe",
    "x" * 200,
    "&amp; ' \" \n",
]
NOTHING = dict.fromkeys(("dataset", "tuning", "training", "comparison", "endpoint", "smoke_test", "billed"))
STATES = {
    "promoted": lambda: documents(DIGITS),
    "kept": lambda: documents(DIGITS, wrong=6),
    "many": lambda: documents(BREEDS),
    "hostile": lambda: documents(HOSTILE),
    "skipped": lambda: documents(
        DIGITS, need={"needed": False, "reason": "data, code and recipe are the champion's"}, rules=(), **NOTHING
    ),
    "failed": lambda: documents(DIGITS, failed="train", rules=(), **NOTHING),
    "running": lambda: documents(DIGITS, state="running", rules=(), **NOTHING),
}
CHAMPION = {"run_name": "digits-261130-030000-a1b2c", "endpoint": "retraining-digits", "endpoint_config": "digits-b"}
ENDPOINT = {"name": "retraining-digits", "status": "InService", "pending": None, "failure": "", "since": BEGAN}
ROW = {
    "run_name": "digits-261130-030000-a1b2c", "at": BEGAN, "accuracy": 0.97, "macro_f1": 0.96, "champion": False,
    "serves": True, "registry": "Approved", "line": way_back("digits", "digits-261123-030000-a1b2c"),
}  # fmt: skip
MODELS = [
    Model(recipe="digits", champion=CHAMPION, endpoint=ENDPOINT | {"config": "digits-a"}, past=[ROW]),
    Model(recipe="dogs", champion=CHAMPION, endpoint=ENDPOINT | {"config": "digits-b"}, past=[ROW]),
    Model(recipe="<b>cats</b>", problems=("SageMaker does not tell (EndpointConnectionError)",)),
    Model(recipe="new"),
]
AROUND = '<!doctype html><html class="dark"><body><iframe src="run?state=promoted"></iframe></body></html>'


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Its address; `run?state=…` is the report of that state, `around` a dark page with one in a frame."""
    app = FastAPI()
    app.get("/run")(lambda state: report_page(STATES[state]()))
    app.get("/weeks")(lambda: weeks_page("digits", two_years()))
    app.get("/models")(lambda: models_page(MODELS, ["another"]))
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
    kinds = [{"record": run.record, "change": 12, **told(run.report)} for run in map(_state, WEEKS)]
    scored = {"accuracy": None, "low": None, "high": None}
    return [
        kinds[week % 4]
        | {"record": replace(kinds[0]["record"], run_after=BEGAN - timedelta(weeks=week))}
        | (
            {"accuracy": (value := 0.98 - week * 2e-4 - (week % 3) * 5e-3), "low": value - 0.01, "high": value + 0.01}
            if kinds[week % 4]["accuracy"]
            else scored
        )
        for week in range(104)
    ]


WEEKS = ("promoted", "kept", "skipped", "failed")


def _state(name: str) -> Documents:
    return STATES[name]()


def _html() -> type:
    from fastapi.responses import HTMLResponse

    return HTMLResponse
