"""How long an endpoint is kept that nobody uses: extended by each successful run, told of, and then deleted.

Only where the recipe says `serving.ttl_hours`, and only an endpoint that serves this deployment's champion and had no
request for that long. What speaks against deleting it keeps it. The champion stays champion: its model serves again by
`rollback --to RUN`, and with the next promotion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from retraining.plan import Plan
from retraining.promotion.champion import ChampionUnusable, own_champion, unfinished_drill
from retraining.release.asking import NotAsSeen, ask_as_seen
from retraining.release.endpoint import describe_endpoint
from retraining.release.tags import is_ours
from retraining.s3.documents import read_document, write_document

GRACE = timedelta(hours=24)
"""Between telling of it and deleting it."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was done about an endpoint, and why."""

    done: Literal["kept", "told", "deleted"]
    why: str


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """Of one recipe's endpoint."""

    s3: Any
    plan: Plan

    @property
    def deleted(self) -> str | None:
        """When the janitor deleted the endpoint, ISO 8601; None where it did not, or where one was made since."""
        known, _ = self._read()
        return (known or {}).get("deleted")

    def extend(self, now: datetime) -> None:
        """A run was successful: the time begins anew, whatever was told."""
        known, etag = self._read()
        # Another task that was faster has said the same.
        self._write({**(known or {}), "extended": _text(now), "told": None}, etag)

    def look(self, sagemaker: Any, cloudwatch: Any, now: datetime) -> Look:
        """Once an hour or so. Whatever is uncertain keeps the endpoint."""
        hours = self.plan.recipe.serving.ttl_hours
        if hours is None:
            return Look(done="kept", why="the recipe sets no serving.ttl_hours")
        known, etag = self._read()
        endpoint = describe_endpoint(sagemaker, self.plan.endpoint)
        if known and known.get("deleted") and endpoint and endpoint["EndpointStatus"] == "InService":
            # Made again. If a person deletes that one, it was not the janitor.
            known = {key: value for key, value in known.items() if key != "deleted"}
            self._write(known, etag)
            known, etag = self._read()
        if why := self._in_use(endpoint, sagemaker, cloudwatch, now, timedelta(hours=hours)):
            if known and known["told"]:
                self._write(known | {"told": None}, etag)  # what is told once more is told a day before
            return Look(done="kept", why=why)
        if known is None:
            self._write({"extended": _text(now), "told": None}, etag)
            return Look(done="kept", why=f"its {hours} hours begin now")
        ends = _time(known["extended"]) + timedelta(hours=hours)
        if now < ends:
            return Look(done="kept", why=f"the last successful run keeps it until {_text(ends)}")
        unused = f"had no request and no successful run for {hours} hours"
        if known["told"] and now < (goes := _time(known["told"]) + GRACE):
            return Look(done="kept", why=f"it {unused}; it is deleted at {_text(goes)}")
        # Told anew of an endpoint that somebody makes again. By compare-and-swap: a run that ends now extends it.
        news = {"told": None, "deleted": _text(now)} if known["told"] else {"told": _text(now)}
        if not self._write(known | news, etag):
            return Look(done="kept", why="a run ended just now")
        if not known["told"]:
            name = self.plan.recipe.name
            end = f"is deleted at {_text(now + GRACE)}; a request, or a run of retrain_{name}, keeps it"
            return Look(done="told", why=f"it {unused}, and {end}")
        try:
            ask_as_seen("delete_endpoint", sagemaker, endpoint, {"EndpointName": self.plan.endpoint})
        except NotAsSeen as moved:
            return Look(done="kept", why=str(moved))
        return Look(done="deleted", why=f"it {unused}, which was told at {known['told']}")

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _in_use(
        self, endpoint: Mapping[str, Any] | None, sagemaker: Any, cloudwatch: Any, now: datetime, unused: timedelta
    ) -> str:
        """What speaks against deleting the endpoint now; empty when nothing does."""
        if endpoint is None:
            return "there is no endpoint"
        if endpoint["EndpointStatus"] != "InService" or endpoint.get("PendingDeploymentSummary"):
            return f"it is {endpoint['EndpointStatus']}"
        try:
            champion = own_champion(self.s3, self.plan).document or {}
        except ChampionUnusable as error:
            return f"whose it is is not certain: {error}"
        served = endpoint["EndpointConfigName"]
        if served != champion.get("endpoint_config"):
            return f"it serves {served}, which is not the champion's"
        if unfinished_drill(champion):
            return "a drill is under way"
        config = sagemaker.describe_endpoint_config(EndpointConfigName=served)
        if not is_ours(sagemaker, self.plan, config["EndpointConfigArn"]):
            return f"{served} is not of this deployment, by its tags"
        requests = _requests(cloudwatch, self.plan.endpoint, config, now - unused, now)
        return f"it had {requests:.0f} requests since {_text(now - unused)}" if requests else ""

    def _read(self) -> tuple[dict[str, Any] | None, str | None]:
        text, etag = read_document(self.s3, self.plan.environment.bucket, self.plan.lifetime_key)
        return (json.loads(text) if text is not None else None), etag

    def _write(self, document: Mapping[str, Any], etag: str | None) -> bool:
        return write_document(self.s3, self.plan.environment.bucket, self.plan.lifetime_key, document, etag)


def _requests(cloudwatch: Any, endpoint: str, config: Mapping[str, Any], since: datetime, until: datetime) -> float:
    """How many the endpoint had, by its variants."""
    # CloudWatch answers with 1,440 values at most.
    period = 3600 if until - since <= timedelta(days=30) else 86_400
    found = 0.0
    for variant in config["ProductionVariants"]:
        names = {"EndpointName": endpoint, "VariantName": variant["VariantName"]}
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName="Invocations",
            Dimensions=[{"Name": name, "Value": value} for name, value in names.items()],
            StartTime=since,
            EndTime=until + timedelta(minutes=1),
            Period=period,
            Statistics=["Sum"],
        )["Datapoints"]
        found += sum(point["Sum"] for point in points)
    return found


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
