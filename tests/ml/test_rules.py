"""The rules on recorded tensors with planted faults; then the engine on what smdebug really saved."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import evaluate_rules
from rules import RULES
from tensors import MissingTensors, Tensors

LOSS, GRADIENT, STEM, DEEP = (
    "CrossEntropyLoss_output_0",
    "gradient/ResNet_conv1.weight",
    "relu_input_0",
    "layer4.0.relu_input_0",
)


class Recorded:
    """Tensors in memory, saved with record(); the interface of tensors.Tensors, whose statistics it borrows."""

    mean, abs_mean, variance, spread = Tensors.mean, Tensors.abs_mean, Tensors.variance, Tensors.spread

    def __init__(self):
        self.saved, self.global_step = {}, 0
        self.trial = self

    def record(self, mode, **tensors):
        for name, value in tensors.items():
            step = len(self.modes(name, mode))
            self.saved.setdefault(name, []).append((mode, step, self.global_step, np.asarray(value, dtype=float)))
        self.global_step += 1

    def modes(self, name, mode):
        return [entry for entry in self.saved.get(name, []) if mode in (entry[0], "GLOBAL")]

    def names(self, collections=(), regex=None):
        of = {LOSS: "losses", GRADIENT: "gradients"}
        return [
            name for name in sorted(self.saved) if of.get(name) in collections or (regex and re.search(regex, name))
        ]

    def steps(self, name, mode):
        return [entry[2 if mode == "GLOBAL" else 1] for entry in self.modes(name, mode)]

    def statistic(self, name, step, mode, reduction, absolute, compute):
        return compute(self.tensor(name).value(step, mode))

    def phases(self, names):
        return Tensors.phases(self, names)

    def mode(self, step_or_name):
        if isinstance(step_or_name, str):
            return step_or_name
        found = next(entry[0] for entries in self.saved.values() for entry in entries if entry[2] == step_or_name)
        return type("Mode", (), {"name": found})

    def tensor(self, name):
        recorded = self

        class Tensor:
            def reduction_values(self, step, mode):
                return {}

            def value(self, step, mode):
                at = 2 if mode == "GLOBAL" else 1
                return next(entry[3] for entry in recorded.modes(name, mode) if entry[at] == step)

        return Tensor()


def training(losses, validation=None, gradients=None, activations=((1.0, 1.1),), every=4):
    """A recorded training; `validation[i]` is the loss of the evaluation after `every` training steps."""
    tensors = Recorded()
    random = np.random.default_rng(0)
    for i, loss in enumerate(losses):
        stem, deep = activations[min(i, len(activations) - 1)]
        gradient = random.normal(0, 1, 500) * (0.1 if gradients is None else gradients[min(i, len(gradients) - 1)])
        inputs = {STEM: random.normal(0, stem, 500), DEEP: random.normal(0, deep, 500)}
        tensors.record("TRAIN", **{LOSS: loss, GRADIENT: gradient, **inputs})
        if validation is not None and i % every == every - 1:
            tensors.record("EVAL", **{LOSS: validation[i // every]})
    return tensors


FALLING = [2.0 * 0.93**i for i in range(60)]
HEALTHY = dict(losses=FALLING, validation=[loss * 1.05 for loss in FALLING[3::4]])


@pytest.mark.parametrize("rule", RULES)
def test_a_healthy_training_has_no_issues(rule):
    parameters = {"patience_train": "60", "patience_validation": "15"} if rule == "Overtraining" else {}
    assert not RULES[rule](training(**HEALTHY), parameters).issue


@pytest.mark.parametrize(
    ("rule", "fault", "step", "words"),
    [
        ("LossNotDecreasing", {"losses": [1.5] * 30}, 10, "the mean TRAIN loss changed by"),
        ("LossNotDecreasing", {"losses": FALLING[:20] + [3.0] * 20}, 30, "rose by"),
        ("LossNotDecreasing", {"losses": [float("nan")] * 30}, 10, "nan"),
        ("VanishingGradient", HEALTHY | {"gradients": [0.1, 0.1, 0.0]}, 2, "is 0, below 1e-07"),
        ("Overfit", HEALTHY | {"validation": [1.2 * 1.1**i for i in range(15)]}, 19, "exceeds training loss"),
        ("Overtraining", {"losses": [1.0, 0.5, *[0.4] * 20]}, 8, "did not improve on 0.4"),
        ("Overtraining", HEALTHY | {"validation": [0.5] * 15}, 59, "the validation loss did not improve"),
        (
            "PoorWeightInitialization",
            HEALTHY | {"activations": [(1.0, 9.0)]},
            0,
            "is over 10 times that of 'relu_input_0'",
        ),
        ("PoorWeightInitialization", HEALTHY | {"gradients": [1e-5]}, 0, "every gradient lies within"),
        ("PoorWeightInitialization", {"losses": [2.0] * 20}, 5, "did not fall below 2"),
    ],
)
def test_a_planted_fault_is_found(rule, fault, step, words):
    parameters = {"patience_train": "60"} if "validation" in fault and rule == "Overtraining" else {}
    verdict = RULES[rule](training(**fault), parameters)
    assert words in verdict.issue
    assert verdict.step == step


def test_loss_is_compared_as_in_awss_example():
    """Losses saved at steps 0, 4, … 16, as AWS documents it: the rule fires at step 12."""
    tensors = Recorded()
    for step, loss in zip((0, 4, 8, 12, 16), (0.30, 0.33, 0.31, 0.30, 0.28), strict=True):
        tensors.saved.setdefault(LOSS, []).append(("TRAIN", step, step, np.asarray(loss)))
    assert RULES["LossNotDecreasing"](tensors, {}).step == 12


def test_parameters_move_the_limits():
    slow = training(losses=[2.0 * 0.999**i for i in range(30)])
    assert not RULES["LossNotDecreasing"](slow, {}).issue
    assert RULES["LossNotDecreasing"](slow, {"diff_percent": "5"}).issue
    assert RULES["VanishingGradient"](training(**HEALTHY), {"threshold": "1"}).issue


@pytest.mark.parametrize(
    ("rule", "tensors", "missing"),
    [
        ("LossNotDecreasing", Recorded(), r"a loss \(losses\) was not saved"),
        ("LossNotDecreasing", training([1.0]), "saved at 1 TRAIN step"),
        ("VanishingGradient", Recorded(), "'gradients' was not saved"),
        ("Overfit", training(FALLING), "in both modes, TRAIN and EVAL"),
        ("PoorWeightInitialization", Recorded(), r"matching '\.\*relu_input'"),
    ],
)
def test_no_evidence_is_not_a_clean_bill(rule, tensors, missing):
    with pytest.raises(MissingTensors, match=missing):
        RULES[rule](tensors, {})


@pytest.fixture
def judge(tmp_path, environment):
    """judge(tensors_dir, {rule: parameters}) -> {rule: verdict document}; a process, as the platform starts it."""

    def run(tensors_dir, rules):
        configurations = [
            {"RuleConfigurationName": name, "RuleParameters": {"rule_to_invoke": name} | parameters}
            for name, parameters in rules.items()
        ]
        (tmp_path / "rules.json").write_text(json.dumps(configurations))
        (tmp_path / "job.json").write_text(json.dumps({"TrainingJobName": "job"}))
        files = {"tensors": tensors_dir, "profiler": tmp_path / "none", "output": tmp_path / "out"}
        files |= {"rules": tmp_path / "rules.json", "job": tmp_path / "job.json"}
        flags = [text for name, path in files.items() for text in (f"--{name}", str(path))]
        subprocess.run([sys.executable, evaluate_rules.__file__, *flags], check=True, env=environment, timeout=120)
        return {name: json.loads((tmp_path / "out" / name / "verdict.json").read_text()) for name in rules}

    return run


def test_a_real_training_is_judged_from_what_smdebug_saved(finished, judge):
    verdicts = judge(finished.tensors_dir, {rule: {"mode": "TRAIN", "num_steps": "3"} for rule in RULES})
    assert all(verdict["RuleEvaluationStatus"] in ("NoIssuesFound", "IssuesFound") for verdict in verdicts.values())
    assert verdicts["LossNotDecreasing"]["RuleEvaluationStatus"] == "NoIssuesFound"
    assert verdicts["VanishingGradient"]["RuleEvaluationStatus"] == "NoIssuesFound"
    assert verdicts["VanishingGradient"]["Evidence"]["smallest_abs_mean"] > 1e-7


def test_a_training_that_learns_nothing_is_caught(debugged_job, judge):
    """The whole train set in one batch at no learning rate to speak of: smdebug records a flat loss."""
    flat = debugged_job(epochs=7, **{"batch-size": 24, "lr": 1e-12, "optimizer": "sgd"})
    verdict = judge(flat.tensors_dir, {"LossNotDecreasing": {"mode": "TRAIN", "num_steps": "3"}})["LossNotDecreasing"]
    assert verdict["RuleEvaluationStatus"] == "IssuesFound"
    prefix, ours = verdict["StatusDetails"].splitlines()
    assert prefix.startswith("RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 3 resulted")
    assert "the mean TRAIN loss changed by" in ours


def test_a_job_without_tensors_gets_errors_that_say_so(tmp_path, judge):
    verdicts = judge(tmp_path / "none", {"VanishingGradient": {}, "ProfilerReport": {}, "DeadRelu": {}})
    assert {verdict["RuleEvaluationStatus"] for verdict in verdicts.values()} == {"Error"}
    assert "saved no tensors at all" in verdicts["VanishingGradient"]["StatusDetails"]
    assert "no system metrics" in verdicts["ProfilerReport"]["StatusDetails"]
    assert "unknown rule 'DeadRelu'; this engine knows LossNotDecreasing," in verdicts["DeadRelu"]["StatusDetails"]


def test_a_half_written_hook_is_not_waited_for(finished, judge, tmp_path):
    (tmp_path / "tensors" / "collections").mkdir(parents=True)
    verdict = judge(tmp_path / "tensors", {"VanishingGradient": {}})["VanishingGradient"]
    assert "'training_job_end.ts' is missing" in verdict["StatusDetails"]


def test_rules_that_cannot_be_read_are_a_usage_error(tmp_path):
    missing = str(tmp_path / "missing")
    names = ("tensors", "profiler", "rules", "job", "output")
    assert evaluate_rules.main([text for name in names for text in (f"--{name}", missing)]) == 2
