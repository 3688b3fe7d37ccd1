"""Frozen networks: what they see is computed once, shared, and teaches the head what the long way teaches."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

import train
from dataset import augment, channel
from dataset.array_cache import ArrayCache
from network import model
from training import features, frozen_part, graph

CLASSES = ["blue", "green", "red"]


def network_of(arch="resnet18", **options):
    torch.manual_seed(0)
    network = model.build(arch, 3, "small" if arch.startswith("resnet") else "standard", **options)
    model.freeze(network, "head")
    return network


class Look:
    """Features of the train channel, from a cache in `folder`; remembers how often the network computed."""

    def __init__(self, images, folder, network=None, views=2, side=16, precision=torch.float32, pixels=0):
        self.network, self.passes = network or network_of(), 0
        folder.mkdir(exist_ok=True)
        self.channel = channel.Channel(images / "train", CLASSES, side, ArrayCache(folder, print))
        head = features.head_of(self.network, side)
        self.network.register_forward_pre_hook(self.count)
        autocast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16)  # noqa: E731
        extractor = features.Extractor(
            self.network, head, channel.normalise, autocast, "resnet18", precision, print, pixels
        )
        self.features = extractor.features(self.channel, views)

    def count(self, *_):
        self.passes += 1


@pytest.fixture
def trained(job, images, monkeypatch, tmp_path, capsys):
    """trained(flags, short_cut) -> (the weights, the history, what was printed) of a training from the same weights."""
    (tmp_path / "pretrained").mkdir()
    for name, value in job.environment.items():
        if name.startswith("SM_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("SM_CHANNEL_PRETRAINED", str(tmp_path / "pretrained"))
    usable = features.usable

    def run(flags, short_cut, cache="none"):
        monkeypatch.setattr(features, "usable", usable if short_cut else lambda trainable, images, watched: False)
        options = "--trainable head --weights channel --precision fp32 --batch-size 8 --epochs 3 --serving torch"
        assert train.main([*options.split(), "--cache-dir", str(cache), *flags.split()]) == 0
        history = json.loads((Path(job.output_dir) / "data" / "history.json").read_text())
        state = model.read_state(Path(job.model_dir) / "model.safetensors")
        return state, history, capsys.readouterr().out

    return run


def assert_alike(fast, slow):
    """Within the tolerance that features.py states."""
    for name, tensor in slow[0].items():
        torch.testing.assert_close(fast[0][name], tensor, rtol=1e-3, atol=1e-4)
    for one, other in zip(fast[1], slow[1], strict=True):
        for metric in ("train:loss", "validation:loss"):
            assert one[metric] == pytest.approx(other[metric], rel=1e-3)


@pytest.mark.parametrize("options", ["--augment flip", "--augment flip --hidden-units 16 --dropout 0.2 --ema 0.9"])
def test_a_head_learnt_from_two_views_is_the_one_learnt_from_flipped_images(trained, tmp_path, options):
    torch.save(model.build("resnet18", 7, "small").state_dict(), tmp_path / "pretrained/w.pth")
    flags = f"--stem small --image-size 16 {options}"
    fast, slow = trained(flags, True), trained(flags, False)
    assert ("its view of each image is computed once" in fast[2], "computed once" in slow[2]) == (True, False)
    assert_alike(fast, slow)


def test_networks_of_torchvision_take_the_short_cut_too(trained, tmp_path):
    """With dropout right before the last layer, which must go on dropping."""
    torch.save(model.build("mobilenet_v3_small", 7).state_dict(), tmp_path / "pretrained/w.pth")
    fast, slow = (trained("--arch mobilenet_v3_small --image-size 32", short_cut) for short_cut in (True, False))
    assert "computed once" in fast[2]
    assert_alike(fast, slow)


OFTEN = ["OpenVINO computes the frozen layers", "torch computes the frozen layers"]


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small"])
def test_many_images_go_through_openvino_and_teach_the_same_head(trained, tmp_path, monkeypatch, arch):
    torch.save(model.build(arch, 7).state_dict(), tmp_path / "pretrained/w.pth")
    flags = f"--arch {arch} --image-size 32 --augment flip"
    slow = trained(flags, False)
    few = trained(flags, True)
    monkeypatch.setattr(frozen_part, "WORTH", 1)
    fast = trained(flags, True)
    assert [[line in out for line in OFTEN] for *_, out in (few, fast)] == [[False, False], [True, False]]
    assert_alike(fast, slow)


class Wrong:
    """Another network's vectors."""

    def __init__(self, part, side):
        self.part = part

    def __call__(self, images):
        return self.part(images) * 1.001


def refuse(*_):
    raise RuntimeError("no such operation")


