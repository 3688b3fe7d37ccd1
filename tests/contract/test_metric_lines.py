"""Wire 2, metrics: what ml/ prints is what the pipeline's regular expressions find."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from local_sagemaker.jobs.metrics import MetricPatterns, final_metrics
from local_sagemaker.sandbox.patterns import PatternProcesses
from retraining.epochs import epochs
from retraining.requests.sagemaker import METRIC_DEFINITIONS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def metrics() -> ModuleType:
    """ml/training/metrics.py by its path: it is a script of the other interpreter, and needs nothing but Python."""
    spec = importlib.util.spec_from_file_location("ml_metrics", ROOT / "ml/training/metrics.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_sides_name_the_same_metrics(metrics: ModuleType) -> None:
    assert {definition["Name"] for definition in METRIC_DEFINITIONS} == {*metrics.NAMES, *metrics.BINARY_NAMES}


def test_best_line_is_what_the_job_is_judged_by(metrics: ModuleType) -> None:
    better = dict.fromkeys(metrics.NAMES, 0.75)
    worse = dict.fromkeys(metrics.NAMES, 0.5)
    lines = [
        metrics.epoch_line(1, 2, better, 100.0),
        metrics.epoch_line(2, 2, worse, 100.0),
        metrics.best_line(1, 2, better),
    ]
    series: dict[str, list[list[float]]] = {}
    with PatternProcesses() as processes:
        for moment, name, value in MetricPatterns(processes, METRIC_DEFINITIONS).find(lines):
            series.setdefault(name, []).append([moment, value])
    assert {item["MetricName"]: item["Value"] for item in final_metrics(series)} == better


def test_no_metric_is_found_in_another_ones_text(metrics: ModuleType) -> None:
    values = {name: float(position) for position, name in enumerate(metrics.NAMES)}
    with PatternProcesses() as processes:
        found = MetricPatterns(processes, METRIC_DEFINITIONS).find([metrics.epoch_line(1, 1, values, 9.0)])
    assert sorted((name, value) for _, name, value in found) == sorted(values.items())


def test_the_page_reads_the_epochs_that_a_training_prints(metrics: ModuleType) -> None:
    values = {name: float(position) for position, name in enumerate(metrics.NAMES)}
    lines = [metrics.epoch_line(n, 3, values, 9.0) for n in (1, 2)] + ["noise", metrics.best_line(1.0, 3, values)]
    told = epochs(lines)
    assert told and (told["numbers"], told["of"], told["best"]) == ([1, 2], 3, 1)
    assert told["metrics"] == {name: [value, value] for name, value in values.items()}
