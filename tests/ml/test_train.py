import functools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from network import artifact, model
from pictures.picture import MEAN
from tests.ml.conftest import SMALL, weights_of
from tests.waiting import PATIENCE_S
from training import features, flags, loop, metrics
from training.distributed import Group
from training.tally import Tally


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
    assert description["versions"].keys() >= {"python", "numpy", "PIL"}
    assert re.fullmatch("[0-9a-f]{64}", description["code_digest"])


def test_what_was_learnt_is_served(finished, images, monkeypatch):
    """Through the code that travels inside the artifact, as a container would import it."""
    import inference

    network = inference.model_fn(finished.model_dir)
    request = inference.input_fn((images / "train/red/0.png").read_bytes(), "image/png")
    answer = json.loads(inference.output_fn(inference.predict_fn(request, network), None)[0])
    assert (answer["label"], answer["index"]) == ("red", 0)


def log_loss_as_served(folder, channel):
    """The mean over a channel's images, by the code of an endpoint."""
    import inference

    served, losses = inference.model_fn(folder), []
    for index, name in enumerate(served.description["classes"]):
        for path in (channel / name).iterdir():
            answer = inference.predict_fn(inference.input_fn(path.read_bytes(), "image/png"), served)
            losses.append(-math.log(answer.probabilities[0, index]))
    return sum(losses) / len(losses)


def test_a_network_is_served_at_its_own_scale(main, job, images, tmp_path):
    """GoogLeNet's pixels go from -1 to 1; one that began in an earlier release goes on with ImageNet's."""
    place = tmp_path / "checkpoints"
    options = ["--arch", "googlenet", "--stem", "standard", "--image-size", "32", "--epochs", "1"]
    assert main([*SMALL, *options, "--checkpoint-dir", str(place)]) == 0
    assert artifact.read_description(job.model_dir)["mean"] == [0.5] * 3
    assert log_loss_as_served(job.model_dir, images / "validation") == pytest.approx(
        history(job)[0]["validation:loss"], abs=1e-4
    )
    state = torch.load(place / "last.pt", weights_only=True)
    del state["normalisation"]
    torch.save(state, place / "last.pt")
    assert main([*SMALL, *options, "--checkpoint-dir", str(place)]) == 0
    assert artifact.read_description(job.model_dir)["mean"] == list(MEAN)


def test_validation_loss_is_the_plain_log_loss(main, two_classes, job, tmp_path):
    """Whatever is minimised, so that trials with other criteria can be compared by it."""
    for head in ("softmax", "binary"):
        given = ["--head", head, "--label-smoothing", "0.4", "--class-weights", "balanced", "--batch-size", "3"]
        assert main([*SMALL, *given, "--precision", "fp32", "--epochs", "1"]) == 0
        served = log_loss_as_served(job.model_dir, tmp_path / "x-rays/validation")
        assert history(job)[0]["validation:loss"] == pytest.approx(served, rel=1e-3)


def test_sigterm_keeps_the_best_so_far(job):
    process = job.start(epochs=1000)
    for line in process.stdout:
        if line.startswith("epoch="):
            break
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert "stopped by SIGTERM" in stdout
    assert stdout.splitlines()[-1].startswith("best epoch=")
    assert model.load_artifact(job.model_dir)


def test_a_loss_that_explodes_fails_the_job(main, job, tmp_path, monkeypatch):
    weights = model.build("resnet18", 3, "small").state_dict()
    weights["fc.bias"] += float("nan")
    torch.save(weights, tmp_path / "broken.pth")
    monkeypatch.setenv("SM_CHANNEL_PRETRAINED", str(tmp_path))
    assert main([*SMALL, "--weights", "channel"]) == 1
    assert job.failure.startswith("NONFINITE_LOSS: the loss became nan at step 0 (epoch 1)")
    assert not (job.model_dir / artifact.WEIGHTS).exists()


def break_after(monkeypatch, epoch, break_network):
    """What a last step of that epoch may do to the weights, when no loss is computed with them any more."""
    share = loop.Training.share_statistics

    def shared(self):
        share(self)
        if self.progress.epoch == epoch:
            with torch.no_grad():
                break_network(self.network)

    monkeypatch.setattr(loop.Training, "share_statistics", shared)


