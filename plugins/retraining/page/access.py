"""Who may look: whoever may see the run in Airflow; who may ask an endpoint: whoever may trigger one.

Airflow gives a plugin's routes no protection of its own. These are internal imports of Airflow. Where they are not
what they were, nobody may look.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

from fastapi import HTTPException

log = logging.getLogger(__name__)

try:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
    from airflow.api_fastapi.core_api.security import get_user, requires_access_dag

    may_see_dag: Callable[..., Any] = requires_access_dag("GET", DagAccessEntity.RUN)
    may_trigger_dag: Callable[..., Any] = requires_access_dag("POST", DagAccessEntity.RUN)
    signed_in: Callable[..., Any] = get_user

    def seen_by(user: Any, dag_ids: Sequence[str]) -> list[str]:
        """Those of these DAGs whose runs this person may see."""
        return _allowed("GET", user, dag_ids)

    def triggered_by(user: Any, dag_id: str) -> bool:
        """Whether this person may trigger runs of this DAG."""
        return bool(_allowed("POST", user, [dag_id]))

    def _allowed(method: Literal["GET", "POST"], user: Any, dag_ids: Sequence[str]) -> list[str]:
        from airflow.models.dag import DagModel

        teams = DagModel.get_dag_id_to_team_name_mapping(list(dag_ids))
        ask = functools.partial(get_auth_manager().is_authorized_dag, method=method, access_entity=DagAccessEntity.RUN)
        return [dag for dag in dag_ids if ask(user=user, details=DagDetails(id=dag, team_name=teams.get(dag)))]
except Exception:
    log.exception("The pages are closed to everybody: this Airflow's way to ask who may see a DAG is not known.")

    def _closed() -> None:
        raise HTTPException(403, "This version of the pages does not know how to ask this Airflow who may see a DAG.")

    def seen_by(user: Any, dag_ids: Sequence[str]) -> list[str]:
        return []

    def triggered_by(user: Any, dag_id: str) -> bool:
        return False

    may_see_dag = may_trigger_dag = signed_in = _closed
