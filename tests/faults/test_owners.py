"""An endpoint of another deployment of the account is nobody's to replace."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.faults import Laboratory
from tests.faults.scenarios import SCENARIOS

SERVED = "retraining-colors"
CHAMPION = "colors/champion.json"


def owned_by(bucket: str, laboratory: Laboratory, **conf: Any) -> Any:
    """A week in which the endpoint serves a model of the deployment with this bucket."""
    world, _, _ = laboratory.begin(SCENARIOS["update-good"])
    run = laboratory.installation.begin(world, **conf)
    config = world.sagemaker.configs[world.sagemaker.endpoints[SERVED]["EndpointConfigName"]]
    tags = {tag["Key"]: tag["Value"] for tag in config["Tags"]} | {"retraining:bucket": bucket}
    config["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return world, run


@pytest.mark.parametrize("conf", [{"force": True}, {"force": True, "first_promotion": True}])
@pytest.mark.parametrize("known", [True, False])
def test_an_endpoint_of_others_is_never_replaced(laboratory: Laboratory, known: bool, conf: dict[str, Any]) -> None:
    """With a champion.json of one's own, or without; whatever is meant."""
    world, run = owned_by("production", laboratory, **conf)
    if not known:
        del world.store.objects[CHAMPION]
    before = dict(world.sagemaker.endpoints[SERVED])
    assert run.finish() == "failed"
    told = run.xcoms["needs_retraining"]["failure"]
    assert "of another deployment, whose bucket is production; this one's is simulated" in told
    assert "`endpoint: retraining-colors-2`" in told
    assert world.sagemaker.endpoints[SERVED] == before
    assert [call for call in world.calls if call.startswith("sagemaker.Create")] == []


def test_who_moved_to_another_bucket_says_so(laboratory: Laboratory) -> None:
    """By the tag that the refusal names: then the endpoint is its own again."""
    world, run = owned_by("simulated", laboratory, force=True)
    assert run.finish() == "success"
    assert world.sagemaker.asked
