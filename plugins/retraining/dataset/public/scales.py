"""Numbers that once were bytes: on which scale they are, told by that every one of them is exactly a byte's.

Whoever divided by 255 lost nothing, and gets the bytes back; what was standardised, blurred or resized as floats has
values between, and rounding these would be a decision about the data that is not made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

NEARLY = 1e-3
"""Of a byte's step: what is left of k / 255 in 32 bits is 20 times nearer."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """`low` is black, and a byte's step is one of `steps` to each 1."""

    name: str
    low: float
    steps: float

    def bytes_of(self, values: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any] | None:
        """None where one of them is none."""
        import numpy as np

        with np.errstate(all="ignore"):
            exact = (values.astype(np.float64) - self.low) * self.steps
            whole = np.rint(exact)
            if not ((np.abs(exact - whole) <= NEARLY) & (whole >= 0) & (whole <= 255)).all():
                return None
        return whole.astype(np.uint8)


WHOLE = Scale(name="0 to 255", low=0, steps=1)
SCALES = (Scale(name="0 to 1", low=0, steps=255), Scale(name="-1 to 1", low=-1, steps=127.5), WHOLE)
"""Of floats, the first that fits: a set of nothing but 0 and 1 is black and white."""


def scale_of(arrays: Iterable[numpy.ndarray[Any, Any]], scales: Sequence[Scale]) -> Scale | None:
    """The scale of all these values; None without any."""
    left = list(scales)
    for values in arrays:
        left = [scale for scale in left if scale.bytes_of(values) is not None]
        if not left:
            return None
    return left[0]
