"""What export.py decides, and that what it wrote is served: here, elsewhere, and without torch."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset import channel
from network import artifact, model, runtime
from tests.waiting import PATIENCE_S
from training import export, graph

ML = Path(__file__).parents[2] / "ml"
CLASSES = ["blue", "green", "red"]


@pytest.fixture(scope="module")
def validation(images):
    return channel.Channel(images / "validation", CLASSES, 16)


def write(folder, arch="resnet18", stem="small"):
    """An artifact whose weights are random, and whose outputs are small numbers apart from each other."""
    torch.manual_seed(0)
    shape = {"arch": arch, "num_outputs": 3, "stem": stem}
    network = model.build(**shape)
    description = {"classes": CLASSES, "image_size": 16, "mean": channel.MEAN, "std": channel.STD}
    artifact.save(folder, network.state_dict(), {"network": shape, **description})
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory, validation):
    """An artifact that is served with OpenVINO."""
    folder = write(tmp_path_factory.mktemp("exported"))
    serving = export.export(folder, validation, "openvino")
    assert serving["runtime"] == "openvino", serving
    # Which precision was faster depends on the machine.
    artifact.describe(folder, artifact.read_description(folder) | {"serving": serving | {"precision": "fp32"}})
    return folder


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)


def reference(folder, pixels):
    return runtime.Model(runtime.Torch(folder, "fp32"), artifact.read_description(folder)).predict(pixels)


def test_openvino_gives_torchs_logits(exported, pixels):
    served = runtime.Model(runtime.OpenVino(exported, "fp32"), artifact.read_description(exported))
    for count in (1, 5):
        expected = reference(exported, pixels[:count])
        np.testing.assert_allclose(served.predict(pixels[:count]), expected, atol=export.TOLERANCE)


def test_model_json_says_what_was_compared(exported, validation):
    serving = artifact.read_description(exported)["serving"]
    assert (serving["agreement"], serving["images"]) == (1.0, len(validation))
    assert "openvino fp32" in serving["reason"] and "torch fp32" in serving["reason"]


def test_the_graph_holds_no_second_copy_of_the_weights(exported):
    assert (exported / artifact.WEIGHTS).stat().st_size > 40_000_000
    assert (exported / artifact.GRAPH_NUMBERS).stat().st_size < 10_000


def test_torchvisions_networks_are_converted_too(tmp_path, validation, pixels):
    folder = write(tmp_path, "mobilenet_v3_small", "standard")
    assert export.export(folder, validation, "openvino")["runtime"] == "openvino"
    np.testing.assert_allclose(runtime.load(folder).predict(pixels), reference(folder, pixels), atol=export.TOLERANCE)


def test_the_fastest_that_agrees_is_chosen(tmp_path, validation):
    """Whichever this machine finds fastest: it was measured against the others, or they say why they were not."""
    serving = export.export(write(tmp_path), validation)
    assert all(f"{runtime} {precision}" in serving["reason"] for runtime, precision in export.CANDIDATES)
    assert runtime.load(tmp_path).side == 16


def test_threads_may_ask_at_once(exported, pixels):
    served = runtime.load(exported)
    expected = [served.predict(pixels[[number]]) for number in range(5)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: served.predict(pixels[[number % 5]]), range(200)))
    for number, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, expected[number % 5])


def test_several_images_at_once_get_the_answers_of_each_alone(exported, pixels):
    """Also where several threads ask for that: each gets the answers to its own images, in their order."""
    served = runtime.load(exported)
    expected = np.concatenate([served.predict(pixels[[number]]) for number in range(5)])
    orders = [np.random.default_rng(seed).permutation(5) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda order: served.predict(pixels[order]), orders))
    for order, answer in zip(orders, answers, strict=True):
        np.testing.assert_allclose(answer, expected[order], atol=export.TOLERANCE)


class Different(runtime.OpenVino):
    """A runtime that is fast and wrong."""

    def logits(self, images):
        return -torch.arange(3.0).expand(len(images), 3).numpy()


def test_what_does_not_agree_is_not_served(tmp_path, validation, monkeypatch, pixels):
    monkeypatch.setitem(runtime.RUNTIMES, "openvino", Different)
    serving = export.export(write(tmp_path), validation)
    assert serving["runtime"] == "torch"
    assert "not openvino fp32: it gives only" in serving["reason"]
    assert not (tmp_path / artifact.GRAPH).exists()
    np.testing.assert_allclose(runtime.load(tmp_path).predict(pixels), reference(tmp_path, pixels), atol=0.1)


class NotANumber(runtime.OpenVino):
    """Right about every class, but for a logit that is not finite."""

    def logits(self, images):
        logits = super().logits(images).copy()
        logits[0, logits[0].argmin()] = -np.inf
        return logits


def test_what_is_not_finite_is_not_served(tmp_path, validation, monkeypatch):
    monkeypatch.setitem(runtime.RUNTIMES, "openvino", NotANumber)
    serving = export.export(write(tmp_path), validation, "openvino")
    assert serving["runtime"] == "torch" and "its logits are not all finite numbers" in serving["reason"]


class Broken(runtime.OpenVino):
    def logits(self, images):
        raise RuntimeError("out of luck")


def test_a_failing_measurement_does_not_fail_the_training(tmp_path, validation, monkeypatch):
    monkeypatch.setitem(runtime.RUNTIMES, "openvino", Broken)
    serving = export.export(write(tmp_path), validation)
    assert serving["runtime"] == "torch" and "RuntimeError: out of luck" in serving["reason"]
    assert artifact.read_description(tmp_path)["serving"] == serving


def test_torch_asked_for_is_torch_unmeasured(tmp_path, validation):
    serving = export.export(write(tmp_path), validation, "torch")
    assert (serving["runtime"], serving["precision"], serving["images"]) == ("torch", "fp32", 0)


def test_better_weights_take_the_old_graph_away(exported, tmp_path):
    """Its constants point into the weights of then."""
    for name in (artifact.WEIGHTS, artifact.DESCRIPTION, artifact.GRAPH, artifact.GRAPH_NUMBERS):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    write(tmp_path)
    assert not (tmp_path / artifact.GRAPH).exists()
    assert artifact.read_description(tmp_path)["serving"]["runtime"] == "torch"


# -- eight bits -------------------------------------------------------------------------------------------------------

INT8_TOLERANCE = 0.1  # of the largest logit


@pytest.fixture(scope="module")
def training_images(images):
    return channel.Channel(images / "train", CLASSES, 16)


def write_certain(folder, training_images, common=0.0):
    """An artifact that tells the classes apart; `common` is what all its logits have in common."""
    write(folder)
    network, description = model.load_artifact(folder)
    (pixels, labels), *_ = training_images.batches(len(training_images))
    with torch.no_grad():
        features = []
        head = network.get_submodule(model.head_name(network))
        hook = head.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
        network(channel.normalise(pixels))
        hook.remove()
        centre = features[0].mean(0)
        wanted = 10 * torch.nn.functional.one_hot(labels, 3).float() - 5
        weight = torch.linalg.lstsq(features[0] - centre, wanted, driver="gelsd").solution.T
        head.weight.copy_(weight + common / features[0].sum(1).mean())
        head.bias.copy_(-weight @ centre)
    artifact.save(folder, network.state_dict(), description)
    return folder


def int8_first(candidates, description):
    """In place of a measurement: what takes less time depends on the machine."""
    for candidate in candidates:
        candidate.milliseconds = 1.0 if candidate.precision == "int8" else 2.0


@pytest.fixture
def eight_bits_are_fastest(monkeypatch):
    monkeypatch.setattr(export, "measure", int8_first)


@pytest.fixture(scope="module")
def in_eight_bits(tmp_path_factory, validation, training_images):
    """An artifact that is served in eight bits."""
    folder = write_certain(tmp_path_factory.mktemp("in-eight-bits"), training_images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "measure", int8_first)
        serving = export.export(folder, validation, "int8", training_images)
    assert (serving["runtime"], serving["precision"]) == ("openvino", "int8"), serving
    return folder


def test_eight_bits_are_chosen_where_they_agree(in_eight_bits, validation):
    serving = artifact.read_description(in_eight_bits)["serving"]
    assert (serving["agreement"], serving["images"]) == (1.0, len(validation))
    assert "accuracy on them changes by" in serving["reason"]
    assert (in_eight_bits / artifact.QUANTISED_NUMBERS).stat().st_size < 12_000_000  # of 45 MB
    assert "serving: openvino in int8 (" in export.summary(serving)


def test_eight_bits_are_not_considered_unless_asked_for(tmp_path, validation, training_images, eight_bits_are_fastest):
    serving = export.export(write_certain(tmp_path, training_images), validation, "auto", training_images)
    assert serving["precision"] != "int8" and "int8" not in serving["reason"]
    assert not (tmp_path / artifact.QUANTISED).exists()


def test_what_eight_bits_spoil_is_not_served_in_them(tmp_path, validation, training_images, eight_bits_are_fastest):
    """The classes differ by less than the steps that eight bits leave of logits that large."""
    folder = write_certain(tmp_path, training_images, common=500_000)
    serving = export.export(folder, validation, "int8", training_images)
    assert serving["precision"] != "int8"
    assert "not openvino int8: it gives only" in serving["reason"]
    assert not (folder / artifact.QUANTISED).exists() and not (folder / artifact.QUANTISED_NUMBERS).exists()


def test_eight_bits_that_lose_accuracy_are_refused():
    lossy = export.Candidate("openvino", "int8", agreement=0.993, accuracy_loss=0.006)
    expected = "it loses 0.60% of accuracy on 500 validation images; 0.5% may go"
    assert export.disagreement(lossy, 500, difference=0.02) == expected
    assert export.disagreement(export.Candidate("openvino", "int8", accuracy_loss=-0.1), 500, difference=0.02) == ""


def test_the_same_training_gives_the_same_eight_bits(in_eight_bits, tmp_path, training_images):
    for name in (artifact.WEIGHTS, artifact.DESCRIPTION, artifact.GRAPH, artifact.GRAPH_NUMBERS):
        os.link(in_eight_bits / name, tmp_path / name)
    graph.write_eight_bits(tmp_path, training_images)
    assert (tmp_path / artifact.QUANTISED_NUMBERS).read_bytes() == (
        in_eight_bits / artifact.QUANTISED_NUMBERS
    ).read_bytes()


@pytest.mark.parametrize(
    ("absent", "sentence"),
    [
        ("nncf", "not openvino int8: nncf is not installed here, and eight bits need it"),
        ("openvino", "not openvino int8: openvino is not installed here"),
    ],
)
def test_without_what_makes_eight_bits_it_says_so(absent, sentence, tmp_path, validation, training_images, monkeypatch):
    monkeypatch.setitem(sys.modules, absent, None)
    serving = export.export(write_certain(tmp_path, training_images), validation, "int8", training_images)
    assert serving["precision"] != "int8" and sentence in serving["reason"]


def test_eight_bits_are_served_without_torch_and_nncf(in_eight_bits, images, pixels):
    image = images / "validation/red/0.png"
    *log, answer, kind = run(TOOLKIT, in_eight_bits, image, "torch,nncf")
    assert log == ["serving with openvino in int8"] and kind == "application/json True True"
    *_, expected, _ = run(TOOLKIT, in_eight_bits, image, "openvino")
    answer, expected = json.loads(answer), json.loads(expected)
    assert answer["label"] == expected["label"] == "red"
    largest = max(map(abs, expected["logits"]))
    assert answer["logits"] == pytest.approx(expected["logits"], abs=INT8_TOLERANCE * largest)


def test_where_eight_bits_cannot_be_read_float32_serves(in_eight_bits, tmp_path, pixels, capsys):
    claimed(in_eight_bits, tmp_path)
    (tmp_path / artifact.QUANTISED).write_bytes(b"<net")
    (tmp_path / artifact.QUANTISED_NUMBERS).write_bytes(b"")
    served = runtime.load(tmp_path)
    log = capsys.readouterr().out
    assert "cannot serve with openvino in int8: OpenVINO cannot read" in log and "openvino in fp32" in log
    expected = reference(tmp_path, pixels)
    np.testing.assert_allclose(served.predict(pixels), expected, atol=export.TOLERANCE * np.abs(expected).max())


# -- on another machine -----------------------------------------------------------------------------------------------


def claimed(exported, folder, **serving):
    """A copy of the artifact that asks for something else."""
    for name in (artifact.WEIGHTS, artifact.GRAPH, artifact.GRAPH_NUMBERS):
        os.link(exported / name, folder / name)
    description = artifact.read_description(exported)
    artifact.describe(folder, description | {"serving": description["serving"] | serving})
    return folder


def test_without_bfloat16_it_is_served_in_float32(exported, tmp_path, monkeypatch, pixels, capsys):
    claimed(exported, tmp_path, precision="bf16")
    import openvino

    class Core(openvino.Core):
        def get_property(self, *names):
            return ["FP32"] if names == ("CPU", "OPTIMIZATION_CAPABILITIES") else super().get_property(*names)

    monkeypatch.setattr(openvino, "Core", Core)
    served = runtime.load(tmp_path)
    log = capsys.readouterr().out
    assert "cannot serve with openvino in bf16: this processor has no bfloat16" in log
    assert "serving with openvino in fp32" in log
    np.testing.assert_allclose(served.predict(pixels), reference(tmp_path, pixels), atol=export.TOLERANCE)


@pytest.mark.parametrize("damage", [b"", b"<net", b"<net version='99'/>"])
def test_a_graph_that_cannot_be_read_gives_way_to_torch(damage, exported, tmp_path, pixels, capsys):
    claimed(exported, tmp_path)
    (tmp_path / artifact.GRAPH).unlink()
    (tmp_path / artifact.GRAPH).write_bytes(damage)
    served = runtime.load(tmp_path)
    assert "serving with torch in fp32" in capsys.readouterr().out
    np.testing.assert_allclose(served.predict(pixels), reference(tmp_path, pixels), atol=1e-5)


def run(program, *arguments, **environment):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# As the inference toolkit does it: code/ on the path, model_fn once, then the three others for each request.
TOOLKIT = """
import importlib, json, sys
folder, image, hidden = sys.argv[1:]
for name in filter(None, hidden.split(",")):
    sys.modules[name] = None  # importing it raises ImportError
