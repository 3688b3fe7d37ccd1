"""The one wait of this package: until a SageMaker job is no longer in progress.

It ends by deadline, not after a number of polls, and when a person clears, fails or cancels the waiting task it stops
the job. It does nothing of the kind when the triggerer itself goes away: then another triggerer takes over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook
from airflow.triggers.base import BaseTrigger, TriggerEvent
from botocore.exceptions import BotoCoreError, ClientError

from retraining.job_kinds import KINDS, Description, is_missing
from retraining.release.endpoint import is_baking


class SageMakerJobTrigger(BaseTrigger):
    """Fires {"name", "status": SageMaker's word, or "Deadline" or "Missing"} when there is nothing left to wait for."""

    def __init__(
        self,
        kind: str,
        name: str,
        deadline: float,
        poll_seconds: float,
        aws_conn_id: str,
        region_name: str | None = None,
    ) -> None:
        """`deadline` in epoch seconds. All arguments survive a move to another triggerer."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind, self.name, self.deadline = kind, name, deadline
        self.poll_seconds, self.aws_conn_id, self.region_name = poll_seconds, aws_conn_id, region_name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "kind": self.kind,
                "name": self.name,
                "deadline": self.deadline,
                "poll_seconds": self.poll_seconds,
                "aws_conn_id": self.aws_conn_id,
                "region_name": self.region_name,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        kind = KINDS[self.kind]
        async with await self._connect() as client:
            while True:
                # Asked once also after the deadline: the job may have ended well while nobody was there to look.
                late = time.time() >= self.deadline
                try:
                    description = await getattr(client, kind.describe)(**{kind.name_key: self.name})
                except ClientError as error:
                    if is_missing(error):
                        yield self._event("Missing")
                        return
                    # Throttling, an expired token, a restart of the service: the job goes on, so does the wait.
                    self.log.warning("Cannot ask for the state of %s yet: %s", self.name, error)
                except BotoCoreError as error:
                    self.log.warning("Cannot reach SageMaker yet: %s", error)
                else:
                    if (status := self.reached(description)) is not None:
                        yield self._event(status)
                        return
                if late:
                    yield self._event("Deadline")
                    return
                await asyncio.sleep(self.poll_seconds)

    def reached(self, description: Description) -> str | None:
        """What is waited for, in a word; None as long as it has not come."""
        kind = KINDS[self.kind]
        return None if kind.in_progress(description) else kind.status(description)

    async def on_kill(self) -> None:
        """A person took the waiting task away: stop the job, which would otherwise go on costing money."""
        kind = KINDS[self.kind]
        if kind.stop is None:
            return
        async with await self._connect() as client:
            try:
                await getattr(client, kind.stop)(**{kind.name_key: self.name})
            except ClientError as error:
                # What has just ended cannot be stopped, and need not be.
                self.log.warning("SageMaker does not stop %s job %s: %s", self.kind, self.name, error)
                return
        self.log.info("Asked SageMaker to stop %s job %s.", self.kind, self.name)

    async def _connect(self) -> Any:
        hook: Any = SageMakerHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)  # type: ignore[no-untyped-call]
        return await hook.get_async_conn()

    def _event(self, status: str) -> TriggerEvent:
        return TriggerEvent({"name": self.name, "status": status})  # type: ignore[no-untyped-call]


class DeploymentTrigger(SageMakerJobTrigger):
    """Waits for an endpoint, and fires "Baking" as soon as an update's fresh fleet has requests."""

    def reached(self, description: Description) -> str | None:
        return "Baking" if is_baking(description) else super().reached(description)
