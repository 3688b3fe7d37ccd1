"""What an endpoint serves now, by SageMaker's word and not by what an earlier task believed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from retraining.release.endpoint import describe_endpoint
from retraining.run import Run

SERVING = ("InService", "Updating", "SystemUpdating")


class EndpointMoved(ValueError):
    """The endpoint does not serve this run's model, or not only."""


def require_served(run: Run) -> None:
    """EndpointMoved unless the endpoint serves this run's configuration, and is not about to serve another.

    One that is Updating without another configuration in sight is scaled or patched, and serves meanwhile.

    A task that was cleared, or marked as a success, may run long after a rollback, an update or a person changed what
    is served. Nothing that it measures then is about this run's model.
    """
    name, wanted = run.plan.endpoint, run.plan.endpoint_config
    endpoint = describe_endpoint(run.sagemaker, name)
    settled = endpoint and not (endpoint.get("PendingDeploymentSummary") or {})
    if endpoint and settled and endpoint["EndpointStatus"] in SERVING and endpoint["EndpointConfigName"] == wanted:
        return
    found = f"is {endpoint['EndpointStatus']} on {endpoint['EndpointConfigName']}" if endpoint else "does not exist"
    raise EndpointMoved(
        f"Endpoint {name} {found}; this run's model is served by the endpoint configuration {wanted}. The endpoint was "
        "changed after this run's deploy (by its rollback, another run or a person), or deploy never ended. Nothing is "
        "promoted; trigger a new run."
    )


def while_serving(body: Callable[[Run], Any]) -> Callable[[Run], Any]:
    """The body of a task that is only true of this run's model: what is served is checked before it and after it."""

    @wraps(body)
    def guarded(run: Run) -> Any:
        require_served(run)
        result = body(run)
        require_served(run)
        return result

    return guarded
