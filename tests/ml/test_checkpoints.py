"""A training that was killed goes on as if it had not been, and never from what another one left."""

import json
import shutil
import signal

import pytest
import torch

from network import model
from tests.ml.conftest import SMALL, weights_of
from training import flags

RESUMABLE = {"epochs": 4, "augment": "shift+flip", "ema": 0.9, "dropout": 0.2, "mixup": 0.2, "seed": 3}


@pytest.fixture(scope="module")
def never_killed(job_class, images, environment, tmp_path_factory):
    """The weights of a training with everything random that was not interrupted."""
    job = job_class(tmp_path_factory.mktemp("never"), images, environment)
    status, _, stderr = job.run(**RESUMABLE, **{"checkpoint-dir": job.output_dir / "checkpoints"})
    assert status == 0, stderr
    return weights_of(job.model_dir)


def killed_in_an_epoch(job, options):
    process = job.start(**options)
    seen = 0
    while seen < 2:  # the first checkpoint stands; somewhere in the third epoch
        seen += process.stdout.readline().startswith("epoch=")
    process.kill()
    process.communicate()


# torch.save that is killed when half of the second checkpoint is on the disk.
CUT = """
import os, signal, sys
import torch, train
whole, saved = torch.save, []
def cut(state, path):
    whole(state, path)
    saved.append(path)
    if len(saved) == 2:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
torch.save = cut
sys.exit(train.main(sys.argv[2:]))
"""


def killed_in_a_checkpoint(job, options):
    job.launcher = ("-c", CUT)
    assert job.run(**options)[0] == -signal.SIGKILL
    job.launcher = ()


@pytest.mark.parametrize("killed", [killed_in_an_epoch, killed_in_a_checkpoint])
def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(job, never_killed, killed):
    options = RESUMABLE | {"checkpoint-dir": job.output_dir / "checkpoints"}
    killed(job, options)
    shutil.rmtree(job.model_dir, ignore_errors=True)  # as after a spot interruption
    status, stdout, stderr = job.run(**options)
    assert status == 0, stderr
    assert "going on after epoch" in stdout
    weights = weights_of(job.model_dir)
    assert all(torch.equal(weights[name], never_killed[name]) for name in never_killed)
    assert [path.name for path in (job.output_dir / "checkpoints").iterdir()] == ["last.pt"]


def test_a_finished_training_gives_its_model_and_history_again(main, job, tmp_path, capsys):
    arguments = [*SMALL, "--checkpoint-dir", str(tmp_path / "checkpoints")]
    assert main(arguments) == 0
    first, said = weights_of(job.model_dir), capsys.readouterr().out.splitlines()[-1]
    history = (job.output_dir / "data/history.json").read_text()
    for folder in (job.model_dir, job.output_dir):  # as on another machine
        shutil.rmtree(folder)
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == said
    assert all(torch.equal(tensor, first[name]) for name, tensor in weights_of(job.model_dir).items())
    assert (job.output_dir / "data/history.json").read_text() == history
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.pt"]


def test_a_checkpoint_of_another_training_is_refused(main, job, tmp_path):
    arguments = [*SMALL, "--checkpoint-dir", str(tmp_path / "checkpoints")]
    assert main(arguments) == 0
    assert main([*arguments, "--lr", "0.01"]) == 1
    assert "is of another training (lr 0.002 then, 0.01 now); delete it or use another folder" in job.failure


def test_a_checkpoint_of_other_images_is_refused(main, job, tmp_path, images, monkeypatch):
    arguments = [*SMALL, "--checkpoint-dir", str(tmp_path / "checkpoints")]
    assert main([*arguments, "--epochs", "1"]) == 0
    others = tmp_path / "others"
    shutil.copytree(images, others)
    for channel in ("train", "validation"):
        (others / channel / "blue").rename(others / channel / "azure")
        monkeypatch.setenv(f"SM_CHANNEL_{channel.upper()}", str(others / channel))
    assert main([*arguments, "--epochs", "1"]) == 1
    named = "(classes ['blue', 'green', 'red'] then, ['azure', 'green', 'red'] now); delete it or use another folder"
    assert named in job.failure
    for channel in ("train", "validation"):
        (others / channel / "azure").rename(others / channel / "blue")
    assert main([*arguments, "--epochs", "1"]) == 0
    shutil.copyfile(others / "train/red/0.png", others / "train/red/1.png")
    assert main([*arguments, "--epochs", "1"]) == 1
    assert "is of another training (dataset_fingerprint '" in job.failure


def test_a_checkpoint_of_other_first_weights_is_refused(main, job, tmp_path, monkeypatch):
    arguments = [*SMALL, "--epochs", "1", "--weights", "channel", "--checkpoint-dir", str(tmp_path / "checkpoints")]
    (tmp_path / "pretrained").mkdir()
    monkeypatch.setenv("SM_CHANNEL_PRETRAINED", str(tmp_path / "pretrained"))
    for seed, status in ((1, 0), (2, 1)):
        torch.manual_seed(seed)
        torch.save(model.build("resnet18", 3, "small").state_dict(), tmp_path / "pretrained" / "weights.pth")
        assert main(arguments) == status
    assert "is of another training (pretrained_weights '" in job.failure


def test_a_checkpoint_of_another_network_is_refused(main, job, tmp_path):
    arguments = [*SMALL, "--epochs", "1", "--checkpoint-dir", str(tmp_path / "checkpoints")]
    assert main(arguments) == 0
    assert main([*arguments, "--arch", "resnet34"]) == 1
    assert "(arch 'resnet18' then, 'resnet34' now); delete it or use another folder" in job.failure


def test_a_file_that_is_no_checkpoint_is_refused(main, job, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    torch.save([1], tmp_path / "checkpoints" / "last.pt")
    assert main([*SMALL, "--checkpoint-dir", str(tmp_path / "checkpoints")]) == 1
    assert "last.pt' has format None, not 2; delete it to start anew" in job.failure


def test_checkpoints_lie_where_sagemaker_says_below_the_jobs_name(tmp_path, monkeypatch):
    (tmp_path / "checkpointconfig.json").write_text(json.dumps({"S3Uri": "s3://b/c", "LocalPath": "/opt/ml/here"}))
    monkeypatch.setenv("CHECKPOINT_CONFIG_FILE_PATH", str(tmp_path / "checkpointconfig.json"))
    monkeypatch.setenv("TRAINING_JOB_NAME", "trial-003")
    assert (
        flags.parse(["--train-dir", "t", "--validation-dir", "v", "--model-dir", "m"], "").folders.checkpoint_dir
        == "/opt/ml/here/trial-003"
    )