sys.path.insert(0, folder + "/code")
handlers = importlib.import_module("inference")
loaded = handlers.model_fn(folder)
body = bytearray(open(image, "rb").read())
prediction = handlers.predict_fn(handlers.input_fn(body, "image/png"), loaded)
answer, kind = handlers.output_fn(prediction, "application/json; logits=1")
print(answer)
print(kind, "torch" in sys.modules, "openvino" in sys.modules)
"""


def test_the_toolkits_container_has_no_openvino(exported, images):
    """AWS's PyTorch inference container: the same artifact, the same answer, from torch."""
    image = images / "validation/red/0.png"
    *log, without, _ = run(TOOLKIT, exported, image, "openvino")
    assert log == [
        "cannot serve with openvino in fp32: openvino is not installed here",
        "serving with torch in fp32",
    ]
    *_, expected, _ = run(TOOLKIT, exported, image, "")
    assert json.loads(without)["label"] == json.loads(expected)["label"]
    assert json.loads(without)["logits"] == pytest.approx(json.loads(expected)["logits"], abs=export.TOLERANCE)


def test_openvino_serves_without_torch(exported, images):
    """Importing torch takes longer than all the rest of a start."""
    *_, kind = run(TOOLKIT, exported, images / "validation/red/0.png", "torch")
    assert kind == "application/json True True"  # torch stands there as what cannot be imported


