"""Whatever bytes arrive, a reader of the data step or of local_sagemaker refuses them in words, soon and in bounds.

The share of `make fuzz` that fits into every run: all examples, all inputs that once did harm, and a few hundred
mutations. A body that fails is named by its target and digest; `make fuzz` keeps such bodies as files.
"""

from __future__ import annotations

import hashlib
import time

import pytest

from tests.fuzz.registry import targets

TARGETS = targets("airflow")
MUTATIONS = 150
SLOW_S = 5


@pytest.mark.parametrize("name", TARGETS)
def test_strangers_bytes_are_read_or_refused(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    assert seeds
    for body in [*seeds, *target.found(), *target.mutations(MUTATIONS)]:
        began = time.process_time()
        try:
            target.read(body)
        except Exception as error:
            error.add_note(f"{name}: {len(body)} bytes, SHA-256 {hashlib.sha256(body).hexdigest()}, {body[:200]!r}")
            raise
        assert time.process_time() - began < SLOW_S, body[:200]
