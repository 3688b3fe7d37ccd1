"""Whatever bytes arrive, a reader of the data step or of local_sagemaker refuses them in words, soon and in bounds.

The share of `make fuzz` that fits into every run: all examples, all inputs that once did harm, and a few hundred
mutations. A body that fails is named by its target and digest; `make fuzz` keeps such bodies as files.
"""

from __future__ import annotations

import pytest

from tests.fuzz.registry import targets

TARGETS = targets("airflow")


@pytest.mark.parametrize("name", TARGETS)
def test_strangers_bytes_are_read_or_refused(name: str) -> None:
    TARGETS[name].read_share()
