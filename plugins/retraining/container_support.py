"""How long AWS patches its container images: the dated facts, and what they mean for a run today.

Source: the support policy of AWS Deep Learning Containers and the data it is made from
(github.com/aws/deep-learning-containers, docs/src), as of 2026-08-21. A framework version is patched for a year after
its general availability. After that date an image can still be pulled, but gets no security fixes any more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

WARNING_DAYS = 60

END_OF_PATCH = {
    # The last version that carries smdebug, which SageMaker Debugger needs.
    "pytorch-training:2.0": date(2024, 3, 15),
    "pytorch-training:2.6": date(2026, 1, 29),
    "pytorch-training:2.7": date(2026, 4, 23),
    "pytorch-training:2.8": date(2026, 8, 6),
    "pytorch-training:2.9": date(2026, 10, 15),
    "pytorch-training:2.10": date(2027, 1, 21),
    "pytorch:2.11": date(2027, 4, 30),
    "pytorch:2.12": date(2027, 7, 2),
    "pytorch:2.13": date(2027, 7, 20),
    # Made after the policy was read, so that its year ends on this date at the earliest.
    "pytorch:2.14": date(2027, 8, 21),
    # The last one with TorchServe.
    "pytorch-inference:2.6": date(2026, 6, 30),
}
"""repository:version → the last day with patches. Ray Serve's images (ray:serve-…) have no date announced."""

PILLOW = {"pytorch:2.14": "12.3.0"}
"""What a container decodes pictures with, where it may verify images. Source: docker/pytorch/2.14/cpu/uv.lock of the
same repository, in September 2026; AWS builds an image anew now and then."""


@dataclass(frozen=True, kw_only=True)
class Support:
    """How one image of a run is patched."""

    purpose: str
    uri: str
    end_of_patch: date | None
    """None where no date is known: an image of your own, or one that AWS has announced none for."""

    @classmethod
    def of(cls, purpose: str, uri: str) -> Support:
        repository, version = _release(uri)
        known = _end_of_patch(repository, version) if version else None
        return cls(purpose=purpose, uri=uri, end_of_patch=known)

    def is_over(self, today: date) -> bool:
        return self.end_of_patch is not None and today > self.end_of_patch

    def ends_soon(self, today: date) -> bool:
        return self.end_of_patch is not None and 0 <= (self.end_of_patch - today).days <= WARNING_DAYS

    def __str__(self) -> str:
        until = f"patched until {self.end_of_patch}" if self.end_of_patch else "no end of its patches is known"
        return f"{self.purpose}: {self.uri} ({until})"


def pillow_of(uri: str) -> str | None:
    """Its version in one of AWS's containers; None where it is not known."""
    return PILLOW.get(":".join(_release(uri)))


def _release(uri: str) -> tuple[str, str]:
    """Repository and version (2.14) of an image; an empty version where its tag begins with none."""
    repository, _, tag = uri.rpartition("/")[2].partition(":")
    version = re.match(r"\d+\.\d+", tag)
    return repository, version[0] if version else ""


def _end_of_patch(repository: str, version: str) -> date | None:
    """Of a version that is not listed: at the latest with the next newer one of its repository."""
    if listed := END_OF_PATCH.get(f"{repository}:{version}"):
        return listed
    newer = [
        (_number(name.partition(":")[2]), end)
        for name, end in END_OF_PATCH.items()
        if name.startswith(f"{repository}:") and _number(name.partition(":")[2]) > _number(version)
    ]
    return min(newer)[1] if newer else None


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def support_of(images: Mapping[str, str]) -> list[Support]:
    """Of purpose → image URI; an image with two purposes is told once."""
    purposes: dict[str, list[str]] = {}
    for purpose, uri in images.items():
        if uri:
            purposes.setdefault(uri, []).append(purpose)
    return [Support.of(" and ".join(names), uri) for uri, names in purposes.items()]
