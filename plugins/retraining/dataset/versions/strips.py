"""What the images of each class look like, for people: strips of small pictures, and strips.json beside the version.

    strips/<digest>.webp                     some images of a class side by side
    versions/<fingerprint>/strips.json       which class has which strip

A class shows the images whose digests come first, so that most strips stay when images are added. A strip is named by
what it shows: it is made once, whichever version needs it.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from retraining.dataset.versions.places import Places, bytes_of
from retraining.dataset.versions.store import Store
from retraining.dataset.versions.version import Image, Version, as_json

log = logging.getLogger(__name__)

RULES = "strip-1"
"""Of this file; other rules make other strips."""
SHOWN, FEWEST = 12, 3
"""Images of a class, and how many it has at least where classes are many."""
MOST = 1200
"""Images of all classes."""
MOST_CLASSES = MOST // FEWEST
"""Of more the first are shown."""
SIDE, GAP = 96, 6
"""Of a small picture, and what lies between two, in pixels."""
SECONDS = 20.0
"""For a sync's strips; what is left then, the next sync makes."""
AT_ONCE = 2
"""A picture may have fifty million pixels."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Of one class."""

    label: str
    count: int
    """Images that the class has."""
    images: Sequence[Image]
    """Those that are shown."""

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join((RULES, *(one.sha256 for one in self.images))).encode()).hexdigest()[:20]

    @property
    def key(self) -> str:
        """Below `data/`."""
        return key_of(self.digest)


def key_of(digest: str) -> str:
    return f"strips/{digest}.webp"


def strip_keys(body: bytes | None) -> list[str]:
    """Of the strips that a strips.json names; none where it is none."""
    try:
        return [key_of(str(one["strip"])) for one in json.loads(body or b"{}").get("classes", ()) if one.get("strip")]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def keep_strips(version: Version, store: Store, places: Places) -> None:
    """For people alone: what goes wrong with the pictures is told, and decides nothing.

    `places`: whose bytes the images are, by their keys.
    """
    key = f"versions/{version.fingerprint}/strips.json"
    wanted = strips(version)
    if store.read(key) == as_json(document(wanted, [True] * len(wanted))):
        return
    there, deadline = set(store.sizes("strips/")), time.monotonic() + SECONDS

    def make(strip: Strip) -> bool:
        if strip.key in there:
            return True
        if time.monotonic() > deadline:
            return False
        try:
            store.put_bytes(strip.key, drawn([partial(bytes_of, image, store, places) for image in strip.images]))
        except Exception:
            log.exception("The images of class %r cannot be shown.", strip.label)
            return False
        return True

    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = list(pool.map(make, wanted))
    store.put_bytes(key, as_json(document(wanted, made)))


def strips(version: Version) -> list[Strip]:
    """Of each class, by the alphabet; of MOST_CLASSES at most."""
    counts = Counter(image.label for image in version.images)
    labels = sorted(counts)[:MOST_CLASSES]
    each = min(SHOWN, MOST // max(1, len(labels)))
    first: dict[str, list[Image]] = {label: [] for label in labels}
    for image in sorted(version.images, key=lambda image: image.sha256):
        shown = first.get(image.label)
        if shown is not None and len(shown) < each:
            shown.append(image)
    return [Strip(label=label, count=counts[label], images=images) for label, images in first.items()]


def document(wanted: Sequence[Strip], made: Sequence[bool]) -> dict[str, Any]:
    """{"rules", "classes": [{"label", "count", "shown", "strip"}]}; a strip is its digest, or None."""
    return {
        "format": 1,
        "rules": RULES,
        "classes": [
            {
                "label": strip.label,
                "count": strip.count,
                "shown": len(strip.images),
                "strip": strip.digest if is_there else None,
            }
            for strip, is_there in zip(wanted, made, strict=True)
        ],
    }


def drawn(bodies: Sequence[Callable[[], bytes | None]]) -> bytes:
    """A WebP of small pictures side by side, each whole and in the middle of its place; that of one unread is empty."""
    from PIL import Image as Pillow

    from retraining.dataset.pictures.small import small_picture

    strip = Pillow.new("RGBA", (len(bodies) * (SIDE + GAP) - GAP, SIDE))
    for place, read in enumerate(bodies):
        try:
            picture = small_picture(read() or b"", SIDE)
        except Exception as error:  # whatever a decoder or the store says
            log.warning("An image has no small picture: %s: %s", type(error).__name__, error)
            continue
        if max(picture.size) < SIDE:  # eight pixels are looked at as squares
            scale = SIDE // max(picture.size)
            picture = picture.resize((picture.width * scale, picture.height * scale), Pillow.Resampling.NEAREST)
        left = place * (SIDE + GAP) + (SIDE - picture.width) // 2
        strip.paste(picture, (left, (SIDE - picture.height) // 2))
    made = io.BytesIO()
    strip.save(made, "WEBP", quality=80, method=2)
    return made.getvalue()