NOTHING = """
import sys
sys.modules["torch"] = sys.modules["openvino"] = None
from network import runtime
try:
    runtime.load(sys.argv[1])
except ValueError as error:
    print(error)
"""


def test_where_nothing_can_serve_it_says_what_to_install(exported):
    *_, error = run(NOTHING, exported, PYTHONPATH=str(ML))
    assert error == (
        "cannot serve with openvino in fp32: openvino is not installed here; cannot serve with torch in fp32: "
        "torch is not installed here. Install torch, with which every model can be served"
    )


SILENT = """
import sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print("network:", event, arguments, flush=True)
sys.addaudithook(hook)
from dataset.channel import Channel
from training import export
channels = [Channel(f"{sys.argv[2]}/{name}", ["blue", "green", "red"], 16) for name in ("validation", "train")]
print(export.export(sys.argv[1], channels[0], sys.argv[3], channels[1])["runtime"])
print("nncf" in sys.modules, "openvino_telemetry" in sys.modules)
"""


@pytest.mark.parametrize("wanted", ["openvino", pytest.param("int8", marks=pytest.mark.slow)])
def test_export_tells_nobody(tmp_path, images, wanted):
    """OpenVINO's converter and NNCF report their use over the network, with an identity kept in the home folder.

    Nor does either write to stdout, where SageMaker looks for metrics.
    """
    write(tmp_path / "model")
    (tmp_path / "home").mkdir()
    said = run(SILENT, tmp_path / "model", images, wanted, HOME=str(tmp_path / "home"), PYTHONPATH=str(ML))
    assert said[0] in ("openvino", "torch") and said[1:] == [f"{wanted == 'int8'} False"]
    assert not list((tmp_path / "home").iterdir())


