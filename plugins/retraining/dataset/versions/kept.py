"""The versions of a recipe's data that lie in its bucket: which there are, what they hold, which one is synced now."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from retraining.dataset.labels.suspects import content
from retraining.dataset.sources.memory import memory_key, recall
from retraining.dataset.split import SPLITS, SplitName
from retraining.dataset.versions.strips import strip_keys
from retraining.plan import Plan
from retraining.s3.documents import read_document


class NoVersion(LookupError):
    """There is no such version of the data."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A version in the bucket."""

    fingerprint: str
    written: datetime
    """When its dataset.json was; an old version that a source came back to is not written again."""


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Of one recipe. `plan` gives the addresses; its run name is not used."""

    s3: Any
    plan: Plan

    @property
    def bucket(self) -> str:
        return self.plan.environment.bucket

    def all(self) -> list[Kept]:
        """Those whose sync ended, the newest first."""
        prefix, found = f"{self.plan.data_key}versions/", list[Kept]()
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                fingerprint, _, name = entry["Key"].removeprefix(prefix).partition("/")
                if name == "dataset.json":
                    found.append(Kept(fingerprint=fingerprint, written=entry["LastModified"]))
        return sorted(found, key=lambda kept: (kept.written, kept.fingerprint), reverse=True)

    def manifests(self, fingerprint: str) -> dict[SplitName, list[str]]:
        """Split → names of its images. Raises NoVersion."""
        return {split: self._manifest(fingerprint, split) for split in SPLITS}

    def images(self, fingerprint: str) -> set[str]:
        """Names of all its images. Raises NoVersion."""
        return {name for names in self.manifests(fingerprint).values() for name in names}

    def originals(self, contents: Set[str]) -> dict[str, str]:
        """Content of a converted image (see labels.suspects) → SHA-256 of the file it was; of those that are known."""
        found: dict[str, str] = {}
        for kept in self.all():
            body, _ = read_document(self.s3, self.bucket, f"{self.plan.version_key(kept.fingerprint)}/originals.json")
            for name, original in json.loads(body or b"{}").items():
                if (its := content(name)) in contents:
                    found.setdefault(its, original["sha256"])
            if found.keys() >= contents:
                break
        return found

    def strips(self, fingerprint: str) -> set[str]:
        """Keys below `data/` of the strips that show its classes; none where they cannot be told."""
        body, _ = read_document(self.s3, self.bucket, f"{self.plan.data_key}versions/{fingerprint}/strips.json")
        return set(strip_keys(body))

    def current(self) -> str | None:
        """The version that the last sync of the recipe's source made or found; None where that is not known."""
        key = memory_key(self.plan.root, self.plan.recipe.source)
        stored = {name for name in recall(self.s3, self.bucket, key).stored if name.startswith("images/")}
        return next((kept.fingerprint for kept in self.all() if stored == self._stored(kept.fingerprint)), None)

    def _stored(self, fingerprint: str) -> set[str]:
        try:
            return {f"images/{name}" for name in self.images(fingerprint)}
        except NoVersion:  # somebody is deleting it
            return set()

    def _manifest(self, fingerprint: str, split: SplitName) -> list[str]:
        key = self.plan.manifest_key(fingerprint, split)
        body, _ = read_document(self.s3, self.bucket, key)
        if body is None:
            known = ", ".join(kept.fingerprint for kept in self.all()[:10]) or "none"
            raise NoVersion(f"{self.plan.uri(key)} does not exist; the newest versions are: {known}")
        _, *names = json.loads(body)
        return [str(name) for name in names]
