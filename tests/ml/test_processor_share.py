"""What a training was given of the processors: measured, and told first where it explains the time."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluate_rules import main as evaluate
from profiler.report import advice
from profiler.system_metrics import ProcessorShare, difference
from profiler.system_usage import Share, read_shares
from tests.waiting import PATIENCE_S

ML = Path(__file__).parents[2] / "ml"
BUSY = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
# A training that computes for a while, on a single core.
TRAINING = f"""
import sys, time
sys.path.insert(0, {str(ML)!r})
from profiler.system_metrics import ProcessorShare
measured = ProcessorShare(sys.argv[1], interval_s=0.2).start()
{BUSY.format(seconds=6)}
measured.stop()
"""
needs_linux = pytest.mark.skipif(not Path("/proc/self/schedstat").is_file(), reason="this kernel does not tell")


def on_one_core(code, *arguments):
    core = min(os.sched_getaffinity(0))
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )


@needs_linux
def test_a_squeezed_training_is_told_who_had_the_processor(tmp_path):
    """Three busy processes on its only core leave it a quarter; a busier machine leaves it less."""
    training = on_one_core(TRAINING, str(tmp_path))
    others = [on_one_core(BUSY.format(seconds=PATIENCE_S)) for _ in range(3)]
    try:
        assert training.wait(PATIENCE_S) == 0
    finally:
        for process in others:
            process.kill()
            process.wait()
    (share,) = read_shares(tmp_path).values()
    assert share.cores == 1 and share.seconds > 5
    assert 0.5 < share.waiting_share < 1
    found = advice.waiting_for_processor("algo-1", share)
    assert found.level == "bad" and "for a processor" in found.title
    assert found.text.startswith("Other processes on this machine had 0.")


@needs_linux
def test_a_training_that_sleeps_waits_for_nothing(tmp_path):
    """However busy the machine is: who does not want to compute does not wait."""
    measured = ProcessorShare(tmp_path, interval_s=0.05).start()
    time.sleep(0.5)
    measured.stop()
    (share,) = read_shares(tmp_path).values()
    assert share.used < 0.4 and share.waited is not None
    assert advice.waiting_for_processor("algo-1", share) is None  # too short to judge, too


@pytest.fixture
def machine(tmp_path):
    """machine(**what it tells) -> (folder like /proc, folder like /sys/fs/cgroup)"""

    def write(**told):
        for name, text in told.items():
            path = tmp_path / name.replace("__", "/").replace("cpu_stat", "cpu.stat")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return {"proc": tmp_path / "proc", "cgroups": tmp_path / "cgroup"}

    return write


def stat(busy, stolen):
    cores = sorted(os.sched_getaffinity(0))
    lines = [f"cpu{core} {busy} 0 0 900 0 0 0 {stolen} 0 0" for core in cores[:1]]
    return "\n".join(["cpu 1 1 1 1 1 1 1 1", *lines, *[f"cpu{core} 0 0 0 0 0 0 0 0 0 0" for core in cores[1:]]]) + "\n"


@pytest.mark.parametrize(
    ("groups", "place", "before", "after"),
    [
        ("0::/job\n", "cgroup__job__cpu_stat", "throttled_usec 5000000\n", "throttled_usec 8000000\n"),
        ("0::/\n", "cgroup__cpu_stat", "nr_throttled 3\nthrottled_usec 0\n", "throttled_usec 3000000\n"),
        ("4:cpu,acct:/a\n0::/\n", "cgroup__cpu,acct__a__cpu_stat", "throttled_time 0", "throttled_time 3000000000"),
        ("4:cpu:/gone\n", "cgroup__cpu__cpu_stat", "throttled_time 0", "throttled_time 3000000000"),
    ],
)  # fmt: skip
def test_waits_steal_and_throttling_are_read(machine, tmp_path, groups, place, before, after):
    tick = os.sysconf("SC_CLK_TCK")
    told = {"proc__self__cgroup": groups, "proc__self__task__7__schedstat": "1 1000000000 5\n"}
    places = machine(proc__stat=stat(0, 0), **told, **{place: before})
    measured = ProcessorShare(tmp_path / "out", **places)
    first = measured.read()
    told = {"proc__self__task__7__schedstat": "1 3000000000 5\n", "proc__self__task__8__schedstat": "1 500000000 1\n"}
    machine(proc__stat=stat(4 * tick, 2 * tick), **told, **{place: after})
    found = difference(first, measured.read())
    assert (found["Waited"], found["Busy"], found["Stolen"], found["Throttled"]) == (2.5, 4.0, 2.0, 3.0)


def test_a_machine_that_tells_nothing_is_no_failure(tmp_path, capsys):
    measured = ProcessorShare(tmp_path, interval_s=0.05, proc=tmp_path / "no", cgroups=tmp_path / "no").start()
    measured.stop()
    (share,) = read_shares(tmp_path).values()
    assert (share.waited, share.busy, share.stolen, share.throttled) == (None, None, None, None)
    assert share.waiting_share is None and advice.waiting_for_processor("algo-1", share) is None
    assert capsys.readouterr().err == ""


SQUEEZED = {"seconds": 100.0, "cores": 2, "used": 40.0, "waited": 65.0, "busy": 198.0, "stolen": 0.0}


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({}, "bad", "Other processes on this machine had 1.6 of its 2 cores at a mean"),
        ({"busy": 41.0, "stolen": 120.0}, "bad", "The host of this virtual machine gave 60 % of its 2 cores to others"),
        ({"busy": 41.0, "throttled": 55.0, "waited": 0.0}, "bad", "Its container's limit held it back for 55"),
        ({"used": 195.0, "waited": 400.0}, "bad", "Its own threads want more than its 2 cores"),
        ({"busy": None, "stolen": None}, "bad", "Who had it meanwhile is not known"),
        ({"waited": 6.0}, "note", "Other processes"),
        ({"waited": 2.0}, None, ""),
        ({"used": 195.0, "waited": 90.0}, None, ""),  # it has all cores, and a few threads more than those
        ({"seconds": 2.0}, None, ""),
    ],
)
def test_the_cause_is_named_by_its_share(changes, level, said):
    found = advice.waiting_for_processor("algo-1", Share(**(SQUEEZED | changes)))
    assert (found.level if found else None) == level
    if found:
        assert found.text.startswith(said)
        assert "%" in found.title


def test_processes_of_one_node_are_added_up(tmp_path):
    (tmp_path / "processor").mkdir()
    for pid, seconds in (("1", 60.0), ("2", 50.0)):
        line = {"NodeId": "algo-2", "Timestamp": 1.0, "Cores": 4, "Seconds": seconds, "Used": 10.0, "Waited": 5.0}
        text = json.dumps(line | {"Busy": seconds}) + '\n{"half a li'
        (tmp_path / "processor" / f"algo-2-{pid}.json").write_text(text)
    share = read_shares(tmp_path)["algo-2"]
    assert (share.seconds, share.cores, share.used, share.waited, share.busy) == (60.0, 4, 20.0, 10.0, 60.0)
    assert share.throttled is None


def test_the_report_names_it_before_all_else(tmp_path):
    profiler, out = tmp_path / "profiler", tmp_path / "out"
    (profiler / "processor").mkdir(parents=True)
    (profiler / "system/incremental/2025051520").mkdir(parents=True)
    reading = {"Type": "cpu", "Name": "cpu0", "Dimension": "CPUUtilization", "Value": 99.0}
    line = json.dumps(reading | {"NodeId": "algo-1", "Timestamp": 1747342440.0})
    (profiler / "system/incremental/2025051520/1747342440.algo-1.json").write_text(line + "\n")
    counted = {"Seconds": 100, "Cores": 2, "Used": 40, "Waited": 65, "Busy": 198, "Stolen": 0}
    (profiler / "processor/algo-1-7.json").write_text(json.dumps({"NodeId": "algo-1", "Timestamp": 1.0} | counted))
    evaluate(
        [
            "--tensors",
            str(tmp_path / "none"),
            "--profiler",
            str(profiler),
            "--rules",
            "ProfilerReport",
            "--output",
            str(out),
        ]
    )
    (page,) = out.rglob("profiler-report.html")
    html = page.read_text()
    assert "No problem was found" not in html
    first = html[html.index('class="finding') :]
    assert first.index("The training waited for a processor for 62 % of the time") < first.index("</h3>")
    (verdict,) = out.rglob("verdict.json")
    assert '"waited_for_processor"' in verdict.read_text()
