"""Try it: a person's own picture, or one of the test set, sent to the endpoint that serves a recipe's champion.

To look takes the right to see the DAG's runs. To send takes the right to trigger one: it costs the endpoint's time,
and whoever may start a training may ask what came of it.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from typing import Annotated, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response

from retraining.environment import ConfigurationError
from retraining.page import airflow_runs, rendering
from retraining.page.access import may_see_dag, may_trigger_dag, signed_in, triggered_by
from retraining.page.asking import ask
from retraining.page.clients import HASTE, kept_client
from retraining.page.documents import Shelf, TooLarge, champion_key, run_key
from retraining.page.models import RUN_NAME, judge, told
from retraining.page.panels.images import A_PICTURE
from retraining.page.same_site import require_same_site
from retraining.page.sent import Refusal, body_of, limit_of, pictures_of
from retraining.release.endpoint import describe_endpoint
from retraining.release.golden import MAX_BODY_BYTES, MAX_INSTANCES
from retraining.run import here

log = logging.getLogger(__name__)

ANSWERS = Config(connect_timeout=2, read_timeout=20, retries={"total_max_attempts": 1})
"""A first request after a pause may wait for a model that starts; no request is sent twice."""
AT_ONCE = 4
"""Questions of one API server: each holds a picture, and a thread that all of Airflow shares."""
SHOWN = 48
KINDS = ("some", "wrong", "lost", "won")
AN_IMAGE = re.compile(r"[^/]+/[0-9a-f]{20}\.(?:png|jpg)")
TYPES = {"png": "image/png", "jpg": "image/jpeg"}
POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

router = APIRouter()
_slots = threading.BoundedSemaphore(AT_ONCE)


@router.get("/try", dependencies=[Depends(may_see_dag)])
def try_page(
    user: Annotated[Any, Depends(signed_in)], dag_id: str = Query(min_length=1, max_length=250)
) -> HTMLResponse:
    """Where a picture is chosen, dropped or pasted, and what serves now."""
    recipe = _recipe(dag_id)
    if recipe is None:
        return _message("Nothing to try here", "This DAG is none that retrains a classifier.")
    try:
        shelf = _shelf()
        champion = _champion(shelf, recipe)
        endpoint, problem = _endpoint(champion)
        images = to_try(shelf, recipe, champion)
    except (ConfigurationError, TooLarge) as error:
        return _message("It cannot be tried", str(error), 503)
    except (BotoCoreError, ClientError) as error:
        log.warning("The page to try %s cannot be made: %s", recipe, error)
        return _message("The store does not answer", type(error).__name__, 503)
    return HTMLResponse(
        page_of(recipe, dag_id, champion, endpoint, images, problem, may_send=triggered_by(user, dag_id)),
        headers=POLICY,
    )


def page_of(
    recipe: str,
    dag_id: str,
    champion: Mapping[str, Any] | None,
    endpoint: Mapping[str, Any] | None,
    images: Mapping[str, Mapping[str, Any]],
    problem: str = "",
    *,
    may_send: bool = True,
) -> bytes:
    """The page, from what is known of the recipe alone."""
    loud, text = judge(champion, endpoint, asked=not problem)
    return rendering.render(
        "try.html",
        recipe=recipe,
        dag_id=dag_id,
        champion=champion,
        endpoint=endpoint,
        images=list(images.values()),
        loud=loud,
        text=text,
        problem=problem,
        may_send=may_send,
        most=MAX_BODY_BYTES,
        together=MAX_INSTANCES,
    )


@router.get("/try/image", dependencies=[Depends(may_see_dag)])
def one_to_try(dag_id: str = Query(min_length=1, max_length=250), name: str = Query(max_length=600)) -> Response:
    """One test image, of those that the page shows."""
    recipe = _recipe(dag_id)
    if recipe is None:
        raise HTTPException(404)
    try:
        shelf = _shelf()
        if name not in to_try(shelf, recipe, _champion(shelf, recipe)):
            raise HTTPException(404)
        body = shelf.read(f"{recipe}/data/images/{name}", MAX_BODY_BYTES)
    except (ConfigurationError, TooLarge, BotoCoreError, ClientError) as error:
        raise HTTPException(503, type(error).__name__) from None
    if body is None:
        raise HTTPException(404)
    return Response(body, media_type=TYPES[name.rpartition(".")[2]], headers=POLICY)


@router.post("/try", dependencies=[Depends(may_trigger_dag), Depends(require_same_site)])
async def try_picture(
    request: Request,
    dag_id: str = Query(min_length=1, max_length=250),
    of: int | None = Query(None, ge=0, le=1_000_000),
) -> JSONResponse:
    """The endpoint's answer to the picture in the body, or to several in base64 within JSON. Nothing is kept."""
    if not _slots.acquire(blocking=False):
        return _problem(429, f"{AT_ONCE} pictures are being asked about just now. Try again in a moment.")
    try:
        several = request.headers.get("content-type", "").partition(";")[0].strip() == "application/json"
        body = await body_of(request, limit_of(several))
        return JSONResponse(await run_in_threadpool(_asked, dag_id, body, several, of), headers=POLICY)
    except Refusal as refusal:
        return _problem(refusal.status, str(refusal))
    finally:
        _slots.release()


