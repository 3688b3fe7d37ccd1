import argparse
import importlib.util
import inspect
import pickle
import sys
from pathlib import Path

import pytest
import torch

from network import artifact, model
from pictures import picture


def description(**changes):
    shape = {"arch": "resnet18", "num_outputs": 2, "stem": "small", "hidden_units": 0, "dropout": 0.0}
    return {"network": shape | changes, "classes": ["a", "b"], "image_size": 16}


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_network_is_torchvisions(arch):
    """Same names, same shapes, same function: pretrained weights of either fit the other."""
    import torchvision

    theirs, ours = torchvision.models.get_model(arch).eval(), model.build(arch, 1000, "standard").eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", ["googlenet", "inception_v3"])
def test_the_first_layer_sees_what_torchvisions_sees(arch):
    """Which changes its input once it is built with weights."""
    import torchvision

    theirs = torchvision.models.get_model(arch, transform_input=True, aux_logits=False, init_weights=False)
    ours = model.build(arch, 1000)
    ours.load_state_dict(theirs.state_dict())
    pixels, seen = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8), []
    for network, scale in ((theirs, (picture.MEAN, picture.STD)), (ours, model.normalisation(arch))):
        first = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
        first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        with torch.no_grad():
            network.eval()(picture.normalise(pixels, *scale))
    torch.testing.assert_close(seen[1], seen[0], rtol=0, atol=1e-5)


def test_every_network_gets_its_weights_scale():
    from torchvision import models

    for arch in models.list_models(module=models):
        transforms = models.get_model_weights(arch).DEFAULT.transforms()
        expected = (tuple(transforms.mean), tuple(transforms.std))
        if '"transform_input", True' in inspect.getsource(models.get_model_builder(arch)):
            expected = ((0.5,) * 3, (0.5,) * 3)
        assert model.normalisation(arch) == expected, arch


def test_the_pipeline_knows_torchvisions_networks():
    """Its list stands in another interpreter, which has no torchvision; the file needs nothing but Python."""
    from torchvision import models

    path = Path(__file__).parents[2] / "plugins/retraining/recipe/hyperparameters.py"
    spec = importlib.util.spec_from_file_location("pipeline_hyperparameters", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert sorted(module.ARCHITECTURES) == models.list_models(module=models)


def test_an_artifact_comes_back_as_it_was(tmp_path):
    network = model.build("resnet18", 2, "small").eval()
    artifact.save(tmp_path, network.state_dict(), description())
    loaded, read = model.load_artifact(tmp_path)
    image = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network(image))
    assert read["classes"] == ["a", "b"]
    assert {path.name for path in (tmp_path / "code").iterdir()} == {
        "inference.py",
        "ray_app.py",
        "network",
        "pictures",
    }


def test_an_artifact_of_another_format_is_refused(tmp_path):
    (tmp_path / "model.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99; this code reads format 2"):
        model.load_artifact(tmp_path)


def test_a_blank_network_with_weights_is_the_whole_one():
    whole = model.build("resnet18", 3, "small", hidden_units=4).eval()
    blank = model.build("resnet18", 3, "small", hidden_units=4, blank=True).eval()
    blank.load_state_dict(whole.state_dict())
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(blank(images), whole(images))


def test_a_blank_network_has_random_ends_and_counts_of_nothing(tmp_path):
    """Weights of another task fit all but the ends; those from before 2018 have no num_batches_tracked."""
    state = model.build("resnet18", 5).state_dict()
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    network = model.build("resnet18", 2, "small", blank=True)
    model.load_weights(network, "channel", "resnet18", tmp_path)
    filled = network.state_dict()
    assert all(value.item() == 0 for name, value in filled.items() if name.endswith("num_batches_tracked"))
    assert 0.01 < filled["conv1.weight"].std() < 0.1
    assert 0 < filled["fc.weight"].abs().max() < 0.1
    assert 0 < filled["fc.bias"].abs().max() < 0.1


@pytest.mark.parametrize("trainable", ["all", "layer4", "head"])
def test_what_learns_is_all_that_a_training_changes(trainable):
    network = model.build("resnet18", 2, "small")
    model.freeze(network, trainable)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model.train_mode(network)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1)
    network(torch.randn(4, 3, 16, 16)).square().sum().backward()
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == model.learning(network)


def test_weights_of_another_task_keep_all_but_the_head(tmp_path):
    pretrained = model.build("resnet18", 5, "standard")
    torch.save(pretrained.state_dict(), tmp_path / "five.pth")
    network = model.build("resnet18", 2, "standard")
    messages = [*model.load_weights(network, "channel", "resnet18", tmp_path).values()]
    assert len(messages) == 2
    assert "'fc.weight' starts from random values: (5, 512) in the weights, (2, 512)" in messages[0]
    assert torch.equal(network.layer4[1].conv2.weight, pretrained.layer4[1].conv2.weight)


