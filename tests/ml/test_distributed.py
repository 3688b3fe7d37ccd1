"""Two processes on this machine, started by torchrun as SageMaker's containers start them; gloo between them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

import train
from dataset.channel import num_chunks
from network import artifact, model
from tests.waiting import PATIENCE_S
from training import distributed, losses, metrics
from training.settings import Loss

# Without random draws and with BatchNorm frozen, what two processes learn is what one does.
EXACT = {
    "trainable": "head",
    "weights": "channel",
    "start-size": 16,  # without effect, but the images then go through the whole network in each epoch
    "hidden-units": 8,
    "batch-size": 9,  # shares of 5 and 4; the last batch has 6
    "sampler": "balanced",
    "label-smoothing": 0.1,
    "clip-norm": 0.5,
    "ema": 0.9,
    "optimizer": "adamw",
    "weight-decay": 0.05,
    "precision": "fp32",
    "epochs": 3,
}


TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone")


@pytest.fixture(scope="session")
def together(debugged_job, pretrained):
    """A whole training of two processes, watched by Debugger."""
    return debugged_job(launcher=TORCHRUN, **EXACT | {"pretrained-dir": pretrained})


@pytest.fixture
def pair(job):
    """A sandbox whose job runs as two processes."""
    job.launcher = TORCHRUN
    return job


def history(job):
    return json.loads((job.output_dir / "data" / "history.json").read_text())


def flags_of(options):
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def weights_of(folder):
    return {name: tensor.clone() for name, tensor in model.read_state(folder / artifact.WEIGHTS).items()}


@pytest.fixture
def main(job, monkeypatch):
    for name, value in job.environment.items():
        if name.startswith(("SM_", "OMP_")):
            monkeypatch.setenv(name, value)
    return lambda options: train.main(flags_of({"stem": "small", "image-size": 16, "lr": 0.002} | options))


@pytest.mark.slow
def test_two_processes_learn_what_one_does(together, main, job, pretrained, monkeypatch):
    """To rounding: 1e-5 in the weights. The whole batch's loss, order and clipping are those of one process."""
    monkeypatch.setenv("SM_CHANNEL_DATASET", together.environment["SM_CHANNEL_DATASET"])
    assert main(EXACT | {"serving": "torch", "pretrained-dir": pretrained}) == 0
    one, other = weights_of(job.model_dir), weights_of(together.model_dir)
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5)
    for alone, shared in zip(history(job), history(together), strict=True):
        for name in metrics.NAMES:
            assert shared[name] == pytest.approx(alone[name], rel=1e-4)


@pytest.mark.slow
def test_one_process_speaks_for_all(together):
    lines = together.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("epoch=")] == ["epoch=1/3", "epoch=2/3", "epoch=3/3"]
    assert sum("validation images" in line for line in lines) == 1
    assert lines[-1].startswith("best epoch=")


@pytest.mark.slow
def test_debugger_sees_the_first_process(together):
    assert "WARNING: " not in together.stderr
    assert {path.name for path in together.tensors_dir.rglob("*_collections.json")} >= {"worker_0_collections.json"}
    assert len(list(together.tensors_dir.rglob("*worker_0*.tfevents"))) > 0


RANDOM = {"epochs": 5, "augment": "shift+flip", "mixup": 0.2, "dropout": 0.2, "ema": 0.9, "precision": "bf16"}


def rank_pid(process, rank):
    """The process id of one of torchrun's workers."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.environ().get("RANK") == str(rank):
            return child.pid
    raise AssertionError(f"no process has rank {rank}")


@pytest.mark.slow
def test_a_lost_process_ends_the_job_which_then_goes_on_bit_equal(pair, job_class, images, environment, tmp_path):
    """Every process's random streams are in the checkpoint; BatchNorm, mixup and dropout are in play."""
    never, killed = job_class(tmp_path / "never", images, environment), pair
    never.launcher = TORCHRUN
    status, _, stderr = never.run(**RANDOM)
    assert status == 0, stderr
    resumable = RANDOM | {"checkpoint-dir": tmp_path / "checkpoints"}
    process = killed.start(**resumable)
    for line in process.stdout:
        if line.startswith("epoch=2"):  # so that the first epoch's checkpoint stands
            break
    os.kill(rank_pid(process, 1), signal.SIGKILL)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert killed.failure.startswith("another process of this training has ended")
    assert re.search("Signal 9 .SIGKILL.", stderr)  # torchrun says which and how

    shutil.rmtree(killed.model_dir)
    status, stdout, stderr = killed.run(**resumable)
    assert status == 0, stderr
    assert "going on after epoch" in stdout
    one, other = weights_of(killed.model_dir), weights_of(never.model_dir)
    assert all(torch.equal(one[name], other[name]) for name in other)


