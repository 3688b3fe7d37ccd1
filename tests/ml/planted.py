"""Small real trainings with and without a planted fault, recorded as the debugger's hook records them.

A training is a function of a Plan and a seed. HEALTHY are five that no rule may trip over; FAULTS has for every rule
three or more that must trip it. Both are judged with the same PARAMETERS: AWS's defaults, except where sixty steps are
too few for those, or where a rule has none.
"""

import copy
import time
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from debugger.rules.catalogue import RULES
from debugger.rules.judge import Judge
from debugger.rules.session import RuleSession
from debugger.tensors.stream import TensorStream
from tests.ml.tensor_writer import TensorWriter

CLASSES, FEATURES, STEPS, EVERY = 4, 12, 60, 10
COLLECTIONS = {
    "relu_input": [".*relu_input"],
    "activations": ["relu|tanh|sigmoid"],
    "labels": ["labels"],
    "predictions": ["predictions"],
}
PARAMETERS = {
    "LossNotDecreasing": {"mode": "TRAIN"},
    "VanishingGradient": {},
    "ExplodingTensor": {},
    "Overfit": {},
    "Overtraining": {"patience_train": "25", "patience_validation": "4"},
    "PoorWeightInitialization": {},
    "DeadRelu": {},
    "SaturatedActivation": {},
    "ClassImbalance": {"argmax": "True"},
    "WeightUpdateRatio": {},
    "AllZero": {"collection_names": "gradients"},
    "UnchangedTensor": {"collection_names": "weights"},
    "TensorVariance": {"tensor_regex": "relu_input", "max_threshold": "100", "min_threshold": "1e-6"},
    "CheckInputImages": {"regex": "^Net_input_0$"},
    "Confusion": {},
    "SimilarAcrossRuns": {},
    "StalledTrainingRule": {"threshold": "60"},
    "LossSpike": {},
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training. The defaults are a healthy one."""

    kind: str = "mlp"  # or "cnn"
    norm: bool = False
    last: str = "tanh"  # the last activation: tanh or sigmoid
    optimizer: str = "adam"
    lr: float = 0.003
    batch_size: int = 64
    num_steps: int = STEPS
    shares: tuple = (0.25, 0.25, 0.25, 0.25)  # of the classes among the labels
    num_images: int = 0  # in the training set; 0: new ones at each step
    wrong_labels: float = 0.0  # share of labels that are drawn at random
    twins: tuple = ()  # two classes that look the same
    scale: float = 1.0  # of the inputs
    shift: tuple = (0.0, 0.0, 0.0)  # added to the first features, or the channels
    loss_scale: float = 1.0
    prepare: object = None  # what is done to the network before training
    trained: object = None  # which parameters the optimizer gets
    before_step: object = None  # (step, network, images, optimizer) -> images
    pauses: dict = field(default_factory=dict)  # step -> seconds of a clock that is told, not waited for
    end_pause: float = 0.0


class Net(nn.Module):
    """Three layers before the head: two ReLUs and a tanh or sigmoid, called by the names that the rules look for."""

    def __init__(self, plan):
        super().__init__()
        width = 32
        if plan.kind == "cnn":
            self.layer1, self.layer2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
            self.flat, inner = nn.Flatten(), 16 * 16
        else:
            self.layer1, self.layer2, self.flat, inner = (
                nn.Linear(FEATURES, width), nn.Linear(width, width), nn.Identity(), width,
            )  # fmt: skip
        make = {"mlp": nn.BatchNorm1d, "cnn": nn.BatchNorm2d}[plan.kind] if plan.norm else nn.Identity
        channels = 16 if plan.kind == "cnn" else width
        self.norm1, self.norm2 = make(channels), make(channels)
        self.relu, self.deep = nn.ReLU(), nn.Sequential()
        self.deep.add_module("relu", nn.ReLU())
        self.layer3 = nn.Linear(inner, width)
        setattr(self, plan.last, nn.Tanh() if plan.last == "tanh" else nn.Sigmoid())
        self.last, self.head = plan.last, nn.Linear(width, CLASSES)
        for layer in (self.layer1, self.layer2):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, images):
        hidden = self.relu(self.norm1(self.layer1(images)))
        hidden = self.flat(self.deep(self.norm2(self.layer2(hidden))))
        return self.head(getattr(self, self.last)(self.layer3(hidden)))


class Task:
    """Images of classes that differ in their means; normalised, unless the plan says otherwise."""

    def __init__(self, plan, seed):
        self.plan, self.random = plan, torch.Generator().manual_seed(seed)
        self.means = torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(1000 + seed))
        self.means = 2.2 * (self.means - self.means.mean(0)) / self.means.std(0)
        if plan.twins:
            self.means[plan.twins[1]] = self.means[plan.twins[0]]
        self.kept = self.draw(plan.num_images) if plan.num_images else None

    def draw(self, count):
        shares = torch.tensor(self.plan.shares)
        labels = torch.multinomial(shares, count, replacement=True, generator=self.random)
        values = self.means[labels] + torch.randn(count, FEATURES, generator=self.random)
        if self.plan.wrong_labels:
            wrong = torch.rand(count, generator=self.random) < self.plan.wrong_labels
            labels = torch.where(wrong, torch.randint(CLASSES, (count,), generator=self.random), labels)
        return self.pictured(values / values.std()), labels

    def pictured(self, values):
        if self.plan.kind == "cnn":  # (N, 3, 4, 4): each feature is a patch of four pixels
            values = values.reshape(-1, 3, 2, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
        shift = torch.zeros(values.shape[1])
        shift[:3] = torch.tensor(self.plan.shift)
        return values * self.plan.scale + shift.reshape(1, -1, *[1] * (values.dim() - 2))

    def batch(self, train):
        if not train or self.kept is None:
            return self.draw(self.plan.batch_size if train else 96)
        chosen = torch.randint(len(self.kept[1]), (self.plan.batch_size,), generator=self.random)
        return self.kept[0][chosen], self.kept[1][chosen]


class Recording:
    """What the hook would save of each step; inputs and outputs of activations by the names of their modules."""

    def __init__(self, folder, network):
        self.writer, self.network, self.seen = TensorWriter(folder, COLLECTIONS), network, {}
        self.clock = time.time()
        for name, module in network.named_modules():
            if isinstance(module, (nn.ReLU, nn.Tanh, nn.Sigmoid)):
                module.register_forward_hook(self.watch(name))

    def watch(self, name):
        def hook(module, inputs, output):
            self.seen[f"{name}_input_0"], self.seen[f"{name}_output_0"] = inputs[0].detach(), output.detach()

        return hook

    def save(self, mode, images, labels, scores, loss, weights):
        saved = {"Net_input_0": images, "labels_output_0": labels, "predictions_output_0": scores.detach()} | self.seen
        saved |= {f"Net_{name}": value for name, value in weights.items() if name.endswith("weight")}
        saved["CrossEntropyLoss_output_0"] = loss.detach()
        if mode == "TRAIN":
            for name, parameter in self.network.named_parameters():
                if parameter.grad is not None:
                    saved[f"gradient/Net_{name}"] = parameter.grad
        self.writer.save(mode, {name: np.asarray(value) for name, value in saved.items()}, clock=self.clock)


def train(folder, plan, seed):
    """Run a training and record it; `folder` gets what the hook would have left there."""
    torch.manual_seed(seed)
    network, task, criterion = Net(plan), Task(plan, seed), nn.CrossEntropyLoss()
    if plan.prepare:
        plan.prepare(network)
    recording = Recording(folder, network)
    recording.clock -= sum(plan.pauses.values()) + plan.end_pause
    parameters = plan.trained(network) if plan.trained else network.parameters()
    make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[plan.optimizer]
    optimizer = make(parameters, lr=plan.lr, **({"momentum": 0.9} if plan.optimizer == "sgd" else {}))
    for step in range(plan.num_steps):
        images, labels = task.batch(train=True)
        if plan.before_step:
            images = plan.before_step(step, network, images, optimizer)
        weights = {name: value.detach().clone() for name, value in network.named_parameters()}
        optimizer.zero_grad()
        scores = network(images)
        loss = criterion(scores, labels) * plan.loss_scale
        if loss.requires_grad:
            loss.backward()
        recording.clock += 0.01 + plan.pauses.get(step, 0)
        recording.save("TRAIN", images, labels, scores, loss, weights)
        optimizer.step()
        if step % EVERY == EVERY - 1:
            evaluate(network, task, criterion, recording)
    recording.writer.end()


@torch.no_grad()
def evaluate(network, task, criterion, recording):
    network.eval()
    for _ in range(3):
        images, labels = task.batch(train=False)
        scores = network(images)
        weights = {name: value.detach() for name, value in network.named_parameters()}
        recording.save("EVAL", images, labels, scores, criterion(scores, labels), weights)
    network.train()


def judged(folder, rules):
    """{rule: verdict document}; `rules` is {rule: parameters}."""
    stream, verdicts = TensorStream(folder), {}
    judges = [Judge(name, given, stream) for name, given in rules.items()]
    publish = lambda verdict: verdicts.update({verdict["RuleConfigurationName"]: verdict})  # noqa: E731
    RuleSession(judges, stream, publish).judge_what_is_there()
    return verdicts


def healthy_statuses(folder, plan, seed):
    """{rule: status} of a healthy training; SimilarAcrossRuns compares it with itself, run again."""
    train(folder / "run", plan, seed)
    train(folder / "again", plan, seed)
    rules = copy.deepcopy(PARAMETERS)
    rules["SimilarAcrossRuns"]["other_trials"] = str(folder / "again")
    if plan.last == "sigmoid":
        rules["SaturatedActivation"] = {}
    return judged(folder / "run", rules)


def fault_verdict(folder, rule, plan, seed):
    parameters = dict(PARAMETERS[rule])
    if rule == "SimilarAcrossRuns":
        train(folder / "again", HEALTHY["mlp, adam"], seed)
        parameters["other_trials"] = str(folder / "again")
    train(folder / "run", plan, seed)
    return judged(folder / "run", {rule: parameters})[rule]


# Interventions.


def fill(layer, member, value):
    def prepare(network):
        nn.init.constant_(getattr(getattr(network, layer), member), value)

    return prepare


def rescale(factor, *layers):
    @torch.no_grad()
    def prepare(network):
        for layer in layers:
            getattr(network, layer).weight.mul_(factor)

    return prepare


def all_weights(value):
    @torch.no_grad()
    def prepare(network):
        for parameter in network.parameters():
            parameter.fill_(value)

    return prepare


def freeze(layer):
    def prepare(network):
        getattr(network, layer).weight.requires_grad_(False)

    return prepare


def negative_layer(network):
    """Weights below zero, behind a ReLU, so all inputs of the next one are."""
    with torch.no_grad():
        network.layer2.weight.copy_(-network.layer2.weight.abs() - 0.1)
        network.layer2.bias.fill_(-1)


def at_step(when, action):
    def before_step(step, network, images, optimizer):
        return action(network, images, optimizer) if step == when else images

    return before_step


def one_nan(network, images, optimizer):
    images = images.clone()
    images.view(-1)[0] = float("nan")
    return images


@torch.no_grad()
def overflow(network, images, optimizer):
    network.layer2.weight.mul_(1e38).mul_(1e10)
    return images


@torch.no_grad()
def kill_units(network, images, optimizer):
    network.layer1.bias.fill_(-1000)
    return images


def reset_learning(network, images, optimizer):
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    return images


def raise_learning_rate(factor):
    def action(network, images, optimizer):
        for group in optimizer.param_groups:
            group["lr"] *= factor
        return images

    return action


def blank(step, network, images, optimizer):
    return torch.zeros_like(images)


def only_head(network):
    return network.head.parameters()


def all_but_layer2(network):
    return [parameter for name, parameter in network.named_parameters() if not name.startswith("layer2")]


HEALTHY = {
    "mlp, adam": Plan(),
    "mlp, momentum": Plan(optimizer="sgd", lr=0.008),
    "mlp, batch norm, adamw": Plan(norm=True, optimizer="adamw", batch_size=96),
    "cnn, adam": Plan(kind="cnn", lr=0.002),
    "cnn, batch norm, sigmoid": Plan(kind="cnn", norm=True, last="sigmoid", lr=0.005),
}
BASE, CNN = HEALTHY["mlp, adam"], HEALTHY["cnn, adam"]
MOMENTUM = HEALTHY["mlp, momentum"]
MEMORISED = replace(BASE, num_images=16, wrong_labels=0.5, lr=0.01)
FAULTS = {
    "LossNotDecreasing": {
        "no learning rate to speak of": replace(BASE, lr=1e-9, num_steps=120),
        "diverges": replace(BASE, optimizer="sgd", lr=30.0),
        "random labels": replace(BASE, wrong_labels=1.0, lr=1e-5, optimizer="sgd", num_steps=120),
    },
    "VanishingGradient": {
        "loss scaled away": replace(BASE, loss_scale=1e-12),
        "dead first layer": replace(BASE, before_step=at_step(20, kill_units)),
        "saturated tanh": replace(BASE, prepare=fill("layer3", "bias", 60.0)),
    },
    "ExplodingTensor": {
        "learning rate": replace(BASE, optimizer="sgd", lr=1e20),
        "one NaN pixel": replace(CNN, before_step=at_step(30, one_nan)),
        "overflow": replace(BASE, before_step=at_step(15, overflow)),
    },
    "Overfit": {
        "sixteen images": MEMORISED,
        "sixteen images, cnn": replace(MEMORISED, kind="cnn", lr=0.005),
        "twenty-four images, batch norm": replace(MEMORISED, num_images=24, norm=True),
    },
    "Overtraining": {
        "learned long ago": replace(BASE, num_images=8, lr=0.03),
        "stops learning": replace(BASE, num_steps=120, before_step=at_step(20, reset_learning)),
        "memorises": replace(MEMORISED, lr=0.03),
    },
    "PoorWeightInitialization": {
        "all zero": replace(BASE, prepare=all_weights(0.0)),
        "second layer too large": replace(BASE, prepare=rescale(30.0, "layer2")),
        "second layer too small": replace(CNN, prepare=rescale(0.01, "layer2")),
    },
    "DeadRelu": {
        "low bias": replace(BASE, prepare=fill("layer1", "bias", -50.0)),
        "dies at step 20": replace(CNN, before_step=at_step(20, kill_units)),
        "negative weights": replace(BASE, prepare=negative_layer),
    },
    "SaturatedActivation": {
        "large inputs": replace(BASE, scale=3000.0),
        "large bias": replace(CNN, prepare=fill("layer3", "bias", 60.0)),
        "sigmoid": replace(BASE, last="sigmoid", prepare=fill("layer3", "bias", -90.0)),
    },
    "ClassImbalance": {
        "one class in forty": replace(BASE, shares=(0.4, 0.3, 0.275, 0.025)),
        "two rare classes": replace(CNN, shares=(0.48, 0.48, 0.02, 0.02)),
        "a rare twin": replace(BASE, shares=(0.3, 0.3, 0.33, 0.07), twins=(2, 3)),
    },
    "WeightUpdateRatio": {
        "no learning rate": replace(BASE, lr=0.0),
        "huge steps": replace(BASE, optimizer="sgd", lr=3000.0),
        "a layer without optimizer": replace(CNN, trained=all_but_layer2),
    },
    "AllZero": {
        "no loss": replace(BASE, loss_scale=0.0),
        "blank images": replace(CNN, before_step=blank),
        "dead first layer": replace(BASE, before_step=at_step(20, kill_units)),
    },
    "UnchangedTensor": {
        "no learning rate": replace(BASE, lr=0.0),
        "a frozen layer": replace(CNN, prepare=freeze("layer1")),
        "only the head learns": replace(BASE, trained=only_head),
    },
    "TensorVariance": {
        "large inputs": replace(BASE, scale=100.0),
        "all zero": replace(BASE, prepare=all_weights(0.0)),
        "grows": replace(CNN, before_step=at_step(25, raise_learning_rate(1000.0))),
    },
    "CheckInputImages": {
        "bytes": replace(CNN, scale=60.0, shift=(128.0, 128.0, 128.0)),
        "not centred": replace(CNN, scale=0.3, shift=(0.5, 0.5, 0.5)),
        "one channel": replace(CNN, shift=(0.0, 0.0, -0.4)),
    },
    "Confusion": {
        "random labels": replace(BASE, wrong_labels=0.6),
        "twins": replace(CNN, twins=(0, 2)),
        "does not learn": replace(BASE, lr=1e-9),
    },
    "SimilarAcrossRuns": {
        "other learning rate": replace(BASE, lr=0.0031),
        "other batch size": replace(BASE, batch_size=32),
        "other start": replace(BASE, prepare=rescale(1.01, "layer2")),
    },
    "StalledTrainingRule": {
        "stops for a while": replace(BASE, pauses={30: 100.0}),
        "at the second step": replace(CNN, pauses={1: 61.0}),
        "at the end": replace(BASE, end_pause=500.0),
    },
    "LossSpike": {
        "one NaN pixel": replace(CNN, before_step=at_step(30, one_nan)),
        "learning rate jumps": replace(MOMENTUM, before_step=at_step(30, raise_learning_rate(1000.0))),
        "units die": replace(CNN, before_step=at_step(30, kill_units)),
    },
}
assert FAULTS.keys() == PARAMETERS.keys() == RULES.keys()
