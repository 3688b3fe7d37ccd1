"""Going back: a model that was champion serves again, because a person wants it. The same from the DAG and a terminal.

In this order, each step found done by an attempt that follows a killed one: Model and endpoint configuration (made
again where `prune` removed them), the endpoint, golden images, the registry, what was left remembered as rejected (so
that the same is not trained and promoted again next week), and champion.json by compare-and-swap.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from retraining.fingerprint import gate_fingerprint
from retraining.job_kinds import is_missing
from retraining.plan import Plan
from retraining.promotion.champion import (
    Champion,
    ChampionMoved,
    ChampionUnusable,
    names_of,
    own_champion,
    replace_champion,
    unfinished_drill,
)
from retraining.promotion.history import keep, past_champions, recall
from retraining.promotion.rejections import Rejection, recall_rejections, remember_rejection
from retraining.release.artifact import ArtifactChanged, require_champions
from retraining.release.endpoint import describe_endpoint, pending_config
from retraining.release.package import (
    ROLLED_BACK,
    PackageRejected,
    approve_again,
    persons_rejection,
    reject,
    rejection,
    told,
)
from retraining.release.serving import RollbackFailed, Serving
from retraining.requests import champion as champion_requests

log = logging.getLogger(__name__)

LOOKED_AT = 5
"""Former champions that are looked at where the one that was meant cannot serve."""


class NoWayBack(ValueError):
    """There is no model to go back to, or what stands in the way; everything that is wrong, at once."""


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """Of the endpoint of one recipe. `plan` gives its addresses; its run name is not used."""

    s3: Any
    sagemaker: Any
    runtime: Any
    plan: Plan
    scaling: Any
    """A client of Application Auto Scaling."""
    say: Callable[[str], None] = log.info

    def choose(self, to: str = "") -> str:
        """The run to go back to: `to`, or else the one before the champion. Checked as far as nothing is changed.

        NoWayBack tells all that is wrong. Where the endpoint does not serve the champion, "back" may mean two things,
        and `to` must say which.
        """
        champion = self._champion(to)
        endpoint = describe_endpoint(self.sagemaker, self.plan.endpoint)
        target = to or self._before(champion, endpoint)
        document, wrong = self.document(champion, target), []
        if document is None:
            known = ", ".join(past["run_name"] for past in past_champions(self.s3, self.plan)) or "none"
            wrong.append(f"run {target} is not known as a champion of {self.plan.recipe.name}; known are: {known}")
        else:
            wrong += self.obstacles(document)
        if endpoint and endpoint["EndpointStatus"] != "InService" and not _on_its_way(endpoint, document):
            wrong.append(
                f"endpoint {self.plan.endpoint} is {endpoint['EndpointStatus']}; wait until it is InService, or delete "
                f"it if it is Failed (aws sagemaker delete-endpoint --endpoint-name {self.plan.endpoint})"
            )
        if wrong:
            others = self.others({target, (champion.document or {}).get("run_name")})
            raise NoWayBack(f"{self.plan.recipe.name} cannot go back to {target}: {'; '.join(wrong)}.{others}")
        return target

    def go_back(self, to: str, *, reason: str, by: str) -> dict[str, Any]:
        """The model that `choose` names serves, and is the champion. Returns what was done, with seconds for it.

        Its "registry" is what the registry could not be told, for lack of a package or of a right.
        """
        to = self.choose(to)
        champion = self._champion(to)
        document = self.document(champion, to)
        assert document is not None  # choose() refuses it
        served, home = champion.document, unfinished_drill(champion.document)
        judged = home or served  # a drill's former champion is nobody's choice, and is not rejected
        leaving = judged if judged and judged["run_name"] != to else None
        began = time.monotonic()
        done = self.serving.serve(document, served if served and served["run_name"] != to else None)
        note, untold = f"{ROLLED_BACK}{to} by {by}: {reason}", []
        if arn := document.get("model_package_arn"):
            again = partial(approve_again, self.sagemaker, arn, f"Serves again, by {by}: {reason}")
            untold += self._tell_registry(again, document)
        if leaving:
            untold += self._leave(leaving, to, note, by)
        if leaving or home or served is None or self._endpoint_is_new(served):
            self._point(champion, document, leaving, {"reason": reason, "by": by})
        record = {"run_name": to, "left": leaving and leaving["run_name"], "reason": reason, "by": by}
        told = {"registry": untold} if untold else {}
        return record | done | told | {"seconds": round(time.monotonic() - began, 1)}

    @property
    def serving(self) -> Serving:
        clients = {name: getattr(self, name) for name in ("s3", "sagemaker", "runtime", "scaling")}
        return Serving(plan=self.plan, say=self.say, **clients)

    # -- whereto ---------------------------------------------------------------------------------------------------

    def _champion(self, to: str) -> Champion:
        try:
            return own_champion(self.s3, self.plan)
        except ChampionUnusable as error:
            if not to:
                raise NoWayBack(f"{error}. Name the run that is to serve.") from error
            self.say(f"{error}; it will be written anew.")
            return Champion(document=None, etag=error.etag)

    def _before(self, champion: Champion, endpoint: Mapping[str, Any] | None) -> str:
        now = champion.document
        if now is None:
            raise NoWayBack(f"{self.plan.recipe.name} has no champion, so there is none before it. Name the run.")
        previous = self._previous(now)
        if endpoint and endpoint["EndpointConfigName"] != now["endpoint_config"]:
            raise NoWayBack(
                f"Endpoint {self.plan.endpoint} serves {endpoint['EndpointConfigName']}, and the champion is "
                f"{now['run_name']}: name the run that is to serve, {now['run_name']} to put the endpoint back on the "
                f"champion{f', {previous} for the one before it' if previous else ''}."
            )
        if previous is None:
            left = (now.get("previous") or {}).get("run_name")
            came = f"{left} was turned down, and none came before it that may serve" if left else "none came before it"
            raise NoWayBack(
                f"{now['run_name']} is the first champion of {self.plan.recipe.name}: {came}."
                f"{f' Name {left} if it is to serve all the same.' if left else ''}"
            )
        return previous

    def _previous(self, now: Mapping[str, Any]) -> str | None:
        """The champion before; not one that a person has left already, as where two in a row are bad."""
        turned_down = {one.run_name for one in self._rejections() if one.by or one.reason.startswith(ROLLED_BACK)}
        named = (now.get("previous") or {}).get("run_name")
        if named and named not in turned_down:
            return str(named)
        runs = [str(past["run_name"]) for past in past_champions(self.s3, self.plan)]
        return next((run for run in runs if run < now["run_name"] and run not in turned_down), None)

    def _rejections(self) -> list[Rejection]:
        key = self.plan.rejections_key
        return recall_rejections(self.s3, self.plan.environment.bucket, key, self.plan.recipe.name)

    def document(self, champion: Champion, run_name: str) -> dict[str, Any] | None:
        """How the run was promoted. The champion's own is the pointer, where an earlier version kept no other."""
        known = recall(self.s3, self.plan, run_name)
        return known or (champion.document if (champion.document or {}).get("run_name") == run_name else None)

    def rejection(self, document: Mapping[str, Any]) -> str | None:
        """Why the registry has the model of a champion's document as Rejected; None where it has not."""
        arn = document.get("model_package_arn")
        return self._registry(partial(rejection, self.sagemaker, arn)) if arn else None

    def obstacles(self, document: Mapping[str, Any]) -> list[str]:
        """What speaks against letting the model of a champion's document serve."""
        wrong = []
        try:
            require_champions(self.s3, document)
        except ArtifactChanged as error:
            wrong.append(str(error))
        try:
            champion_requests.model(self.plan, document)
        except ValueError as error:
            wrong.append(str(error))
        if arn := document.get("model_package_arn"):
            said = self._registry(partial(persons_rejection, self.sagemaker, arn))
            if said:
                wrong.append(f"its model package {arn} is Rejected ({said}); approve it in the registry first")
        return wrong

    def others(self, besides: Set[str | None]) -> str:
        """A sentence about which of the last champions could serve again, the newest first; empty for none."""
        last = [one for one in past_champions(self.s3, self.plan) if one["run_name"] not in besides][:LOOKED_AT]
        names = [one["run_name"] for one in last if not self.obstacles(one) and not self.rejection(one)]
        return f" Nothing speaks against {', '.join(names)}." if names else ""

    # -- what is written -------------------------------------------------------------------------------------------

    def _point(
        self,
        champion: Champion,
        document: Mapping[str, Any],
        leaving: Mapping[str, Any] | None,
        why: Mapping[str, str],
    ) -> None:
        keep(self.s3, self.plan, leaving)
        note = {"from": leaving and leaving["run_name"], "at": datetime.now(UTC).isoformat(timespec="seconds"), **why}
        news = {"previous": names_of(leaving) or document.get("previous"), "rolled_back": note}
        bucket, key = self.plan.environment.bucket, self.plan.champion_key
        try:
            # Under the name that the endpoint has now, which may be another one than when it was promoted.
            own = {"endpoint": self.plan.endpoint}
            replace_champion(self.s3, bucket, key, champion, dict(document) | own | news)
        except ChampionMoved as error:
            raise RollbackFailed(
                f"{error} The endpoint serves {document['endpoint_config']}: look at both, then name again what is to "
                "serve."
            ) from error
        self.say(f"{self.plan.uri(key)} names {document['run_name']}.")

    def _endpoint_is_new(self, champion: Mapping[str, Any]) -> bool:
        """Whether the recipe names another endpoint than the champion's was."""
        return bool(champion.get("endpoint", self.plan.endpoint) != self.plan.endpoint)

    def _leave(self, leaving: Mapping[str, Any], to: str, note: str, by: str) -> list[str]:
        """What the registry could not be told."""
        untold = []
        if arn := leaving.get("model_package_arn"):
            untold = self._tell_registry(partial(reject, self.sagemaker, arn, note), leaving)
        rejection = Rejection(
            run_name=leaving["run_name"],
            ingredients=leaving["ingredients"],
            gate=gate_fingerprint(self.plan.recipe),
            champion=to,
            reason=note,
            by=by,
        )
        bucket, key = self.plan.environment.bucket, self.plan.rejections_key
        remember_rejection(self.s3, bucket, key, self.plan.recipe.name, rejection)
        return untold

    def _tell_registry(self, tell: Callable[[], None], document: Mapping[str, Any]) -> list[str]:
        """What it could not be told: where the endpoint is changed already, champion.json has to follow.

        RollbackFailed where a person has said no since `choose`.
        """
        try:
            problem = told(tell)
        except PackageRejected as error:
            raise RollbackFailed(
                f"{error} That was said while the endpoint changed: {self.plan.endpoint} serves "
                f"{document['endpoint_config']} now, and champion.json does not name it. Approve the package and "
                "repeat this, or name another run that is to serve."
            ) from error
        if problem:
            self.say(problem)
        return [problem] if problem else []

    def _registry(self, ask: Callable[[], Any]) -> Any:
        """None where the registry has lost the package: what is served matters more than what it says."""
        try:
            return ask()
        except ClientError as error:
            if not is_missing(error):
                raise
            self.say(f"The registry does not know the model package: {error.response['Error']['Message']}")
            return None


def _on_its_way(endpoint: Mapping[str, Any], document: Mapping[str, Any] | None) -> bool:
    """Whether the endpoint changes to just what it is to serve, as after a killed attempt."""
    wanted = (document or {}).get("endpoint_config")
    creating = endpoint["EndpointStatus"] == "Creating" and endpoint["EndpointConfigName"] == wanted
    return creating or (wanted is not None and pending_config(endpoint) == wanted)
