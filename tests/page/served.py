"""The pages behind a real port, without Airflow's sign-in: what a browser looks at."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response
from PIL import Image

from retraining.dataset.pictures.small import small
from retraining.dataset.versions.strips import drawn
from retraining.page.airflow_runs import TaskRecord
from retraining.page.app import models_page, report_page, static, weeks_page
from retraining.page.asking import ask
from retraining.page.documents import Documents
from retraining.page.models import Model, way_back
from retraining.page.sent import Refusal, body_of, limit_of, pictures_of
from retraining.page.trying import POLICY, page_of
from retraining.page.weeks import told
from tests.object_store import free_ports
from tests.page.runs import BEGAN, digit, documents
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
    "promoted": lambda: lately(documents(DIGITS)),
    "kept": lambda: documents(DIGITS, wrong=6),
    "many": lambda: lately(documents(BREEDS)),
    "hostile": lambda: lately(documents(HOSTILE), text=HOSTILE[0]),
    "skipped": lambda: documents(
        DIGITS, need={"needed": False, "reason": "data, code and recipe are the champion's"}, rules=(), **NOTHING
    ),
    "failed": lambda: documents(DIGITS, failed="train", rules=(), **NOTHING),
    "asks": lambda: asking(),
    "running": lambda: documents(DIGITS, state="running", rules=(), **NOTHING),
}


def lately(run: Documents, **changes: Any) -> Documents:
    """With a quarter of a year of runs before it."""
    now = {"record": run.record, "change": None, **told(run.report)}
    return replace(run, weeks=[now, *(week | changes for week in two_years()[1:13])])


def asking() -> Documents:
    """A run that waits for a person's approval."""
    run = documents(DIGITS, state="running")
    approve = TaskRecord(task_id="approve", state="awaiting_input", start=BEGAN, end=None)
    return replace(run, record=replace(run.record, tasks=(*run.record.tasks, approve)))


RUN = "digits-261130-030000-a1b2c"
BEFORE = "digits-261123-030000-77f0e"
CHAMPION = {"run_name": RUN, "endpoint": "retraining-digits", "endpoint_config": RUN}
ENDPOINT = {"name": "retraining-digits", "status": "InService", "pending": None, "failure": "", "since": BEGAN}
DOGS = "dogs-261128-050000-0c4de"


def past(recipe: str, name: str, *, weeks: int, accuracy: float, champion: bool = False, serves: bool = False) -> Any:
    """One champion, as the page of all models tells of it."""
    line = "" if champion else way_back(recipe, name)
    scores = {"accuracy": accuracy, "macro_f1": accuracy - 0.004}
    told = {
        "run_name": name,
        "at": BEGAN - timedelta(weeks=weeks),
        "champion": champion,
        "serves": serves,
        "line": line,
    }
    return told | scores | {"registry": "Approved"}


