"""ProfilerReport as a whole: the files in SageMaker's names and schema, the page and the notebook."""

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

import evaluate_rules
from profiler.rules import DEFAULTS
from profiler.step_timeline import Timeline, collect
from profiler.system_usage import read_usage
from recordings.notes import give_up
from tests.ml.profiles import START, write_machine, write_steps
from tests.waiting import PATIENCE_S

STARVED = [("train", 0.64, 0.01, 0.1, 0.2, 0.05)] * 120 + [("eval", 0.64, 0, 0.1, 0, 0)] * 10
HEALTHY = [("train", 0.01, 0.01, 0.1, 0.2, 0.05)] * 150 + [("eval", 0.01, 0, 0.1, 0, 0)] * 10
# Schema of AWS's files: https://docs.aws.amazon.com/sagemaker/latest/dg/debugger-profiling-report.html
MEMBERS = ["RuleTriggered", "Violations", "Details", "Datapoints", "RuleParameters"]


@pytest.fixture
def report(tmp_path):
    """report(samples, steps, gpu, **rule parameters) -> (verdict, {sub-rule: report}, html)"""

    def run(samples, steps=None, gpu=None, rule="ProfilerReport", name="ProfilerReport", **parameters):
        if samples:
            write_machine(tmp_path / "profiler", samples, gpu)
        if steps:
            write_steps(tmp_path / "profiler", steps, loaders=2, begin=START + 4)
        rules = [{"RuleConfigurationName": name, "RuleParameters": {"rule_to_invoke": rule} | parameters}]
        (tmp_path / "rules.json").write_text(json.dumps(rules))
        job = {"TrainingJobName": "cats & <dogs>", "CreationTime": START - 9, "TrainingStartTime": START}
        job |= {
            "TrainingEndTime": START + samples / 2,
            "InstanceType": "ml.m5.xlarge",
            "HyperParameters": {"lr": "0.1"},
        }
        (tmp_path / "job.json").write_text(json.dumps(job))
        files = {"tensors": "none", "profiler": "profiler", "rules": "rules.json", "job": "job.json", "output": "out"}
        evaluate_rules.main([text for flag, file in files.items() for text in (f"--{flag}", str(tmp_path / file))])
        folder = tmp_path / "out" / name
        found = folder.glob("profiler-output/profiler-reports/*.json")
        reports = {path.stem: json.loads(path.read_text()) for path in found}
        page = folder / "profiler-output/profiler-report.html"
        return json.loads((folder / "verdict.json").read_text()), reports, page.read_text() if page.exists() else ""

    return run


def test_all_eleven_files_have_awss_schema(report):
    verdict, reports, _ = report(200)
    assert verdict["RuleEvaluationStatus"] == "NoIssuesFound"
    assert set(reports) == set(DEFAULTS)
    assert len(reports) == 11
    for content in reports.values():
        assert list(content) == MEMBERS
        assert [type(content[member]) for member in MEMBERS] == [int, int, dict, int, str]
    limits = "threshold:50\ncpu_threshold:90\ngpu_threshold:10\npatience:1000"
    assert reports["CPUBottleneck"]["RuleParameters"] == limits
    assert reports["CPUBottleneck"]["Datapoints"] == 200


def test_without_step_times_the_rules_about_steps_are_empty(report):
    _, reports, html = report(200)
    assert reports["StepOutlier"]["Details"] == {"step_details": {}}
    assert reports["MaxInitializationTime"]["Details"] == {"step_num": {}, "job_start": START, "job_end": START + 100}
    assert reports["Dataloader"]["Details"] == {}
    assert reports["OverallFrameworkMetrics"]["Details"] == {"ratio": {}, "phase": {}, "phase_time": {}}
    assert "No step times were recorded" in html


def test_usage_statistics_are_computed(report):
    _, reports, _ = report(200)
    details = reports["OverallSystemUsage"]["Details"]
    assert details["Network"]["algo-1"] == {"max": 1000, "p99": 1000, "p95": 1000, "p50": 1000, "min": 1000}
    assert details["I/O"]["algo-1"]["max"] == 1
    assert details["CPU memory"]["algo-1"]["min"] == 10
    assert 50 < details["CPU"]["algo-1"]["p95"] <= details["CPU"]["algo-1"]["max"] <= 90
    assert details["GPU"] == details["GPU memory"] == {}


