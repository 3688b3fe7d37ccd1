"""Metrics of training jobs whose patterns or whose output are bad: they cost a value or a metric, nothing else."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.local_sagemaker.harness import Server, error, training_request
from tests.waiting import wait_until

ENDLESS = "(a+)+$"
BAIT = "a" * 60 + "!"


def request(server: Server, name: str, script: str, metrics: dict[str, str]) -> dict[str, Any]:
    made = training_request(server, name, script)
    definitions = [{"Name": metric, "Regex": regex} for metric, regex in metrics.items()]
    made["AlgorithmSpecification"]["MetricDefinitions"] = definitions
    return made


def run(server: Server, name: str, script: str, metrics: dict[str, str]) -> dict[str, Any]:
    server.sagemaker.create_training_job(**request(server, name, script, metrics))
    return ended(server, name)


def ended(server: Server, name: str) -> dict[str, Any]:
    return server.wait(lambda: server.sagemaker.describe_training_job(TrainingJobName=name), "TrainingJobStatus")


def final(job: dict[str, Any]) -> dict[str, float]:
    return {metric["MetricName"]: round(metric["Value"], 4) for metric in job.get("FinalMetricDataList", [])}


def platform_log(server: Server, name: str) -> str:
    events = server.logs.get_log_events(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=f"{name}/platform", startFromHead=True
    )
    return "\n".join(event["message"] for event in events["events"])


@contextlib.contextmanager
def slowest_answer(server: Server) -> Iterator[list[float]]:
    """How long the slowest of many calls took that were made meanwhile."""
    slowest, over = [0.0], threading.Event()

    def ask() -> None:
        client = server.client("sagemaker")
        while not over.wait(0.02):
            began = time.monotonic()
            client.list_endpoints()
            slowest[0] = max(slowest[0], time.monotonic() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield slowest
    finally:
        over.set()
        thread.join()


def test_text_that_is_no_number_costs_its_value_alone(server: Server) -> None:
    script = "print('acc none yet'); print('acc 0.25'); print('cat=dog;'); print('f1=nan'); print('big=1e999')"
    patterns = {"acc": r"acc (?:([0-9.]+)|none)", "cat": "cat=(.*?);", "f1": r"f1=(\S+)", "big": r"big=(\S+)"}
    job = run(server, "no-number", script, patterns)
    assert job["TrainingJobStatus"] == "Completed"
    assert final(job) == {"acc": 0.25}


def test_long_progress_bar_holds_nobody_up(server: Server) -> None:
    script = """
bar = "\\r  3%|##      | 13/400 [00:01<00:30, 12.5it/s]"
print(bar * 20_000)
print("x" * 1_000_000)
print("train:loss 0.5")
"""
    with slowest_answer(server) as slowest:
        job = run(server, "long-bar", script, {"train:loss": r".*train:loss ([0-9\.]+).*"})
    assert (job["TrainingJobStatus"], final(job)) == ("Completed", {"train:loss": 0.5})
    assert slowest[0] < 3


def test_endless_pattern_costs_its_metric_and_says_so(server: Server) -> None:
    script = f"print('good=0.5 bad=1'); print('{BAIT}'); print('good=0.75 bad=2')"
    with slowest_answer(server) as slowest:
        job = run(server, "endless", script, {"bad": ENDLESS, "good": "good=([0-9.]+)"})
    assert (job["TrainingJobStatus"], final(job)) == ("Completed", {"good": 0.75})
    assert f"Metric 'bad': its Regex '{ENDLESS}' took more than 2 s" in platform_log(server, "endless")
    assert slowest[0] < 3


def test_next_server_skips_what_overran(make_server: Callable[..., Server]) -> None:
    server = make_server()
    script = f"import time; print('{BAIT}', flush=True); time.sleep(8); print('good=0.5')"
    server.sagemaker.create_training_job(
        **request(server, "killed", script, {"bad": ENDLESS, "good": "good=([0-9.]+)"})
    )
    wait_until(lambda: "given up" in platform_log_if_any(server), server.log, every_s=0.1)
    server.stop(signal.SIGKILL)
    server.start()
    job = ended(server, "killed")
    assert (job["TrainingJobStatus"], final(job)) == ("Completed", {"good": 0.5})
    assert platform_log(server, "killed").count("given up") == 1


def platform_log_if_any(server: Server) -> str:
    try:
        return platform_log(server, "killed")
    except server.logs.exceptions.ResourceNotFoundException:
        return ""


def test_server_killed_in_mid_search_is_followed_by_one_that_answers(make_server: Callable[..., Server]) -> None:
    server = make_server()
    script = f"import time; print('good=0.5'); print('{BAIT}', flush=True); time.sleep(5)"
    server.sagemaker.create_training_job(
        **request(server, "mid-search", script, {"bad": ENDLESS, "good": "good=([0-9.]+)"})
    )
    time.sleep(1.5)
    server.stop(signal.SIGKILL)
    server.start()
    with slowest_answer(server) as slowest:
        job = ended(server, "mid-search")
    assert (job["TrainingJobStatus"], final(job)) == ("Completed", {"good": 0.5})
    assert slowest[0] < 3


@pytest.mark.parametrize("regex", ["(", "*", "(?P<a>.)(?P<a>.)"])
def test_pattern_that_is_none_is_refused_by_name(server: Server, regex: str) -> None:
    refusal = error(lambda: server.sagemaker.create_training_job(**request(server, "none", "pass", {"m": regex})))
    assert refusal["Code"] == "ValidationException"
    assert f"Invalid MetricDefinition 'm': regex '{regex}'" in refusal["Message"]


def test_million_metric_lines_hold_nobody_up(server: Server) -> None:
    script = "import sys\nfor n in range(10): sys.stdout.write('loss=0.25\\n' * 100_000)"
    with slowest_answer(server) as slowest:
        job = run(server, "million", script, {"loss": "loss=([0-9.]+)"})
    assert (job["TrainingJobStatus"], final(job)) == ("Completed", {"loss": 0.25})
    assert slowest[0] < 3


def test_line_of_fifty_megabytes_comes_in_pieces(server: Server) -> None:
    script = "import sys\nfor n in range(50): sys.stdout.write('é' * 500_000)\nprint('\\nloss=0.5')"
    with slowest_answer(server) as slowest:
        job = run(server, "one-line", script, {"loss": "loss=([0-9.]+)"})
    assert (job["TrainingJobStatus"], final(job)) == ("Completed", {"loss": 0.5})
    assert slowest[0] < 3
    (stream,) = server.logs.describe_log_streams(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix="one-line/algo-1"
    )["logStreams"]
    assert stream["storedBytes"] >= 25_000_000
