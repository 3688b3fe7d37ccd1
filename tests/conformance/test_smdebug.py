"""smdebug 1.0.34, the library behind SageMaker Debugger, reads from S3 what a job's hook and the profiler wrote."""

from __future__ import annotations

import pytest

from tests.conformance.programs import Outcome

pytestmark = [pytest.mark.program("smdebug/readers.py"), pytest.mark.slow]


def test_a_job_with_the_hook_completes(outcome: Outcome) -> None:
    assert outcome["status"] == "Completed", outcome["reason"]


def test_a_trial_reads_the_saved_losses(outcome: Outcome) -> None:
    assert outcome["losses"] == ["CrossEntropyLoss_output_0"]
    assert outcome["steps"][:4] == [0, 4, 8, 12] and outcome["last"] < outcome["first"]


def test_a_trial_knows_that_the_job_has_ended(outcome: Outcome) -> None:
    assert outcome["ended"] is True


def test_the_profiler_reads_the_system_metrics(outcome: Outcome) -> None:
    assert {"CPUUtilization", "I/OWaitPercentage", "MemoryUsedPercent", "IOPS"} <= set(outcome["system"])
    assert outcome["count"] > 50


def test_the_profiler_reads_the_steps_that_the_hook_timed(outcome: Outcome) -> None:
    assert "Step:ModeKeys.TRAIN" in outcome["framework"], outcome["framework"]
