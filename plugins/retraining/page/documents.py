"""What a run left behind, read for its page: documents below the run's own prefix, each of a bounded size.

Nothing of a request becomes a key: Airflow's database says which run is meant, the run's name follows from it, and what
a document names further is checked before it is read.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from retraining.page.airflow_runs import RunRecord
from retraining.plan import run_name
from retraining.s3.documents import MISSING

log = logging.getLogger(__name__)

MAX_DOCUMENT = 16 * 1024**2
"""Of one document, in bytes: the evaluation of a thousand classes has about ten million."""


class TooLarge(ValueError):
    """A document has more bytes than a page reads."""


@dataclass(frozen=True, kw_only=True)
class Documents:
    """One run, for its page. A document that is not there is None; what a panel needs of it, it asks for gently."""

    record: RunRecord
    report: Mapping[str, Any]
    """report.json; while the run goes on, the same from what its tasks have left so far."""
    evaluation: Mapping[str, Any] | None = None
    dataset: Mapping[str, Any] | None = None
    kept_out: Mapping[str, Any] | None = None
    """Files that the sync kept out, with small pictures."""
    strips: Mapping[str, Any] | None = None
    """Which strip of small pictures shows which class."""
    album: Mapping[str, Any] | None = None
    """The images that were won and lost, with small pictures."""
    labels: Mapping[str, Any] | None = None
    """Labels that are doubted, with small pictures."""
    training: Mapping[str, Any] | None = None
    """The epochs of the candidate's training, as `retraining.epochs` tells them."""
    series: Mapping[str, Any] | None = None
    """Debugger rule that found an issue → the numbers that it judged, as `debugger.series` tells them."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Of the run's beginning: digests, container images."""
    weeks: Sequence[Mapping[str, Any]] = ()
    """This run and those before it, the newest first, as `weeks.read_weeks` tells them."""


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Where the documents of a deployment lie."""

    s3: Any
    bucket: str

    def read(self, key: str, most: int = MAX_DOCUMENT) -> bytes | None:
        """None where there is no object; TooLarge without reading more than `most` bytes."""
        try:
            body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"]
        except ClientError as error:
            if error.response["Error"]["Code"] in MISSING:
                return None
            raise
        content: bytes = body.read(most + 1)
        if len(content) > most:
            raise TooLarge(f"s3://{self.bucket}/{key} has more than {most:,} bytes, which is more than a page reads.")
        return content

    def json(self, key: str) -> dict[str, Any] | None:
        """None where there is no JSON object."""
        content = self.read(key)
        try:
            document = json.loads(content) if content else None
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None

    def optional(self, key: str) -> dict[str, Any] | None:
        """The same of a document that a page can do without, as where it is too large."""
        try:
            return self.json(key)
        except TooLarge as error:
            log.warning("Left out of a page: %s", error)
            return None


def run_key(recipe: str, name: str) -> str:
    return f"{recipe}/runs/{name}"


def champion_key(recipe: str) -> str:
    return f"{recipe}/champion.json"


def lifetime_key(recipe: str) -> str:
    return f"{recipe}/endpoint-lifetime.json"


def name_of(record: RunRecord, bucket: str, began_as: str | None = None) -> str:
    """The run's name: what its first task said, or what follows from its id."""
    return began_as or run_name(record.recipe or "", record.run_after, record.run_id, bucket)


def read_version(shelf: Shelf, recipe: str, report: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """A document of the version that the run was trained on, such as dataset.json."""
    fingerprint = str((report.get("dataset") or {}).get("fingerprint", ""))
    if not re.fullmatch(r"[0-9a-f]{8,64}", fingerprint):
        return None
    return shelf.optional(f"{recipe}/data/versions/{fingerprint}/{name}")