def test_a_starved_loader_is_named_in_verdict_files_and_page(report):
    verdict, reports, html = report(220, STARVED)
    assert verdict["RuleEvaluationStatus"] == "IssuesFound"
    assert verdict["StatusDetails"].endswith("triggered: Dataloader")
    assert verdict["Evidence"]["triggered"] == ["Dataloader"]
    assert reports["Dataloader"]["Details"]["waiting_percent"] == 64
    assert "The training waits for its data: the data loader is starving it" in html
    assert "Steps spent 64 % of the training time waiting for their next batch" in html
    assert html.index("starving") < html.index("Stages of the job")  # the first thing to read


def test_a_healthy_training_is_called_one(report):
    verdict, _, html = report(160, HEALTHY)
    assert (verdict["RuleEvaluationStatus"], verdict["Evidence"]["steps"]) == ("NoIssuesFound", 160)
    assert "No problem was found" in html
    assert "starving" not in html


def test_an_idle_gpu_is_reported_with_advice(report):
    verdict, reports, html = report(1300, gpu=lambda i: 3.0)
    assert verdict["RuleEvaluationStatus"] == "IssuesFound"
    assert "LowGPUUtilization" in verdict["Evidence"]["triggered"]
    assert reports["LowGPUUtilization"]["Details"]["algo-1"]["gpu0"]["gpu_95"] == 3
    assert "Raise the batch size or take a smaller GPU" in html


def test_a_gpu_that_waits_for_the_cpu_is_reported(report):
    limits = {"CPUBottleneck_patience": "100", "CPUBottleneck_cpu_threshold": "5", "LowGPUUtilization_patience": "9999"}
    _, reports, _ = report(200, gpu=lambda i: 2.0, **limits)
    bottleneck = reports["CPUBottleneck"]
    assert bottleneck["RuleTriggered"] >= 1
    assert bottleneck["Violations"] == len(bottleneck["Details"]["bottlenecks"]) == 200


def test_a_short_job_is_not_judged_rather_than_called_healthy(report):
    _, _, html = report(200, HEALTHY[:20], gpu=lambda i: 3.0)
    assert "not judged: too short (needs over 1,000 data points)" in html
    assert "not judged: too short (needs over 100 steps)" in html


def test_a_sub_rule_can_be_a_rule_of_its_own(report):
    verdict, reports, _ = report(220, STARVED, rule="Dataloader", name="Starving", scan_interval_us="60000000")
    assert (verdict["RuleEvaluationStatus"], verdict["Evidence"]["RuleTriggered"]) == ("IssuesFound", 1)
    assert "RuleEvaluationConditionMet: Evaluation of the rule Dataloader" in verdict["StatusDetails"]
    assert reports == {}


def test_a_bad_limit_is_an_error_that_names_it(report):
    verdict, _, _ = report(20, CPUBottleneck_threshold="half")
    assert verdict["RuleEvaluationStatus"] == "Error"
    assert "CPUBottleneck's parameter threshold is 'half'" in verdict["StatusDetails"]


def test_what_failed_to_record_is_marked_in_report_and_verdict(report, tmp_path, capsys):
    for folder, who, complaint in (
        ("profiler", "profiler", "the profiler could not write its files"),
        ("none", "debugger", "smdebug could not save a gradient"),
    ):
        (tmp_path / folder).mkdir()
        try:
            raise OSError(28, "No space left on <device>")
        except OSError:
            give_up(who, tmp_path / folder, complaint, "step times")
    assert "WARNING: smdebug could not save a gradient; training goes on WITHOUT step times" in capsys.readouterr().err
    verdict, _, html = report(200)
    assert "The profiler stopped recording" in html
    assert "Debugger&#x27;s hook stopped recording" in html
    assert "No space left on &lt;device&gt;" in html
    assert "No problem was found" not in html
    assert verdict["Evidence"]["not_recorded"] == [
        "the profiler could not write its files",
        "smdebug could not save a gradient",
    ]