MODELS = [
    Model(
        recipe="digits",
        champion=CHAMPION,
        endpoint=ENDPOINT | {"config": BEFORE},
        past=[
            past("digits", RUN, weeks=0, accuracy=0.9733, champion=True),
            past("digits", BEFORE, weeks=1, accuracy=0.97, serves=True),
            past("digits", "digits-261109-030000-93bc1", weeks=3, accuracy=0.9633),
        ],
    ),
    Model(
        recipe="dogs",
        champion={"run_name": DOGS, "endpoint": "retraining-dogs", "endpoint_config": DOGS},
        endpoint=ENDPOINT | {"name": "retraining-dogs", "config": DOGS},
        past=[past("dogs", DOGS, weeks=0, accuracy=0.8814, champion=True, serves=True)],
    ),
    Model(recipe="<b>cats</b>", problems=("SageMaker does not tell (EndpointConnectionError)",)),
    Model(recipe="new"),
]
AROUND = """<!doctype html><html class="dark"><link rel="icon" href="static/icon.svg">
<body><iframe src="run?state=promoted"></iframe></body></html>"""


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Its address; `run?state=…` is the report of that state, `around` a dark page with one in a frame."""
    app = FastAPI()
    app.get("/run")(lambda state: report_page(STATES[state]()))
    app.get("/strip")(lambda place: Response(strip(int(place)), media_type="image/webp"))
    app.get("/weeks")(lambda: weeks_page("digits", two_years()))
    app.get("/models")(lambda: models_page(MODELS, ["another"]))
    app.get("/try")(lambda state="serves": HTMLResponse(tried(state), headers=POLICY))
    app.get("/try/image")(lambda name: Response(digit(name, 0), media_type="image/png"))
    app.post("/try")(answer)
    app.get("/static/{name}")(static)
    app.get("/around", response_class=HTMLResponse)(lambda: AROUND)
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


def strip(place: int) -> bytes:
    """Twelve images of a class."""
    names = [f"{place % 10}/{number:03}.png" for number in range(12)]
    return drawn([partial(digit, name, 0) for name in names])


def two_years() -> list[dict[str, Any]]:
    """104 weeks, each accuracy and outcome another one."""
    kinds = [{"record": run.record, "change": 12, **told(run.report)} for run in _kinds()]
    scored = {"accuracy": None, "low": None, "high": None}
    return [
        kinds[week % 4]
        | {"record": replace(kinds[0]["record"], run_id=f"week-{week}", run_after=BEGAN - timedelta(weeks=week))}
        | (
            {"accuracy": (value := 0.98 - week * 2e-4 - (week % 3) * 5e-3), "low": value - 0.01, "high": value + 0.01}
            if kinds[week % 4]["accuracy"]
            else scored
        )
        for week in range(104)
    ]


def _kinds() -> list[Documents]:
    return [documents(DIGITS), *(STATES[name]() for name in ("kept", "skipped", "failed"))]


def tried(state: str) -> bytes:
    """The page to try a model: one that serves, one that keeps requests, one that failed, or none yet."""
    keeps = {"percent": 20, "where": "s3://bucket/digits/captured"}
    endpoint = ENDPOINT | {"config": RUN, "keeps": keeps if state == "keeps" else None}
    if state == "broken":
        endpoint |= {"status": "Failed", "failure": "no room"}
    names = HOSTILE if state == "hostile" else DIGITS
    images = {
        f"{name}/{number:020x}.png": {
            "name": f"{name if name in DIGITS else 0}/{number}.png",
            "class": name,
            "picture": f"data:image/jpeg;base64,{base64.b64encode(small(digit(f'{name}/{number}.png', 0))).decode()}",
            "right": number != 1,
        }
        for number in range(2)
        for name in names
    }
    champion = None if state == "none" else CHAMPION
    return page_of("digits", "retrain_digits", champion, endpoint, images, may_send=state != "viewer")


async def answer(request: Request, of: int | None = None) -> JSONResponse:
    """As the plugin answers, by an endpoint that is sure where the middle of a picture is bright."""
    several = request.headers["content-type"] == "application/json"
    try:
        pictures = pictures_of(await body_of(request, limit_of(several)), several)
        told = await run_in_threadpool(ask, Bright(), "retraining-digits", pictures, of)
    except Refusal as refusal:
        return JSONResponse({"problem": str(refusal)}, refusal.status)
    return JSONResponse(told | {"champion": RUN})


class Bright:
    """The runtime of an endpoint whose model looks at the middle of a picture alone."""

    def invoke_endpoint(self, *, Body: bytes, ContentType: str, **_: Any) -> dict[str, Any]:
        several = ContentType == "application/json"
        bodies = [base64.b64decode(text) for text in json.loads(Body)["instances"]] if several else [Body]
        answers = [self._answer(body) for body in bodies]
        said = json.dumps({"predictions": answers} if several else answers[0]).encode()
        return {"Body": io.BytesIO(said), "CustomAttributes": f"model={RUN}"}

    def _answer(self, body: bytes) -> dict[str, Any]:
        with Image.open(io.BytesIO(body)) as image:
            middle = image.convert("L").resize((4, 4), Image.Resampling.BOX).crop((1, 1, 3, 3))
        bright = sum(middle.tobytes()) / 4 / 255
        scores = {"<b>bright</b>": bright, "dark": 0.9 * (1 - bright), "neither": 0.1 * (1 - bright)}
        order = sorted(scores, key=lambda label: -scores[label])
        return {
            "label": order[0],
            "index": list(scores).index(order[0]),
            "score": scores[order[0]],
            "top": [{"label": label, "score": scores[label]} for label in order],
            "probabilities": list(scores.values()),
        }