LEAVE = """
import os, pathlib, sys, torch
from training import distributed

def train():
    class Training: pass
    training = Training()
    training.me, training.learner = training, group.wrap(torch.nn.Linear(4, 4))
    training.learner(torch.randn(2, 4)).sum().backward()
    group.any(False)

group = distributed.join()
train()
group.close()
threads = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
left = [name for name in threads if "gloo" in name]
# A file each: lines that processes write into one pipe may mix.
pathlib.Path(sys.argv[1], os.environ["RANK"]).write_text(f"left: {left}")
"""


@pytest.mark.slow
def test_no_thread_of_the_group_outlives_it(pair, tmp_path):
    """One that does aborts the process now and then, and torchrun kills the first one while it exports."""
    (tmp_path / "leave.py").write_text(LEAVE)
    (tmp_path / "said").mkdir()
    command = [sys.executable, *TORCHRUN, str(tmp_path / "leave.py"), str(tmp_path / "said")]
    environment = pair.environment | {"PYTHONPATH": str(Path(distributed.__file__).parents[1])}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 0, ended.stderr
    said = {path.name: path.read_text() for path in (tmp_path / "said").iterdir()}
    assert said == {"0": "left: []", "1": "left: []"}


@pytest.mark.slow
def test_sigterm_stops_all_processes_together(pair):
    process = pair.start(epochs=1000)
    for line in process.stdout:
        if line.startswith("epoch="):
            break
    process.send_signal(signal.SIGTERM)  # torchrun passes it on, and ends with an error of its own
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert "stopped by SIGTERM" in stdout, stderr
    assert stdout.splitlines()[-1].startswith("best epoch=")
    assert not (pair.output_dir / "failure").exists()
    assert artifact.read_description(pair.model_dir)["best_epoch"] >= 1


@pytest.mark.slow
def test_a_loss_that_breaks_in_one_process_fails_the_job_once(pair, tmp_path):
    weights = model.build("resnet18", 3, "small").state_dict()
    weights["fc.bias"] += float("nan")
    torch.save(weights, tmp_path / "broken.pth")
    pair.environment["SM_CHANNEL_PRETRAINED"] = str(tmp_path)
    status, _, stderr = pair.run(weights="channel")
    assert status == 1
    assert pair.failure.startswith("NONFINITE_LOSS: the loss became nan at step 0 (epoch 1)")
    assert stderr.count("train.py: failed: NONFINITE_LOSS") == 1


SHARES = (slice(0, 4), slice(4, 7))


def groups(size):
    return [distributed.Group(torch.device("cpu"), rank, size) for rank in range(size)]


@pytest.mark.parametrize(("count", "batch_size", "size"), [(24, 8, 2), (25, 8, 2), (27, 8, 2), (31, 9, 3), (16, 16, 4)])
def test_shares_make_up_each_batch(count, batch_size, size):
    order = torch.randperm(count)
    shares = [group.share(order, batch_size) for group in groups(size)]
    batches = [torch.cat(parts) for parts in zip(*shares, strict=True)]  # as many steps in each process
    assert torch.equal(torch.cat(batches), order)
    assert min(len(part) for parts in shares for part in parts) >= 2  # BatchNorm cannot learn from one image
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(batches) == num_chunks(count, batch_size, least=2 * size)


@pytest.mark.parametrize(("count", "size"), [(9, 2), (1, 2), (3, 4), (100, 3)])
def test_every_validation_image_is_seen_once(count, size):
    parts = [part for group in groups(size) for part in group.part(count, 4)]
    assert torch.equal(torch.cat(parts), torch.arange(count))


@pytest.mark.parametrize("head", ["softmax", "binary"])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_losses_of_shares_add_up_to_the_batchs(head, weights):
    settings = Loss(class_weights=weights, label_smoothing=0.1)
    labels = torch.tensor([0, 1, 1, 1, 0, 1, 1])
    logits = torch.randn(7, 1 if head == "binary" else 2)
    criterion = losses.make_loss(settings, head, labels, 2)
    parts = [(criterion(logits[part], labels[part]), losses.batch_weight(criterion, labels[part])) for part in SHARES]
    together = sum(loss * mass for loss, mass in parts) / sum(mass for _, mass in parts)
    torch.testing.assert_close(together, criterion(logits, labels))


def test_several_instances_without_a_distribution_are_refused(main, job, monkeypatch):
    monkeypatch.setenv("SM_HOSTS", '["algo-1","algo-2"]')
    assert main({}) == 1
    assert job.failure.startswith("the job has 2 instances, and each would train by itself; set the hyperparameter")
