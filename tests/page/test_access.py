"""Who may not see a DAG's runs sees nothing of them, by whichever route; who has not signed in sees nothing at all."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi.routing import APIRoute

from retraining.page.access import may_see_dag, may_trigger_dag, signed_in
from retraining.page.app import app
from tests.page.rows import RUN, add_dags
from tests.page.served import DIGITS, HOSTILE
from tests.page.test_page import shown

ROUTES = [route for route in app.routes if isinstance(route, APIRoute)]
OF_ONE_DAG = ("/run", "/profiler", "/strip", "/weeks", "/try", "/try/image")


def path(route: APIRoute) -> str:
    return f"/retraining{route.path.replace('{name}', 'page.css')}"


@pytest.fixture
def nobody(airflow: Any) -> dict[str, str]:
    """The headers of somebody who has signed in, and has no role."""
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="eve", role=None))
    return {"Authorization": f"Bearer {token}"}


def test_every_route_is_known_here() -> None:
    assert {route.path for route in app.routes} == {*OF_ONE_DAG, "/models", "/static/{name}"}
    assert [route.path for route in ROUTES if route.methods != {"GET"}] == ["/try"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_route_asks_who_is_asking(route: APIRoute) -> None:
    asked = {dependency.call for dependency in route.dependant.dependencies}
    wanted = may_trigger_dag if "POST" in route.methods else may_see_dag if route.path in OF_ONE_DAG else signed_in
    assert wanted in asked


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_who_has_not_signed_in_is_refused(airflow: Any, route: APIRoute) -> None:
    (method,) = route.methods
    answer = airflow.request(method, path(route), params=RUN)
    assert (answer.status_code, "digits" in answer.text) == (401, False)
    unsigned = {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}
    wrong = airflow.request(method, path(route), params=RUN, headers=unsigned)
    assert wrong.status_code in (401, 403)


@pytest.mark.parametrize("name", OF_ONE_DAG)
def test_who_may_not_see_the_dag_is_refused(airflow: Any, nobody: dict[str, str], name: str) -> None:
    answer = airflow.get(f"/retraining{name}", params=RUN | {"name": "0/x.png"}, headers=nobody)
    assert (answer.status_code, "digits" in answer.text) == (403, False)


def test_who_may_see_no_dag_is_shown_no_model(
    airflow: Any, nobody: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_dags("retrain_digits")
    monkeypatch.setenv("RETRAINING_BUCKET", "a-bucket")
    monkeypatch.setenv("RETRAINING_ROLE_ARN", "arn:aws:iam::000000000000:role/a")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")
    answer = airflow.get("/retraining/models", headers=nobody)
    assert (answer.status_code, "digits" in answer.text) == (200, False)


@pytest.mark.parametrize("name", OF_ONE_DAG)
def test_a_second_name_in_the_address_opens_nothing(
    airflow: Any, viewer: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_another(*_: Any, details: Any, **__: Any) -> bool:
        return bool(details.id == "retrain_another")

    monkeypatch.setattr(type(get_auth_manager()), "is_authorized_dag", only_another)
    for first, second in (("retrain_digits", "retrain_another"), ("retrain_another", "retrain_digits")):
        query = f"dag_id={first}&dag_id={second}&run_id=manual__1"
        answer = airflow.get(f"/retraining{name}?{query}", headers=viewer)
        assert answer.status_code != 200 or "digits, run by run" not in answer.text
        assert "digits-" not in answer.text


def test_pictures_have_no_address_of_their_own() -> None:
    """They are part of the page, so that nobody can ask for one without it."""
    for classes in (DIGITS, HOSTILE):
        assert 'src="http' not in shown(classes) and 'src="static/page.js"' in shown(classes)
