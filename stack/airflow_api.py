"""The few calls of Airflow's REST API that a run from the terminal needs."""

from datetime import datetime
from typing import Any

import httpx

from stack.errors import StackError

LOG_EVENTS_KEPT = 4000


class AirflowApi:
    """Logs in as `admin` and renews its token when Airflow no longer takes it."""

    def __init__(self, url: str, password: str) -> None:
        self._password = password
        # Without the shell's proxies: they cannot reach this machine's loopback.
        self._client = httpx.Client(base_url=url, timeout=20, trust_env=False)
        self._token = ""

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """The DAG as Airflow last parsed it; None if it knows no such DAG."""
        response = self._send("GET", f"/api/v2/dags/{dag_id}")
        return None if response.status_code == 404 else _body(response)

    def any_dag(self) -> dict[str, Any] | None:
        found = _body(self._send("GET", "/api/v2/dags", params={"limit": 1, "exclude_stale": True}))["dags"]
        return found[0] if found else None

    def request_parse(self, file_token: str) -> None:
        """Asks the DAG processor to read the file of that token next."""
        response = self._send("PUT", f"/api/v2/parseDagFile/{file_token}")
        # 409: somebody has asked already.
        if response.status_code != 409:
            _body(response)

    def import_errors(self) -> list[dict[str, Any]]:
        return list(_body(self._send("GET", "/api/v2/importErrors", params={"limit": 100}))["import_errors"])

    def unpause(self, dag_id: str) -> None:
        _body(self._send("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False}))

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> dict[str, Any]:
        # Without the explicit null the API answers 422.
        body = {"logical_date": None, "conf": conf}
        return _body(self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body))

    def active_runs(self, dag_id: str) -> list[dict[str, Any]]:
        states = {"state": ["queued", "running"], "order_by": "-run_after"}
        return list(_body(self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=states))["dag_runs"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return _body(self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"))

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return list(_body(self._send("GET", path, params={"limit": 200}))["task_instances"])

    def log_events(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> list[dict[str, Any]]:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        response = self._send("GET", path, params={"full_content": True}, headers={"Accept": "application/json"})
        content = _body(response).get("content") or []
        return [event if isinstance(event, dict) else {"event": str(event)} for event in content[-LOG_EVENTS_KEPT:]]

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        for attempt in (1, 2):
            if not self._token:
                login = self._client.post("/auth/token", json={"username": "admin", "password": self._password})
                if login.status_code == 401:
                    raise StackError(
                        f"Airflow at {self._client.base_url} refuses the password of .local/credentials.json: "
                        "it was started with another one. `make down`, then try again."
                    )
                self._token = _body(login)["access_token"]
            headers = {"Authorization": f"Bearer {self._token}", **arguments.pop("headers", {})}
            response = self._client.request(method, path, headers=headers, **arguments)
            if response.status_code != 401 or attempt == 2:
                break
            self._token = ""
        return response


def _body(response: httpx.Response) -> dict[str, Any]:
    """The answer. A refusal is a StackError; a failure of the server an httpx error, as if it had not answered."""
    if response.is_server_error:
        response.raise_for_status()
    if response.is_error:
        request = response.request
        raise StackError(
            f"Airflow answered {response.status_code} to {request.method} {request.url.path}: {response.text[:500]}"
        )
    return dict(response.json()) if response.content.strip() not in (b"", b"null") else {}


def moment(text: str | None) -> datetime | None:
    """Airflow's timestamp as an aware datetime."""
    return datetime.fromisoformat(text) if text else None
