"""Deploying and rolling back an endpoint, and telling the truth about it.

SageMaker answers a failed update by going back to the old configuration, and then calls the endpoint InService. The
stock operator takes that for success; these compare what is served with what was asked for, and keep outside the
attempt that they asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from copy import deepcopy
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerEndpointOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from botocore.exceptions import ClientError

from retraining.creation import delete_once
from retraining.identity import NameTaken
from retraining.intent import Intent, Intents
from retraining.job_kinds import DENIED, KINDS, UPDATE_LIMIT_SECONDS
from retraining.links import JOB_LINKS
from retraining.operators.durable import log_tail
from retraining.release import package
from retraining.release.artifact import ArtifactChanged, require_unchanged
from retraining.release.asking import NotAsSeen, ask_as_seen
from retraining.release.canary import MISSED
from retraining.release.endpoint import describe_endpoint, is_baking, pending_config
from retraining.release.resources import have_endpoint_config, have_model
from retraining.release.scaling import SERVICE, make_way, scale, scale_if_possible
from retraining.release.watch import Watch, end_watch, take_back
from retraining.run import client
from retraining.triggers import DeploymentTrigger, SageMakerJobTrigger

# Of a bake: until it is noticed. Asking SageMaker more often than this would be throttled.
NOTICED_WITHIN, SHORTEST_POLL_SECONDS = 1 / 6, 5


class EndpointOperator(SageMakerEndpointOperator):
    """What deploying and rolling back share.

    `config` also holds {"Intent": {"bucket", "key"}}, where Intents are, and perhaps the DeploymentConfig of updates.
    """

    operator_extra_links = JOB_LINKS

    def __init__(self, *, poll_seconds: float = 30, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.poll_seconds = poll_seconds

    @property
    def intents(self) -> Intents:
        return Intents(s3=client("s3"), **self.config["Intent"])

    @property
    def request(self) -> dict[str, Any]:
        """What SageMaker is sent."""
        return {key: self.config[key] for key in ("EndpointName", "EndpointConfigName")}

    @property
    def deployment(self) -> dict[str, Any]:
        """What an update, and no creation, is sent besides."""
        config = self.config.get("DeploymentConfig")
        return dict(self.config.get("Retained", {})) | ({"DeploymentConfig": config} if config else {})

    @property
    def scaling(self) -> Any:
        """A client of Application Auto Scaling; None where the recipe asks for no scaling."""
        return client(SERVICE) if self.config.get("Scaling") else None

    def ask(self, operation: str, seen: Mapping[str, Any] | None, **besides: Any) -> bool:
        """Whether SageMaker was asked; it is not where the endpoint is no longer as it was seen."""
        request = ({"EndpointName": self.config["EndpointName"]} if "delete" in operation else self.request) | besides
        try:
            ask_as_seen(operation, self.hook.conn, seen, request)
        except NotAsSeen as moved:
            self.log.info("%s", moved)
            return False
        return True

    def make_way(self, before: str, after: str) -> None:
        make_way(self.hook.conn, client(SERVICE), self.config["EndpointName"], before, after)

    def look(self, context: Context) -> dict[str, Any] | None:
        """The endpoint as SageMaker describes it now; the task's link leads to it."""
        name = self.config["EndpointName"]
        context["ti"].xcom_push(key="job", value={"kind": "endpoint", "name": name})
        return describe_endpoint(self.hook.conn, name)

    def wait(self, trigger: type[SageMakerJobTrigger] = SageMakerJobTrigger, **kwargs: Any) -> dict[str, Any]:
        """Defers until the endpoint no longer changes; then execute_complete(event, **kwargs) goes on."""
        self.defer(
            trigger=trigger(
                kind="endpoint",
                name=self.config["EndpointName"],
                deadline=time.time() + self.limit_seconds,
                poll_seconds=self.bake_poll_seconds if trigger is DeploymentTrigger else self.poll_seconds,
                aws_conn_id=self.aws_conn_id or "",
                region_name=self.region_name,
            ),
            method_name="execute_complete",
            kwargs=kwargs,
            timeout=timedelta(seconds=self.limit_seconds + 600),
        )
        raise AssertionError("defer() does not return")

    @property
    def bake_poll_seconds(self) -> float:
        """Often enough to notice a bake early."""
        policy = self.config.get("DeploymentConfig", {}).get("BlueGreenUpdatePolicy", {})
        bake = float(policy.get("TrafficRoutingConfiguration", {}).get("WaitIntervalInSeconds", 0))
        return min(self.poll_seconds, max(SHORTEST_POLL_SECONDS, bake * NOTICED_WITHIN))

    @property
    def limit_seconds(self) -> int:
        """Longer than SageMaker's own limit, after which it goes back by itself."""
        policy = self.config.get("DeploymentConfig", {}).get("BlueGreenUpdatePolicy", {})
        return UPDATE_LIMIT_SECONDS + int(policy.get("MaximumExecutionTimeoutInSeconds", 0))

    def require_in_time(self, event: Mapping[str, Any] | None) -> None:
        if event and event["status"] == "Deadline":
            raise AirflowFailException(
                f"Endpoint {event['name']} is still changing after {self.limit_seconds} seconds; "
                "look at its events before running again."
            )

    @staticmethod
    def broken(endpoint: Mapping[str, Any]) -> str:
        name = endpoint["EndpointName"]
        tail = "".join(f"\n    {line}" for line in log_tail(KINDS["endpoint"], name))
        return (
            f"Endpoint {name} is {endpoint['EndpointStatus']}: {endpoint.get('FailureReason', 'no reason given')}{tail}"
            "\nSageMaker cannot update it. Delete it and run again: "
            f"aws sagemaker delete-endpoint --endpoint-name {name}"
        )


