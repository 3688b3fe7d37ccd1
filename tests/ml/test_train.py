import json
import re
import signal

import pytest
import torch

import flags
import metrics
import model
import train


def test_each_epoch_prints_its_metrics(finished):
    lines = [line for line in finished.stdout.splitlines() if line.startswith("epoch=")]
    assert [line.split()[0] for line in lines] == ["epoch=1/3", "epoch=2/3", "epoch=3/3"]
    for name in metrics.NAMES:
        assert all(re.search(f"{name}=([0-9.eE+-]+)", line) for line in lines)


def test_the_last_line_repeats_the_best_epoch(finished):
    *_, last = finished.stdout.splitlines()
    history = json.loads((finished.output_dir / "data" / "history.json").read_text())
    best = max(history, key=lambda epoch: (epoch["validation:accuracy"], -epoch["validation:loss"]))
    assert last == metrics.best_line(best["epoch"], 3, best)


def test_the_artifact_knows_how_it_was_made(finished):
    _, description = model.load_artifact(finished.model_dir)
    assert description["classes"] == ["red", "green", "blue"]
    assert description["dataset_fingerprint"] == "f00d"
    assert description["hyperparameters"]["lr"] == 0.002
    assert description["versions"]["torch"] == torch.__version__


def test_what_was_learnt_is_served(finished, images, monkeypatch):
    """Through the code that travels inside the artifact, as a container would import it."""
    import inference

    network = inference.model_fn(finished.model_dir)
    request = inference.input_fn((images / "train/red/0.png").read_bytes(), "image/png")
    answer = inference.predict_fn(request, network)
    assert (answer["label"], answer["index"]) == ("red", 0)


def test_sigterm_keeps_the_best_so_far(job):
    process = job.start(epochs=1000)
    for line in process.stdout:
        if line.startswith("epoch="):
            break
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "stopped by SIGTERM" in stdout
    assert stdout.splitlines()[-1].startswith("best epoch=")
    assert model.load_artifact(job.model_dir)


def test_a_loss_that_explodes_fails_the_job(job, tmp_path):
    weights = model.build("resnet18", 3, "small").state_dict()
    weights["fc.bias"] += float("nan")
    torch.save(weights, tmp_path / "broken.pth")
    job.environment["SM_CHANNEL_PRETRAINED"] = str(tmp_path)
    status, _, _ = job.run(weights="channel")
    assert status == 1
    assert job.failure.startswith("NONFINITE_LOSS: the loss became nan at step 0 (epoch 1)")
    assert not (job.model_dir / "model.pth").exists()


@pytest.fixture
def main(job, monkeypatch):
    """train.main with a job's environment: for what ends before the first step, cheaper than a process."""
    for name, value in job.environment.items():
        if name.startswith("SM_"):
            monkeypatch.setenv(name, value)
    return train.main


def test_a_job_that_cannot_start_says_why(main, job, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(tmp_path / "empty"))
    assert main([]) == 1
    reason, *trace = job.failure.splitlines()
    assert reason.startswith("channel 'empty' holds no images")
    assert "ValueError" in trace[-1]
    assert "train.py: failed: channel 'empty' holds no images" in capsys.readouterr().err


def test_a_wrong_flag_fails_the_job_at_once(main, job):
    assert main(["--lr", "1e999"]) == 2
    assert job.failure == "argument --lr: '1e999' is not a number above 0, at most 10"


FOLDERS = ["--train-dir", "t", "--validation-dir", "v", "--model-dir", "m"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "nan"], "--lr: 'nan' is not a number above 0"),
        (["--lr", "0"], "--lr: '0' is not a number above 0"),
        (["--epochs", "0"], "--epochs: '0' is not an integer from 1 to 1000"),
        (["--epochs", "2.5"], "--epochs: '2.5' is not an integer"),
        (["--batch-size", "1"], "--batch-size: '1' is not an integer from 2"),
        (["--arch", "vgg11"], "--arch: invalid choice: 'vgg11'"),
        (["--learning-rate", "0.1"], "unrecognized arguments: --learning-rate 0.1"),
        (["--epoch", "3"], "unrecognized arguments: --epoch 3"),
    ],
)
def test_bad_hyperparameters_are_refused_by_name(arguments, message):
    with pytest.raises(flags.UsageError) as caught:
        flags.parse(FOLDERS + arguments, "")
    assert message in str(caught.value)


def test_missing_folders_are_asked_for(monkeypatch):
    monkeypatch.delenv("SM_MODEL_DIR", raising=False)
    with pytest.raises(flags.UsageError, match="required: --model-dir"):
        flags.parse(FOLDERS[:4], "")


def test_training_survives_a_broken_smdebug(job, tmp_path):
    (tmp_path / "smdebug").mkdir()
    (tmp_path / "smdebug" / "__init__.py").write_text("raise ImportError('incompatible protobuf')")
    (tmp_path / "hook.json").write_text("{}")
    job.environment |= {"PYTHONPATH": str(tmp_path), "SMDEBUG_CONFIG_FILE_PATH": str(tmp_path / "hook.json")}
    status, _, stderr = job.run(epochs=1)
    assert status == 0
    assert "incompatible protobuf" in stderr
    assert "WARNING: smdebug could not start; training goes on WITHOUT debug tensors" in stderr
