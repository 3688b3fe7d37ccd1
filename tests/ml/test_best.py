"""The best epoch's weights: kept at once, written when it pays."""

import pytest
import torch

from network import artifact, model
from training.best import EVERY_S, Best


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def written(folder):
    """The number that the artifact in `folder` has learnt; None without one."""
    path = folder / artifact.WEIGHTS
    return model.read_state(path)["learns"].item() if path.exists() else None


def state(number):
    return {"learns": torch.tensor([float(number)]), "frozen": torch.tensor([7.0])}


def test_bests_in_quick_succession_become_one_artifact(tmp_path, clock):
    best, seen = Best(tmp_path, {"learns"}, clock), []
    for number, seconds in enumerate((1, EVERY_S, 1, 1)):
        clock.now += seconds
        best.keep(state(number), {})
        seen.append(written(tmp_path))
    best.write()
    assert [*seen, written(tmp_path)] == [None, 1, 1, 1, 3]


def test_what_was_kept_does_not_learn_on(tmp_path, clock):
    best, weights = Best(tmp_path, {"learns"}, clock), state(1)
    best.keep(weights, {})
    weights["learns"].fill_(5)
    best.write()
    assert written(tmp_path) == 1
    best.keep(weights, {})
    best.write()
    assert written(tmp_path) == 5


def test_a_resumed_training_has_its_artifact_at_once(tmp_path, clock):
    best = Best(tmp_path, {"learns"}, clock)
    best.weights = state(4)
    best.go_on({"best_epoch": 2})
    assert written(tmp_path) == 4
    assert artifact.read_description(tmp_path)["best_epoch"] == 2


def test_nothing_is_written_where_nothing_was_kept(tmp_path, clock):
    Best(tmp_path, set(), clock).write()
    assert not list(tmp_path.iterdir())
