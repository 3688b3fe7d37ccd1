import json
import math
import re
import time
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

import evaluate_rules
from usage import read_usage

START = 1747342440.0
SUB_RULES = {
    "BatchSize",
    "CPUBottleneck",
    "Dataloader",
    "GPUMemoryIncrease",
    "IOBottleneck",
    "LoadBalancing",
    "LowGPUUtilization",
    "MaxInitializationTime",
    "OverallFrameworkMetrics",
    "OverallSystemUsage",
    "StepOutlier",
}


def write_metrics(folder, samples, gpu=None):
    """Two cores at 500 ms as SageMaker writes them: one file a minute, one JSON object a line. `gpu(i)` -> percent."""
    for i in range(samples):
        moment = START + i / 2
        readings = [("cpu", f"cpu{core}", "CPUUtilization", 50 + 40 * math.sin(i / 9 + core)) for core in range(2)]
        readings += [("cpu", f"cpu{core}", "I/OWaitPercentage", 1.0) for core in range(2)]
        readings += [("memory", "MemoryUsedPercent", "", 10 + i / samples), ("i/o", "IOPS", "", 5.0)]
        readings += [
            ("i/o", "ReadThroughputInBytesPerSecond", "", 2e6),
            ("network", "ReceiveBytesPerSecond", "Algorithm", 700.0),
        ]
        readings += [
            ("network", "TransmitBytesPerSecond", "Algorithm", 300.0),
            ("network", "TransmitBytesPerSecond", "Platform", 9e9),
        ]
        if gpu:
            readings += [("gpu", "gpu0", "GPUUtilization", gpu(i)), ("gpu", "gpu0", "GPUMemoryUtilization", 30.0)]
        hour = folder / "system" / "incremental" / time.strftime("%Y%m%d%H", time.gmtime(moment))
        hour.mkdir(parents=True, exist_ok=True)
        with (hour / f"{int(moment // 60 * 60)}.algo-1.json").open("a") as file:
            for kind, name, dimension, value in readings:
                line = {"Type": kind, "Name": name, "Dimension": dimension, "Value": value}
                file.write(json.dumps(line | {"NodeId": "algo-1", "Timestamp": moment}) + "\n")


@pytest.fixture
def report(tmp_path):
    """report(samples, gpu, **rule parameters) -> (verdict, {sub-rule: report}, html)"""

    def run(samples, gpu=None, **parameters):
        write_metrics(tmp_path / "profiler", samples, gpu)
        rule = {
            "RuleConfigurationName": "ProfilerReport",
            "RuleParameters": {"rule_to_invoke": "ProfilerReport"} | parameters,
        }
        (tmp_path / "rules.json").write_text(json.dumps([rule]))
        job = {"TrainingJobName": "cats & <dogs>", "CreationTime": START - 9, "TrainingStartTime": START}
        job |= {
            "TrainingEndTime": START + samples / 2,
            "InstanceType": "ml.m5.xlarge",
            "HyperParameters": {"lr": "0.1"},
        }
        (tmp_path / "job.json").write_text(json.dumps(job))
        files = {"tensors": "none", "profiler": "profiler", "rules": "rules.json", "job": "job.json", "output": "out"}
        evaluate_rules.main([text for name, file in files.items() for text in (f"--{name}", str(tmp_path / file))])
        folder = tmp_path / "out" / "ProfilerReport"
        reports = {
            path.stem: json.loads(path.read_text()) for path in (folder / "profiler-output/profiler-reports").iterdir()
        }
        html = (folder / "profiler-output/profiler-report.html").read_text()
        return json.loads((folder / "verdict.json").read_text()), reports, html

    return run


def test_all_eleven_files_have_awss_schema(report):
    verdict, reports, _ = report(200)
    assert verdict["RuleEvaluationStatus"] == "NoIssuesFound"
    assert set(reports) == SUB_RULES
    for content in reports.values():
        assert list(content) == ["RuleTriggered", "Violations", "Details", "Datapoints", "RuleParameters"]
        assert isinstance(content["RuleParameters"], str)
    assert (
        reports["CPUBottleneck"]["RuleParameters"] == "threshold:50\ncpu_threshold:90\ngpu_threshold:10\npatience:1000"
    )
    assert reports["CPUBottleneck"]["Datapoints"] == 200
    assert reports["StepOutlier"]["Details"] == {"step_details": {}}
    assert reports["MaxInitializationTime"]["Details"] == {"step_num": {}, "job_start": START, "job_end": START + 100}


def test_usage_statistics_are_computed(report):
    _, reports, _ = report(200)
    details = reports["OverallSystemUsage"]["Details"]
    assert details["Network"]["algo-1"] == {"max": 1000, "p99": 1000, "p95": 1000, "p50": 1000, "min": 1000}
    assert details["I/O"]["algo-1"]["max"] == 1
    assert details["CPU memory"]["algo-1"]["min"] == 10
    assert 50 < details["CPU"]["algo-1"]["p95"] <= details["CPU"]["algo-1"]["max"] <= 90
    assert details["GPU"] == details["GPU memory"] == {}


def test_an_idle_gpu_is_reported(report):
    verdict, reports, html = report(1300, gpu=lambda i: 3.0)
    assert verdict["RuleEvaluationStatus"] == "IssuesFound"
    assert "LowGPUUtilization" in verdict["Evidence"]["triggered"]
    assert reports["LowGPUUtilization"]["Details"]["algo-1"]["gpu0"]["gpu_95"] == 3
    assert "Raise the batch size or take a smaller GPU" in html


def test_a_busy_gpu_is_not(report):
    assert report(1300, gpu=lambda i: 95.0)[0]["RuleEvaluationStatus"] == "NoIssuesFound"


def test_a_gpu_that_waits_for_the_cpu_is_reported(report):
    limits = {"CPUBottleneck_patience": "100", "CPUBottleneck_cpu_threshold": "5", "LowGPUUtilization_patience": "9999"}
    _, reports, _ = report(200, gpu=lambda i: 2.0, **limits)
    bottleneck = reports["CPUBottleneck"]
    assert bottleneck["RuleTriggered"] >= 1
    assert bottleneck["Violations"] == len(bottleneck["Details"]["bottlenecks"]) == 200


class Page(HTMLParser):
    """Fails on tags that do not close in order; collects what a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched = [], []

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)
        self.fetched += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass


def test_the_page_is_well_formed_and_needs_no_network(report):
    _, _, html = report(200)
    page = Page()
    page.feed(html)
    assert page.open == page.fetched == []
    assert "<script" not in html
    assert "http" not in html
    assert "prefers-color-scheme: dark" in html
    assert "cats &amp; &lt;dogs&gt;" in html


def test_the_curves_show_every_core_with_units(report):
    _, _, html = report(200)
    drawings = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", html)]
    assert len(drawings) == 6  # CPU, memory, waiting, disk bytes, disk operations, network
    cpu = drawings[0]
    assert sum("line" in path.get("class") for path in cpu.iter("path")) == 2
    labels = [text.text for text in cpu.iter("text")]
    assert labels[:6] == ["0", "20", "40", "60", "80", "100"]
    assert "100 s" in labels or "80 s" in labels
    assert "<span>MB/s</span>" in html  # 2,000,000 bytes a second


def test_a_line_cut_short_is_skipped(tmp_path):
    write_metrics(tmp_path, 3)
    file = next(tmp_path.rglob("*.json"))
    file.write_text(file.read_text() + '{"Type":"cpu","Na')
    assert len(read_usage(tmp_path)["algo-1"]) == 3
