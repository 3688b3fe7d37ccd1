"""Registers with Airflow what the UI must know of this package. The package itself is imported, never scanned."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from retraining.links import SageMakerJobLink


class RetrainingPlugin(AirflowPlugin):
    """Without this registration the UI could not deserialise the links of our operators."""

    name = "retraining"
    operator_extra_links = [SageMakerJobLink()]
