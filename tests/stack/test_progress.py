import io
from datetime import UTC, datetime

from stack.jobs import tuning_words
from stack.progress import Task, TaskClock, Terminal, line

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def instance(name: str, state: str | None, start: int | None = None, end: int | None = None) -> dict:
    def at(second: int | None) -> str | None:
        return None if second is None else NOON.replace(second=second).isoformat()

    return {"task_id": name, "state": state, "start_date": at(start), "end_date": at(end), "try_number": 1}


def task(name: str, state: str, seconds: float | None = None, try_number: int = 1) -> Task:
    return Task(name=name, state=state, seconds=seconds, try_number=try_number)


def test_a_resumed_task_is_timed_from_its_first_start() -> None:
    clock = TaskClock()
    clock.tasks([instance("tune", "deferred", start=5)], NOON.replace(second=30))
    [found] = clock.tasks([instance("tune", "success", start=40, end=41)], NOON.replace(second=50))
    assert found.seconds == 36


def test_tasks_stand_in_the_order_in_which_they_started() -> None:
    instances = [instance("z", None), instance("b", "running", start=9), instance("c", "success", start=2, end=4)]
    assert [found.name for found in TaskClock().tasks(instances, NOON.replace(second=10))] == ["c", "b", "z"]


def test_a_log_gets_one_line_for_each_change() -> None:
    output = io.StringIO()
    terminal = Terminal(output, live=False)
    for state in ("queued", "running", "running", "success", "success"):
        terminal.update([task("tune", state, 1.0)], lambda task: None)
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert "● tune" in lines[0]
    assert "✓ tune" in lines[1]


def test_a_log_gets_a_line_when_the_job_gets_on() -> None:
    output = io.StringIO()
    terminal = Terminal(output, live=False)
    for words in ("0 of 4 trials done", "0 of 4 trials done", "1 of 4 trials done"):
        terminal.update([task("tune", "deferred", 1.0)], lambda task, words=words: words)
    assert output.getvalue().count("trials done") == 2


def test_a_terminal_keeps_finished_tasks_and_redraws_the_rest() -> None:
    output = io.StringIO()
    terminal = Terminal(output, live=True)
    terminal.update([task("sync", "success", 2.0), task("tune", "running", 1.0)], lambda task: "1 of 4")
    terminal.update([task("sync", "success", 2.0), task("tune", "success", 3.0)], lambda task: None)
    text = output.getvalue()
    assert text.count("sync") == 1
    assert "\x1b[1A\x1b[J" in text
    assert text.endswith(line(task("tune", "success", 3.0)) + "\n")


def test_a_run_that_waits_says_for_whom() -> None:
    output = io.StringIO()
    terminal = Terminal(output, live=False)
    for before in ("scheduled__2026-11-30", "scheduled__2026-11-30", None, "manual__\x1b[2J1", None):
        terminal.wait_for(before)
    assert output.getvalue().splitlines() == [
        "  · waits for scheduled__2026-11-30, which is at work: one run of a DAG at a time",
        "  · waits for manual__\\x1b[2J1, which is at work: one run of a DAG at a time",
    ]


def test_a_retry_is_visible() -> None:
    assert "(try 2)" in line(task("deploy", "running", 1.0, try_number=2))


def test_a_tuning_job_in_words() -> None:
    job = {
        "HyperParameterTuningJobConfig": {"ResourceLimits": {"MaxNumberOfTrainingJobs": 4}},
        "TrainingJobStatusCounters": {"Completed": 2, "InProgress": 1, "NonRetryableError": 1},
        "BestTrainingJob": {
            "FinalHyperParameterTuningJobObjectiveMetric": {"MetricName": "validation:accuracy", "Value": 0.97314}
        },
    }
    words = tuning_words(job, ["epoch=3/6 train:loss=0.1 images_per_second=812.3"])
    assert words == "2 of 4 trials done, 1 running (epoch 3/6), 1 failed, best validation:accuracy 0.9731"
