"""Registers with Airflow what the UI must know of this package. The package itself is imported, never scanned."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from retraining.links import SageMakerJobLink
from retraining.page.mount import APPS, VIEWS


class RetrainingPlugin(AirflowPlugin):
    """Without this registration the UI could not deserialise the links of our operators, nor show a run's report."""

    name = "retraining"
    operator_extra_links = [SageMakerJobLink()]
    fastapi_apps = APPS
    external_views = VIEWS
