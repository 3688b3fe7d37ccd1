"""Our reader beside smdebug's: the same files, the same values; and what it does with files that are not whole."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from debugger.tensors import stream as tensors_module
from debugger.tensors import writer as own
from debugger.tensors.records import CorruptTensors, RecordReader
from debugger.tensors.steps import MissingTensors
from debugger.tensors.stream import TensorStream
from tests.ml.tensor_writer import TensorWriter
from tests.waiting import PATIENCE_S

# Writes a training with smdebug's own writer, and what smdebug's own reader makes of it.
WITH_SMDEBUG = """
import json, os, sys
import numpy as np
from smdebug.core.collection_manager import CollectionManager
from smdebug.core.modes import ModeKeys
from smdebug.core.reduction_config import ReductionConfig
from smdebug.core.access_layer.utils import training_has_ended
from smdebug.core.reductions import get_numpy_reduction, get_reduction_tensor_name
from smdebug.core.writer import FileWriter
from smdebug.trials import create_trial

folder, num_workers, write = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "write"
random = np.random.default_rng(3)
if write:
    manager = CollectionManager()
    manager.set_num_workers(num_workers)
    manager.get("weights").include("weight$")
    manager.get("named").add_tensor_name("odd name/é:0")
    for worker in range(num_workers):
        manager.export(folder, f"worker_{worker}_collections.json")
    modes = [ModeKeys.TRAIN, ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT, ModeKeys.GLOBAL, ModeKeys.TRAIN]
    counts = {}
    for step, mode in enumerate(modes):
        counts[mode] = counts.get(mode, -1) + 1
        mode_step = step * 700 if mode == ModeKeys.GLOBAL else counts[mode]
        for worker in range(num_workers if step != 4 else 1):
            with FileWriter(trial_dir=folder, step=step * 700, worker=f"worker_{worker}") as writer:
                values = {
                    "fc.weight": random.normal(size=(3, 4)).astype(np.float32),
                    "double": random.normal(size=7),
                    "half": random.normal(size=(2, 1, 5)).astype(np.float16),
                    "loss": np.float32(step + worker / 10),
                    "odd name/é:0": np.arange(step + 1, dtype=np.int64),
                    "int32": np.arange(6, dtype=np.int32).reshape(2, 3),
                    "uint8": np.arange(6, dtype=np.uint8),
                    "bool": np.array([True, False, step > 2]),
                    "infinite": np.array([np.inf, -np.inf, np.nan]),
                    "text": np.array(["one", "zwei", "drei €"]),
                }
                for name, value in values.items():
                    writer.write_tensor(value, name, mode=mode, mode_step=mode_step)
                for reduction, absolute in (("mean", False), ("mean", True), ("variance", False), ("l2", False)):
                    number = get_numpy_reduction(reduction, values["double"] + 1, absolute)
                    name = get_reduction_tensor_name("reduced", reduction, absolute)
                    writer.write_tensor(np.float64(number), name, mode=mode, mode_step=mode_step)
                writer.write_shape("shaped", (5, step), mode=mode, mode_step=mode_step)
    os.environ.pop("TRAINING_JOB_NAME", None)
    training_has_ended(folder)

trial = create_trial(folder)
told = {"modes": {}, "values": {}, "collections": {}}
for step in trial.steps():
    mode, mode_step = trial.mode_modestep(step)
    told["modes"][step] = [mode.name, mode_step]
    for name in trial.tensor_names(step=step):
        tensor = trial.tensor(name)
        for worker in tensor.workers(step):
            saved = {}
            key = f"{step}|{name}|{worker}"
            reductions = tensor.reduction_values(step, worker=worker)
            told["values"][key] = {f"{r}|{a}": repr(float(v)) for (r, a), v in reductions.items()}
            try:
                value = tensor.value(step, worker=worker)
                told["values"][key]["value"] = [value.dtype.kind, list(value.shape), [str(v) for v in value.ravel()]]
            except Exception:
                pass
for name in trial.collections():
    told["collections"][name] = trial.tensor_names(collection=name)
print("TOLD " + json.dumps(told))
"""


@pytest.fixture(scope="module")
def smdebug(tmp_path_factory, environment):
    """smdebug(folder, num_workers, "write" or "read") -> what smdebug's reader tells of the folder."""

    def run(folder, num_workers, do):
        settings = environment | {"SMDEBUG_LOG_LEVEL": "error", "SMDEBUG_TRAINING_END_DELAY_REFRESH": "0"}
        command = [sys.executable, "-c", WITH_SMDEBUG, str(folder), str(num_workers), do]
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("TOLD "))[5:])

    return run


