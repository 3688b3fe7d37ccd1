"""The rules on recorded tensors with planted faults; then the engine on what smdebug really saved."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

import evaluate_rules
from debugger.rules.curve import MOST, Curve
from tests.ml.planted import judged
from tests.ml.tensor_writer import TensorWriter
from tests.waiting import PATIENCE_S

LOSS, GRADIENT, STEM, DEEP = (
    "CrossEntropyLoss_output_0",
    "gradient/ResNet_conv1.weight",
    "relu_input_0",
    "layer4.0.relu_input_0",
)


class Recorded(TensorWriter):
    """A training whose steps are written as they come; mode steps and the loss go by the hook's own names."""

    def judged(self, rule, parameters=None):
        """The verdict document of one rule, once the training has ended."""
        self.end()
        (verdict,) = judged(self.folder, {rule: parameters or {}}).values()
        return verdict


@pytest.fixture
def training(tmp_path):
    """training(losses, …) -> a recorded training; `validation[i]` is the loss of the evaluation after `every` steps."""
    count = itertools.count()

    def record(losses=(), validation=None, gradients=None, activations=((1.0, 1.1),), every=4):
        tensors = Recorded(tmp_path / f"training-{next(count)}", {"relu_input": [".*relu_input"]})
        random = np.random.default_rng(0)
        for i, loss in enumerate(losses):
            stem, deep = activations[min(i, len(activations) - 1)]
            gradient = random.normal(0, 1, 500) * (0.1 if gradients is None else gradients[min(i, len(gradients) - 1)])
            inputs = {STEM: random.normal(0, stem, 500), DEEP: random.normal(0, deep, 500)}
            tensors.save("TRAIN", {LOSS: np.float64(loss), GRADIENT: gradient, **inputs})
            if validation is not None and i % every == every - 1:
                tensors.save("EVAL", {LOSS: np.float64(validation[i // every])})
        return tensors

    return record


FALLING = [2.0 * 0.93**i for i in range(60)]
HEALTHY = dict(losses=FALLING, validation=[loss * 1.05 for loss in FALLING[3::4]])


LOSS_RULES = (
    *("LossNotDecreasing", "LossSpike", "VanishingGradient", "Overfit", "Overtraining", "PoorWeightInitialization"),
)


@pytest.mark.parametrize("rule", LOSS_RULES)
def test_a_healthy_training_has_no_issues(rule, training):
    parameters = {"patience_train": "60", "patience_validation": "15"} if rule == "Overtraining" else {}
    assert training(**HEALTHY).judged(rule, parameters)["RuleEvaluationStatus"] == "NoIssuesFound"


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
        ("LossSpike", {"losses": [*FALLING[:20], 5.0, *FALLING[20:]]}, 20, "times the median"),
        ("LossSpike", {"losses": [1.0] * 5 + [float("nan")] + [1.0] * 20}, 5, "the training loss is nan"),
        ("LossSpike", {"losses": [0.0] * 20 + [50.0]}, 20, "times the median 0 of the 10 steps before"),
        ("Overfit", {"losses": [0.0] * 20, "validation": [5.0] * 5}, 9, "validation loss 5 exceeds training loss 0"),
    ],
)
def test_a_planted_fault_is_found(rule, fault, step, words, training):
    parameters = {"patience_train": "60"} if "validation" in fault and rule == "Overtraining" else {}
    verdict = training(**fault).judged(rule, parameters)
    assert verdict["RuleEvaluationStatus"] == "IssuesFound"
    assert words in verdict["StatusDetails"].splitlines()[1]
    assert verdict["StatusDetails"].startswith("RuleEvaluationConditionMet: Evaluation of the rule ")
    assert verdict["Evidence"]["step"] == step
    assert {"tensor", "value", "threshold"} <= verdict["Evidence"].keys()


@pytest.mark.parametrize(
    ("rule", "fault", "what", "points", "threshold"),
    [
        (
            "LossNotDecreasing",
            {"losses": FALLING[:20] + [3.0] * 20},
            "training loss, of which the mean over 10 steps is judged",
            31,
            0.999 * np.mean([*FALLING[11:20], 3.0]),
        ),
        ("VanishingGradient", HEALTHY | {"gradients": [0.1, 0.1, 0.0]}, "mean absolute gradient", 3, 1e-7),
        (
            "Overfit",
            HEALTHY | {"validation": [1.2 * 1.1**i for i in range(15)]},
            "validation loss above training loss, as a share",
            4,
            0.1,
        ),
        ("Overtraining", {"losses": [1.0, 0.5, *[0.4] * 20]}, "training loss", 9, 0.39),
        (
            "LossSpike",
            {"losses": [*FALLING[:20], 5.0, *FALLING[20:]]},
            "training loss",
            21,
            3 * np.median(FALLING[10:20]),
        ),
    ],
)
def test_an_issue_tells_the_series_that_was_judged(rule, fault, what, points, threshold, training):
    verdict = training(**fault).judged(rule)
    series, evidence = verdict["Series"], verdict["Evidence"]
    assert (series["what"], len(series["steps"]), series["steps"][-1]) == (what, points, evidence["step"])
    assert len(series["values"]) == points and series["tensor"] in (LOSS, GRADIENT)
    assert series["threshold"] == pytest.approx(threshold, rel=0.01)


def test_a_clean_bill_has_no_series(training):
    assert "Series" not in training(**HEALTHY).judged("VanishingGradient")


def test_a_long_series_is_thinned_and_ends_where_the_rule_fired():
    curve = Curve("t", "loss")
    for step in range(100_003):
        curve.add(step, step / 2, 1.0)
    steps = curve.as_dict()["steps"]
    assert MOST <= len(steps) <= 2 * MOST + 1 and (steps[0], steps[-1]) == (0, 100_002)
    assert {later - step for step, later in itertools.pairwise(steps[:-1])} == {curve.every}


def test_a_series_holds_what_json_can_say():
    curve = Curve("t", "loss")
    curve.add(0, float("nan"), float("inf"))
    assert (curve.as_dict()["values"], curve.as_dict()["threshold"]) == ([None], None)


@pytest.mark.parametrize("rule", ["LossSpike", "Overfit"])
def test_losses_of_nothing_are_no_issue(rule, training):
    assert training([0.0] * 20, [0.0] * 5).judged(rule)["RuleEvaluationStatus"] == "NoIssuesFound"


def test_gradients_of_nan_are_not_called_missing(training):
    details = training(**HEALTHY | {"gradients": [float("nan")]}).judged("VanishingGradient")["StatusDetails"]
    assert "the gradients are NaN at every step that was saved" in details


def test_loss_is_compared_as_in_awss_example(training):
    """Losses saved at steps 0, 4, … 16, as AWS documents it: the rule fires at step 12."""
    tensors = training()
    for step, loss in zip((0, 4, 8, 12, 16), (0.30, 0.33, 0.31, 0.30, 0.28), strict=True):
        tensors.write(step, "TRAIN", step, {LOSS: np.float32(loss)})
    assert tensors.judged("LossNotDecreasing")["Evidence"]["step"] == 12


def test_parameters_move_the_limits(training):
    slow = training(losses=[2.0 * 0.999**i for i in range(30)])
    assert slow.judged("LossNotDecreasing")["RuleEvaluationStatus"] == "NoIssuesFound"
    assert slow.judged("LossNotDecreasing", {"diff_percent": "5"})["RuleEvaluationStatus"] == "IssuesFound"
    strict = training(**HEALTHY).judged("VanishingGradient", {"threshold": "1"})
    assert strict["RuleEvaluationStatus"] == "IssuesFound"


def test_evaluations_take_precedence_once_there_are_any(training):
    """As AWS has it: the mode is EVAL, else TRAIN. Here only the evaluations' loss stands still."""
    tensors = training(losses=FALLING, validation=[0.5] * 15)
    verdict = tensors.judged("LossNotDecreasing")
    assert (verdict["Evidence"]["mode"], verdict["Evidence"]["mode_step"]) == ("EVAL", 10)
    assert tensors.judged("LossNotDecreasing", {"mode": "TRAIN"})["RuleEvaluationStatus"] == "NoIssuesFound"


@pytest.mark.parametrize(
    ("rule", "losses", "missing"),
    [
        ("LossNotDecreasing", [], "the collection 'losses' was not saved"),
        ("LossNotDecreasing", [1.0], "saved at 1 TRAIN step"),
        ("VanishingGradient", [], "the collection 'gradients' was not saved"),
        ("Overfit", FALLING, "in both modes, TRAIN and EVAL"),
        ("LossSpike", [-1.0] * 20, "the losses are below zero"),
        ("LossSpike", [1.0] * 10, "saved at 10 TRAIN step(s), and 10 are needed"),
        ("PoorWeightInitialization", [], "matching '.*relu_input'"),
        ("DeadRelu", FALLING, "matching '.*relu_output' was not saved"),
        ("ClassImbalance", FALLING, "matching '.*labels' was not saved"),
        ("Confusion", FALLING, "in an evaluation, was not saved"),
        ("CheckInputImages", FALLING, "set regex to the input of the network, in PyTorch '<class>_input_0'"),
        ("WeightUpdateRatio", FALLING, "the collection 'weights' was not saved"),
    ],
)
def test_no_evidence_is_not_a_clean_bill(rule, losses, missing, training):
    verdict = training(losses).judged(rule)
    assert verdict["RuleEvaluationStatus"] == "Error"
    assert verdict["StatusDetails"].startswith("TensorUnavailable: ")
    assert missing in verdict["StatusDetails"]


@pytest.mark.parametrize(
    ("rule", "parameters", "complaint"),
    [
        ("LossNotDecreasing", {"num_step": "3"}, "LossNotDecreasing has no parameter 'num_step'; it takes"),
        ("LossNotDecreasing", {"num_steps": "ten"}, "num_steps='ten' is not a whole number of at least 1; the default"),
        ("LossNotDecreasing", {"mode": "TEST"}, "mode='TEST' is not one of EVAL, TRAIN, GLOBAL"),
        ("LossNotDecreasing", {"tensor_regex": "(loss"}, "tensor_regex='(loss' is not one or several regular"),
        ("LossNotDecreasing", {"use_losses_collection": "no"}, "use_losses_collection='no' is not True or False"),
        ("DeadRelu", {"threshold_layer": "120"}, "threshold_layer='120' is not a number from 0 to 100"),
        ("VanishingGradient", {"threshold": "nan"}, "threshold='nan' is not a number of at least 0"),
        ("AllZero", {}, "AllZero: needs collection_names or tensor_regex"),
        ("TensorVariance", {"tensor_regex": "x"}, "needs max_threshold or min_threshold"),
        ("SimilarAcrossRuns", {}, "needs other_trials"),
        ("StalledTrainingRule", {"stop_training_on_fire": "True"}, "needs training_job_name_prefix"),
        ("Overfit", {"action_json": '{"name": "call"}'}, "is not a list of actions (stoptraining, email, sms"),
        ("Overfit", {"action_json": '{"name": "sms"}'}, "'sms' without endpoint"),
    ],
)
def test_what_a_rule_cannot_use_is_refused_by_name(rule, parameters, complaint, training):
    verdict = training(**HEALTHY).judged(rule, parameters)
    assert verdict["RuleEvaluationStatus"] == "Error"
    assert verdict["StatusDetails"].startswith("InvalidParameter: ")
    assert complaint in verdict["StatusDetails"]


def test_a_parameter_of_none_is_one_not_given(training):
    verdict = training(**HEALTHY).judged("LossNotDecreasing", {"mode": "None", "collection_names": "None"})
    assert verdict["RuleEvaluationStatus"] == "NoIssuesFound"


def test_actions_are_handed_on_with_an_issue_only(training):
    """The text as the SDK writes it: its quotes have backslashes, so that it is not JSON as it stands."""
    stop, mail = {"name": "stoptraining", "training_job_prefix": "cats"}, {"endpoint": "a@b.c", "name": "email"}
    written = json.dumps([stop, mail]).replace('"', r"\"")
    flat, falling = training([1.5] * 30), training(**HEALTHY)
    actions = flat.judged("LossNotDecreasing", {"action_json": written})["Actions"]
    assert actions == [stop, mail]
    assert falling.judged("LossNotDecreasing", {"action_json": written})["Actions"] == []


def test_a_stalled_training_can_ask_to_be_stopped(training):
    tensors = training()
    for written in (0.0, 5.0, 1000.0):
        tensors.save("TRAIN", {LOSS: np.float32(1)}, clock=written)
    asked = {"threshold": "900", "stop_training_on_fire": "True", "training_job_name_prefix": "cats"}
    verdict = tensors.judged("StalledTrainingRule", asked)
    assert "no tensor was saved for 995 s after step 2" in verdict["StatusDetails"]
    assert verdict["Actions"] == [{"name": "stoptraining", "training_job_prefix": "cats"}]


def test_reductions_are_judged_like_the_values_they_are_of(training):
    tensors = training()
    for i in range(12):
        norms = {"abs_mean": np.float32(0.1 if i < 7 else 0), "min": np.float32(-1), "max": np.float32(1)}
        tensors.save("TRAIN", {GRADIENT: norms})
    assert tensors.judged("VanishingGradient")["Evidence"]["step"] == 7
    assert (
        "the rule needs its values; add save_raw_tensor"
        in tensors.judged("AllZero", {"collection_names": "gradients", "threshold": "50"})["StatusDetails"]
    )


def test_weights_without_gradients_are_frozen_and_not_looked_at(training):
    tensors = training()
    for i in range(5):
        weights = {"ResNet_fc.weight": np.full(3, 1 + i / 100), "ResNet_conv1.weight": np.ones(3)}
        tensors.save("TRAIN", weights | {"gradient/ResNet_fc.weight": np.ones(3)})
        tensors.save("EVAL", weights)
    assert tensors.judged("WeightUpdateRatio")["RuleEvaluationStatus"] == "NoIssuesFound"


def test_one_collection_may_hold_labels_and_predictions(tmp_path):
    tensors = Recorded(tmp_path, {"labels": ["labels|predictions"]})
    for guess in (0, 1):
        classes = np.array([0, 1, 1, 2])
        tensors.save("TRAIN", {LOSS: np.float32(1)})
        wrong = np.where(classes == 2, guess, classes)
        tensors.save("EVAL", {"labels_output_0": classes, "predictions_output_0": np.eye(3)[wrong]})
    verdict = tensors.judged("Confusion")
    assert verdict["Evidence"]["confusion"] == [[1, 0, 0], [0, 2, 0], [0, 1, 0]]  # of the last evaluation only
    assert "of the predictions of class 2 0 % are right" in verdict["StatusDetails"]


def test_a_hook_that_gave_up_leaves_no_clean_bill(training):
    tensors = training(**HEALTHY)
    tensors.put("recording-failure-debugger.json", json.dumps({"complaint": "the disk is full"}).encode())
    verdict = tensors.judged("LossNotDecreasing")
    assert verdict["RuleEvaluationStatus"] == "Error"
    assert "recording stopped before the training ended: the disk is full" in verdict["StatusDetails"]


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
        subprocess.run(
            [sys.executable, evaluate_rules.__file__, *flags], check=True, env=environment, timeout=PATIENCE_S
        )
        return {name: json.loads((tmp_path / "out" / name / "verdict.json").read_text()) for name in rules}

    return run


def test_a_real_training_is_judged_from_what_smdebug_saved(finished, judge):
    short = {"LossNotDecreasing": {"mode": "TRAIN", "num_steps": "3"}, "LossSpike": {"num_steps": "3"}}  # of 9 steps
    verdicts = judge(finished.tensors_dir, {rule: short.get(rule, {}) for rule in LOSS_RULES})
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
    assert prefix.startswith("RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step ")
    assert verdict["Evidence"]["mode_step"] == 3
    assert "the mean TRAIN loss changed by" in ours


def test_a_job_without_tensors_gets_errors_that_say_so(tmp_path, judge):
    verdicts = judge(tmp_path / "none", {"VanishingGradient": {}, "ProfilerReport": {}, "DeadReLU": {}})
    assert {verdict["RuleEvaluationStatus"] for verdict in verdicts.values()} == {"Error"}
    assert "saved no tensors at all" in verdicts["VanishingGradient"]["StatusDetails"]
    assert "no system metrics" in verdicts["ProfilerReport"]["StatusDetails"]
    assert "unknown rule 'DeadReLU'; this engine knows LossNotDecreasing," in verdicts["DeadReLU"]["StatusDetails"]


def test_without_an_end_marker_only_issues_count(training, judge):
    tensors = training([1.5] * 30)
    verdicts = judge(tensors.folder, {"VanishingGradient": {}, "LossNotDecreasing": {}})
    assert "'training_job_end.ts' is missing" in verdicts["VanishingGradient"]["StatusDetails"]
    assert verdicts["VanishingGradient"]["RuleEvaluationStatus"] == "Error"
    assert verdicts["LossNotDecreasing"]["RuleEvaluationStatus"] == "IssuesFound"


def test_rules_that_cannot_be_read_are_a_usage_error(tmp_path):
    missing = str(tmp_path / "missing")
    names = ("tensors", "profiler", "rules", "job", "output")
    assert evaluate_rules.main([text for name in names for text in (f"--{name}", missing)]) == 2