class DeployOperator(EndpointOperator):
    """Brings the endpoint to the requested configuration, or creates it, and asserts that it got there.

    SageMaker is asked once in a run, whichever attempt does it. Where the recipe lets the update bake, it is watched:
    by alarms of this run, which end with it, and by golden images, whose wrong answers take it back.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        return self.ensure(context)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, requested: bool = False
    ) -> dict[str, Any]:
        """`requested` is what an earlier version of this package left with a wait that an upgrade ended."""
        self.require_in_time(event)
        return self.ensure(context)

    @property
    def watch(self) -> Watch | None:
        return Watch(**self.config["Watch"]) if self.config.get("Watch") else None

    def ensure(self, context: Context) -> dict[str, Any]:
        """The endpoint on the requested configuration; every attempt and every resumption begins here."""
        name, wanted = self.config["EndpointName"], self.config["EndpointConfigName"]
        intents = self.intents
        endpoint, intent = self.look(context), intents.read()
        if intent and intent.taken_back:
            self._end_watch()  # of an attempt that stalled while it made alarms
            raise AirflowFailException(
                f"The release of {wanted} failed and was taken back; clearing deploy does not repeat it. "
                "Trigger a new run."
            )
        if endpoint and KINDS["endpoint"].in_progress(endpoint):
            return self._wait(context, endpoint, intent)
        canary = intent.canary if intent else None
        if canary:  # an attempt that was killed found it out
            context["ti"].xcom_push(key="canary", value=canary)
        if endpoint and endpoint["EndpointStatus"] != "InService":
            raise AirflowFailException(self.broken(endpoint))
        if endpoint and endpoint["EndpointConfigName"] == wanted:
            self._end_watch()
            scale(self.scaling, self.config.get("Scaling"))
            if canary and canary["wrong"]:
                raise AirflowFailException(f"{canary['wrong']} The update had ended before it could be taken back.")
            if canary is None and self.watch and intent and intent.before:
                canary = self._missed(context)
            served = {"name": name, "config": wanted, "arn": endpoint["EndpointArn"]}
            return served | ({"canary": canary} if canary else {})
        if intent is None:
            self._require_as_it_began(endpoint)
            mine = Intent.of(name, wanted, endpoint)
            intent = intents.declare(mine)
            if intent is not mine:  # another attempt was faster; what was seen before may be old
                return self.ensure(context)
        if intent.was_asked(endpoint):
            rang = self._end_watch()
            if endpoint and canary and canary["wrong"]:
                serves = f"{name} serves {endpoint['EndpointConfigName']}"
                raise AirflowFailException(f"{canary['wrong']} The update to {wanted} was taken back: {serves}.")
            raise AirflowFailException(" ".join([self._not_served(endpoint, wanted), *rang]) + self._log_of_new(wanted))
        if endpoint is None:
            self.log.info("Creating endpoint %s on %s.", name, wanted)
            return self.wait() if self.ask("create_endpoint", None) else self.ensure(context)
        self.log.info("Updating endpoint %s from %s to %s.", name, endpoint["EndpointConfigName"], wanted)
        self.make_way(endpoint["EndpointConfigName"], wanted)
        if not self.ask("update_endpoint", endpoint, **self._watched_deployment()):
            return self.ensure(context)
        return self.wait(DeploymentTrigger if self.watch else SageMakerJobTrigger)

    def _missed(self, context: Context) -> dict[str, Any]:
        self.log.warning(
            "The update to %s ended before golden images could be asked.", self.config["EndpointConfigName"]
        )
        context["ti"].xcom_push(key="canary", value=MISSED)
        return MISSED

    def _require_as_it_began(self, endpoint: Mapping[str, Any] | None) -> None:
        """What this run found out holds for what served then; one that is gone can be made again."""
        if endpoint is None or self.config.get("Began") is None:  # a run that began before an upgrade
            return
        now, then = endpoint["EndpointConfigName"], self.config["Began"]["config"]
        if now != then:
            was = f"served {then}" if then else "did not exist"
            raise AirflowFailException(
                f"Endpoint {endpoint['EndpointName']} serves {now}, and {was} when this run began: another run is at "
                "work, or somebody changed it. What this run compared with no longer holds; it asks nothing of "
                "the endpoint. Trigger a new run."
            )

    def _wait(self, context: Context, endpoint: Mapping[str, Any], intent: Intent | None) -> dict[str, Any]:
        """Until the update has ended; before that, once, until it bakes, and the new model answers golden images."""
        watch = self.watch
        if watch is None or intent is None or pending_config(endpoint) != watch.config:
            return self.wait()
        canary = intent.canary
        if canary is None:
            if not is_baking(endpoint):
                return self.wait(DeploymentTrigger)
            canary = watch.try_golden(client("sagemaker-runtime"), client("s3"), self.hook.conn)
            self.intents.tell(canary)
            context["ti"].xcom_push(key="canary", value=canary)
        if canary["wrong"]:
            take_back(watch.config, canary["wrong"])
        return self.wait()

    def _watched_deployment(self) -> dict[str, Any]:
        """What the update is sent besides, with the alarms that this run makes for it."""
        deployment = deepcopy(self.deployment)
        if self.watch is not None:
            rollback = deployment["DeploymentConfig"].setdefault("AutoRollbackConfiguration", {"Alarms": []})
            rollback["Alarms"] += [{"AlarmName": name} for name in self.watch.make_alarms()]
        return deployment

    def _end_watch(self) -> list[str]:
        return end_watch(self.watch.config) if self.watch else []

    def _log_of_new(self, wanted: str) -> str:
        """Of the instances that the update to a configuration began: those that are younger than it."""
        try:
            made = self.hook.conn.describe_endpoint_config(EndpointConfigName=wanted)["CreationTime"]
        except ClientError:  # gone, or closed to us: what failed is told without it
            return ""
        tail = log_tail(KINDS["endpoint"], self.config["EndpointName"], made)
        return "".join(f"\n    {line}" for line in tail)

    def _not_served(self, endpoint: Mapping[str, Any] | None, wanted: str) -> str:
        if endpoint is None:
            return (
                f"Endpoint {self.config['EndpointName']} was to serve {wanted} and was deleted in the meantime. "
                "Trigger a new run, which creates it."
            )
        serves = f"Endpoint {endpoint['EndpointName']} serves {endpoint['EndpointConfigName']}"
        if reason := endpoint.get("FailureReason"):  # first, for that is what a list of runs has room for
            return f"SageMaker rolled the update back. {reason.strip().rstrip('.')}. {serves}; asked for was {wanted}."
        return f"{serves}; asked for was {wanted}. SageMaker rolled the update back, or somebody else changed it."


class RollbackOperator(EndpointOperator):
    """After a release that failed: back to what served well, and no endpoint at all where this run made it.

    `config` names this run's configuration as `Failed`, where to go back to as `EndpointConfigName` (None: nowhere),
    the `Artifact` of the champion whose that is, `Resources` that make its Model and configuration again, whether
    this run `Created` the endpoint, and the run's `Package`, which is rejected. Without an `EndpointName` there is
    nothing to take back. Whether that is so is read from SageMaker and S3, never from the states of other tasks, which
    a person can set. The alarms of a `Watched` update end here whatever became of it.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        context["ti"].xcom_push(key="job", value=None)  # so that the link finds that there is none
        if not self.config.get("EndpointName"):
            self._end_watch()
            raise AirflowSkipException("This run asked nothing of the endpoint, or was promoted.")
        intents = self.intents
        intent, endpoint = intents.read(), describe_endpoint(self.hook.conn, self.config["EndpointName"])
        concerned = endpoint is not None and self._concerns(endpoint)
        if intent and not concerned and not intent.was_asked(endpoint):
            self._end_watch()
            self._scale_again(endpoint)
            self._tell(context, endpoint)
            # As after throttling: deploy may be cleared, and asks then.
            raise AirflowSkipException("deploy failed before it asked anything of the endpoint.")
        intents.take_back()
        if endpoint is None or (not concerned and endpoint["EndpointStatus"] == "InService"):
            self._end_watch()
            self._scale_again(endpoint)
            self._tell(context, endpoint, self._clear_away())
            raise AirflowSkipException("The endpoint does not serve this run's model; there is nothing to roll back.")
        return self.ensure(context, requested=False)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, requested: bool = False
    ) -> dict[str, Any]:
        if event and event["status"] == "Deadline":
            self._end_watch()
        self.require_in_time(event)
        return self.ensure(context, requested)

    def ensure(self, context: Context, requested: bool) -> dict[str, Any]:
        """The endpoint without this run's model. `requested`: whether SageMaker has already been asked for that."""
        name, failed, back_to = (self.config[key] for key in ("EndpointName", "Failed", "EndpointConfigName"))
        endpoint = self.look(context)
        if endpoint and KINDS["endpoint"].in_progress(endpoint):
            return self._wait(endpoint, requested)
        self._end_watch()
        if endpoint is None:
            return self._tell(context, None, self._clear_away())
        served = endpoint["EndpointConfigName"]
        if served != failed and endpoint["EndpointStatus"] == "InService":
            self._scale_again(endpoint)
            return self._tell(context, endpoint, self._clear_away()) | {"arn": endpoint["EndpointArn"]}
        if requested:
            reason = endpoint.get("FailureReason", "no reason given")
            raise AirflowException(f"Endpoint {name} is {endpoint['EndpointStatus']} on {served} still: {reason}")
        if back_to is not None and endpoint["EndpointStatus"] == "InService":
            self._require_artifact(served)
            self._have_resources(served)
            self.log.warning("Updating endpoint %s from %s, which failed, back to %s.", name, served, back_to)
            self.make_way(served, back_to)
            asked = self.ask("update_endpoint", endpoint, **self.config.get("Retained", {}))
        elif self.config["Created"] and served == failed:
            self.log.warning("Deleting endpoint %s, which this run made: %s failed.", name, served)
            asked = self.ask("delete_endpoint", endpoint)
        else:
            raise AirflowFailException(self.broken(endpoint))
        return self.wait(requested=True) if asked else self.ensure(context, requested)

    def _wait(self, endpoint: Mapping[str, Any], requested: bool) -> dict[str, Any]:
        """An update that bakes is not waited for: its own alarm takes it back now."""
        if not self.config.get("Watched") or pending_config(endpoint) != self.config["Failed"]:
            return self.wait(requested=requested)
        if not is_baking(endpoint):
            return self.wait(DeploymentTrigger, requested=requested)
        try:
            take_back(self.config["Failed"], "The run of this update failed.")
        except ClientError as error:  # the alarm is gone, or closed to us
            self.log.warning("The update is waited for, because it cannot be taken back: %s", error)
        return self.wait(requested=requested)

    def _require_artifact(self, served: str) -> None:
        """SageMaker starts instances for the way back, and these read the artifact anew."""
        if not (artifact := self.config.get("Artifact")):
            return
        name, back_to = self.config["EndpointName"], self.config["EndpointConfigName"]
        try:
            require_unchanged(client("s3"), artifact, f"when {back_to} was promoted")
        except ArtifactChanged as error:
            raise AirflowFailException(
                f"{error}. So endpoint {name} does not go back to {back_to}, and {served} serves still, which failed. "
                "Put the artifact back and clear rollback, or choose a champion of before: "
                f"python -m retraining rollback {self.config['Recipe']} --to RUN"
            ) from error

    def _have_resources(self, served: str) -> None:
        """What somebody removed; of the artifact that was just found to be the champion's."""
        if not (resources := self.config.get("Resources")):
            return
        try:
            have_model(self.hook.conn, resources["Model"], self.log.warning)
            have_endpoint_config(self.hook.conn, resources["EndpointConfig"], self.log.warning)
        except NameTaken as error:
            back_to = self.config["EndpointConfigName"]
            raise AirflowFailException(
                f"{self.config['EndpointName']} does not go back to {back_to}, and {served} serves still, which "
                f"failed: {error} Delete what stands there and clear rollback, or choose a champion of before: "
                f"python -m retraining rollback {self.config['Recipe']} --to RUN"
            ) from error

    def _tell(self, context: Context, endpoint: Mapping[str, Any] | None, untold: str = "") -> dict[str, Any]:
        """What serves now, for the report, also of a task that will be skipped; a config of None is no endpoint.

        `untold` is why the registry knows nothing of it.
        """
        serves = {"name": self.config["EndpointName"], "config": endpoint and endpoint["EndpointConfigName"]}
        serves |= {"registry": untold} if untold else {}
        context["ti"].xcom_push(key="serves", value=serves)
        return serves

    def _clear_away(self) -> str:
        """Last: what is served matters more than what the registry says, which may be closed to us or be gone.

        Returns why it was not told; empty when it was.
        """
        untold = ""
        if arn := self.config["Package"]:
            why = f"{package.TAKEN_BACK}{self.config['Failed']} failed and was taken back."
            untold = package.told(partial(package.reject, self.hook.conn, arn, why))
        if untold:
            self.log.warning("%s", untold)
        try:
            # An attempt of `deploy` that stalled before it asked, and wakes hours later, asks for what is gone.
            delete_once(self.hook.conn.delete_endpoint_config, {"EndpointConfigName": self.config["Failed"]})
        except ClientError as error:
            if error.response["Error"]["Code"] not in DENIED:
                raise
            self.log.warning("What was made for %s stays: %s", self.config["Failed"], error)
        return untold

    def _scale_again(self, endpoint: Mapping[str, Any] | None) -> None:
        """The attempt that failed may have made way for another instance type."""
        if endpoint and endpoint["EndpointStatus"] == "InService":
            scale_if_possible(self.scaling, self.config.get("Scaling"))

    def _end_watch(self) -> None:
        if watched := self.config.get("Watched"):
            end_watch(watched)

    def _concerns(self, endpoint: Mapping[str, Any]) -> bool:
        """Whether the endpoint serves this run's configuration, or is about to.

        Not to be known of one that still changes, or is broken: SageMaker need not say what it goes back from.
        """
        return self.config["Failed"] in (endpoint["EndpointConfigName"], pending_config(endpoint))
