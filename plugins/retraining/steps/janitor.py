"""The task of retraining_janitor: is an endpoint still needed?"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from retraining.release.lifetime import Lifetime
from retraining.run import Run, client

log = logging.getLogger(__name__)


class EndpointEnds(ValueError):
    """An endpoint is going to be deleted. Nothing is wrong; a task that fails is what people are told of."""


def look_after(run: Run) -> dict[str, str]:
    """Keeps, tells or deletes; EndpointEnds, once, where it tells."""
    lifetime = Lifetime(s3=run.s3, plan=run.plan)
    found = lifetime.look(run.sagemaker, client("cloudwatch"), datetime.now(UTC))
    if found.done == "told":
        raise EndpointEnds(f"Endpoint {run.plan.endpoint} is not needed any more: {found.why}.")
    level = logging.WARNING if found.done == "deleted" else logging.INFO
    log.log(level, "Endpoint %s is %s: %s.", run.plan.endpoint, found.done, found.why)
    return {"endpoint": run.plan.endpoint, "done": found.done, "why": found.why}
