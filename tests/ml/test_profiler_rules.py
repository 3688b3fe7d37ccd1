"""Every sub-rule of ProfilerReport on recordings with a planted fault, and on healthy ones."""

import numpy as np
import pytest

from profiler.rules import DEFAULTS, judge, profile
from profiler.step_timeline import read_timeline
from profiler.system_usage import read_usage
from tests.ml.profiles import START, write_machine, write_steps

NOISE = np.random.default_rng(3)
HEALTHY_STEP = ("train", 0.002, 0.003, 0.1, 0.2, 0.05)
RULES_WITH_FAULTS = [name for name in DEFAULTS if not name.startswith("Overall")]


def steps(count, waiting=0.002, outliers=0, seed=1):
    """`count` training steps of about a third of a second, some of them five times as long."""
    noise = np.random.default_rng(seed)
    far = set(noise.choice(np.arange(10, count), outliers, replace=False)) if outliers else set()
    return [
        ("train", waiting, 0.003, 0.1 * noise.uniform(0.9, 1.1) * (5 if i in far else 1), 0.2, 0.05)
        for i in range(count)
    ]


def steady(value):
    return lambda i: value


# sub-rule -> (recordings that must trip it, recordings that must not); a recording: (machine, steps, loaders)
GPU_BUSY = {"gpu": steady(95.0), "cpu": steady(50.0)}
PLANTED = {
    "CPUBottleneck": (
        [
            {"gpu": steady(2.0), "cpu": steady(99.0)},
            {"gpu": lambda i: 5.0 if i % 10 else 60.0, "cpu": steady(95.0)},
            {"gpu": steady([90.0, 4.0]), "cpu": steady(91.0)},
        ],
        [
            GPU_BUSY,
            {"gpu": steady(2.0), "cpu": steady(80.0)},
            {"gpu": steady(95.0), "cpu": steady(99.0)},
            {"cpu": steady(99.0)},
        ],
    ),
    "IOBottleneck": (
        [
            {"gpu": steady(3.0), "io_wait": steady(80.0)},
            {"gpu": lambda i: 3.0 if i % 3 else 70.0, "io_wait": steady(60.0)},
        ],
        [GPU_BUSY, {"gpu": steady(3.0), "io_wait": steady(20.0)}, {"io_wait": steady(90.0)}],
    ),
    "LowGPUUtilization": (
        [{"gpu": steady(40.0)}, {"gpu": lambda i: 95.0 if i % 8 else 0.0}, {"gpu": steady([95.0, 30.0])}],
        [GPU_BUSY, {"gpu": lambda i: 80.0 + 10 * (i % 2)}, {}],
    ),
    "GPUMemoryIncrease": (
        [
            {"gpu": steady(95.0), "gpu_memory": lambda i: min(90.0, 10 + 0.07 * i) + 9 * (i % 40 > 20)},
            {"gpu": steady(95.0), "gpu_memory": lambda i: 20.0 if i < 1100 else 60.0},
        ],
        [
            GPU_BUSY,
            {"gpu": steady(95.0), "gpu_memory": lambda i: 40.0 + 0.2 * (i % 2)},
            {"gpu": steady(95.0), "gpu_memory": lambda i: 60.0 if i < 900 else 20.0},
        ],
    ),
    "BatchSize": (
        [{"gpu": steady(40.0), "cpu": steady(30.0), "gpu_memory": steady(20.0)}],
        [
            GPU_BUSY,
            {"gpu": steady(40.0), "cpu": steady(30.0), "gpu_memory": steady(90.0)},
            {"gpu": steady(40.0), "cpu": steady(90.0), "gpu_memory": steady(20.0)},
        ],
    ),
    "LoadBalancing": (
        [{"gpu": steady([90.0, 30.0])}, {"gpu": steady([90.0, 90.0, 90.0, 10.0])}],
        [GPU_BUSY, {"gpu": steady([90.0, 91.0])}, {"gpu": lambda i: [70.0 + i % 20, 89.0 - i % 20]}],
    ),
    "StepOutlier": (
        [{"steps": steps(400, outliers=12)}, {"steps": steps(1000, outliers=25, seed=2)}],
        [{"steps": steps(400)}, {"steps": steps(400, outliers=8)}, {"steps": steps(90, outliers=20)}, {}],
    ),
    "MaxInitializationTime": (
        [{"steps": steps(5), "begin": START + 1260}, {"steps": [], "minutes": 30}],
        [{"steps": steps(5), "begin": START + 1100}, {"steps": steps(5), "begin": START + 3}, {"minutes": 30}],
    ),
    "Dataloader": (
        [
            {"steps": steps(60, waiting=0.4), "loaders": 2},  # starved
            {"steps": steps(60, waiting=1.5)},
            {"steps": steps(60, waiting=0.08), "loaders": 1, "cores": 8},  # too few
            {"steps": steps(60), "loaders": 9},  # too many
        ],
        [
            {"steps": steps(60)},
            {"steps": steps(60, waiting=0.08), "loaders": 2},
            {"steps": steps(60), "loaders": 1, "cores": 8},  # few, but nobody waits
            {"steps": steps(5, waiting=0.1)},  # waits that are too short to matter
            {},
        ],
    ),
}  # fmt: skip


