"""What the hook does beside the training is as if it were done at once."""

import threading

import pytest
import torch

from debugger import hook, reductions
from debugger.hook_config import HookConfig
from debugger.side_thread import SideThread
from debugger.tensors.stream import TensorStream
from tests.waiting import PATIENCE_S

EVERY = {"save_interval": "1", "reductions": "max"}


def test_weights_are_those_that_the_batch_met(tmp_path, monkeypatch):
    """However late they are read, and whatever the training does to them as soon as it may."""
    late = threading.Event()
    reduce = hook.reduce
    monkeypatch.setattr(hook, "reduce", lambda *arguments: late.wait(0.2) or reduce(*arguments))
    network, criterion = torch.nn.Linear(3, 2), torch.nn.CrossEntropyLoss()
    entries = [{"CollectionName": "weights", "CollectionParameters": EVERY}]
    watching = hook.Hook(HookConfig.of({"LocalPath": str(tmp_path), "CollectionConfigurations": entries}))
    watching.watch(network, criterion)
    watching.set_mode("TRAIN")
    largest = []
    for step in range(3):
        network.weight.data.uniform_(step, step + 1)
        largest.append(network.weight.max().item())
        criterion(network(torch.ones(4, 3)), torch.tensor([0, 1, 0, 1])).backward()
        network.weight.data.zero_()
    watching.close()
    stream = TensorStream(tmp_path)
    stream.ended = True
    saved = [step.reduction("Linear_weight", "max") for step in stream.poll()]
    assert saved == pytest.approx(largest)


def test_shared_work_is_done_once_by_either_thread():
    done, both = [], threading.Barrier(2)

    def work(thing):
        if thing < 2:
            both.wait(PATIENCE_S)  # so that each thread has one of the first two
        done.append((thing, threading.current_thread().name))

    reductions.shared(SideThread("beside"), range(40), work)
    assert sorted(thing for thing, _ in done) == list(range(40))
    assert len({name for _, name in done}) == 2


def test_what_fails_beside_fails_the_whole():
    here, failed = threading.current_thread(), threading.Event()

    def work(_):
        if threading.current_thread() is here:
            failed.wait(PATIENCE_S)
            return
        failed.set()
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        reductions.shared(SideThread("beside"), [1, 2], work)