def told_by_us(folder):
    """The same, read by us."""
    stream, told = TensorStream(folder), {"modes": {}, "values": {}, "collections": {}}
    names = set()
    for step in stream.poll():
        told["modes"][str(step.number)] = [step.mode, step.mode_step]
        for index in step.indices:
            for name in index.entries:
                names.add(name)
                reductions = step.reductions(name, index.worker)
                entry = {f"{reduction}|{absolute}": repr(value) for (reduction, absolute), value in reductions.items()}
                if step.has_value(name, index.worker):
                    value = step.value(name, index.worker)
                    entry["value"] = [value.dtype.kind, list(value.shape), [str(v) for v in value.ravel()]]
                told["values"][f"{step.number}|{name}|{index.worker}"] = entry
    assert stream.finished
    for name in stream.collections:
        selection = stream.selection([name])
        told["collections"][name] = sorted(filter(selection.holds, names))
    return told


@pytest.mark.parametrize("num_workers", [1, 3])
def test_we_read_what_smdebug_writes_as_smdebug_reads_it(num_workers, smdebug, tmp_path):
    theirs, ours = smdebug(tmp_path / "t", num_workers, "write"), told_by_us(tmp_path / "t")
    assert ours["modes"] == theirs["modes"]
    theirs["values"] = {key: value for key, value in theirs["values"].items() if "|shaped|" not in key}
    assert ours["values"] == theirs["values"]
    assert len(ours["values"]) >= 11 * 6
    assert ours["collections"] == theirs["collections"]


def test_a_real_hooks_output_is_read_as_smdebug_reads_it(smdebug, finished):
    theirs, ours = smdebug(finished.tensors_dir, 1, "read"), told_by_us(finished.tensors_dir)
    assert ours["values"] == theirs["values"]
    assert ours["modes"] == theirs["modes"]
    assert any(name.startswith("gradient/") for name in ours["collections"]["gradients"])


def test_smdebug_reads_what_the_tests_writer_writes(smdebug, tmp_path):
    writer = TensorWriter(tmp_path / "t")
    for step in range(3):
        writer.save("TRAIN", {"fc.weight": np.ones((2, step + 1)), "loss": np.float32(step), "g": {"abs_mean": 0.5}})
    writer.end()
    theirs, ours = smdebug(tmp_path / "t", 1, "read"), told_by_us(tmp_path / "t")
    assert ours["values"] == theirs["values"]
    assert len(ours["values"]) == 9


def test_only_new_steps_are_given(tmp_path):
    writer, stream = TensorWriter(tmp_path), TensorStream(tmp_path)
    given = []
    for count in (2, 0, 3):
        for _ in range(count):
            writer.save("TRAIN", {"x": np.ones(2)})
        given.append([step.number for step in stream.poll()])
    assert given == [[0, 1], [], [2, 3, 4]]
    assert not stream.finished
    writer.end()
    assert list(stream.poll()) == [] and stream.finished


def test_a_step_waits_for_all_its_workers_but_not_for_ever(tmp_path):
    first = TensorWriter(tmp_path, worker="worker_0", num_workers=2)
    second = TensorWriter(tmp_path, worker="worker_1", num_workers=2)
    stream = TensorStream(tmp_path)
    first.save("TRAIN", {"x": np.zeros(1)})
    assert list(stream.poll()) == []
    first.save("TRAIN", {"x": np.zeros(1)})
    second.write(1, "TRAIN", 1, {"x": np.ones(1), "y": np.ones(1)})
    given = list(stream.poll())  # step 0 lacks a worker, but step 1 is complete, so it will not come
    assert [(step.number, step.workers) for step in given] == [(0, ["worker_0"]), (1, ["worker_0", "worker_1"])]
    assert given[1].value("x") == 0 and given[1].value("x", "worker_1") == 1 and given[1].value("y") == 1


def files_of(tmp_path, steps=3):
    writer = TensorWriter(tmp_path)
    for _ in range(steps):
        writer.save("TRAIN", {"x": np.arange(8.0), "z": np.float32(1)})
    return tmp_path / "index/000000000/000000000001_worker_0.json", tmp_path / "events/000000000001"