@pytest.mark.parametrize(
    ("place", "name", "instead", "said"),
    [
        (frozen_part, "OpenVinoPart", Wrong, "OpenVINO's vectors differ by 0.001 of their norm"),
        (graph, "convert", refuse, "the network cannot become an OpenVINO graph: no such operation"),
        (graph, "MAX_GRAPH_BYTES", 1000, "its weights are so many that the conversion would take minutes"),
    ],
)
def test_where_openvino_fails_torch_computes_and_says_why(
    images, tmp_path, monkeypatch, capsys, place, name, instead, said
):
    monkeypatch.setattr(place, name, instead)
    look = Look(images, tmp_path / "cache", pixels=frozen_part.WORTH)
    assert f"torch computes the frozen layers: {said}" in capsys.readouterr().out
    assert torch.equal(look.features.vectors, Look(images, tmp_path / "other").features.vectors)


def test_without_openvino_torch_computes(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)
    look = Look(images, tmp_path / "cache", pixels=frozen_part.WORTH)
    assert look.passes == 2
    assert "OpenVINO" not in capsys.readouterr().out


def test_the_trials_of_a_tuning_job_share_the_vectors(trained, tmp_path, monkeypatch):
    torch.save(model.build("resnet18", 7, "small").state_dict(), tmp_path / "pretrained/w.pth")
    flags, cache = "--stem small --image-size 16 --augment flip", tmp_path / "cache"
    trained(flags, True, cache)
    files = sorted(path.name for path in cache.iterdir())
    monkeypatch.setattr(features.Extractor, "vectors", None)  # nobody may compute any
    trained(f"{flags} --lr 0.02 --batch-size 5 --hidden-units 8 --dropout 0.1 --optimizer sgd", True, cache)
    assert sorted(path.name for path in cache.iterdir()) == files


def test_a_shared_vector_is_the_very_same(images, tmp_path):
    first, second = (Look(images, tmp_path / "cache") for _ in range(2))
    assert (first.passes, second.passes) == (2, 0)
    assert torch.equal(first.features.vectors, second.features.vectors)


@pytest.mark.parametrize("change", ["weights", "statistics", "precision", "side", "views", "images", "openvino"])
def test_vectors_of_something_else_are_not_taken(images, tmp_path, change):
    Look(images, tmp_path / "cache")
    network, options = network_of(), {}
    if change == "weights":
        network.conv1.weight.data[0, 0, 0, 0] += 0.1
    elif change == "statistics":
        network.layer4[1].bn2.running_mean += 0.1
    elif change == "images":
        images = other_images(images, tmp_path)
    else:
        options = {
            "precision": {"precision": torch.bfloat16},
            "side": {"side": 24},
            "views": {"views": 1},
            "openvino": {"pixels": frozen_part.WORTH},
        }[change]
    look = Look(images, tmp_path / "cache", network, **options)
    assert look.passes > 0
    expected = Look(images, tmp_path / "fresh", network, **options)
    assert torch.equal(look.features.vectors, expected.features.vectors)


def other_images(images, tmp_path):
    """The same with one replaced, under its old name."""
    shutil.copytree(images / "train", tmp_path / "other/train")
    shutil.copy(images / "validation/red/0.png", tmp_path / "other/train/red/0.png")
    return tmp_path / "other"


def test_the_second_view_is_that_of_the_mirrored_image(images, tmp_path):
    look = Look(images, tmp_path / "cache")
    pixels = torch.cat([pixels for pixels, _ in look.channel.batches(24)])
    body = torch.nn.Sequential(*list(look.network.children())[:-1], torch.nn.Flatten())
    with torch.no_grad():
        for view, shown in enumerate((pixels, pixels.flip(2))):
            torch.testing.assert_close(
                look.features.vectors[:, view], body(channel.normalise(shown)), rtol=1e-3, atol=1e-4
            )


def test_over_many_epochs_each_view_is_met_about_as_often(images, tmp_path):
    look, generator = Look(images, tmp_path / "cache"), torch.Generator().manual_seed(0)
    first = look.features.vectors[:, 0]
    met = 0
    for _ in range(40):
        for vectors, _ in look.features.batches(24):
            met += (augment.augment(vectors, "flip", generator) == first).all(dim=1).float().mean()
    assert 0.45 < met / 40 < 0.55


@pytest.mark.parametrize(
    ("arch", "parts"),
    [("resnet50", ["Linear"]), ("mobilenet_v2", ["Dropout", "Linear"]), ("vgg11", None), ("squeezenet1_1", None)],
)
def test_only_networks_that_end_in_their_head_are_parted_there(arch, parts):
    """vgg drops out between frozen layers, squeezenet pools after its last convolution."""
    head = features.head_of(network_of(arch), 64)
    assert (head and [re.sub(r"\(.*", "", str(layer)) for layer in head]) == parts


def test_a_head_with_layers_of_its_own_stays_whole():
    head = features.head_of(network_of(hidden_units=8, dropout=0.5), 16)
    assert [name for name, _ in head[0].named_children()] == ["hidden", "relu", "dropout", "logits"]