@pytest.mark.parametrize(
    ("break_network", "said"),
    [
        (lambda network: network.fc.bias.fill_(math.nan), "validation:loss became nan"),
        (lambda network: network.fc.weight.fill_(math.inf), "the logits of 9 of 9 validation images became NaN or inf"),
        (lambda network: network.fc.bias[0].fill_(-math.inf), "validation:loss became inf"),
        (lambda network: network.bn1.running_var.fill_(math.inf), "the weights 'bn1.running_var' became NaN or infin"),
    ],
)
def test_a_network_that_broke_in_its_last_step_fails_the_job(main, job, monkeypatch, capsys, break_network, said):
    break_after(monkeypatch, 1, break_network)
    assert main([*SMALL, "--objective", "validation:loss"]) == 1
    assert job.failure.startswith("NONFINITE_METRIC: in epoch 1 ") and said in job.failure
    assert "validation:loss=" not in capsys.readouterr().out
    assert not (job.model_dir / artifact.WEIGHTS).exists()


def test_a_broken_epoch_after_a_good_one_fails_the_job_too(main, job, monkeypatch):
    """It says which was good; a job that ended well would hide from a search that this rate breaks networks."""
    break_after(monkeypatch, 2, lambda network: network.fc.bias.fill_(math.nan))
    assert main(SMALL) == 1
    assert job.failure.startswith("NONFINITE_METRIC: in epoch 2 validation:loss became nan")
    assert "; epoch 1 was the best until then, validation:accuracy " in job.failure
    assert [entry["epoch"] for entry in history(job)] == [1]


def test_an_infinite_logit_counts_where_the_loss_hides_it():
    tally = Tally(2)
    tally.add(torch.tensor([[1.0, -math.inf], [0.0, 1.0]]), torch.tensor([0, 1]), 0.1, 2.0)
    assert tally.results("validation", Group(torch.device("cpu")))[0]["validation:loss"] == pytest.approx(0.1)
    assert tally.broken == 1


def test_a_line_of_the_log_is_written_as_a_whole():
    """Unbuffered, as SageMaker runs scripts; what several processes write into one pipe mixes between writes only."""
    code = "from training import loop; [loop.say(f'{n:0300}') for n in range(2000)]"
    environment = {"PYTHONPATH": str(Path(loop.__file__).parents[1]), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    reading, writing = os.pipe()
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=writing, env=environment) for _ in range(2)]
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = pipe.read().split("\n")
    assert [process.wait() for process in both] == [0, 0]
    assert sorted(lines) == sorted(["", *[f"{number:0300}" for number in range(2000)] * 2])


def test_a_job_that_cannot_start_says_why(main, job, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(tmp_path / "empty"))
    assert main([]) == 1
    reason, *trace = job.failure.splitlines()
    assert reason.startswith("channel 'empty' holds no images")
    assert "ValueError" in trace[-1]
    assert "train.py: failed: channel 'empty' holds no images" in capsys.readouterr().err


def test_a_class_without_images_is_refused_by_name(main, job, images, tmp_path, monkeypatch):
    folder = shutil.copytree(images / "train", tmp_path / "train")
    (folder / "violet").mkdir()
    (folder / "violet" / "Thumbs.db").write_bytes(b"x")
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(folder))
    assert main(SMALL) == 1
    assert job.failure.startswith(
        "the train channel holds no images of 1 of 4 classes: 'violet'; add images, or remove"
    )


def test_one_class_alone_is_refused_by_name(main, job, images, tmp_path, monkeypatch):
    for channel in ("train", "validation"):
        shutil.copytree(images / channel / "red", tmp_path / channel / "red")
        monkeypatch.setenv(f"SM_CHANNEL_{channel.upper()}", str(tmp_path / channel))
    assert main(SMALL) == 1
    assert job.failure.startswith("the data set has one class, 'red', and a classifier tells two or more apart; give")


