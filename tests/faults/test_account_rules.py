"""An account that asks for a network, a key and tags of its own has them in all that a week makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults.installation import installed
from tests.faults.scenarios import SCENARIOS

KEY = "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab"
TAG = {"Key": "cost-center", "Value": "42"}
VPC = {"Subnets": ["subnet-0a1b", "subnet-0c2d"], "SecurityGroupIds": ["sg-0e3f"]}


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRAINING_SUBNETS", "subnet-0a1b, subnet-0c2d")
    monkeypatch.setenv("RETRAINING_SECURITY_GROUPS", "sg-0e3f")
    monkeypatch.setenv("RETRAINING_KMS_KEY", KEY)
    monkeypatch.setenv("RETRAINING_ENCRYPT_TRAFFIC", "1")
    monkeypatch.setenv("RETRAINING_TAGS", "team=vision,cost-center=42")


@pytest.mark.parametrize("scenario", ["spread-good", "watched-good", "linear-good", "update-rolled-back"])
def test_all_that_a_week_makes_keeps_the_rules(tmp_path: Path, scenario: str) -> None:
    with installed(tmp_path) as installation:
        world, run = SCENARIOS[scenario].begin(installation, {})
        put: list[tuple[str, Mapping[str, str]]] = []
        for name in ("_put", "_copy"):
            kept = getattr(world.store, name)
            setattr(
                world.store,
                name,
                lambda key, given, *rest, kept=kept: put.append((key, given)) or kept(key, given, *rest),
            )
        run.finish()
        assert run.state == SCENARIOS[scenario].ends
    sagemaker = world.sagemaker
    made = {kind: list(jobs.values()) for kind, jobs in sagemaker.jobs.items()}
    assert all(map(within, [job["TrainingJobDefinition"] for job in made["HyperParameterTuningJob"]]))
    assert all(map(within, made["TrainingJob"]))
    for job in made["ProcessingJob"]:
        assert job["NetworkConfig"] == {"VpcConfig": VPC, "EnableInterContainerTrafficEncryption": True}
        assert job["ProcessingOutputConfig"]["KmsKeyId"] == KEY
        assert job["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] == KEY
    for job in made["TransformJob"]:
        assert (job["TransformOutput"]["KmsKeyId"], job["TransformResources"]["VolumeKmsKeyId"]) == (KEY, KEY)
    assert all(model["VpcConfig"] == VPC for model in sagemaker.models.values())
    assert all(config["KmsKeyId"] == KEY for config in sagemaker.configs.values())
    captured = [config["DataCaptureConfig"] for config in sagemaker.configs.values() if "DataCaptureConfig" in config]
    assert all(config["KmsKeyId"] == KEY for config in captured)
    assert bool(captured) == (scenario == "linear-good")
    things = [*(job for jobs in made.values() for job in jobs), *sagemaker.models.values(), *sagemaker.configs.values()]
    assert len(things) > 7
    assert all(TAG in thing["Tags"] for thing in things)
    assert put
    assert {name: given.get("x-amz-server-side-encryption-aws-kms-key-id") for name, given in put} == {
        name: KEY.encode() for name, _ in put
    }


def within(training: Mapping[str, Any]) -> bool:
    key = (training["OutputDataConfig"]["KmsKeyId"], training["ResourceConfig"]["VolumeKmsKeyId"])
    return (training["VpcConfig"], training["EnableInterContainerTrafficEncryption"], key) == (VPC, True, (KEY, KEY))