def test_nothing_recorded_is_an_error_with_its_reason(report, tmp_path):
    (tmp_path / "profiler").mkdir()
    note = {"who": "profiler", "complaint": "the disk is full", "error": None, "time": START}
    (tmp_path / "profiler" / "recording-failure-profiler.json").write_text(json.dumps(note))
    verdict, reports, _ = report(0)
    assert (verdict["RuleEvaluationStatus"], reports) == ("Error", {})
    assert "no system metrics and no step times were found" in verdict["StatusDetails"]
    assert "the disk is full" in verdict["StatusDetails"]


def test_step_times_alone_make_a_report(report):
    verdict, _, html = report(0, STARVED)
    assert verdict["Evidence"]["triggered"] == ["Dataloader"]
    assert "The machine was not measured" in html
    assert "Phases over time" in html


class Page(HTMLParser):
    """Fails on tags that do not close in order; collects what a browser would fetch, ids and pictures without words."""

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched, self.ids, self.links, self.wordless = [], [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in ("meta", "input"):
            self.open.append(tag)
        self.fetched += [value for name, value in attributes if name == "src"]
        self.links += [values["href"]] if "href" in values else []
        self.ids += [values["id"]] if "id" in values else []
        self.wordless += tag == "svg" and not values.get("aria-label")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass


def test_the_page_is_well_formed_and_needs_neither_network_nor_script(report):
    _, _, html = report(200, STARVED, gpu=lambda i: 50.0)
    page = Page(html)
    assert page.open == page.fetched == []
    assert len(set(page.ids)) == len(page.ids)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert page.wordless == 0
    assert "<script" not in html
    assert "http" not in html
    assert "url(" not in html
    assert "cats &amp; &lt;dogs&gt;" in html


def test_colours_follow_the_system_or_the_readers_choice(report):
    _, _, html = report(20)
    assert "color-scheme: light dark;" in html
    assert ":root:has(#theme-light:checked) { color-scheme: light; }" in html
    assert ":root:has(#theme-dark:checked) { color-scheme: dark; }" in html
    assert html.count('type="radio" name="theme"') == 3
    assert "@media print" in html
    colours = set(re.findall(r"var\((--[\w]+)\)", html)) - {"--h"}
    assert all(len(re.findall(rf"{colour}: light-dark\(#\w+, #\w+\);", html)) == 1 for colour in colours)


def test_the_charts_show_steps_phases_and_every_core(report):
    _, _, html = report(200, STARVED)
    figures = dict(re.findall(r"<figcaption><b>(.*?)</b>.*?(<svg.*?</svg>)", html))
    assert {"Phases over time", "Step durations", "Training step durations", "Waits for a batch"} <= set(figures)
    assert {"CPU", "CPU cores", "Memory", "Waiting for the disk", "Disk", "Disk operations", "Network"} <= set(figures)
    drawn = {title: ElementTree.fromstring(text) for title, text in figures.items()}
    assert "Waiting for data 6" in drawn["Phases over time"].get("aria-label")  # percent on average
    assert sum("bar" in path.get("class") for path in drawn["Training step durations"].iter("path")) >= 1
    rows = {rect.get("y") for rect in drawn["CPU cores"].iter("rect")}
    assert rows == {"0.00", "50.00"}
    assert '<span class="unit">MB/s</span>' in html  # 2,000,000 bytes a second


def test_a_machine_of_many_cores_and_a_long_training_stay_small(tmp_path):
    write_machine(tmp_path / "profiler", 400, cores=96)
    write_steps(tmp_path / "profiler", HEALTHY * 20)
    run = [sys.executable, evaluate_rules.__file__, "--tensors", str(tmp_path), "--rules", "ProfilerReport"]
    run += ["--profiler", str(tmp_path / "profiler"), "--output", str(tmp_path / "out")]
    subprocess.run(run, check=True, capture_output=True, timeout=PATIENCE_S)
    page = tmp_path / "out/ProfilerReport/profiler-output/profiler-report.html"
    assert page.stat().st_size < 1_000_000


def test_the_notebook_runs_on_the_files_beside_it(report, tmp_path):
    """In order, in an interpreter without Jupyter, as the cells would."""
    report(200, STARVED)
    folder = tmp_path / "out/ProfilerReport/profiler-output"
    notebook = json.loads((folder / "profiler-report.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    program = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    ended = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "11 sub-rules, 130 steps, 200 readings of the machine" in ended.stdout
    assert "TRAIN: 120 steps, 120.0 s in all" in ended.stdout
    assert "waiting" in ended.stdout


def test_the_tables_beside_the_page_hold_every_step_and_reading(report, tmp_path):
    report(200, STARVED)
    folder = tmp_path / "out/ProfilerReport/profiler-output"
    steps = list(csv.DictReader((folder / "steps.csv").open()))
    assert len(steps) == 130
    first = {
        name: float(steps[0][name]) for name in ("seconds", "waiting", "preparing", "forward", "backward", "optimizer")
    }
    assert first == {
        "seconds": 1.0,
        "waiting": 0.64,
        "preparing": 0.01,
        "forward": 0.1,
        "backward": 0.2,
        "optimizer": 0.05,
    }
    system = list(csv.DictReader((folder / "system.csv").open()))
    assert len(system) == 200
    assert (system[0]["network"], system[0]["disk"], system[0]["gpu"]) == ("1000", "2e+06", "")


def test_readings_of_nan_do_not_fail_the_report(report, tmp_path):
    """As a driver gives them that cannot measure."""
    unmeasured = '{"NodeId": "algo-1", "Cores": NaN, "Seconds": 1, "Used": 1}'
    (tmp_path / "profiler/processor").mkdir(parents=True)
    (tmp_path / "profiler/processor/algo-1-1.json").write_text(unmeasured)
    write_machine(tmp_path / "profiler", 100, gpu=lambda i: float("nan"), cpu=lambda i: 50.0 if i % 9 else float("nan"))
    verdict, reports, page = report(0, HEALTHY)
    assert verdict["RuleEvaluationStatus"] != "Error", verdict["StatusDetails"]
    assert reports["CPUBottleneck"] and page
    event = {"ph": "X", "name": "Step:ModeKeys.TRAIN", "pid": 1, "ts": float("nan"), "dur": 1.0}
    assert collect([event, event | {"ts": 2.0}], Timeline()) == {event["name"]: [(2.0, 1.0, -1, 0)]}


def test_a_line_cut_short_is_skipped(tmp_path):
    write_machine(tmp_path, 3)
    file = next(tmp_path.rglob("*.json"))
    file.write_text(file.read_text() + '{"Type":"cpu","Na')
    assert len(read_usage(tmp_path)["algo-1"]) == 3


SLOW_DECODE = """
import sys, time
import train
from dataset import array_cache, channel
decode = channel.decode
def slow(*arguments, **more):
    time.sleep(0.4)
    return decode(*arguments, **more)
channel.decode, channel.MEMORY_BYTES = slow, 0
array_cache.open_cache = lambda *arguments: None
sys.exit(train.main())
"""


@pytest.mark.slow
def test_a_real_training_with_a_slow_decoder_is_called_starved(job, tmp_path):
    folder = tmp_path / "profiler"
    command = [
        "--stem",
        "small",
        "--image-size",
        "16",
        "--batch-size",
        "8",
        "--epochs",
        "1",
        "--profiler-dir",
        str(folder),
    ]
    settings = job.environment | {"PYTHONPATH": str(evaluate_rules.__file__).rpartition("/")[0]}
    subprocess.run([sys.executable, "-c", SLOW_DECODE, *command], env=settings, check=True, timeout=PATIENCE_S)
    run = [sys.executable, evaluate_rules.__file__, "--tensors", str(tmp_path), "--rules", "ProfilerReport"]
    run += ["--profiler", str(folder), "--output", str(tmp_path / "out")]
    subprocess.run(run, check=True, timeout=PATIENCE_S)
    verdict = json.loads((tmp_path / "out/ProfilerReport/verdict.json").read_text())
    assert verdict["Evidence"]["triggered"] == ["Dataloader"]
    page = (tmp_path / "out/ProfilerReport/profiler-output/profiler-report.html").read_text()
    assert "The training waits for its data" in page