def test_weights_of_another_arch_are_refused(tmp_path):
    torch.save(model.build("resnet34", 2, "small").state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="do not fit --arch resnet18"):
        model.load_weights(model.build("resnet18", 2, "small"), "channel", "resnet18", tmp_path)


class Exploit:
    def __reduce__(self):
        return print, ("code from a pickle ran",)


def test_a_pickle_with_code_is_refused_unrun(tmp_path, capsys):
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Exploit(), protocol=2))
    with pytest.raises(ValueError, match=r"'w\.pth' is no plain state dict"):
        model.load_weights(model.build("resnet18", 2, "small"), "channel", "resnet18", tmp_path)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(("names", "message"), [([], r"holds \[\]"), (["a.pth", "b.pth"], "exactly one")])
def test_a_pretrained_channel_holds_one_file(names, message, tmp_path):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=message):
        model.only_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("trainable", "learns"),
    [("all", "conv1"), ("layer3+", "layer3"), ("layer4", "layer4"), ("head", "fc")],
)
def test_frozen_parts_do_not_change(trainable, learns):
    network = model.build("resnet18", 2, "small")
    model.freeze(network, trainable)
    model.train_mode(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.randn(4, 3, 16, 16)).sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter += 0.1
    order = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]
    frozen = order[: order.index(learns)]
    changed = {
        name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == set(order) - set(frozen)


def test_an_artifact_runs_no_code_when_it_is_read(tmp_path, capsys):
    artifact.save(tmp_path, model.build("resnet18", 2, "small").state_dict(), description())
    (tmp_path / artifact.WEIGHTS).write_bytes(pickle.dumps(Exploit(), protocol=2))
    with pytest.raises(ValueError, match="is no complete safetensors file"):
        model.load_artifact(tmp_path)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("arch", ["mobilenet_v3_small", "squeezenet1_1", "vit_b_16", "googlenet"])
def test_torchvisions_other_networks_learn_too(arch, tmp_path):
    import torchvision

    side = 224 if arch == "vit_b_16" else 64
    network = model.build(arch, 3)
    pretrained = {"init_weights": False} if arch == "googlenet" else {}
    torch.save(torchvision.models.get_model(arch, **pretrained).state_dict(), tmp_path / "w.pth")
    messages = model.load_weights(network, "channel", arch, tmp_path).values()
    assert messages and all("starts from random values: (1000" in message for message in messages)
    model.freeze(network, "head")
    learning = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert {name.rpartition(".")[0] for name in learning} == {model.head_name(network)}
    model.train_mode(network)
    assert network(torch.randn(2, 3, side, side)).shape == (2, 3)


@pytest.mark.parametrize(("arch", "near"), [("resnet19", "resnet18"), ("mobilnet_v2", "mobilenet_v2")])
def test_an_unknown_network_is_answered_with_near_ones(arch, near):
    with pytest.raises(argparse.ArgumentTypeError, match=f"no classification network of torchvision; .*{near}"):
        model.architecture(arch)


def test_parts_that_only_resnets_have_are_refused_for_others():
    with pytest.raises(ValueError, match=r"--trainable layer4 is for ResNets; this network has no layer4\. Use head"):
        model.freeze(model.build("mobilenet_v3_small", 2), "layer4")
    with pytest.raises(ValueError, match="--stem small is for ResNets"):
        model.build("mobilenet_v3_small", 2, "small")
    with pytest.raises(ValueError, match="--hidden-units and --dropout need a network that ends in a linear layer"):
        model.build("squeezenet1_1", 2, hidden_units=8)


def test_an_extra_layer_is_part_of_the_head(tmp_path):
    pretrained = model.build("resnet34", 1000)
    torch.save(pretrained.state_dict(), tmp_path / "w.pth")
    network = model.build("resnet34", 100, hidden_units=256, dropout=0.2)
    model.load_weights(network, "channel", "resnet34", tmp_path)
    assert [name for name, _ in network.fc.named_children()] == ["hidden", "relu", "dropout", "logits"]
    model.freeze(network, "layer4")
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learning == {"layer4", "fc"}
    assert torch.equal(network.layer3[0].conv1.weight, pretrained.layer3[0].conv1.weight)
    artifact.save(
        tmp_path,
        network.state_dict(),
        description(arch="resnet34", num_outputs=100, stem="standard", hidden_units=256, dropout=0.2),
    )
    loaded, _ = model.load_artifact(tmp_path)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network.eval()(image))


def test_one_logit_decides_between_two_classes():
    logits = torch.tensor([[-2.0], [0.5]])
    two = torch.cat([torch.zeros(2, 1), logits], dim=1)
    assert model.predictions(logits).tolist() == model.predictions(two).tolist() == [0, 1]
