"""Who may look: whoever may see the run in Airflow. Airflow gives a plugin's routes no protection of its own.

These are internal imports of Airflow. Where they are not what they were, nobody may look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import HTTPException

log = logging.getLogger(__name__)

try:
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import get_user, requires_access_dag

    may_see_dag: Callable[..., Any] = requires_access_dag("GET", DagAccessEntity.RUN)
    signed_in: Callable[..., Any] = get_user
except Exception:
    log.exception("The pages are closed to everybody: this Airflow's way to ask who may see a DAG is not known.")

    def _closed() -> None:
        raise HTTPException(403, "This version of the pages does not know how to ask this Airflow who may see a DAG.")

    may_see_dag = signed_in = _closed
