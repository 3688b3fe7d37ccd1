"""A rollback performed to see that it works and how long it takes: a former champion serves, and then the champion.

By the same steps as a rollback, endpoint, golden images and champion.json; but nobody is rejected, for nothing is wrong
with either. While the former one serves, champion.json keeps the champion whole, so that a drill that was killed half
way is ended by the next attempt.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from retraining.promotion.champion import (
    Champion,
    ChampionMoved,
    ChampionUnusable,
    names_of,
    own_champion,
    replace_champion,
    unfinished_drill,
)
from retraining.promotion.history import keep
from retraining.release.artifact import ArtifactChanged, require_champions
from retraining.release.at_work import job_at_work
from retraining.release.endpoint import describe_endpoint
from retraining.release.rollback import NoWayBack, Rollback
from retraining.release.serving import RollbackFailed


@dataclass(frozen=True, kw_only=True)
class Drill:
    rollback: Rollback

    def choose(self, to: str = "") -> str:
        """The run that is to serve in between: `to`, or the one before the champion. Changes nothing.

        NoWayBack tells what speaks against it: more than against a rollback, for the champion has to come back.
        """
        pointer = self._pointer()
        if unfinished_drill(pointer.document):
            assert pointer.document
            return str(pointer.document["run_name"])  # a drill that was killed is ended
        target = self.rollback.choose(to)
        if wrong := self._obstacles(pointer.document or {}, target):
            others = self.rollback.others({target, (pointer.document or {}).get("run_name")})
            raise NoWayBack(f"No drill with {target}: {'; '.join(wrong)}.{others}")
        return target

    def perform(self, to: str, *, reason: str, by: str, once: str = "") -> dict[str, Any]:
        """There and back; a repetition goes on. Returns {"run_name", "drilled", "away_seconds", "back_seconds", …}.

        `once` names who asks, such as a run: what that one asked for and is over is not done again. RollbackFailed
        tells what serves. Where that is the former champion, the same command comes back.
        """
        pointer = self._pointer()
        last = (pointer.document or {}).get("drill") or {}
        if once and last.get("once") == once and "back_at" in last:
            assert pointer.document
            return _record(last, pointer.document)
        if not unfinished_drill(pointer.document):
            pointer = self._leave(pointer, to, {"reason": reason, "by": by})
        return self._return(pointer, {"once": once} if once else {})

    def _leave(self, pointer: Champion, to: str, why: Mapping[str, str]) -> Champion:
        began, home = time.monotonic(), pointer.document
        document = self.rollback.document(pointer, to)
        assert home and document  # choose() refuses them
        self.rollback.serving.serve(document, home)
        keep(self.rollback.s3, self.rollback.plan, home)
        note = {**why, "at": _now(), "away_seconds": _seconds(began), "back_to": home}
        self._point(
            pointer, {**document, "endpoint": self.rollback.plan.endpoint, "previous": names_of(home), "drill": note}
        )
        return self._pointer()

    def _return(self, pointer: Champion, whose: Mapping[str, str]) -> dict[str, Any]:
        began, home, away = time.monotonic(), unfinished_drill(pointer.document), pointer.document or {}
        assert home  # perform() left from there
        try:
            require_champions(self.rollback.s3, home)
            self.rollback.serving.serve(home, away)
        except (ArtifactChanged, RollbackFailed) as error:
            raise RollbackFailed(
                f"{error} The drill is not over: {away['run_name']} is the champion now. The same command comes back "
                f"to {home['run_name']}, once that can serve."
            ) from error
        note = {key: value for key, value in away["drill"].items() if key != "back_to"}
        note |= {"run_name": away["run_name"], "back_at": _now(), "back_seconds": _seconds(began), **whose}
        self._point(pointer, home | {"drill": note})
        return _record(note, home)

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _pointer(self) -> Champion:
        try:
            return own_champion(self.rollback.s3, self.rollback.plan)
        except ChampionUnusable as error:
            raise NoWayBack(f"{error}. A drill comes back to the champion, so it has to be known.") from error

    def _point(self, before: Champion, document: dict[str, Any]) -> None:
        plan = self.rollback.plan
        try:
            replace_champion(self.rollback.s3, plan.environment.bucket, plan.champion_key, before, document)
        except ChampionMoved as error:
            raise RollbackFailed(
                f"{error} The endpoint serves {document['endpoint_config']}: look at both, and let `rollback --to RUN` "
                "say what is to serve."
            ) from error
        self.rollback.say(f"{plan.uri(plan.champion_key)} names {document['run_name']}.")

    def _obstacles(self, home: Mapping[str, Any], target: str) -> list[str]:
        wrong: list[str] = []
        if not home:
            return ["there is no champion to come back to"]
        if home["run_name"] == target:
            return ["it is the champion itself"]
        plan, endpoint = self.rollback.plan, describe_endpoint(self.rollback.sagemaker, self.rollback.plan.endpoint)
        found = (endpoint or {}).get("EndpointStatus"), (endpoint or {}).get("EndpointConfigName")
        if found != ("InService", home["endpoint_config"]):
            said = f"is {found[0]} on {found[1]}" if endpoint else "does not exist"
            wrong.append(f"endpoint {plan.endpoint} {said}, not in service on the champion's {home['endpoint_config']}")
        if job := job_at_work(self.rollback.sagemaker, plan):
            wrong.append(f"job {job} is at work: its run would find that the champion moved, and promote nothing")
        wrong += [f"the champion could not come back: {problem}" for problem in self.rollback.obstacles(home)]
        document = self.rollback.document(Champion(document=dict(home), etag=None), target) or {}
        if rejected := self.rollback.rejection(document):
            wrong.append(
                f"its model package is Rejected ({rejected}), so it does not serve for a drill; name another run"
            )
        return wrong


def _record(note: Mapping[str, Any], home: Mapping[str, Any]) -> dict[str, Any]:
    """Of a drill that is over, by what champion.json tells of it."""
    return {**note, "run_name": home["run_name"], "drilled": note["run_name"]}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _seconds(began: float) -> float:
    return round(time.monotonic() - began, 1)
