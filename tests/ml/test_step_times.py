"""The times of a training's steps: recorded in files that smdebug reads, by trainings that are not disturbed."""

import gzip
import json
import os
import sys
import time
from collections import Counter

import pytest
import torch

from debugger.watcher import Debugger
from profiler.phases import EVAL, TRAIN, WAITING
from profiler.step_timeline import read_timeline
from profiler.step_times import StepTimes, Trace
from profiler.system_metrics import SystemMetrics
from profiler.system_usage import read_usage
from recordings.notes import failures
from tests.ml.profiles import START, write_machine, write_steps
from tests.waiting import wait_until


def profiled(job, tmp_path, **configuration):
    """Give a job the profiler configuration that SageMaker would; its folder is lower-case, as smdebug wants it."""
    folder = tmp_path / "output" / "profiler"
    config = {"S3OutputPath": "s3://bucket/x", "ProfilingIntervalInMilliseconds": 500, "DisableProfiler": False}
    config |= {"ProfilingParameters": {"LocalPath": str(folder)} | configuration}
    (tmp_path / "profilerconfig.json").write_text(json.dumps(config))
    job.environment |= {"SMPROFILER_CONFIG_PATH": str(tmp_path / "profilerconfig.json")}
    return folder


def read_with_smdebug(folder):
    from smdebug.profiler.algorithm_metrics_reader import LocalAlgorithmMetricsReader

    return LocalAlgorithmMetricsReader(str(folder)).get_events(0, (time.time() + 60) * 1e6)


def test_smdebug_reads_every_step_and_phase_of_a_training(job, tmp_path):
    folder = profiled(job, tmp_path)
    status, _, stderr = job.run(epochs=2)
    assert status == 0, stderr
    events = read_with_smdebug(folder)
    assert Counter(event.event_name for event in events if event.event_name.startswith("Step:")) == {TRAIN: 6, EVAL: 2}
    phases = Counter(event.event_phase for event in events)
    assert phases["Forward"] == phases["DataLoaderIter"] == 8
    assert phases["Backward(post-forward)"] == phases["Optimizer"] == phases["Preparation"] == 6
    steps = [event for event in events if event.event_phase == TRAIN]
    assert sorted(int(event.event_args["step_num"]) for event in steps) == list(range(6))
    assert all(abs(event.start_time / 1e6 - time.time()) < 600 and event.duration > 0 for event in steps)
    (node,) = {event.node_id for event in events}
    assert node.startswith("algo-1-")
    assert read_usage(folder) == {}  # the platform measures the machine


def test_phases_add_up_to_their_step(tmp_path):
    write_steps(tmp_path, [("train", 1.0, 0.5, 2.0, 4.0, 0.25)] * 3 + [("eval", 1.0, 0, 2.0, 0, 0)])
    timeline = read_timeline(tmp_path)
    assert timeline.seconds(TRAIN) == pytest.approx(3 * 7.75)
    assert timeline.seconds(WAITING) == pytest.approx(4.0)
    assert timeline.waiting_share == pytest.approx(1.0 / 7.75)  # without what validation waited
    assert timeline.extent == (pytest.approx(START), pytest.approx(START + 3 * 7.75 + 3))


def test_steps_that_begin_after_their_wait_are_understood_too(tmp_path):
    """smdebug's own steps do not hold the wait for their batch."""
    folder = tmp_path / "framework/pevents/2025051520"
    folder.mkdir(parents=True)
    events = [{"name": "process_name", "ph": "M", "pid": 0, "args": {"start_time_since_epoch_in_micros": 10**15}}]
    events += [
        {"name": "process_name", "ph": "M", "pid": k, "args": {"name": name}} for k, name in ((1, TRAIN), (2, WAITING))
    ]
    for i in range(4):
        wait = {"name": "_SingleProcessDataLoaderIter::GetNext", "ph": "X", "pid": 2, "ts": i * 10**6, "dur": 750_000}
        step = {"name": TRAIN, "ph": "X", "pid": 1, "ts": i * 10**6 + 750_000, "dur": 250_000}
        events += [wait | {"args": {"pid": 5}}, step | {"args": {"pid": 5, "step_num": str(i)}}]
    (folder / "1000000004000000_5-algo-1_pythontimeline.json").write_text(json.dumps(events))
    timeline = read_timeline(tmp_path)
    assert timeline.waiting_share == pytest.approx(0.75)
    assert timeline.training_seconds == pytest.approx(4.0)


def configured(monkeypatch, tmp_path, text):
    """StepTimes of a configuration file with this text; without one if it is None."""
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("SMPROFILER_CONFIG_PATH", str(path))
    return StepTimes.configured()


