"""A former champion behind its endpoint again: made, served, tried, and undone if it answers wrongly."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from retraining.creation import delete_once
from retraining.identity import NameTaken, require_own
from retraining.job_kinds import DENIED, KINDS, UPDATE_LIMIT_SECONDS, is_missing
from retraining.plan import Plan
from retraining.release.artifact import ArtifactChanged, require_champions
from retraining.release.asking import NotAsSeen, ask_as_seen
from retraining.release.elsewhere import other_endpoints
from retraining.release.endpoint import describe_endpoint, pending_config
from retraining.release.fleet import fleet, in_words
from retraining.release.golden import Golden, choose, read_image
from retraining.release.resources import have_endpoint_config, have_model
from retraining.release.scaling import make_way, scale_if_possible
from retraining.release.trial import try_endpoint
from retraining.requests import champion as champion_requests
from retraining.requests.autoscaling import retained, scaling
from retraining.s3.documents import MISSING

log = logging.getLogger(__name__)


class RollbackFailed(ValueError):
    """The endpoint did not get there; the message tells what it serves. To try the same again would change nothing."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Of one recipe's endpoint; a model is told by its document, as champion.json has it."""

    s3: Any
    sagemaker: Any
    runtime: Any
    plan: Plan
    scaling: Any
    """A client of Application Auto Scaling."""
    say: Callable[[str], None] = log.info

    def serve(self, document: Mapping[str, Any], leaving: Mapping[str, Any] | None) -> dict[str, Any]:
        """Until the endpoint serves it and answers rightly → {"tried", "update_seconds"}; a repetition goes on.

        RollbackFailed where SageMaker did not get there, or where the model answers wrongly; then what served serves,
        unless that is the model of `leaving` and its artifact is no longer the one that was promoted.
        """
        began = time.monotonic()
        self._make_resources(document)
        before = self._bring(document["endpoint_config"])
        seconds = round(time.monotonic() - began, 1)
        try:
            return {"tried": self._try(document), "update_seconds": seconds}
        except (ClientError, LookupError, TypeError, ValueError) as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"] != "ModelError":
                raise  # says nothing of the model; an attempt that follows finds the endpoint where it is
            config = document["endpoint_config"]
            if leaving and leaving["endpoint_config"] == before:
                self._require_artifact(leaving, f"{error} Endpoint {self.plan.endpoint} serves {config} still")
            self._undo(before, config)
            raise RollbackFailed(f"{error} The endpoint serves {before or 'nothing'} as before.") from error

    def _make_resources(self, document: Mapping[str, Any]) -> None:
        """What `prune` may have removed; made of the artifact that served then, or refused."""
        try:
            have_model(self.sagemaker, champion_requests.model(self.plan, document), self.say)
            config = champion_requests.endpoint_config(self.plan, document)
            self._make_way_for_machines(config)
            have_endpoint_config(self.sagemaker, config, self.say)
        except NameTaken as error:
            raise RollbackFailed(
                f"{error} Nothing was changed; delete what stands there, or name another run."
            ) from error

    def _make_way_for_machines(self, wanted: Mapping[str, Any]) -> None:
        """A model goes back, and not its fleet: one of other machines than the recipe's of today is deleted.

        An endpoint configuration cannot be changed, and its name is what tells the champion. It stays where an endpoint
        serves it, and where that may not be known or done.
        """
        name = {"EndpointConfigName": wanted["EndpointConfigName"]}
        try:
            found = self.sagemaker.describe_endpoint_config(**name)
        except ClientError as error:
            if not is_missing(error):
                raise
            return
        require_own("endpoint config", name["EndpointConfigName"], wanted, found)
        if fleet(found) == fleet(wanted):
            return
        change = f"{name['EndpointConfigName']} is of {in_words(found)}, the recipe asks for {in_words(wanted)}"
        try:
            if users := self._users(name["EndpointConfigName"], found["CreationTime"]):
                self.say(f"{change}: it stays as it is, for {', '.join(users)} serves it.")
                return
            delete_once(self.sagemaker.delete_endpoint_config, name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in DENIED:
                raise
            self.say(f"{change}: it stays as it is: {error}")
            return
        self.say(f"{change}: it is made anew.")

    def _users(self, config: str, made: datetime) -> list[str]:
        """The endpoints of the account that serve an endpoint configuration, or are changed to it."""
        own = describe_endpoint(self.sagemaker, self.plan.endpoint) or {}
        if config in (own.get("EndpointConfigName"), pending_config(own)):
            return [self.plan.endpoint]
        others = other_endpoints(self.sagemaker, self.plan.endpoint, made)
        return [other.name for other in others if config in other.configs]

    def _bring(self, config: str) -> str | None:
        """The endpoint to a configuration → the one that served before, None where there was no endpoint.

        RollbackFailed where SageMaker did not, with its reason.
        """
        name = self.plan.endpoint
        endpoint = self._settled()
        before = str(endpoint["EndpointConfigName"]) if endpoint else None
        if endpoint is None:
            self.say(f"Creating endpoint {name} on {config}.")
            self._ask("create_endpoint", None, EndpointConfigName=config)
        elif before != config:
            self.say(f"Updating endpoint {name} from {before} to {config}.")
            make_way(self.sagemaker, self.scaling, name, str(before), config)
            self._ask("update_endpoint", endpoint, EndpointConfigName=config, **retained(self.plan))
        endpoint = self._settled()
        if endpoint is None or (endpoint["EndpointStatus"], endpoint["EndpointConfigName"]) != ("InService", config):
            now = endpoint or {"EndpointStatus": "deleted", "EndpointConfigName": "nothing"}
            raise RollbackFailed(
                f"Endpoint {name} was asked to serve {config}, and is {now['EndpointStatus']} on "
                f"{now['EndpointConfigName']}: {now.get('FailureReason', 'no reason given')}"
            )
        scale_if_possible(self.scaling, scaling(self.plan))
        return before

    def _ask(self, operation: str, seen: Mapping[str, Any] | None, **request: Any) -> None:
        """What became of it, the endpoint tells afterwards: also where somebody else was faster."""
        try:
            ask_as_seen(operation, self.sagemaker, seen, {"EndpointName": self.plan.endpoint} | request)
        except NotAsSeen as moved:
            self.say(str(moved))

    def _require_artifact(self, champion: Mapping[str, Any], now: str) -> None:
        """Instances that SageMaker starts for the way back read the artifact anew."""
        try:
            require_champions(self.s3, champion)
        except ArtifactChanged as error:
            raise RollbackFailed(
                f"{now}, and does not go back to {champion['endpoint_config']}: {error}. Put the artifact back, or "
                f"choose another champion: python -m retraining rollback {self.plan.recipe.name} --to RUN"
            ) from error

    def _settled(self) -> dict[str, Any] | None:
        """The endpoint, once it no longer changes."""
        deadline = time.monotonic() + UPDATE_LIMIT_SECONDS
        while True:
            endpoint = describe_endpoint(self.sagemaker, self.plan.endpoint)
            if endpoint is None or not KINDS["endpoint"].in_progress(endpoint):
                return endpoint
            if time.monotonic() > deadline:
                raise RollbackFailed(
                    f"Endpoint {self.plan.endpoint} is {endpoint['EndpointStatus']} still after "
                    f"{UPDATE_LIMIT_SECONDS} seconds. Look at its events; the same command goes on from there."
                )
            time.sleep(self.plan.environment.poll_seconds)

    def _try(self, document: Mapping[str, Any]) -> dict[str, Any] | None:
        """The endpoint's answers to the images that the model got right when it was promoted; None without any."""
        present: dict[str, bytes] = {}
        for entry in document.get("golden") or {}:
            try:
                present[entry] = read_image(self.s3, self.plan.environment.bucket, self.plan.images_key, entry)
            except ClientError as error:
                if error.response["Error"]["Code"] not in MISSING:
                    raise
        golden: list[Golden] = choose({entry: document["golden"][entry] for entry in present}, present.__getitem__)
        if not golden:
            self.say("No golden images are known of this model: that it answers rightly is not checked.")
            return None
        tried = try_endpoint(self.runtime, self.plan.endpoint, golden)
        self.say(f"{tried['requests']} requests with golden images were answered rightly.")
        return tried

    def _undo(self, before: str | None, config: str) -> None:
        if before is None:
            made = self._settled()
            if made and made["EndpointConfigName"] == config:
                self._ask("delete_endpoint", made)
                self._settled()
        elif before != config:
            self._bring(before)