def recorded(folder, plan):
    plan = dict(plan)
    training, begin = plan.pop("steps", None), plan.pop("begin", START + 3)
    loaders, minutes = plan.pop("loaders", 0), plan.pop("minutes", None)
    end = write_steps(folder, training, loaders, begin) if training is not None else START
    samples = minutes * 120 if minutes else max(1300 if plan.get("gpu") else 100, int(2 * (end - START)) + 4)
    write_machine(folder, samples, **plan)
    job = {"TrainingStartTime": START, "TrainingEndTime": START + samples / 2}
    return read_usage(folder), job, read_timeline(folder)


def cases(kind):
    return [
        pytest.param(rule, plan, id=f"{rule}-{number}")
        for rule, plans in PLANTED.items()
        for number, plan in enumerate(plans[kind])
    ]


def test_every_rule_that_can_trigger_has_planted_faults_and_healthy_runs():
    assert set(PLANTED) == set(RULES_WITH_FAULTS)
    assert all(faults and len(healthy) >= 3 for faults, healthy in PLANTED.values())


@pytest.mark.parametrize(("rule", "plan"), cases(0))
def test_a_planted_fault_is_found(rule, plan, tmp_path):
    usage, job, timeline = recorded(tmp_path, plan)
    report = judge(rule, usage, job, {}, timeline)
    assert report["RuleTriggered"] >= 1
    assert report["Violations"] >= report["RuleTriggered"] >= 1


@pytest.mark.parametrize(("rule", "plan"), cases(1))
def test_a_healthy_run_is_left_alone(rule, plan, tmp_path):
    usage, job, timeline = recorded(tmp_path, plan)
    report = judge(rule, usage, job, {}, timeline)
    assert (report["RuleTriggered"], report["Violations"]) == (0, 0)


def test_a_healthy_training_trips_no_rule_at_all(tmp_path):
    usage, job, timeline = recorded(tmp_path, GPU_BUSY | {"steps": steps(2000), "loaders": 2})
    reports = profile(usage, job, {}, timeline)
    assert [rule for rule, report in reports.items() if report["RuleTriggered"]] == []


def test_outliers_are_told_by_number_with_a_histogram_of_the_rest(tmp_path):
    _, _, timeline = recorded(tmp_path, {"steps": steps(400, outliers=12)})
    report = judge("StepOutlier", {}, {}, {}, timeline)
    entry = report["Details"]["step_details"]["algo-1-77"]
    assert entry["phase"] == "Step:ModeKeys.TRAIN"
    assert entry["number_of_outliers"] == report["Violations"] == len(entry["step_numbers"]) == 12
    assert all(isinstance(number, str) for number in entry["step_numbers"])
    assert (len(entry["probs"]), len(entry["binedges"]), sum(entry["probs"])) == (100, 101, 388)
    assert (
        entry["step_stats"]["min"]
        < entry["step_stats"]["p50"]
        < entry["step_stats"]["p99"]
        <= entry["step_stats"]["max"]
    )
    assert report["RuleParameters"] == "threshold:3\nmode:None\nn_outliers:10\nstddev:3"


