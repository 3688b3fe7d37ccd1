import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from training.losses import BinaryLoss, class_weights, log_loss, make_loss
from training.numerics import fast_in_bfloat16, memory_format, precision
from training.optimisation import Ema, lay_out_like_weights, make_optimizer, rate, uncompiled
from training.settings import Images, Loss, Optimizer, Schedule

ML = Path(__file__).parents[2] / "ml"
OPTIMIZER = Optimizer(optimizer="adamw", lr=0.1, momentum=0.9, weight_decay=0.05, decay_all=False)
IMAGES = Images(image_size=224, start_size=0, augment="none", mixup=0.0, sampler="shuffle")


@pytest.mark.parametrize(("schedule", "end"), [("onecycle", 0.0), ("cosine", 0.01), ("step", 0.01), ("constant", 1.0)])
def test_the_rate_rises_to_its_peak_and_ends_as_its_schedule_says(schedule, end):
    course = [rate(Schedule(schedule=schedule, warm_up=0.3), step / 1000) for step in range(1000)]
    assert max(course) == pytest.approx(1, abs=1e-3)
    assert course[:300] == sorted(course[:300])
    assert course[300:] == sorted(course[300:], reverse=True)
    assert course[-1] == pytest.approx(end, abs=1e-4)
    assert rate(Schedule(schedule=schedule, warm_up=0.0), 0.0) == 1


@pytest.mark.parametrize("decay_all", [False, True])
def test_scales_and_biases_are_spared_the_penalty_unless_asked(decay_all):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    optimizer = make_optimizer(replace(OPTIMIZER, decay_all=decay_all), network)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(network[0].weight)] == decays[id(network[3].weight)] == 0.05
    spared = 0.05 if decay_all else 0.0
    assert decays[id(network[0].bias)] == decays[id(network[1].weight)] == decays[id(network[1].bias)] == spared


def test_frozen_parameters_are_not_given_to_the_optimizer():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    given = [p for group in make_optimizer(OPTIMIZER, network).param_groups for p in group["params"]]
    assert {id(p) for p in given} == {id(p) for p in network[1].parameters()}


def test_averaged_weights_lie_between_the_steps_and_leave_the_network_alone():
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    ema = Ema(network, 0.99)
    for _ in range(20):
        with torch.no_grad():
            network.weight += 1
        ema.update()
    with ema.applied():
        averaged = network.weight.item()
    assert 10 < averaged < 20
    assert network.weight.item() == 20


def test_class_weights_are_in_inverse_proportion_to_the_classes():
    labels = torch.tensor([0] * 60 + [1] * 20 + [2] * 20)
    weights = class_weights(labels, 3)
    assert weights[1] / weights[0] == pytest.approx(3)
    assert weights[labels].mean() == pytest.approx(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_logit_and_two_have_the_same_loss(smoothing):
    logits, labels = torch.randn(16, 1), torch.randint(0, 2, (16,))
    two = torch.cat([torch.zeros(16, 1), logits], 1)
    loss = Loss(label_smoothing=smoothing, class_weights="none")
    one, both = make_loss(loss, "binary", labels, 2), make_loss(loss, "softmax", labels, 2)
    assert isinstance(one, BinaryLoss)
    torch.testing.assert_close(one(logits, labels), both(two, labels))


def test_log_loss_is_alike_for_both_heads():
    logits, labels = 5 * torch.randn(16, 1), torch.randint(0, 2, (16,))
    two = torch.cat([torch.zeros(16, 1), logits], 1)
    expected = -two.double().softmax(1)[range(16), labels].log().mean()
    torch.testing.assert_close(log_loss(logits, labels).double(), expected)
    torch.testing.assert_close(log_loss(two, labels).double(), expected)


@pytest.mark.parametrize(
    ("wanted", "side", "needs_float32", "fast", "chosen"),
    [
        ("auto", 224, False, True, torch.bfloat16),
        ("auto", 224, False, False, torch.float32),
        ("auto", 32, False, True, torch.float32),
        ("auto", 224, True, True, torch.float32),
        ("bf16", 224, True, False, torch.bfloat16),
    ],
)
def test_a_processor_computes_in_bfloat16_only_where_that_is_faster(wanted, side, needs_float32, fast, chosen):
    images = replace(IMAGES, image_size=side)
    assert precision(wanted, images, torch.device("cpu"), needs_float32, fast=lambda: fast) is chosen


@pytest.mark.parametrize(
    ("vendor", "amx", "fast"), [("AuthenticAMD", 0, 1), ("GenuineIntel", 0, 0), ("GenuineIntel", 1, 1)]
)
def test_the_instructions_for_bfloat16_alone_do_not_make_a_processor_fast(vendor, amx, fast, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx), raising=False)
    (tmp_path / "cpuinfo").write_text(f"vendor_id : {vendor}\nflags : avx512_bf16\n")
    assert fast_in_bfloat16(tmp_path / "cpuinfo") == bool(fast)


