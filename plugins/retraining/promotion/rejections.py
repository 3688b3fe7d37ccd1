"""rejected-candidates.json: what was trained and did not replace the champion, so that it is not paid for every week.

Decisions alone are remembered, never failures. It is a memory and no record: whoever deletes it has the same trained
once more. Reading and writing it never fail a run; of two writers, the second adds to what the first wrote.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from retraining.s3.documents import read_document, write_document

log = logging.getLogger(__name__)

FORMAT = 1
KEPT = 20
"""How many are remembered, the newest: data that comes back after more than that is tried again."""
ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """One candidate that was weighed and found wanting."""

    run_name: str
    ingredients: Mapping[str, str]
    gate: str
    """Digest of the rules it had to pass."""
    champion: str | None
    """The run of the champion that stayed; None when there was none, and the candidate alone was not good enough."""
    reason: str
    by: str | None = None
    """The person who said no; None for a gate's no."""

    def is_about(self, ingredients: Mapping[str, str], gates: Collection[str], champion: str | None) -> bool:
        """Whether a candidate of these ingredients would be weighed in the same way against the same champion.

        A person's no holds whoever is champion by now, and whatever a gate says.
        """
        weighed_alike = self.gate in gates and self.champion == champion
        return self.ingredients == ingredients and (self.by is not None or weighed_alike)


def recall_rejections(s3: Any, bucket: str, key: str, recipe: str) -> list[Rejection]:
    """Oldest first. Nothing from a document that is not there, cannot be read, or is not this recipe's."""
    try:
        return _read(s3, bucket, key, recipe)[0]
    except (ClientError, BotoCoreError) as error:
        log.warning("s3://%s/%s cannot be read, so no earlier rejection is known: %s", bucket, key, error)
        return []


def remember_rejection(s3: Any, bucket: str, key: str, recipe: str, rejection: Rejection) -> None:
    """Add one, in place of what is known of the same run."""
    try:
        for _ in range(ATTEMPTS):
            known, etag = _read(s3, bucket, key, recipe)
            others = [other for other in known if other.run_name != rejection.run_name]
            if _write(s3, bucket, key, recipe, [*others, rejection], etag):
                log.info("Remembered in s3://%s/%s: the same is not tried again unless forced.", bucket, key)
                return
        log.warning("s3://%s/%s was changed %d times by others; this rejection is not in it.", bucket, key, ATTEMPTS)
    except (ClientError, BotoCoreError) as error:
        log.warning("s3://%s/%s cannot be written, so the same will be tried again: %s", bucket, key, error)


# --- parts ----------------------------------------------------------------------------------------------------------


def _read(s3: Any, bucket: str, key: str, recipe: str) -> tuple[list[Rejection], str | None]:
    """The rejections, and the ETag that the object must still have to be replaced; None when there is no object."""
    text, etag = read_document(s3, bucket, key)
    if text is None:
        return [], None
    try:
        return _parse(json.loads(text), recipe), etag
    except (ValueError, KeyError, TypeError) as error:
        log.warning("s3://%s/%s is passed over, because it is not what this package writes: %r", bucket, key, error)
        return [], etag


def _parse(document: Any, recipe: str) -> list[Rejection]:
    if document["format"] != FORMAT or document["recipe"] != recipe:
        raise ValueError(f"format {document['format']!r}, recipe {document['recipe']!r}")
    rejections = [Rejection(**candidate) for candidate in document["candidates"]]
    for one in rejections:
        if not (isinstance(one.run_name, str) and isinstance(one.reason, str) and isinstance(one.ingredients, dict)):
            raise ValueError(f"candidate {one!r}")
    return rejections


def _write(s3: Any, bucket: str, key: str, recipe: str, rejections: Sequence[Rejection], etag: str | None) -> bool:
    """False when somebody else has written since it was read."""
    candidates = [{key: what for key, what in asdict(one).items() if key != "by" or what} for one in rejections[-KEPT:]]
    document = {"format": FORMAT, "recipe": recipe, "candidates": candidates}
    return write_document(s3, bucket, key, document, etag)
