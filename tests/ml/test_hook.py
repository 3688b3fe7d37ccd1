"""Our hook beside smdebug's own: the same training, watched by either, read back by smdebug."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from debugger.hook import Hook
from debugger.hook_config import BadHookConfig, HookConfig
from debugger.watcher import Debugger
from recordings import notes

ML = Path(__file__).resolve().parents[2] / "ml"

FIVE = "min,max,mean,std,l2_norm"
COLLECTIONS = [
    {"CollectionName": "losses", "CollectionParameters": {"train.save_interval": "2", "eval.save_interval": "1"}},
    {"CollectionName": "weights", "CollectionParameters": {"save_interval": "3", "reductions": FIVE}},
    {"CollectionName": "gradients", "CollectionParameters": {"train.save_interval": "2", "reductions": "abs_mean,max"}},
    {"CollectionName": "biases", "CollectionParameters": {"save_steps": "1,4", "save_interval": "100"}},
    {"CollectionName": "relu", "CollectionParameters": {"include_regex": ".*relu_(in|out)put", "save_interval": "4"}},
    {
        "CollectionName": "answers",
        "CollectionParameters": {"include_regex": "labels|predictions", "save_interval": "2"},
    },
]

# The same few steps, whoever watches: {hook} is "own" or "smdebug".
SCRIPT = """
import os, sys, torch
from torch import nn
from debugger.watcher import Debugger

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 3)

    def forward(self, images):
        return self.fc(self.relu(self.relu(self.conv(images)).mean((2, 3))))

torch.manual_seed(1)
network, criterion = Net().to(memory_format=torch.channels_last), nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
debugger = Debugger()
debugger.watch(network, criterion)
images, labels = torch.randn(8, 3, 6, 6), torch.arange(8) % 3
for epoch in range(2):
    debugger.phase("train")
    for _ in range(5):
        optimizer.zero_grad()
        logits = network(images)
        criterion(logits, labels).backward()
        debugger.batch(labels, logits)
        debugger.gradients()
        optimizer.step()
    debugger.phase("eval")
    with torch.no_grad():
        for _ in range(2):
            logits = network(images)
            criterion(logits, labels)
            debugger.batch(labels, logits)
    debugger.record({"validation:loss": 0.5 + epoch, "train:accuracy": 0.25})
assert debugger.active
debugger.close()
"""


def watched(folder, kind, collections=COLLECTIONS, script=SCRIPT, **variables):
    """Run the script under a hook -> the finished process."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"LocalPath": str(folder / "tensors"), "HookParameters": None, "CollectionConfigurations": collections}
    (folder / "hook.json").write_text(json.dumps(config))
    environment = {name: value for name, value in os.environ.items() if name != "TRAINING_JOB_NAME"}
    environment |= {"SMDEBUG_CONFIG_FILE_PATH": str(folder / "hook.json"), "RETRAINING_DEBUG_HOOK": kind}
    environment |= {"PYTHONPATH": str(ML), "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )


def read(folder):
    """{(mode, tensor, step): {what: values}} as smdebug's trial sees them."""
    os.environ["SMDEBUG_LOG_LEVEL"] = "error"
    from smdebug import modes
    from smdebug.trials import create_trial

    trial, found = create_trial(str(folder / "tensors")), {}
    for name in trial.tensor_names():
        tensor = trial.tensor(name)
        for mode in (modes.TRAIN, modes.EVAL):
            for step in tensor.steps(mode=mode):
                saved = {key: np.asarray(v) for key, v in (tensor.reduction_values(step, mode=mode) or {}).items()}
                try:
                    saved["value"] = np.asarray(tensor.value(step, mode=mode))
                except Exception:  # only reductions were saved
                    assert saved
                found[mode.name, name, step] = saved
    return found, {name: sorted(trial.tensor_names(collection=name)) for name in trial.collections()}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    base = tmp_path_factory.mktemp("hooks")
    for kind in ("own", "smdebug"):
        done = watched(base / kind, kind)
        assert done.returncode == 0, done.stderr
    return read(base / "own"), read(base / "smdebug")


def test_the_same_tensors_are_saved_at_the_same_steps_as_by_smdebug(both):
    (ours, our_collections), (theirs, their_collections) = both
    assert ours.keys() == theirs.keys()
    assert {name for _, name, _ in ours} >= {
        "Net_conv.weight",
        "gradient/Net_fc.bias",
        "relu_output_1",
        "CrossEntropyLoss_output_0",
        "labels_output_0",
        "scalar/validation_loss",
    }
    assert our_collections == {name: tensors for name, tensors in their_collections.items() if tensors}


def test_values_and_reductions_are_those_of_smdebug(both):
    (ours, _), (theirs, _) = both
    for key, saved in theirs.items():
        assert ours[key].keys() == saved.keys(), key
        if "relu_input" in key[1]:
            continue  # of these smdebug saves what the module made of them
        for what, values in saved.items():
            np.testing.assert_allclose(ours[key][what], values, rtol=2e-5, atol=1e-7, err_msg=f"{key} {what}")


def test_inputs_of_a_module_that_works_in_place_are_what_came_in(both):
    (ours, _), _ = both
    entered = [saved["value"] for (_, name, _), saved in ours.items() if name == "relu_input_0"]
    assert entered
    assert all(values.min() < 0 for values in entered)


def test_every_epoch_is_recorded_whatever_the_interval_is(tmp_path):
    collections = [{"CollectionName": "losses", "CollectionParameters": {"save_interval": "50"}}]
    done = watched(tmp_path, "own", collections)
    assert done.returncode == 0, done.stderr
    found, _ = read(tmp_path)
    epochs = {step: saved["value"] for (_, name, step), saved in found.items() if name == "scalar/validation_loss"}
    assert [float(value) for value in epochs.values()] == [0.5, 1.5]


def test_a_relu_in_a_sequential_is_found_by_its_kind(tmp_path):
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
    wanted = {
        "CollectionName": "relus",
        "CollectionParameters": {"include_regex": ".*relu_output", "save_interval": "1"},
    }
    config = HookConfig.of({"LocalPath": str(tmp_path), "CollectionConfigurations": [wanted]})
    hook = Hook(config)
    hook.watch(network, nn.CrossEntropyLoss())
    hook.set_mode("TRAIN")
    network(torch.randn(3, 4))
    assert sorted(name for name in hook.arrays) == ["1.relu_output_0", "2.1.relu_output_0"]


def test_a_training_that_goes_on_counts_on(tmp_path):
    config = HookConfig.of({"LocalPath": str(tmp_path / "a")})
    hook = Hook(config)
    hook.watch(nn.Linear(2, 2), nn.CrossEntropyLoss())
    for mode in ("TRAIN", "TRAIN", "EVAL"):
        hook.set_mode(mode)
        hook.begin()
    again = Hook(HookConfig.of({"LocalPath": str(tmp_path / "b")}))
    again.go_on(hook.steps)
    again.watch(nn.Linear(2, 2), nn.CrossEntropyLoss())
    again.set_mode("TRAIN")
    again.begin()
    assert (again.step, again.mode_steps["TRAIN"], again.mode_steps["EVAL"]) == (3, 2, 0)


def test_steps_that_are_not_saved_write_nothing(tmp_path):
    done = watched(tmp_path, "own", [{"CollectionName": "losses", "CollectionParameters": {"save_interval": "4"}}])
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in (tmp_path / "tensors" / "events").iterdir())
    # Global steps: training 0-4 and 7-11, evaluation 5-6 and 12-13; scalars of the epochs at 6 and 13.
    assert [int(name) for name in written] == [0, 4, 5, 6, 10, 13]