def test_half_precision_is_refused_without_a_gpu():
    with pytest.raises(ValueError, match=r"--precision fp16 needs a GPU; .* use bf16, fp32 or auto"):
        precision("fp16", IMAGES, torch.device("cpu"), needs_float32=False)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_weights_move_as_by_torchs_own_optimizer(name):
    networks = [nn.Linear(3, 2), nn.Linear(3, 2)]
    networks[1].load_state_dict(networks[0].state_dict())
    options = {"lr": 0.1, "weight_decay": 0.01} | ({"momentum": 0.9} if name == "SGD" else {})
    kinds = uncompiled(name), getattr(torch.optim, name)
    optimizers = [kind(network.parameters(), **options) for kind, network in zip(kinds, networks, strict=True)]
    for _ in range(5):
        images = torch.randn(4, 3)
        for optimizer, network in zip(optimizers, networks, strict=True):
            optimizer.zero_grad()
            network(images).square().sum().backward()
            optimizer.step()
    assert torch.equal(networks[0].weight, networks[1].weight)
    ours, theirs = (optimizer.state_dict() for optimizer in optimizers)
    assert ours["param_groups"] == theirs["param_groups"]
    optimizers[1].load_state_dict(ours)
    optimizers[0].load_state_dict(theirs)


@pytest.mark.parametrize(
    ("side", "device", "format"),
    [
        (64, "cpu", torch.contiguous_format),
        (65, "cpu", torch.channels_last),
        (64, "cuda", torch.channels_last),
    ],
)
def test_small_images_lie_by_channel_on_a_processor(side, device, format):
    assert memory_format(replace(IMAGES, image_size=side), torch.device(device)) is format


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_checkpoint_of_another_layout_goes_on_alike(name):
    networks = [nn.Conv2d(3, 4, 3) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    networks[1].to(memory_format=torch.channels_last)
    optimizers = [make_optimizer(replace(OPTIMIZER, optimizer=name, momentum=0.9), each) for each in networks]

    def step():
        images = torch.randn(2, 3, 8, 8)
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            network(images).square().sum().backward()
            optimizer.step()

    step()
    states = [optimizer.state_dict() for optimizer in optimizers]
    for optimizer, state in zip(optimizers, reversed(states), strict=True):  # as if each were of the other's training
        optimizer.load_state_dict(state)
        lay_out_like_weights(optimizer)
    step()
    torch.testing.assert_close(networks[0].weight, networks[1].weight.contiguous(), rtol=1e-4, atol=1e-5)


def test_no_compiler_is_imported_to_step():
    code = """
import sys, torch
from training.optimisation import make_optimizer
from training.settings import Optimizer
network = torch.nn.Linear(3, 2)
settings = Optimizer(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.1, decay_all=True)
optimizer = make_optimizer(settings, network)
optimizer.zero_grad()
network(torch.ones(1, 3)).sum().backward()
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ML, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
