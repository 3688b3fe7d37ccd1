"""Deploying and rolling back an endpoint, and telling the truth about it.

SageMaker answers a failed update by going back to the old configuration, and then calls the endpoint InService. The
stock operator takes that for success; these compare what is served with what was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerEndpointOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from botocore.exceptions import ClientError

from retraining.job_kinds import KINDS, is_missing
from retraining.links import JOB_LINKS
from retraining.operators.durable import log_tail
from retraining.triggers import SageMakerJobTrigger

# Longer than any healthy blue/green update of these small containers.
UPDATE_LIMIT_SECONDS = 3600


class DeployOperator(SageMakerEndpointOperator):
    """Brings the endpoint to the requested configuration, or creates it, and asserts that it got there."""

    operator_extra_links = JOB_LINKS

    def __init__(self, *, poll_seconds: float = 30, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.poll_seconds = poll_seconds

    def execute(self, context: Context) -> dict[str, Any]:
        return self.ensure(context, requested=False)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, requested: bool = False
    ) -> dict[str, Any]:
        if event and event["status"] == "Deadline":
            raise AirflowFailException(
                f"Endpoint {event['name']} is still changing after {UPDATE_LIMIT_SECONDS} seconds; "
                "look at its events before running again."
            )
        return self.ensure(context, requested)

    def ensure(self, context: Context, requested: bool) -> dict[str, Any]:
        """The endpoint on the requested configuration. `requested`: whether we have already asked SageMaker for it."""
        name, wanted = self.config["EndpointName"], self.config["EndpointConfigName"]
        endpoint = self.describe(name)
        context["ti"].xcom_push(key="job", value={"kind": "endpoint", "name": name})
        if endpoint is None:
            self.log.info("Creating endpoint %s on %s.", name, wanted)
            self.hook.conn.create_endpoint(**self.request)
            return self._wait_for(name, requested=True)
        if KINDS["endpoint"].in_progress(endpoint):
            return self._wait_for(name, requested)
        if endpoint["EndpointStatus"] != "InService":
            raise AirflowFailException(self._broken(endpoint))
        if endpoint["EndpointConfigName"] == wanted:
            return {"name": name, "config": wanted, "arn": endpoint["EndpointArn"]}
        if requested:
            raise AirflowFailException(self._rolled_back(endpoint, wanted))
        self.log.info("Updating endpoint %s from %s to %s.", name, endpoint["EndpointConfigName"], wanted)
        self.hook.conn.update_endpoint(**self.request)
        return self._wait_for(name, requested=True)

    @property
    def request(self) -> dict[str, Any]:
        """What SageMaker is sent."""
        return dict(self.config)

    def describe(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(self.hook.conn.describe_endpoint(EndpointName=name))
        except ClientError as error:
            if is_missing(error.response["Error"]["Code"], error.response["Error"]["Message"]):
                return None
            raise

    def _wait_for(self, name: str, requested: bool) -> dict[str, Any]:
        self.defer(
            trigger=SageMakerJobTrigger(
                kind="endpoint",
                name=name,
                deadline=time.time() + UPDATE_LIMIT_SECONDS,
                poll_seconds=self.poll_seconds,
                aws_conn_id=self.aws_conn_id or "",
                region_name=self.region_name,
            ),
            method_name="execute_complete",
            kwargs={"requested": requested},
            timeout=timedelta(seconds=UPDATE_LIMIT_SECONDS + 600),
        )
        raise AssertionError("defer() does not return")

    def _broken(self, endpoint: Mapping[str, Any]) -> str:
        name = endpoint["EndpointName"]
        tail = "".join(f"\n    {line}" for line in log_tail(KINDS["endpoint"], name))
        return (
            f"Endpoint {name} is {endpoint['EndpointStatus']}: {endpoint.get('FailureReason', 'no reason given')}{tail}"
            "\nSageMaker cannot update it. Delete it and run again: "
            f"aws sagemaker delete-endpoint --endpoint-name {name}"
        )

    def _rolled_back(self, endpoint: Mapping[str, Any], wanted: str) -> str:
        return (
            f"Endpoint {endpoint['EndpointName']} was asked to serve {wanted} and serves "
            f"{endpoint['EndpointConfigName']}: SageMaker rolled the update back. "
            f"Its reason: {endpoint.get('FailureReason', 'none given')}"
        )


class RollbackOperator(DeployOperator):
    """After a failure between deploy and promotion: back to the champion. Without a champion, no endpoint at all.

    Its config names this run's configuration as `Failed` and the champion's as `EndpointConfigName`, or None.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        context["ti"].xcom_push(key="job", value=None)  # so that the link finds that there is none
        if not self.config:
            raise AirflowSkipException("The run ended before it touched the endpoint.")
        endpoint = self.describe(self.config["EndpointName"])
        served = endpoint and self._concerns(endpoint, self.config["Failed"])
        if not served:
            raise AirflowSkipException("The endpoint does not serve this run's model; there is nothing to roll back.")
        return super().execute(context)

    def ensure(self, context: Context, requested: bool) -> dict[str, Any]:
        failed, champion = self.config["Failed"], self.config["EndpointConfigName"]
        if champion is None:
            return self._withdraw(self.config["EndpointName"], failed, requested)
        return super().ensure(context, requested)

    @property
    def request(self) -> dict[str, Any]:
        return {key: value for key, value in self.config.items() if key != "Failed"}

    def _withdraw(self, name: str, failed: str, requested: bool) -> dict[str, Any]:
        """The first run of a classifier failed: an endpoint that gives wrong answers is worse than none."""
        endpoint = self.describe(name)
        if endpoint is None:
            return {"name": name, "config": None}
        if KINDS["endpoint"].in_progress(endpoint):
            return self._wait_for(name, requested)
        if requested:
            raise AirflowException(f"Endpoint {name} is {endpoint['EndpointStatus']} after it was deleted.")
        self.log.warning("Deleting endpoint %s: it serves %s, which failed, and there is no champion.", name, failed)
        self.hook.conn.delete_endpoint(EndpointName=name)
        return self._wait_for(name, requested=True)

    @staticmethod
    def _concerns(endpoint: Mapping[str, Any], failed: str) -> bool:
        pending = endpoint.get("PendingDeploymentSummary") or {}
        return failed in (endpoint["EndpointConfigName"], pending.get("EndpointConfigName"))