BROKEN = SCRIPT.replace("assert debugger.active\n", "print('steps done', debugger.active)\n")


def test_a_hook_that_cannot_write_leaves_the_training_alone_and_a_mark(tmp_path):
    (tmp_path / "tensors").mkdir()
    (tmp_path / "tensors" / "events").write_text("in the way")
    done = watched(tmp_path, "own", script=BROKEN)
    assert done.returncode == 0, done.stderr
    assert "steps done False" in done.stdout
    assert "WARNING: the debug hook could not" in done.stderr
    [note] = notes.failures(tmp_path / "tensors")
    assert note["who"] == "debugger"
    assert "NotADirectoryError" in note["error"]


def test_an_error_within_the_forward_pass_leaves_the_training_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "hook.json").write_text(json.dumps({"LocalPath": str(tmp_path / "tensors")}))
    monkeypatch.setenv("SMDEBUG_CONFIG_FILE_PATH", str(tmp_path / "hook.json"))
    debugger, network, criterion = Debugger(), nn.Linear(2, 2), nn.CrossEntropyLoss()
    debugger.watch(network, criterion)
    debugger.hook.holders = None  # no longer callable
    debugger.phase("train")
    criterion(network(torch.ones(2, 2)), torch.tensor([0, 1])).backward()
    debugger.gradients()
    assert not debugger.active
    assert "training goes on WITHOUT debug tensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"save_interval": "0"}, "save_interval='0' of collection 'losses' must be a whole number from 1"),
        ({"save_interval": "often"}, "save_interval='often' of collection 'losses'"),
        ({"train.start_step": "-1"}, "start_step='-1' of collection 'losses' must be a whole number from 0"),
        ({"save_steps": "1;2"}, "save_steps='1;2' of collection 'losses' must be numbers"),
    ],
)
def test_a_wrong_parameter_is_named(parameters, message):
    with pytest.raises(BadHookConfig, match=message.replace("(", r"\(")):
        HookConfig.of({"CollectionConfigurations": [{"CollectionName": "losses", "CollectionParameters": parameters}]})


def test_an_unknown_reduction_and_an_empty_collection_are_refused():
    wrong = {"CollectionName": "weights", "CollectionParameters": {"reductions": "mean,median"}}
    with pytest.raises(BadHookConfig, match="'median' of collection 'weights' is none of min, max"):
        HookConfig.of({"CollectionConfigurations": [wrong]})
    with pytest.raises(BadHookConfig, match="collection 'mine' names no tensors"):
        HookConfig.of({"CollectionConfigurations": [{"CollectionName": "mine"}]})


def test_a_folder_of_an_ended_training_is_refused(tmp_path):
    (tmp_path / "training_job_end.ts").touch()
    with pytest.raises(FileExistsError, match="holds the tensors of a training that has ended"):
        Hook(HookConfig.of({"LocalPath": str(tmp_path)}))