def test_a_training_that_is_stopped_does_not_measure(job):
    """Little time is left after SIGTERM; torch serves what there is."""
    process = job.start(serving="auto", epochs=1000)
    while not process.stdout.readline().startswith("epoch=1/"):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    rest, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert "serving:" not in rest
    assert artifact.read_description(job.model_dir)["serving"] == artifact.UNMEASURED
    assert runtime.load(job.model_dir).predict(np.zeros((1, 16, 16, 3), np.uint8)).shape == (1, 3)


def test_a_trial_is_not_measured(job):
    """SageMaker names the trials of a tuning job so; the best values are trained with once more, by another name."""
    job.environment["TRAINING_JOB_NAME"] = "flowers-261128-030000-001-1a2b3c4d"
    status, stdout, stderr = job.run(serving="auto", epochs=1)
    assert status == 0, stderr
    assert "serving: torch in fp32 (a trial of a search is not served)" in stdout.splitlines()
    assert runtime.load(job.model_dir).predict(np.zeros((1, 16, 16, 3), np.uint8)).shape == (1, 3)


@pytest.mark.parametrize("wanted", ["auto", pytest.param("int8", marks=pytest.mark.slow)])
def test_a_training_chooses_at_its_end(job, wanted):
    status, stdout, stderr = job.run(serving=wanted, epochs=1)
    assert status == 0, stderr
    lines = stdout.splitlines()
    chosen = [line for line in lines if line.startswith("serving: ")]
    assert len(chosen) == 1 and "one image takes" in chosen[0]
    assert ("openvino int8" in chosen[0]) == (wanted == "int8")
    assert lines[-1].startswith("best epoch"), lines[-1]  # what the tuner reads stays last
    assert artifact.read_description(job.model_dir)["serving"]["images"] in (0, 9)
