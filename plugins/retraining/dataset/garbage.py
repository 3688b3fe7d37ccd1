"""Objects of a recipe's data that nothing can reach any more: old versions, and images that only those named.

What a job left for a sync to read counts as such once it is old.

What a champion (now or before) or a registered model was made of stays, so do the newest versions, what the recipe's
source was synced as last, and all that is young, for a sync may be about to name it. Versions are deleted before their
images, so that no manifest names what is gone; whoever dies half way leaves objects that the next one finds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from retraining.dataset.sources.memory import ENDING, memory_key, recall
from retraining.dataset.versions.kept import Versions
from retraining.plan import Plan
from retraining.promotion.champion import own_champion
from retraining.promotion.history import past_champions
from retraining.release.at_work import job_at_work
from retraining.release.package import usable_packages

log = logging.getLogger(__name__)

NAMED = ("images", "quarantine")
"""Folders of objects that versions name."""
AT_ONCE = 1000
"""Objects that S3 deletes by one request."""


class Busy(RuntimeError):
    """A job of the recipe is at work, and reads what might be deleted."""


class NotDeleted(RuntimeError):
    """S3 refused to delete some objects."""


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What may go. Keys are whole."""

    kept: Mapping[str, str]
    """Version → why it stays."""
    versions: tuple[str, ...]
    """Fingerprints of those that go."""
    documents: tuple[str, ...]
    """Keys of those versions: what they say, and their shards."""
    objects: tuple[str, ...]
    """Keys of images and quarantined files, of what jobs found of them, and of what people see of them."""
    size_bytes: int
    """Of all these."""
    memories: tuple[str, ...]
    """What syncs of other sources remember: they take for stored what goes."""

    @property
    def keys(self) -> Iterator[str]:
        """In the order in which they may go."""
        yield from (*self.memories, *self.documents, *self.objects)


@dataclass(frozen=True, kw_only=True)
class Collector:
    """Of one recipe. `plan` gives the addresses; its run name is not used."""

    s3: Any
    sagemaker: Any
    plan: Plan
    newest: int = 4
    """Versions that stay whatever they are good for."""
    older_than: timedelta = timedelta(days=7)

    def find(self, now: datetime) -> Garbage:
        """Changes nothing. Busy while a job of the recipe is at work, ChampionUnusable for a broken pointer."""
        if job := job_at_work(self.sagemaker, self.plan):
            raise Busy(f"Job {job} is at work and reads the data. Wait until no run is under way.")
        versions, old = Versions(s3=self.s3, plan=self.plan), now - self.older_than
        kept = self.reachable(versions, old)
        images = {name for fingerprint in kept for name in versions.images(fingerprint)}
        own = memory_key(self.plan.root, self.plan.recipe.source)
        stay = {f"images/{name}" for name in images} | recall(self.s3, versions.bucket, own).stored
        stay |= {key for fingerprint in kept for key in versions.strips(fingerprint)}
        documents, objects, size, memories = list[str](), list[str](), 0, list[str]()
        for key, written, size_bytes in self._listed():
            kind, _, name = key.partition("/")
            if kind == "seen" and not f"{self.plan.data_key}{key}".startswith(own.removesuffix(ENDING)):
                if written < old:  # of a source that nobody syncs any more; should it come back, it is read once more
                    objects.append(key)
                    size += size_bytes
                elif key.endswith(ENDING):
                    memories.append(key)
            elif kind == "versions" and written < old and name.partition("/")[0] not in kept:
                documents.append(key)
                size += size_bytes
            elif kind in (*NAMED, "strips", "verified") and written < old and key not in stay:
                objects.append(key)
                size += size_bytes
        gone, whole = set(objects), self.plan.data_key
        believing = [key for key in memories if self._believes(key, gone)]
        return Garbage(
            kept=kept,
            versions=tuple(sorted({key.split("/")[1] for key in documents})),
            documents=tuple(whole + key for key in documents),
            objects=tuple(whole + key for key in objects),
            size_bytes=size,
            memories=tuple(whole + key for key in believing),
        )

    def delete(self, garbage: Garbage) -> int:
        """How many objects went. Raises NotDeleted for those that S3 refused."""
        count, bucket = 0, self.plan.environment.bucket
        for keys in batches(garbage.keys):
            request = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
            if errors := self.s3.delete_objects(Bucket=bucket, Delete=request).get("Errors"):
                first = errors[0]
                raise NotDeleted(f"{len(errors)} objects stay, for example {first['Key']}: {first.get('Message')}")
            count += len(keys)
            if count % (20 * AT_ONCE) == 0:
                log.info("Deleted %d objects.", count)
        return count

    def reachable(self, versions: Versions, old: datetime) -> dict[str, str]:
        """Version → why it stays; only versions that are there."""
        there = {version.fingerprint: version.written for version in versions.all()}
        why: dict[str, str] = {}
        champion = own_champion(self.s3, self.plan).document
        for document in (champion, *past_champions(self.s3, self.plan)):
            if document:
                what = "the champion" if document is champion else "a former champion"
                why.setdefault(str(document["ingredients"].get("dataset")), f"of {what}, {document['run_name']}")
        for package in usable_packages(self.sagemaker, self.plan):
            said = package.get("CustomerMetadataProperties", {})
            why.setdefault(str(said.get("dataset")), f"of the registered model of {said.get('run_name')}")
        if current := versions.current():
            why.setdefault(current, "what the source was at the last sync")
        for fingerprint in list(there)[: self.newest]:
            why.setdefault(fingerprint, f"one of the {self.newest} newest")
        for fingerprint, written in there.items():
            if written >= old:
                why.setdefault(fingerprint, f"of {written:%Y-%m-%d}, which is young")
        return {fingerprint: reason for fingerprint, reason in why.items() if fingerprint in there}

    def _listed(self) -> Iterator[tuple[str, datetime, int]]:
        """(key below `data/`, when written, bytes) of everything."""
        pages = self.s3.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.plan.environment.bucket, Prefix=self.plan.data_key):
            for entry in page.get("Contents", []):
                yield entry["Key"].removeprefix(self.plan.data_key), entry["LastModified"], entry["Size"]

    def _believes(self, key: str, gone: Set[str]) -> bool:
        memory = recall(self.s3, self.plan.environment.bucket, f"{self.plan.data_key}{key}")
        return not gone.isdisjoint(memory.stored)


def batches(keys: Iterable[str]) -> Iterator[list[str]]:
    """Of AT_ONCE and less."""
    batch = list[str]()
    for key in keys:
        batch.append(key)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