def test_a_file_being_written_is_waited_for(tmp_path):
    index, events = files_of(tmp_path)
    (event,) = events.iterdir()
    whole_event, whole_index = event.read_bytes(), index.read_bytes()
    stream = TensorStream(tmp_path)
    event.write_bytes(whole_event[:-9])
    assert [step.number for step in stream.poll()] == [0]
    event.write_bytes(whole_event)
    index.write_bytes(whole_index[: len(whole_index) // 2])
    assert list(stream.poll()) == []
    index.write_bytes(whole_index)
    assert [step.number for step in stream.poll()] == [1, 2]


@pytest.mark.parametrize("what", ["missing", "cut off", "a pipe"])
def test_a_damaged_event_file_costs_its_tensors_only(what, tmp_path):
    _, events = files_of(tmp_path)
    (event,) = events.iterdir()
    os.truncate(event, 150) if what == "cut off" else event.unlink()
    if what == "a pipe":  # whoever opens one waits for who writes into it
        os.mkfifo(event)
    now = [0.0]
    stream = TensorStream(tmp_path, clock=lambda: now[0])
    assert [step.number for step in stream.poll()] == [0]
    now[0] += tensors_module.WRITE_GRACE_S
    given = list(stream.poll())
    assert [step.number for step in given] == [1, 2]
    with pytest.raises(
        CorruptTensors, match=r"000000000001_worker_0.tfevents (is missing|ends after (0|150) of \d+ bytes)"
    ):
        given[0].value("z")
    assert given[1].value("z") == 1


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"meta": {}}', '{"meta": {"mode": "TRAIN", "mode_step": "x"}}', "\x00\xff"],
)
def test_a_corrupt_index_is_named(content, tmp_path):
    index, _ = files_of(tmp_path)
    index.write_text(content)
    now = [0.0]
    stream = TensorStream(tmp_path, clock=lambda: now[0])
    assert [step.number for step in stream.poll()] == [0]
    now[0] += tensors_module.WRITE_GRACE_S
    with pytest.raises(CorruptTensors, match=r"index/000000000/000000000001_worker_0.json is not an index of tensors"):
        list(stream.poll())


def test_a_pipe_is_no_index(tmp_path):
    index, _ = files_of(tmp_path)
    index.unlink()
    os.mkfifo(index)
    now = [0.0]
    stream = TensorStream(tmp_path, clock=lambda: now[0])
    assert [step.number for step in stream.poll()] == [0]
    now[0] += tensors_module.WRITE_GRACE_S
    with pytest.raises(CorruptTensors, match=r"000000000001_worker_0.json is not an index of tensors"):
        list(stream.poll())


def test_an_index_cannot_point_out_of_its_folder(tmp_path):
    index, _ = files_of(tmp_path / "t")
    (tmp_path / "secret").write_text("secret")
    index.write_text(index.read_text().replace("events/000000000001/", "events/../../"))
    now = [0.0]
    stream = TensorStream(tmp_path / "t", clock=lambda: now[0])
    list(stream.poll())
    now[0] += tensors_module.WRITE_GRACE_S
    with pytest.raises(CorruptTensors, match="is not below events/"):
        list(stream.poll())


def test_whatever_bytes_a_record_has_the_error_is_ours(tmp_path):
    """Every byte of an event file is changed in turn: a value, or CorruptTensors; nothing else, and no endless loop."""
    _, events = files_of(tmp_path)
    (event,) = events.iterdir()
    whole, refused = event.read_bytes(), 0
    for at in range(len(whole)):
        event.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        step = list(TensorStream(tmp_path).poll())[1]
        complaint = ""
        try:
            assert step.value("x").dtype.kind in "fiub" and step.value("z").size == 1
        except CorruptTensors as error:
            complaint = str(error)
        assert not complaint or "000000000001_worker_0.tfevents" in complaint
        refused += bool(complaint)
    assert refused > 50


def test_a_layout_is_learned_once_for_all_steps(tmp_path, monkeypatch):
    """Though the number of the step is within the bytes around the content, as in the files of our own hook."""
    writer = own.TensorWriter(tmp_path)
    for step in range(30):
        writer.write(step, "TRAIN", step, (("loss",), [step / 2]), {"weights": np.full(5, step, np.float32)})
    writer.write_collections(())
    writer.end()
    parsed, parse = [], RecordReader.parse
    monkeypatch.setattr(RecordReader, "parse", lambda *given: parsed.append(given[2]) or parse(*given))
    for step in TensorStream(tmp_path).poll():
        assert (step.value("loss"), *step.value("weights")) == (step.number / 2, *[step.number] * 5)
    assert len(parsed) == 4  # a step's number of two digits makes the records longer


def test_only_reductions_are_not_values(tmp_path):
    writer = TensorWriter(tmp_path)
    writer.save("TRAIN", {"x": {"mean": np.float32(2), "abs_max": np.float32(4)}})
    (step,) = TensorStream(tmp_path).poll()
    assert step.mean("x") == 2 and step.reduction("x", "max", absolute=True) == 4
    with pytest.raises(MissingTensors, match="of 'x' only mean, abs_max was saved at step 0"):
        step.value("x")


def test_steps_that_appear_late_are_noticed(tmp_path):
    writer, stream = TensorWriter(tmp_path), TensorStream(tmp_path)
    writer.write(5, "TRAIN", 5, {"x": np.ones(1)})
    list(stream.poll())
    assert not stream.steps_came_late()
    writer.write(3, "TRAIN", 3, {"x": np.ones(1)})
    assert list(stream.poll()) == []
    assert stream.steps_came_late()