def test_nothing_is_recorded_without_a_configuration(tmp_path, monkeypatch):
    times = configured(monkeypatch, tmp_path, None)
    assert times.folder is None
    assert list(times.steps("train", [1, 2, 3])) == [1, 2, 3]
    times.close()
    assert list(tmp_path.iterdir()) == []


def test_a_disabled_profiler_records_nothing(tmp_path, monkeypatch):
    parameters = json.dumps({"LocalPath": str(tmp_path / "profiler")})
    times = configured(monkeypatch, tmp_path, f'{{"DisableProfiler": true, "ProfilingParameters": {parameters}}}')
    assert times.folder is None
    assert not (tmp_path / "profiler").exists()


@pytest.mark.parametrize("text", ["null", "{", "[]", '{"ProfilingParameters": {"DetailedProfilingConfig": "{1}"}}'])
def test_a_configuration_that_cannot_be_read_is_a_warning(tmp_path, monkeypatch, capsys, text):
    assert configured(monkeypatch, tmp_path, text).folder is None
    assert "training goes on WITHOUT step times" in capsys.readouterr().err


def test_where_there_is_no_sagemaker_the_flag_records_steps_and_machine(job, tmp_path):
    assert job.run(**{"epochs": 2, "profiler-dir": tmp_path / "here"})[0] == 0
    assert read_timeline(tmp_path / "here").seconds(TRAIN) > 0
    samples = read_usage(tmp_path / "here")["algo-1"]
    assert all(0 <= value <= 100 for sample in samples for value in sample.cpu.values())
    assert len(samples[-1].cpu) == os.cpu_count()
    assert 0 < samples[-1].memory <= 100
    assert set(samples[-1].network) == {"ReceiveBytesPerSecond", "TransmitBytesPerSecond"}


def test_a_machine_that_cannot_be_measured_is_a_warning_and_a_note(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "psutil", None)
    metrics = SystemMetrics(tmp_path).start()
    metrics.stop()
    assert "training goes on WITHOUT system metrics" in capsys.readouterr().err
    assert [note["who"] for note in failures(tmp_path)] == ["system-metrics"]


def test_a_folder_that_refuses_is_a_loud_warning_and_a_note(tmp_path, capsys):
    (tmp_path / "framework").write_text("a file where a folder belongs")
    times = StepTimes(tmp_path)
    assert list(times.steps("train", [1, 2, 3])) == [1, 2, 3]
    times.close()
    warnings = capsys.readouterr().err
    assert "WARNING: the profiler could not write its files" in warnings
    assert "training goes on WITHOUT step times" in warnings
    (note,) = failures(tmp_path)
    assert note["who"] == "profiler"
    assert "FileExistsError" in note["error"] or "NotADirectoryError" in note["error"]


def test_a_folder_that_refuses_later_ends_the_recording_not_the_training(tmp_path, capsys):
    times = StepTimes(tmp_path, rotate_s=0)
    seen = []
    for number in times.steps("train", range(5)):
        times.ended("Forward")
        seen.append(number)
        if number == 2:
            (tmp_path / "framework/pevents").rename(tmp_path / "moved")
            (tmp_path / "framework/pevents").write_text("a file where a folder belongs")
    times.close()
    assert seen == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err.count("WARNING: the profiler could not write its files") == 1
    assert len(failures(tmp_path)) == 1


def test_a_hook_that_fails_leaves_a_note_beside_its_tensors(tmp_path, monkeypatch):
    (tmp_path / "hook.json").write_text(json.dumps({"LocalPath": str(tmp_path / "tensors")}))
    monkeypatch.setenv("SMDEBUG_CONFIG_FILE_PATH", str(tmp_path / "hook.json"))
    monkeypatch.setenv("RETRAINING_DEBUG_HOOK", "smdebug")
    monkeypatch.setitem(sys.modules, "smdebug", None)
    assert not Debugger().active
    (note,) = failures(tmp_path / "tensors")
    assert (note["who"], note["complaint"]) == ("debugger", "the debug hook could not start")


def test_steps_before_a_kill_are_kept(job, tmp_path):
    killed = job.start(epochs=500, **{"profiler-dir": tmp_path / "killed"})
    wait_until(lambda: read_timeline(tmp_path / "killed").all(TRAIN), every_s=0.1)
    killed.kill()
    killed.communicate()
    assert read_timeline(tmp_path / "killed").seconds(TRAIN) > 0


def test_files_are_rotated_and_none_is_written_twice(tmp_path):
    times = StepTimes(tmp_path, rotate_s=0)
    for _ in times.steps("train", range(5)):
        times.ended("Forward")
    times.close()
    times.close()
    files = list(tmp_path.rglob("*_pythontimeline.json"))
    assert len(files) >= 5
    assert len(read_timeline(tmp_path).all(TRAIN)[0]) == 5
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_step_that_raises_hides_neither_its_error_nor_the_steps_before(tmp_path):
    times = StepTimes(tmp_path)

    def train():
        for number in times.steps("train", range(5)):
            times.ended("Forward")
            if number == 2:
                raise ArithmeticError

    with pytest.raises(ArithmeticError):
        train()
    times.close()
    assert len(read_timeline(tmp_path).all(TRAIN)[0]) >= 2


