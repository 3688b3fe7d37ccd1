"""The weights of the best epoch so far, and the artifact they become.

An artifact takes longer to write than an epoch over stored vectors. So one that soon follows another waits in memory;
it is written by the end of the training at the latest, after a SIGTERM or an error too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from network import artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set
    from pathlib import Path
    from typing import Any

    from torch import Tensor

EVERY_S = 10


class Best:
    """`learning` are the names of the weights that training changes; the others are not copied."""

    def __init__(self, model_dir: Path | str, learning: Set[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.model_dir, self.learning, self.clock = model_dir, learning, clock
        self.weights: dict[str, Tensor] | None = None
        self.description: Mapping[str, Any] = {}
        self.waits, self.written = False, clock()

    def keep(self, weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """A state dict, and what model.json says of it."""
        if self.weights is None:
            self.weights = {
                name: value.detach().cpu().clone() if name in self.learning else value.detach()
                for name, value in weights.items()
            }
        else:
            for name in self.learning:
                self.weights[name].copy_(weights[name])
        self.description, self.waits = description, True
        if self.clock() - self.written >= EVERY_S:
            self.write()

    def go_on(self, description: Mapping[str, Any]) -> None:
        """A resumed training has `weights` from its checkpoint, and starts with an empty model folder."""
        self.description, self.waits = description, True
        self.write()

    def write(self) -> None:
        if self.waits:
            assert self.weights is not None
            artifact.save(self.model_dir, self.weights, self.description)
            self.waits, self.written = False, self.clock()
