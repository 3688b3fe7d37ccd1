"""The pages as a FastAPI app below Airflow's own: every route asks who is asking, every answer says what may run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import jinja2
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse, Response

from retraining.dataset.versions.strips import MOST_CLASSES
from retraining.environment import ConfigurationError
from retraining.epochs import read_epochs
from retraining.page import airflow_runs, rendering
from retraining.page.access import may_see_dag, seen_by, signed_in
from retraining.page.chart import chart
from retraining.page.clients import HASTE, kept_client
from retraining.page.documents import Documents, Shelf, TooLarge, champion_key
from retraining.page.kept import Kept
from retraining.page.live import ASKED, ASKED_FOR_STRIPS, read_profiler_report, read_run, read_strip, waiting_for
from retraining.page.models import MOST as MOST_MODELS
from retraining.page.models import Model, loudest_first, read_model, read_models, way_back_in
from retraining.page.panels import section_of
from retraining.page.panels.lately import MOST as MOST_BESIDE
from retraining.page.trying import router as trying
from retraining.page.weeks import MOST, read_weeks
from retraining.run import here

log = logging.getLogger(__name__)

Answer = TypeVar("Answer", bound=Response)

HERE = Path(__file__).parent
STATIC = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "try.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "icon-dark.svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

FOREIGN_HTML = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"

# A page shares its threads with all of Airflow's: a store that hangs must not keep them.
PATIENCE = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2})

app = FastAPI(title="Retraining", docs_url=None, redoc_url=None, openapi_url=None)
app.include_router(trying)


@app.get("/run", dependencies=[Depends(may_see_dag)])
def run_page(
    dag_id: str = Query(min_length=1, max_length=250),
    run_id: str = Query(min_length=1, max_length=250),
    task_id: str = Query("", max_length=250),
) -> HTMLResponse:
    """One run, whatever came of it; opened at the panel of a task."""
    record = airflow_runs.find_run(dag_id, run_id)
    if record is None:
        return page("message.html", 404, title="No such run", text="Airflow has no run of this name.")
    if record.recipe is None:
        return page("message.html", title="Nothing to tell here", text=FOREIGN)
    facts = airflow_runs.find_facts(record, ASKED)
    lately = airflow_runs.last_runs(dag_id, MOST_BESIDE, record.run_after)

    def make(shelf: Shelf) -> HTMLResponse:
        run = waiting_for(read_run(shelf, record, facts, _epochs), lately)
        return report_page(replace(run, weeks=read_weeks(shelf, lately)), section_of(task_id))

    return _from_store(make)


@app.get("/profiler", dependencies=[Depends(may_see_dag)])
def profiler_report(
    dag_id: str = Query(min_length=1, max_length=250), run_id: str = Query(min_length=1, max_length=250)
) -> HTMLResponse:
    """The profiler's own report, a file of a job: in a sandbox, without scripts, and with nothing from elsewhere."""
    record = airflow_runs.find_run(dag_id, run_id)
    if record is None or record.recipe is None:
        return page("message.html", 404, title="No such run", text="Airflow has no run of ours of this name.")
    facts = airflow_runs.find_facts(record, ASKED)

    def make(shelf: Shelf) -> HTMLResponse:
        body = read_profiler_report(shelf, record, facts)
        if body is None:
            return page("message.html", 404, title="No such report", text="This run left no report of the profiler.")
        return HTMLResponse(body, headers=HEADERS | {"Content-Security-Policy": FOREIGN_HTML})

    return _from_store(make)


@app.get("/strip", dependencies=[Depends(may_see_dag)])
def strip(
    dag_id: str = Query(min_length=1, max_length=250),
    run_id: str = Query(min_length=1, max_length=250),
    place: int = Query(ge=0, lt=MOST_CLASSES),
) -> Response:
    """Small pictures of some images of one class, by the class's place in the run's own list."""
    record = airflow_runs.find_run(dag_id, run_id)
    if record is None or record.recipe is None:
        raise HTTPException(404)
    facts = airflow_runs.find_facts(record, ASKED_FOR_STRIPS)

    def make(shelf: Shelf) -> Response:
        body = read_strip(shelf, record, facts, place)
        if body is None:
            raise HTTPException(404)
        return Response(body, media_type="image/webp", headers=HEADERS)

    return _from_store(make)


