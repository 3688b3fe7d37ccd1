"""What a person, a gate or the shadow turned down is neither trained nor served again by itself."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.faults.installation import Installation, installed
from tests.faults.scenarios import SCENARIOS, WEEK_S
from tests.faults.service import GOOD

SERVED = "retraining-colors"


class Weeks:
    """Runs of one installation, a week apart; images are its own."""

    def __init__(self, installation: Installation) -> None:
        self.installation, self.world, self.shade = installation, installation.world(), 0

    def run(self, dag: str = "retrain", kind: str = "plain", *, new: bool = False, **conf: Any) -> Any:
        """`new`: an image was added meanwhile."""
        if new:
            self.shade += 1
            body = io.BytesIO()
            Image.new("RGB", (16, 16), (255, 100 + self.shade, 0)).save(body, "PNG")
            (self.installation.folder / f"images/red/new{self.shade}.png").write_bytes(body.getvalue())
            self.world.pictures[body.getvalue()] = "red"
        self.world.clock.sleep(WEEK_S)
        run = self.installation.begin(self.world, kind, dag, **conf)
        run.finish()
        return run

    @property
    def serves(self) -> str:
        return str(self.world.sagemaker.endpoints[SERVED]["EndpointConfigName"])

    @property
    def searches(self) -> int:
        return len(self.world.sagemaker.jobs["HyperParameterTuningJob"])


@pytest.fixture
def weeks(tmp_path: Path) -> Iterator[Weeks]:
    with installed(tmp_path) as installation:
        yield Weeks(installation)


def promoted(weeks: Weeks, count: int) -> list[str]:
    """Champions, the oldest first."""
    found = []
    for _ in range(count):
        assert weeks.run(new=True).state == "success"
        found.append(weeks.serves)
    assert len(set(found)) == count
    return found


def test_two_steps_back_pass_over_what_was_left(weeks: Weeks) -> None:
    first, second, _ = promoted(weeks, 3)
    assert weeks.run("rollback", reason="cats are dogs").state == "success"
    assert weeks.serves == second
    assert weeks.run("rollback", reason="this one is bad too").state == "success"
    assert weeks.serves == first
    third = weeks.run("rollback", reason="and this")
    assert (third.state, weeks.serves) == ("failed", first)
    assert "is the first champion of colors" in third.xcoms["choose"]["failure"]


def test_what_a_person_left_is_not_trained_again(weeks: Weeks) -> None:
    """Whichever champion serves by then."""
    first, _, _ = promoted(weeks, 3)
    weeks.run("rollback", reason="cats are dogs")
    weeks.run("rollback", reason="this one is bad too")
    searches = weeks.searches
    run = weeks.run()
    assert (run.state, weeks.searches, weeks.serves) == ("success", searches, first)
    assert "turned its model down (Rolled back to " in run.xcoms["needs_retraining"]["need"]["reason"]


def test_a_no_in_the_registry_holds_the_next_week(weeks: Weeks) -> None:
    (served,) = promoted(weeks, 1)
    rejecting = weeks.installation.begin(weeks.world, force=True)
    while (task := rejecting.next()) is not None:
        if task.task_id == "deploy":
            newest = list(weeks.world.sagemaker.packages.values())[-1]
            newest.update(ModelApprovalStatus="Rejected", ApprovalDescription="biased, says ann")
        rejecting.run(task)
    assert (rejecting.state, weeks.serves) == ("failed", served)
    searches = weeks.searches
    run = weeks.run()
    assert (run.state, weeks.serves) == ("success", served)
    assert weeks.searches == searches


def test_a_refusal_in_the_shadow_is_remembered(weeks: Weeks) -> None:
    (served,) = promoted(weeks, 1)
    world = weeks.world
    world.store.objects |= SCENARIOS["shadow-refused"].begin(weeks.installation, {"served 1": world})[0].store.objects
    world.sagemaker.candidate = GOOD | {"captured": "wrong"}
    refused = weeks.run(kind="shadow", new=True)
    assert (refused.state, weeks.serves) == ("failed", served)
    searches = weeks.searches
    again = weeks.run(kind="shadow")
    assert (again.state, weeks.searches) == ("success", searches)
    assert "already tried this data" in again.xcoms["needs_retraining"]["need"]["reason"]


def test_a_failed_release_is_tried_again(weeks: Weeks) -> None:
    """Nobody has decided anything about its model."""
    promoted(weeks, 1)
    weeks.world.sagemaker.candidate = GOOD | {"starts": False}
    assert weeks.run(new=True).state == "failed"
    weeks.world.sagemaker.candidate = dict(GOOD)
    assert weeks.run().state == "success"
    assert weeks.searches == 3


def test_classes_that_were_turned_down_stop_no_week(weeks: Weeks) -> None:
    promoted(weeks, 1)
    folder = weeks.installation.folder / "images"
    (folder / "green").mkdir()
    for number in range(20):
        body = io.BytesIO()
        Image.new("RGB", (16, 16), (number, 255, 0)).save(body, "PNG")
        (folder / f"green/{number}.png").write_bytes(body.getvalue())
        weeks.world.pictures[body.getvalue()] = "green"
    refused = weeks.run()
    assert "accept_class_change" in refused.xcoms["needs_retraining"]["failure"]
    made_from = {key: refused.xcoms["preflight"]["return_value"][key] for key in ("code", "recipe")}
    said = {
        "run_name": "r", "gate": "g", "champion": None, "reason": "nobody asked for green", "by": "ann",
        "ingredients": made_from | {"dataset": refused.xcoms["sync_dataset"]["return_value"]["fingerprint"]},
    }  # fmt: skip
    document = {"format": 1, "recipe": "colors", "candidates": [said]}
    weeks.world.store.objects["colors/rejected-candidates.json"] = json.dumps(document).encode()
    after = weeks.run()
    assert after.state == "success"
    assert "turned its model down" in after.xcoms["needs_retraining"]["need"]["reason"]
