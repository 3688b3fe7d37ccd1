"""`make retrain` prints the address that Airflow gives the plugin's page."""

from __future__ import annotations

from retraining.page.mount import VIEWS
from stack.retrain import REPORT_TAB


def test_the_printed_address_is_the_tab() -> None:
    assert REPORT_TAB in [view["url_route"] for view in VIEWS if view["destination"] == "dag_run"]