def test_names_of_any_bytes_are_trained_on_and_told(main, job, images, tmp_path, monkeypatch, capfdbinary):
    """Old cameras, archives and shares leave Latin-1."""
    folder = shutil.copytree(images / "train", tmp_path / "train")
    red = os.fsencode(folder / "red")
    shutil.copyfile(folder / "red" / "0.png", red + b"/caf\xe9.png")
    Path(os.fsdecode(red + b"/caf\xe9.txt")).touch()
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(folder))
    assert main(SMALL) == 0
    assert rb"(such as 'red/caf\xe9.txt')" in capfdbinary.readouterr().out
    Path(os.fsdecode(red + b"/caf\xe9.png")).write_bytes((folder / "red" / "0.png").read_bytes()[:90])
    assert main(SMALL) == 1
    assert job.failure.startswith("'train/red/caf\\xe9.png': the image is damaged")


def test_a_class_that_only_validation_has_is_refused(main, job, images, tmp_path, monkeypatch):
    folder = shutil.copytree(images / "validation", tmp_path / "validation")
    (folder / "red").rename(folder / "violet")
    monkeypatch.setenv("SM_CHANNEL_VALIDATION", str(folder))
    assert main(SMALL) == 1
    assert (
        "channel 'validation' has folders ['violet']; the data set's classes are ['blue', 'green', 'red']"
        in job.failure
    )


def test_a_wrong_flag_fails_the_job_at_once(main, job):
    assert main(["--lr", "1e999"]) == 2
    assert job.failure == "argument --lr: '1e999' is not a number above 0, at most 10"


BALANCED = ["--class-weights", "balanced", "--sampler", "balanced"]
FOLDERS = ["--train-dir", "t", "--validation-dir", "v", "--model-dir", "m"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "nan"], "--lr: 'nan' is not a number above 0"),
        (["--lr", "0"], "--lr: '0' is not a number above 0"),
        (["--epochs", "0"], "--epochs: '0' is not an integer from 1 to 1000"),
        (["--epochs", "2.5"], "--epochs: '2.5' is not an integer"),
        (["--batch-size", "1"], "--batch-size: '1' is not an integer from 2"),
        (["--arch", "vgg1"], "--arch: 'vgg1' is no classification network of torchvision; vgg1"),
        (["--decay-all", "maybe"], "--decay-all: 'maybe' is neither true nor false"),
        (["--augment", "flip+turn"], "--augment: 'flip+turn' is neither none nor some of shift, "),
        (["--trainable", "layer4"], "--weights and --trainable: none and layer4 would freeze layers at random values"),
        (BALANCED, "--class-weights and --sampler: both balanced would count rare classes twice; keep one"),
        (
            [*BALANCED, "--head", "binary"],
            "--class-weights and --sampler: both balanced would count rare classes twice",
        ),
        (["--start-size", "300"], "--start-size: 300 is more than --image-size 224"),
        (["--objective", "validation:recall"], "--objective: invalid choice: 'validation:recall'"),
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
    job.environment["RETRAINING_DEBUG_HOOK"] = "smdebug"
    status, _, stderr = job.run(epochs=1)
    assert status == 0
    assert "incompatible protobuf" in stderr
    assert "WARNING: the debug hook could not start; training goes on WITHOUT debug tensors" in stderr


@pytest.mark.parametrize(("text", "meant"), [("false", False), ("False", False), ("0", False), ("true", True)])
def test_booleans_mean_what_they_say(text, meant):
    """The chest X-ray project lost a search to bool("False") being True."""
    assert flags.parse([*FOLDERS, "--deterministic", text], "").computation.deterministic is meant


def history(job):
    return json.loads((job.output_dir / "data" / "history.json").read_text())