@app.get("/weeks", dependencies=[Depends(may_see_dag)])
def weeks(dag_id: str = Query(min_length=1, max_length=250)) -> HTMLResponse:
    """The last runs of one DAG, the newest first."""
    if not dag_id.startswith(airflow_runs.DAG_PREFIX):
        return page("message.html", title="Nothing to tell here", text=FOREIGN)
    records = airflow_runs.last_runs(dag_id, MOST)
    recipe = dag_id.removeprefix(airflow_runs.DAG_PREFIX)
    return _from_store(
        lambda shelf: weeks_page(recipe, read_weeks(shelf, records), shelf.optional(champion_key(recipe)))
    )


@app.get("/models")
def models(user: Annotated[Any, Depends(signed_in)], dag_id: str = Query("", max_length=250)) -> HTMLResponse:
    """What each recipe serves now; of those whose runs this person may see, or one of them."""
    mine = seen_by(user, [f"{airflow_runs.DAG_PREFIX}{recipe}" for recipe in airflow_runs.recipes()])
    wanted = [mine_id.removeprefix(airflow_runs.DAG_PREFIX) for mine_id in mine if dag_id in ("", mine_id)]

    def make(shelf: Shelf) -> HTMLResponse:
        sagemaker = kept_client("sagemaker", HASTE)
        line = way_back_in(here())
        hasty = replace(shelf, s3=kept_client("s3", HASTE))
        read = partial(read_model, hasty, sagemaker, way_back=line)
        return models_page(read_models(wanted[:MOST_MODELS], read), wanted[MOST_MODELS:], only=bool(dag_id))

    return _from_store(make)


def _epochs(job: str) -> dict[str, Any] | None:
    """The end of a training's log, read for all who look within ten seconds; a page without it is better than none."""
    try:
        return _trainings.get(job, lambda: read_epochs(kept_client("logs", PATIENCE), job, pages=1))
    except (BotoCoreError, ClientError) as error:
        log.warning("The log of training job %s cannot be read: %s", job, error)
        return None


_trainings: Kept[dict[str, Any] | None] = Kept(most=100, seconds=10)


def _from_store(make: Callable[[Shelf], Answer]) -> Answer | HTMLResponse:
    """What is made from documents in S3, or a page that says why there is nothing."""
    try:
        return make(Shelf(s3=kept_client("s3", PATIENCE), bucket=here().bucket))
    except (ConfigurationError, TooLarge) as error:
        return page("message.html", 503, title="The report cannot be read", text=str(error))
    except (BotoCoreError, ClientError) as error:
        log.warning("A page cannot be made: %s", error)
        return page("message.html", 503, title="The store does not answer", text=type(error).__name__)
    except (AttributeError, LookupError, TypeError, ValueError, jinja2.UndefinedError):
        log.exception("A page cannot be made of what a run left.")
        return page("message.html", title="The report cannot be read", text=UNREADABLE)


@app.get("/static/{name}", dependencies=[Depends(signed_in)])
def static(name: str) -> Response:
    """One of the few files that ship with the pages."""
    if name not in STATIC:
        raise HTTPException(404)
    return Response((HERE / "static" / name).read_bytes(), media_type=STATIC[name], headers=HEADERS)


UNREADABLE = "What this run left is not what this version writes. Its report.md in S3 tells the same for people."
FOREIGN = "This DAG is none that retrains a classifier. The report is there for DAGs named retrain_…"


def report_page(run: Documents, section: str = "") -> HTMLResponse:
    """The report of one run, from its documents alone."""
    return HTMLResponse(rendering.report(run, section), headers=HEADERS)


def models_page(models: Sequence[Model], others: Sequence[str] = (), *, only: bool = False) -> HTMLResponse:
    """The page over all recipes; `others` are links, `only` says that one was asked for."""
    return page("models.html", models=loudest_first(models), others=others, only=only)


def weeks_page(
    recipe: str, lines: Sequence[Mapping[str, Any]], champion: Mapping[str, Any] | None = None
) -> HTMLResponse:
    """The page over many runs, from their lines alone; `champion` is champion.json."""
    serves = champion if champion and champion.get("run_name") else None
    return page("weeks.html", recipe=recipe, lines=lines, champion=serves, chart=chart(lines, serves))


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(rendering.render(template, **values), status, headers=HEADERS)
