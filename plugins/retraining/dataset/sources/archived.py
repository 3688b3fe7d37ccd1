"""Objects of S3 that lie in an archive: listed like others, and refused to whoever reads them before a restore.

Source: S3's user guide, "Restoring an archived object".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from retraining.dataset.source_error import SourceError
from retraining.printable import printable

CLASSES = ("GLACIER", "DEEP_ARCHIVE")
"""Storage classes that cannot be read. The archive tiers of INTELLIGENT_TIERING neither, which no listing tells."""
UNREADABLE = "InvalidObjectState"
"""The error of S3 for an object in an archive."""
LISTED_WITH = {"OptionalObjectAttributes": ["RestoreStatus"]}
"""Of ListObjectsV2, for `is_archived`."""
EXAMPLES = 5


def is_archived(entry: Mapping[str, Any]) -> bool:
    """Of an entry of a listing, or the answer of HeadObject: whether it is in an archive and not restored."""
    restored = entry.get("RestoreStatus", {}).get("RestoreExpiryDate") or 'ongoing-request="false"' in str(
        entry.get("Restore", "")
    )
    return entry.get("StorageClass") in CLASSES and not restored


def require_restored(place: str, archived: Iterable[str]) -> None:
    """SourceError that names some of the objects below `place` that have to be read, and are archived."""
    if names := sorted(archived):
        shown = ", ".join(printable(name) for name in names[:EXAMPLES])
        more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
        raise SourceError(
            f"{place}: S3 keeps {shown}{more} in an archive (Glacier), where nothing can read them. Restore them (aws "
            "s3api restore-object, or S3 Batch Operations for many) and run again, or move them out of the source."
        )