def test_every_option_trains_and_a_seed_gives_the_same_model(main, job):
    options = "--optimizer adamw --weight-decay 0.05 --schedule cosine --label-smoothing 0.1 --class-weights balanced"
    options += " --clip-norm 1 --ema 0.9 --mixup 0.3 --augment crop+flip --start-size 8 --precision fp32 --dropout 0.1"
    learnt = []
    for seed in (5, 5, 6):
        given = [*SMALL, *options.split(), "--deterministic", "true", "--epochs", "3", "--seed", str(seed)]
        assert main(given) == 0
        learnt.append(weights_of(job.model_dir)["fc.logits.weight"])
    torch.use_deterministic_algorithms(False)
    assert len(history(job)) == 3
    assert torch.equal(learnt[0], learnt[1])
    assert not torch.equal(learnt[0], learnt[2])
    assert artifact.read_description(job.model_dir)["network"]["dropout"] == 0.1


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(main, job, monkeypatch):
    """By tracing and differentiating alone: generating machine code is torch's own affair, and takes a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    learnt = []
    for compiled in ("false", "true"):
        assert main([*SMALL, "--precision", "fp32", "--clip-norm", "1", "--ema", "0.9", "--compile", compiled]) == 0
        learnt.append(weights_of(job.model_dir))
    for name, tensor in learnt[0].items():
        torch.testing.assert_close(learnt[1][name], tensor, rtol=1e-3, atol=1e-4)


def test_sagemakers_own_hyperparameters_are_passed_over():
    own = ["--_tuning_objective_metric", "validation:accuracy", "--sagemaker_program", "train.py"]
    assert flags.parse([*own, *FOLDERS, "--lr", "0.1", "--sagemaker_job_name=x"], "").optimizer.lr == 0.1


@pytest.mark.parametrize(("batch_size", "steps"), [(23, 1), (22, 2), (24, 1)])
def test_schedules_reach_their_end(main, batch_size, steps, monkeypatch):
    """Of 24 images one may be left over, which makes no step of its own."""
    seen = set()
    monkeypatch.setattr(loop, "rate", lambda schedule, position: seen.add(position) or 1.0)
    assert main([*SMALL, "--batch-size", str(batch_size), "--check-labels", "false"]) == 0
    assert sorted(seen) == [step / (2 * steps) for step in range(2 * steps)]


def test_training_ends_early_without_gain(main, job, capsys):
    assert main([*SMALL, "--epochs", "50", "--patience", "2", "--min-delta", "0.5"]) == 0
    assert 3 <= len(history(job)) < 50
    assert "no gain of validation:accuracy in 2 epochs" in capsys.readouterr().out


def test_the_best_epoch_is_the_objectives(main, job, capsys):
    assert main([*SMALL, "--epochs", "4", "--objective", "validation:loss", "--lr", "0.02"]) == 0
    best = min(history(job), key=lambda epoch: epoch["validation:loss"])
    assert capsys.readouterr().out.splitlines()[-1] == metrics.best_line(best["epoch"], 4, best)


@pytest.fixture
def two_classes(images, tmp_path, monkeypatch):
    """Unbalanced like chest X-rays, and grey: three of the second class for each of the first."""
    for channel in ("train", "validation"):
        for name, colour in (("NORMAL", "blue"), ("PNEUMONIA", "red")):
            folder = tmp_path / "x-rays" / channel / name
            folder.mkdir(parents=True)
            for index, path in enumerate(sorted((images / channel / colour).iterdir())):
                if colour == "red" or index % 3 == 0:
                    Image.open(path).convert("L").save(folder / path.name)
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(tmp_path / "x-rays/train"))
    monkeypatch.setenv("SM_CHANNEL_VALIDATION", str(tmp_path / "x-rays/validation"))


def test_one_logit_learns_two_classes_by_their_f1(main, two_classes, job, images, capsys):
    assert (
        main([*SMALL, "--head", "binary", "--objective", "validation:f1", "--sampler", "balanced", "--epochs", "3"])
        == 0
    )
    assert re.search("validation:f1=[0-9.]+", capsys.readouterr().out.splitlines()[-1])
    import inference

    network = inference.model_fn(job.model_dir)
    assert artifact.read_description(job.model_dir)["network"]["num_outputs"] == 1
    request = inference.input_fn((images / "train/red/0.png").read_bytes(), "image/png")
    answer = json.loads(inference.output_fn(inference.predict_fn(request, network), None)[0])
    assert sum(answer["probabilities"]) == pytest.approx(1)
    assert {entry["label"] for entry in answer["top"]} == {"NORMAL", "PNEUMONIA"}


@pytest.mark.parametrize("flag", [["--head", "binary"], ["--objective", "validation:f1"]])
def test_what_is_for_two_classes_is_refused_for_more(main, job, flag):
    assert main([*SMALL, *flag]) == 1
    assert job.failure.startswith(f"{' '.join(flag)} is for two classes; the data set has 3: blue, green, red")


def test_float16_needs_a_gpu(main, job):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main([*SMALL, "--precision", "fp16"]) == 1
    assert job.failure.startswith("--precision fp16 needs a GPU")


@pytest.mark.parametrize("options", ["", "--hidden-units 16 --sampler balanced --ema 0.9"])
def test_a_head_learnt_from_vectors_is_the_one_learnt_the_long_way(main, job, options, monkeypatch, capsys, tmp_path):
    (tmp_path / "pretrained").mkdir()
    torch.save(model.build("resnet18", 7, "small").state_dict(), tmp_path / "pretrained/w.pth")
    monkeypatch.setenv("SM_CHANNEL_PRETRAINED", str(tmp_path / "pretrained"))
    arguments = [*SMALL, "--trainable", "head", "--weights", "channel", "--precision", "fp32", *options.split()]
    learnt = []
    for usable in (features.usable, lambda trainable, images, watched: False):
        monkeypatch.setattr(features, "usable", usable)
        assert main([*arguments, "--epochs", "3"]) == 0
        learnt.append((weights_of(job.model_dir), history(job)))
    assert capsys.readouterr().out.count("its view of each image is computed once") == 1
    (fast, fast_history), (slow, slow_history) = learnt
    for name, tensor in slow.items():
        torch.testing.assert_close(fast[name], tensor, rtol=1e-3, atol=1e-4)
    for one, other in zip(fast_history, slow_history, strict=True):
        assert one["validation:loss"] == pytest.approx(other["validation:loss"], rel=1e-3)


@pytest.fixture
def standard_stem(tmp_path, monkeypatch):
    """The file of weights in the channel: of a standard stem, whose first layer does not fit a small one."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    torch.save(model.build("resnet18", 5).state_dict(), folder / "weights.pth")
    monkeypatch.setenv("SM_CHANNEL_PRETRAINED", str(folder))
    return folder / "weights.pth"


