"""Which models have been champion: each document of champion.json, kept whole as champions/<run name>.json.

champion.json tells what serves; from these a run's model can serve again, also when the pointer was lost.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from retraining.plan import Plan
from retraining.promotion.champion import unusable
from retraining.s3.documents import read_document, write_document
from retraining.s3.listing import list_keys

log = logging.getLogger(__name__)


def keep(s3: Any, plan: Plan, document: Mapping[str, Any] | None) -> None:
    """A champion's document under its run's name, unless it is there; what a run was promoted with never changes."""
    if document is None:
        return
    write_document(s3, plan.environment.bucket, plan.past_champion_key(document["run_name"]), document, etag=None)


def recall(s3: Any, plan: Plan, run_name: str) -> dict[str, Any] | None:
    """The document of a run that was once champion; None when none is known, or when it cannot be used."""
    key = plan.past_champion_key(run_name)
    text, _ = read_document(s3, plan.environment.bucket, key)
    if text is None:
        return None
    try:
        document = json.loads(text)
    except ValueError as error:
        log.warning("%s is passed over, because it is not valid JSON: %s", plan.uri(key), error)
        return None
    if problem := unusable(document, plan):
        log.warning("%s is passed over, because it %s.", plan.uri(key), problem)
        return None
    return dict(document)


def past_champions(s3: Any, plan: Plan) -> list[dict[str, Any]]:
    """All of them that can be used, the newest run first."""
    prefix = plan.past_champion_key("")[: -len(".json")]
    names = [key.removeprefix(prefix).removesuffix(".json") for key in list_keys(s3, plan.environment.bucket, prefix)]
    known = (recall(s3, plan, name) for name in sorted(names, reverse=True))
    return [document for document in known if document is not None]
