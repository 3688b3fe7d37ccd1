"""Whose bytes the images of a version are: files at hand, or objects of another bucket, by their keys below `data/`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from retraining.dataset.sources.bucket import Origin
from retraining.dataset.sources.memory import Forgotten
from retraining.dataset.versions.store import Store
from retraining.dataset.versions.version import DatasetError, Image

Places = Mapping[str, Path | Origin]


def bytes_of(image: Image, store: Store, places: Places) -> bytes:
    """Those that its digest names: of the file where it is at hand, else of the object in the store.

    Raises Forgotten where the object is gone, DatasetError where it has other bytes than its name says.
    """
    key = f"images/{image.entry}"
    place = places[key]
    if isinstance(place, Path) and place.is_file():
        body = place.read_bytes()
        if hashlib.sha256(body).hexdigest() == image.sha256:
            return body
    stored = store.read(key)
    if stored is None:
        raise Forgotten(f"{key} is no longer in the bucket")
    if hashlib.sha256(stored).hexdigest() != image.sha256:
        raise DatasetError(
            f"s3://{store.bucket}/{store.root}{key} has other bytes than its name says, so it was damaged or replaced. "
            "Delete it and sync again."
        )
    return stored
