"""What Airflow is told of the pages. Every process of Airflow imports this; the app comes with its first request."""

from __future__ import annotations

import functools
import gc
from typing import Any

PREFIX = "/retraining"

_ICON = {"icon": "retraining/static/icon.svg", "icon_dark_mode": "retraining/static/icon-dark.svg"}
_RUN = "retraining/run?dag_id={DAG_ID}&run_id={RUN_ID}"


class Pages:
    """The ASGI application, imported by the first request: only the API server ever gets one."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from retraining.page.app import app

        settle()
        await app(scope, receive, send)


@functools.cache
def settle() -> None:
    """What is loaded by the first page stays as long as the process: full collections need not look at it again.

    A page of 133 classes would begin one every dozenth time, which takes a quarter of a second with Airflow's objects.
    """
    gc.collect()
    gc.freeze()


APPS: list[dict[str, Any]] = [{"name": "Retraining", "app": Pages(), "url_prefix": PREFIX}]

# Without a leading slash, so that they stay below [api] base_url. Airflow fills in the braces, percent-encoded.
VIEWS: list[dict[str, Any]] = [
    {"name": "Report", "href": _RUN, "destination": "dag_run", "url_route": "retraining_report", **_ICON},
    {
        "name": "Report",
        "href": f"{_RUN}&task_id={{TASK_ID}}",
        "destination": "task_instance",
        "url_route": "retraining_task",
        **_ICON,
    },
    {
        "name": "Weeks",
        "href": "retraining/weeks?dag_id={DAG_ID}",
        "destination": "dag",
        "url_route": "retraining_weeks",
        **_ICON,
    },
    {
        "name": "Try\N{NO-BREAK SPACE}it",  # else Airflow breaks its tab into two lines on a laptop
        "href": "retraining/try?dag_id={DAG_ID}",
        "destination": "dag",
        "url_route": "retraining_try",
        **_ICON,
    },
    {
        "name": "Models",
        "href": "retraining/models",
        "destination": "nav",
        "url_route": "retraining_models",
        **_ICON,
    },
]
