"""What an endpoint is asked about golden images, in every way that clients ask, and how it answers."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retraining.release.golden import MAX_BODY_BYTES, MAX_INSTANCES, Golden, instances, pack

log = logging.getLogger(__name__)

JSON = "application/json"


class WrongAnswer(ValueError):
    """The endpoint does not answer as the same model did in batch."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request: an image as it is or within JSON, or several images together."""

    images: tuple[Golden, ...]
    content_type: str
    is_batch: bool = False

    @property
    def body(self) -> bytes:
        if self.is_batch:
            return instances(self.images)
        (image,) = self.images
        return image.body if self.content_type != JSON else json.dumps({"image": image.as_text}).encode()

    @property
    def way(self) -> str:
        return f"{self.content_type} (instances)" if self.is_batch else self.content_type

    def ask(self, runtime: Any, endpoint: str) -> Reply:
        sent = runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType=self.content_type, Accept=JSON, Body=self.body
        )
        return Reply(sent["Body"].read(), sent.get("CustomAttributes", ""))

    def check(self, answer: Mapping[str, Any]) -> None:
        """WrongAnswer unless each image was taken for what it is."""
        answers = answer["predictions"] if self.is_batch else [answer]
        for image, its in zip(self.images, answers, strict=True):
            if its.get("label") != image.label:
                raise WrongAnswer(
                    f"The endpoint answers {its.get('label')!r} for {image.entry}, sent as {self.way}; in batch the "
                    f"same model answered {image.label!r}, which is right. Real-time and batch serving differ."
                )


@dataclass(frozen=True)
class Reply:
    """An answer, and what its model says of itself."""

    body: bytes
    attributes: str

    @property
    def answer(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


def questions(golden: Sequence[Golden], together: int = MAX_INSTANCES) -> Iterator[Question]:
    """Every image as it is and within JSON, then as lists of up to `together`, in as few requests as hold all.

    With 1 each has a list of its own, but for the first two, which go in both orders: shorter lists tell no order.
    """
    for image in golden:
        yield Question(images=(image,), content_type=image.content_type)
        if image.text_bytes <= MAX_BODY_BYTES:
            yield Question(images=(image,), content_type=JSON)
        else:
            log.warning("%s has %d bytes, too many for JSON; it is sent as it is.", image.entry, len(image.body))
    small = [image for image in golden if image.text_bytes <= MAX_BODY_BYTES]
    for several in pack(small, max_images=together) if together > 1 else _short_lists(small):
        log.info("%d golden images together in one request.", len(several))
        yield Question(images=tuple(several), content_type=JSON, is_batch=True)


def _short_lists(images: Sequence[Golden]) -> list[list[Golden]]:
    pair, others = images[:2], images[2:]
    orders = [pair, pair[::-1]] if len(pair) == 2 else [pair]
    return [*(some for order in orders for some in pack(order, max_images=2)), *pack(others, max_images=1)]