def test_smdebugs_own_steps_are_not_counted_beside_ours(job, tmp_path):
    folder = profiled(job, tmp_path)
    hook = {"LocalPath": str(tmp_path / "tensors"), "S3OutputPath": "s3://bucket/x", "HookParameters": None}
    (tmp_path / "hook.json").write_text(json.dumps(hook | {"CollectionConfigurations": []}))
    job.environment |= {"SMDEBUG_CONFIG_FILE_PATH": str(tmp_path / "hook.json")}
    status, _, stderr = job.run(epochs=1)
    assert status == 0, stderr
    assert (tmp_path / "tensors/index").is_dir()
    assert len(read_timeline(folder).all(TRAIN)) == 1
    assert len(read_timeline(folder).all(TRAIN)[0]) == 3


def test_on_cuda_times_are_those_of_the_device(tmp_path, monkeypatch):
    """Its marks are planned here: the host asks for all of them at once, the device passes one each second."""
    made = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            made.append(self)
            self.second = len(made)

        def synchronize(self):
            pass

        def elapsed_time(self, later):
            return 1000.0 * (later.second - self.second)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    times = StepTimes(tmp_path, torch.device("cuda"), rotate_s=0)
    for _ in times.steps("train", range(3)):
        times.ended("Forward")
    times.close()
    timeline = read_timeline(tmp_path)
    (steps,) = timeline.all(TRAIN)
    assert steps.seconds == pytest.approx([2.0, 2.0, 2.0])
    assert timeline.all("Forward")[0].seconds == pytest.approx([1.0, 1.0, 1.0])
    assert steps.start[1:] - steps.start[:-1] == pytest.approx([3.0, 3.0])


def test_a_trace_of_the_configured_steps_is_written(tmp_path):
    times = StepTimes(tmp_path, trace=Trace(start_step=1, num_steps=2))
    for _ in times.steps("train", range(5)):
        torch.randn(8, 8) @ torch.randn(8, 8)
        times.ended("Forward")
    times.close()
    (path,) = (tmp_path / "traces").iterdir()
    assert path.name.endswith("-steps-1-2.pt.trace.json.gz")
    with gzip.open(path) as file:
        events = json.load(file)["traceEvents"]
    assert sum(event.get("name") == "aten::mm" for event in events) == 2
    assert len(read_timeline(tmp_path).all(TRAIN)[0]) == 5


def test_sdks_python_text_for_the_traced_steps_is_read(tmp_path, monkeypatch):
    parameters = {"LocalPath": str(tmp_path), "DetailedProfilingConfig": '{"StartStep": 3, "NumSteps": 99, }'}
    times = configured(monkeypatch, tmp_path, json.dumps({"ProfilingParameters": parameters}))
    times.close()
    assert (times.trace.first, times.trace.last) == (3, 12)  # ten steps at most


def test_files_cut_short_are_skipped(tmp_path):
    write_steps(tmp_path, [("train", 0.1, 0.1, 0.1, 0.1, 0.1)] * 3)
    (path,) = [path for path in tmp_path.rglob("*_pythontimeline.json") if path.stat().st_size > 2000]
    (path.parent / f"9{path.name}").write_text(path.read_text()[:-40])
    (path.parent / "notes.json").write_text("[]")
    assert len(read_timeline(tmp_path).all(TRAIN)[0]) == 3


def test_smdebugs_readers_join_steps_with_the_machines_readings(tmp_path):
    from smdebug.profiler.analysis.utils.pandas_data_analysis import PandasFrameAnalysis
    from smdebug.profiler.analysis.utils.profiler_data_to_pandas import PandasFrame

    write_machine(tmp_path, 150, gpu=lambda i: 80.0)
    write_steps(tmp_path, [("train", 0.1, 0.1, 0.1, 0.1, 0.1)] * 20, begin=START + 1)
    frame = PandasFrame(str(tmp_path))
    system, framework = frame.get_all_system_metrics(), frame.get_all_framework_metrics()
    assert len(system) == 150 * (4 + 1 + 2 + 3 + 2)
    assert set(system["type"]) == {"cpu", "memory", "i/o", "network", "gpu"}
    analysis = PandasFrameAnalysis(system, framework)
    assert len(analysis.step_time_df) == 20
    assert (
        (analysis.step_time_df["end_time_us"] - analysis.step_time_df["start_time_us"]).between(5e5 - 2, 5e5 + 2).all()
    )
