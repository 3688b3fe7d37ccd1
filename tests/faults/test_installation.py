"""The simulation is nobody else's: it ends where it was asked for."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

from retraining.triggers import SageMakerJobTrigger
from tests.faults.installation import installed


def turned() -> list[object]:
    bucket, silenced = os.environ.get("RETRAINING_BUCKET"), logging.root.manager.disable
    return [AwsGenericHook.conn, AwsGenericHook.get_client_type, SageMakerJobTrigger._connect, bucket, silenced]


def test_the_simulation_ends_with_its_block(tmp_path: Path) -> None:
    before = turned()
    with installed(tmp_path):
        assert all(one != other for one, other in zip(turned(), before, strict=True))
    assert turned() == before
