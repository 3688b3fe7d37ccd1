"""What is fuzzed: a reader of strangers' bytes, and examples of what it reads."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FOUND = Path(__file__).parent / "found"
"""found/<target>/<name>: inputs that once did harm. Every run of the tests reads them again."""

MUTATIONS = 150
SLOW_S = 5


@dataclass(frozen=True)
class Target:
    name: str
    read: Callable[[bytes], None]
    """Catches the refusals that its reader promises. What it raises, where it hangs or dies, is a finding."""
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()
    """Of the format: what a mutation may put anywhere."""
    max_bytes: int = 16_384

    def found(self) -> list[bytes]:
        folder = FOUND / self.name
        return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []

    def mutations(self, count: int, seed: int = 2026) -> Iterator[bytes]:
        """Always the same ones: what a test reads must not depend on the day."""
        rng, seeds = random.Random(f"{self.name}/{seed}"), self.seeds()
        for _ in range(count):
            yield mutated(rng, rng.choice(seeds), self.words)[: self.max_bytes]

    def read_share(self) -> None:
        """The share of `make fuzz` that fits into every run. A body that fails is named by its digest."""
        seeds = self.seeds()
        assert seeds
        for body in [*seeds, *self.found(), *self.mutations(MUTATIONS)]:
            began = time.process_time()
            try:
                self.read(body)
            except Exception as error:
                digest = hashlib.sha256(body).hexdigest()
                error.add_note(f"{self.name}: {len(body)} bytes, SHA-256 {digest}, {body[:200]!r}")
                raise
            assert time.process_time() - began < SLOW_S, body[:200]


def mutated(rng: random.Random, body: bytes, words: tuple[bytes, ...] = ()) -> bytes:
    """The same with one to five changes: bits, numbers at their bounds, words, pieces cut, doubled or moved."""
    changed = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        at = rng.randrange(len(changed) + 1)
        length = rng.choice((1, 2, 4, 8, 64, 1024))
        match rng.randrange(7):
            case 0 if changed:
                changed[min(at, len(changed) - 1)] ^= 1 << rng.randrange(8)
            case 1 | 0:
                changed[at : at + length] = rng.randbytes(length)
            case 2:
                bound = rng.choice((0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1))
                size = rng.choice((1, 2, 4, 8))
                changed[at : at + size] = (bound % 256**size).to_bytes(size, rng.choice(("little", "big")))
            case 3:
                changed[at:at] = rng.choice(words or (b"\x00", b"\xff" * 8))
            case 4:
                del changed[at : at + length]
            case 5:
                changed[at:at] = changed[at : at + length] * rng.choice((1, 2, 100))
            case _:
                other = rng.randrange(len(changed) + 1)
                changed[at : at + length] = changed[other : other + length]
    return bytes(changed)
