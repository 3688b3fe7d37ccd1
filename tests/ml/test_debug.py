"""The hook is a guest: what smdebug refuses or breaks takes nothing from the training."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

ML = Path(__file__).parents[2] / "ml"

# A training of one step, watched; `criterion` is what smdebug accepts or refuses.
PROGRAM = """
import sys, torch
from torch import nn
from debugger.watcher import Debugger
from training.losses import BinaryLoss

class NotALoss(nn.Module):
    def forward(self, logits, labels):
        return (logits.squeeze(1) - labels).square().mean()

network = nn.Sequential(nn.Linear(3, 1))
criterion = BinaryLoss(None, 0.0) if sys.argv[1] == "BinaryLoss" else NotALoss()
debugger = Debugger()
debugger.watch(network, criterion)
debugger.phase("train")
for _ in range(2):
    criterion(network(torch.ones(4, 3)), torch.tensor([0, 1, 0, 1])).backward()
    debugger.gradients()
debugger.close()
print("trained", network[0].weight.grad is not None)
"""


@pytest.fixture
def watched(environment, tmp_path):
    """watched(criterion) -> the process that ended, with tensors in tmp_path/tensors."""
    every = {"save_interval": "1"}
    hook = {"LocalPath": str(tmp_path / "tensors"), "S3OutputPath": "s3://bucket/x", "HookParameters": None}
    collections = [{"CollectionName": name, "CollectionParameters": every} for name in ("losses", "gradients")]
    (tmp_path / "hook.json").write_text(json.dumps(hook | {"CollectionConfigurations": collections}))
    settings = environment | {"SMDEBUG_CONFIG_FILE_PATH": str(tmp_path / "hook.json"), "PYTHONPATH": str(ML)}
    settings["RETRAINING_DEBUG_HOOK"] = "smdebug"

    def run(criterion):
        command = [sys.executable, "-c", PROGRAM, criterion]
        return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    return run


def test_the_loss_of_a_binary_head_is_one_that_smdebug_watches(watched, tmp_path):
    ended = watched("BinaryLoss")
    assert ended.stdout.endswith("trained True\n"), ended.stderr
    saved = [path.read_text() for path in (tmp_path / "tensors/index").rglob("*.json")]
    assert len(saved) == 2
    assert all("BinaryLoss_output_0" in index for index in saved)


def test_a_loss_that_smdebug_refuses_ends_the_watching_not_the_training(watched):
    ended = watched("NotALoss")
    assert ended.stdout.endswith("trained True\n"), ended.stderr
    assert "WARNING: the debug hook could not save tensors; training goes on WITHOUT debug tensors" in ended.stderr
