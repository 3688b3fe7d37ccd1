"""Who may look: whoever may see the run in Airflow. Airflow gives a plugin's routes no protection of its own.

These are internal imports of Airflow. Where they are not what they were, nobody may look.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import HTTPException

log = logging.getLogger(__name__)

try:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
    from airflow.api_fastapi.core_api.security import get_user, requires_access_dag

    may_see_dag: Callable[..., Any] = requires_access_dag("GET", DagAccessEntity.RUN)
    signed_in: Callable[..., Any] = get_user

    def seen_by(user: Any, dag_ids: Sequence[str]) -> list[str]:
        """Those of these DAGs whose runs this person may see."""
        from airflow.models.dag import DagModel

        teams = DagModel.get_dag_id_to_team_name_mapping(list(dag_ids))
        ask = functools.partial(get_auth_manager().is_authorized_dag, method="GET", access_entity=DagAccessEntity.RUN)
        return [dag for dag in dag_ids if ask(user=user, details=DagDetails(id=dag, team_name=teams.get(dag)))]
except Exception:
    log.exception("The pages are closed to everybody: this Airflow's way to ask who may see a DAG is not known.")

    def _closed() -> None:
        raise HTTPException(403, "This version of the pages does not know how to ask this Airflow who may see a DAG.")

    def seen_by(user: Any, dag_ids: Sequence[str]) -> list[str]:
        return []

    may_see_dag = signed_in = _closed
