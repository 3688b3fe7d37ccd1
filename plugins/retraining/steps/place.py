"""Is a run where its environment and its recipe say? Asked before anything is paid for."""

from __future__ import annotations

from retraining.environment import AWS_CONN_ID, ConfigurationError, Environment
from retraining.plan import Plan
from retraining.recipe.instance_types import Kind, problem


def require_region(environment: Environment, requests: str) -> None:
    """ConfigurationError where requests go to another region than jobs, images and links are named for."""
    if environment.region != requests:
        raise ConfigurationError(
            f"AWS_DEFAULT_REGION is {environment.region}, but by the Airflow connection {AWS_CONN_ID} requests go to "
            f"{requests}. Set both to one region, or unset one of them; `python -m retraining` reads the variable."
        )


def require_machines(plan: Plan) -> None:
    """ConfigurationError for machines that the environment has put in the place of the recipe's, and AWS has not."""
    environment, also = plan.environment, plan.recipe.new_instance_types
    given: tuple[tuple[str, str | None, Kind], ...] = (
        ("TRAINING", environment.training_instance_type, "training"),
        ("SERVING", environment.serving_instance_type, "hosting"),
    )
    for job, instance_type, kind in given:
        if instance_type and (found := problem(instance_type, kind, also)):
            rule, way_out = found
            raise ConfigurationError(
                f"RETRAINING_{job}_INSTANCE_TYPE = {instance_type!r}: {rule}. {way_out} Or unset the variable, and the "
                "recipe's is taken."
            )
    if problem(plan.scoring_instance_type, "transform", also):
        raise ConfigurationError(
            f"RETRAINING_SERVING_INSTANCE_TYPE = {plan.serving_instance_type!r}: batch transform, which scores the "
            "test set, has no machine like it. Name one as scoring.instance_type in the recipe, or take another type."
        )
