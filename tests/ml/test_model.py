import pickle

import pytest
import torch

import model


def description(**changes):
    return {"arch": "resnet18", "stem": "small", "classes": ["a", "b"], "image_size": 16} | changes


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_network_is_torchvisions(arch):
    """Same names, same shapes, same function: pretrained weights of either fit the other."""
    import torchvision

    theirs, ours = torchvision.models.get_model(arch).eval(), model.build(arch, 1000, "standard").eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-4)


def test_an_artifact_comes_back_as_it_was(tmp_path):
    network = model.build("resnet18", 2, "small").eval()
    model.save_artifact(tmp_path, network, description())
    loaded, read = model.load_artifact(tmp_path)
    image = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network(image))
    assert read["classes"] == ["a", "b"]
    assert {path.name for path in (tmp_path / "code").iterdir()} == set(model.SERVING_CODE)


def test_an_artifact_of_another_format_is_refused(tmp_path):
    (tmp_path / "model.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99; this code reads format 1"):
        model.load_artifact(tmp_path)


def test_weights_of_another_task_keep_all_but_the_head(tmp_path):
    pretrained = model.build("resnet18", 5, "standard")
    torch.save(pretrained.state_dict(), tmp_path / "five.pth")
    network = model.build("resnet18", 2, "standard")
    messages = model.load_weights(network, "channel", "resnet18", tmp_path)
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
