"""The checks made from a service model."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from local_sagemaker.wire import service_model
from local_sagemaker.wire.constraints import Checks

NESTED = {"SearchExpression": {"SubExpressions": [{"SubExpressions": [{}]}]}, "Resource": "TrainingJob"}


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_threads_make_the_checks_of_a_shape_together() -> None:
    """One must not find what another has only begun: it called itself without end."""
    shapes = service_model._description("sagemaker")["shapes"]
    for _ in range(20):
        checks, start, failed = Checks(shapes), threading.Barrier(6), []

        def check(checks: Checks = checks, start: threading.Barrier = start, failed: list[Exception] = failed) -> None:
            start.wait()
            for name, value in (("SearchRequest", NESTED), ("DescribeTrainingJobResponse", {})):
                try:
                    checks.of(name)(value, None, [])
                except Exception as error:
                    failed.append(error)

        threads = [threading.Thread(target=check) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