def _asked(dag_id: str, body: bytes, several: bool, of: int | None) -> dict[str, Any]:
    recipe = _recipe(dag_id)
    if recipe is None:
        raise Refusal(404, "Airflow has no such DAG that retrains a classifier.")
    try:
        champion = _champion(_shelf(), recipe)
    except (ConfigurationError, TooLarge, BotoCoreError, ClientError) as error:
        raise Refusal(503, f"The champion cannot be read: {error}") from None
    if not champion or not champion.get("endpoint"):
        raise Refusal(409, "Nothing serves yet: the first run that is promoted makes the endpoint.")
    pictures = pictures_of(body, several)
    try:
        found = ask(kept_client("sagemaker-runtime", ANSWERS), str(champion["endpoint"]), pictures, of)
    except Refusal as refusal:
        raise Refusal(refusal.status, f"{refusal}{_state(champion)}") from None
    return found | {"champion": champion.get("model")}


def to_try(shelf: Shelf, recipe: str, champion: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Of the champion's test set, by name: those that its run left small pictures of."""
    name = str((champion or {}).get("run_name", ""))
    album = shelf.optional(f"{run_key(recipe, name)}/page/images.json") if RUN_NAME.fullmatch(name) else None
    found: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        for line in _lines((album or {}).get(kind)):
            found.setdefault(str(line["image"]), {"name": line["image"], "class": line["class"], **_seen(line)})
    return dict(list(found.items())[:SHOWN])


def _lines(kind: Any) -> list[Mapping[str, Any]]:
    lines = kind.get("images") if isinstance(kind, Mapping) else None
    return [
        line
        for line in (lines if isinstance(lines, list) else ())
        if isinstance(line, Mapping)
        and isinstance(line.get("class"), str)
        and isinstance(line.get("image"), str)
        and AN_IMAGE.fullmatch(line["image"])
        and A_PICTURE.fullmatch(str(line.get("picture")))
    ]


def _seen(line: Mapping[str, Any]) -> dict[str, Any]:
    return {"picture": line["picture"], "right": line.get("answer") == line["class"]}


def _state(champion: Mapping[str, Any]) -> str:
    """What SageMaker says of an endpoint that gave no answer; nothing where it is in service, or not known."""
    endpoint, problem = _endpoint(champion)
    if problem or endpoint is None or (endpoint["status"] == "InService" and not endpoint["pending"]):
        return ""
    failure = f": {endpoint['failure']}" if endpoint["failure"] else ""
    return f" SageMaker says that it is {endpoint['status']}{failure}."


def _endpoint(champion: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, str]:
    """What SageMaker tells of the champion's endpoint, or why it does not."""
    if not champion or not champion.get("endpoint"):
        return None, ""
    try:
        found = describe_endpoint(kept_client("sagemaker", HASTE), str(champion["endpoint"]))
    except (BotoCoreError, ClientError) as error:
        log.warning("Endpoint %s cannot be described: %s", champion["endpoint"], error)
        return None, f"SageMaker does not tell ({type(error).__name__})."
    return found and told(found), ""


def _recipe(dag_id: str) -> str | None:
    """Of a DAG that Airflow has; nothing else becomes part of a key."""
    recipe = dag_id.removeprefix(airflow_runs.DAG_PREFIX)
    known = dag_id.startswith(airflow_runs.DAG_PREFIX) and recipe in airflow_runs.recipes()
    return recipe if known else None


def _champion(shelf: Shelf, recipe: str) -> dict[str, Any] | None:
    champion = shelf.json(champion_key(recipe))
    return champion if champion and champion.get("run_name") else None


def _shelf() -> Shelf:
    return Shelf(s3=kept_client("s3", HASTE), bucket=here().bucket)


def _problem(status: int, text: str) -> JSONResponse:
    return JSONResponse({"problem": text}, status, headers=POLICY)


def _message(title: str, text: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(rendering.render("message.html", title=title, text=text), status, headers=POLICY)