@pytest.mark.parametrize(("mode", "triggered"), [("None", 1), ("TRAIN", 1), ("Step:ModeKeys.TRAIN", 1), ("EVAL", 0)])
def test_outliers_can_be_asked_for_in_one_mode(mode, triggered, tmp_path):
    _, _, timeline = recorded(tmp_path, {"steps": steps(400, outliers=12)})
    assert judge("StepOutlier", {}, {}, {"mode": mode}, timeline)["RuleTriggered"] == triggered


def test_starvation_is_told_in_percent_of_the_training_time(tmp_path):
    validation = [("eval", 5.0, 0, 0.1, 0, 0)] * 3  # waits of validation are not the training's
    usage, job, timeline = recorded(tmp_path, {"steps": steps(60, waiting=0.4) + validation, "loaders": 2})
    details = judge("Dataloader", usage, job, {}, timeline)["Details"]
    assert 50 < details["waiting_percent"] < 56
    assert (details["num_workers"], details["cores"], details["dataloaders"]) == (2, 2, 2)
    assert (len(details["dataloading_time"]["probs"]), len(details["dataloading_time"]["binedges"])) == (100, 101)


def test_time_is_shared_out_between_the_phases(tmp_path):
    plan = [("train", 1.0, 1.0, 2.0, 4.0, 2.0)] * 4 + [("eval", 0.0, 0.0, 10.0, 0, 0)]
    _, _, timeline = recorded(tmp_path, {"steps": plan})
    details = judge("OverallFrameworkMetrics", {}, {}, {}, timeline)["Details"]
    assert details["phase"] == {"Step:ModeKeys.TRAIN": 80.0, "Step:ModeKeys.EVAL": 20.0, "others": 0.0}
    assert details["forward_backward"] == {"Forward pass": 52.94, "Backward pass": 47.06}
    assert details["general"]["DataLoaderIter"] == 8.0
    assert details["general"]["Optimizer"] == 16.0


def test_limits_are_changed_by_parameters_named_after_the_rule(tmp_path):
    usage, job, timeline = recorded(tmp_path, {"steps": steps(60, waiting=0.08), "loaders": 2})
    reports = profile(usage, job, {"Dataloader_starved_threshold": "10"}, timeline)
    assert reports["Dataloader"]["RuleTriggered"] == 1
    assert reports["Dataloader"]["RuleParameters"] == "min_threshold:70\nmax_threshold:200\nstarved_threshold:10"


@pytest.mark.parametrize("text", ["many", "-1", "nan", ""])
def test_a_limit_that_is_no_number_is_refused_by_name(text):
    with pytest.raises(ValueError, match=r"StepOutlier's parameter n_outliers is .*a number from 0 up .*default 10"):
        profile({}, {}, {"StepOutlier_n_outliers": text})


def test_steps_of_several_processes_are_judged_each(tmp_path):
    write_steps(tmp_path, steps(400, outliers=12), pid=1)
    write_steps(tmp_path, steps(400, seed=4), pid=2)
    details = judge("StepOutlier", {}, {}, {}, read_timeline(tmp_path))["Details"]["step_details"]
    assert {process: entry["number_of_outliers"] for process, entry in details.items()} == {
        "algo-1-1": 12,
        "algo-1-2": 0,
    }


def test_readings_of_gpus_between_those_of_cores_are_put_up_with(tmp_path):
    usage, job, _ = recorded(tmp_path, PLANTED["BatchSize"][0][0])
    for sample in usage["algo-1"][::2]:  # as where the two are read at different moments
        sample.cpu, sample.io_wait = {}, {}
    assert judge("BatchSize", usage, job, {})["RuleTriggered"] >= 1
