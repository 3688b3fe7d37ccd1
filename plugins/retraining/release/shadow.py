"""A candidate in the champion's shadow: the same requests answered by both, and how alike.

Not by SageMaker's shadow variants, which are a second fleet that is paid for as long as it stands, but by batch
transform: two jobs of minutes, or none where both have scored the images already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retraining.promotion.evidence import ROUNDING
from retraining.promotion.scores import ScoreError

SHOWN = 5


class ShadowRefused(ValueError):
    """Candidate and champion do not answer alike enough."""


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """What both answered: image → class."""

    source: str
    """"captured", by clients, or "test" images."""
    candidate: Mapping[str, str]
    champion: Mapping[str, str]
    min_agreement: float | None
    seconds: Mapping[str, float | None]
    """What each model's job took from the start of its machine on; "candidate", "champion"."""

    @property
    def differ(self) -> list[str]:
        return [name for name in sorted(self.candidate) if self.candidate[name] != self.champion[name]]

    @property
    def agreement(self) -> float:
        return 1 - len(self.differ) / len(self.candidate)

    @property
    def accepted(self) -> bool:
        return self.min_agreement is None or self.agreement >= self.min_agreement - ROUNDING

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """What the champion answers, what the candidate does instead, and how often; the most frequent first."""
        counted = Counter((self.champion[name], self.candidate[name]) for name in self.differ)
        ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        return [{"champion": before, "candidate": now, "images": n} for (before, now), n in ordered]

    @property
    def said(self) -> str:
        """For people."""
        n, images = len(self.candidate), {"captured": "images that clients sent", "test": "test images"}[self.source]
        told = f"Of {n} {images} the candidate answers {n - len(self.differ)} as the champion does"
        told += f" ({self.agreement:.4f}"
        told += f"; at least {self.min_agreement:g} is asked for)." if self.min_agreement is not None else ")."
        if self.pairs:
            shown = "; ".join(f"{p['champion']} → {p['candidate']} ({p['images']})" for p in self.pairs[:SHOWN])
            told += f" Most often otherwise (champion → candidate, images): {shown}."
        if None not in self.seconds.values():
            took = {who: f"{seconds:.0f} s" for who, seconds in self.seconds.items()}
            told += f" Its job took {took['candidate']}, the champion's {took['champion']}."
        return told

    def summary(self) -> dict[str, Any]:
        """Small enough for XCom."""
        return {
            "source": self.source,
            "n": len(self.candidate),
            "agreement": self.agreement,
            "min_agreement": self.min_agreement,
            "accepted": self.accepted,
            "pairs": self.pairs[:SHOWN],
            "seconds": dict(self.seconds),
            "said": self.said,
        }

    def as_dict(self) -> dict[str, Any]:
        differ = [
            {"image": name, "champion": self.champion[name], "candidate": self.candidate[name]} for name in self.differ
        ]
        return self.summary() | {"pairs": self.pairs, "differ": differ}


def labels(answers: Mapping[str, Sequence[float]], classes: Sequence[str], asked: Sequence[str]) -> dict[str, str]:
    """Image → the class that is most probable; ScoreError unless all that were asked, and no others, are answered."""
    if missing := set(asked) - set(answers):
        raise ScoreError(f"{len(missing)} of {len(asked)} images have no answer, {min(missing)} for one")
    found = {}
    for name in asked:
        given = answers[name]
        if len(given) != len(classes) or not all(0 <= p <= 1 for p in given):
            raise ScoreError(f"{name} is answered by {list(given)[:5]}, not by {len(classes)} probabilities")
        found[name] = classes[max(range(len(classes)), key=given.__getitem__)]
    return found