HEAD_ONLY = [*SMALL, "--weights", "channel", "--trainable", "head"]


@pytest.mark.parametrize("stem", ["small", "standard"])
def test_a_random_first_layer_learns(main, job, stem, standard_stem, capsys):
    assert main([*HEAD_ONLY, "--stem", stem]) == 0
    said, learnt, first = capsys.readouterr().out, weights_of(job.model_dir), model.read_state(standard_stem)
    changed = {name.split(".")[0] for name, tensor in learnt.items() if not torch.equal(tensor, first[name])}
    assert changed == ({"conv1", "bn1", "fc"} if stem == "small" else {"fc"})
    assert ("conv1 and bn1 learn as well" in said) == (stem == "small") == ("computed once" not in said)


def test_a_checkpoint_of_a_frozen_random_layer_is_refused(main, job, standard_stem, monkeypatch, tmp_path):
    """As earlier releases left one."""
    options = [*HEAD_ONLY, "--epochs", "1", "--checkpoint-dir", str(tmp_path / "checkpoints")]
    with monkeypatch.context() as earlier:
        earlier.setattr(model, "STEM", ())
        assert main(options) == 0
    assert main(options) == 1
    assert "is of an earlier release, which froze a random first layer; delete it" in job.failure


@pytest.mark.parametrize(
    ("trainable", "changes", "watched"),
    [("head", {"augment": "crop"}, False), ("head", {"mixup": 0.2}, False), ("layer4", {}, False), ("head", {}, True)],
)
def test_vectors_are_computed_anew_where_they_would_change(trainable, changes, watched):
    images = flags.parse(FOLDERS, "").images
    assert features.usable("head", images, watched=False)
    assert not features.usable(trainable, replace(images, **changes), watched)


def test_a_job_finds_its_packages_compiled(job):
    """It writes no bytecode itself, as in AWS's containers; without any, a small training takes twice as long."""
    code = """
import importlib.util, os, sys
import nncf, openvino, serve, torch._dynamo, train
files = [module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)]
installed = [file for file in files if "site-packages" in file and file.endswith(".py")]
compiled = [os.path.exists(importlib.util.cache_from_source(file)) for file in installed]
print(len(compiled), compiled.count(False))
"""
    environment = job.environment | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(Path(loop.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    num_modules, missing = map(int, done.stdout.split())
    assert num_modules > 1000
    assert missing == 0, "make setup compiles them: rm .venv/ml/.installed, and make setup"
