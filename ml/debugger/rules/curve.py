"""What a rule judged, step by step, up to where it fired: for a person to see, never to judge by."""

from __future__ import annotations

import math
from array import array
from typing import Any

MOST = 100  # points that are kept at least, once there are so many; twice as many at most


class Curve:
    """The values of one tensor. Of a long training every second, fourth, … one is kept, and the last."""

    def __init__(self, tensor: str, what: str) -> None:
        """`what` was measured: the name of the axis, in words."""
        self.tensor, self.what = tensor, what
        self.steps, self.values = array("q"), array("d")
        self.every = 1
        self.count = 0
        self.last: tuple[int, float] | None = None
        self.threshold: float | None = None

    def add(self, step: int, value: float, threshold: float) -> None:
        """One more judged value; `step` is a global one, and `threshold` what it was judged by."""
        if self.count % self.every == 0:
            self.steps.append(step)
            self.values.append(value)
            if len(self.steps) == 2 * MOST:
                del self.steps[1::2], self.values[1::2]
                self.every *= 2
        self.count += 1
        self.last, self.threshold = (step, value), threshold

    def as_dict(self) -> dict[str, Any]:
        """{"tensor", "what", "steps", "values", "threshold"}: 201 points at most; None is what is not finite."""
        points = list(zip(self.steps, self.values, strict=True))
        if self.last is not None and points[-1][0] != self.last[0]:
            points.append(self.last)
        return {
            "tensor": self.tensor,
            "what": self.what,
            "steps": [step for step, _ in points],
            "values": [finite(value) for _, value in points],
            "threshold": finite(self.threshold),
        }


def finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
