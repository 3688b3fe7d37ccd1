"""CloudWatch Logs as its clients use it: paging, tokens, searching, following."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from local_sagemaker.operations import cloudwatch_logs, filter_pattern
from local_sagemaker.state import logs as module
from local_sagemaker.state.logs import TRAINING_JOBS, Logs
from local_sagemaker.wire.errors import ApiError
from tests.local_sagemaker.harness import Server


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    alone = Logs(tmp_path / "logs.db")
    yield alone
    alone.close()


def messages(answer: dict[str, Any]) -> list[str]:
    return [event["message"] for event in answer["events"]]


def get(logs: Logs, stream: str = "job/algo-1", **request: Any) -> dict[str, Any]:
    return cloudwatch_logs.get_log_events({"logGroupName": TRAINING_JOBS, "logStreamName": stream} | request, logs=logs)


def search(logs: Logs, **request: Any) -> list[str]:
    """FilterLogEvents over all pages, as a paginator does it."""
    found: list[str] = []
    request = {"logGroupName": TRAINING_JOBS} | request
    for _ in range(10_000):
        page = cloudwatch_logs.filter_log_events(request, logs=logs)
        found += messages(page)
        if "nextToken" not in page:
            return found
        request = request | {"nextToken": page["nextToken"]}
    raise AssertionError("it never ended")


def test_forward_token_repeats_at_the_end_and_moves_on_with_new_lines(logs: Logs) -> None:
    logs.put(TRAINING_JOBS, "job/algo-1", ["one", "two", "three"])
    first = get(logs, startFromHead=True, limit=2)
    second = get(logs, nextToken=first["nextForwardToken"])
    third = get(logs, nextToken=second["nextForwardToken"])
    assert (messages(first), messages(second), messages(third)) == (["one", "two"], ["three"], [])
    assert third["nextForwardToken"] == second["nextForwardToken"]
    logs.put(TRAINING_JOBS, "job/algo-1", ["four"])
    assert messages(get(logs, nextToken=third["nextForwardToken"])) == ["four"]


def test_backward_token_goes_to_the_head_and_repeats_there(logs: Logs) -> None:
    logs.put(TRAINING_JOBS, "job/algo-1", [str(number) for number in range(7)])
    page, found = get(logs, limit=3), []
    for _ in range(4):
        found.append(messages(page))
        before = page["nextBackwardToken"]
        page = get(logs, nextToken=before, limit=3)
    assert found == [["4", "5", "6"], ["1", "2", "3"], ["0"], []]
    assert page["nextBackwardToken"] == before


def test_answer_is_capped_at_a_megabyte(logs: Logs) -> None:
    logs.put(TRAINING_JOBS, "job/algo-1", [f"{number}{'x' * 100_000}" for number in range(30)])
    read: list[str] = []
    page = get(logs, startFromHead=True)
    while page["events"]:
        assert sum(len(message) + 26 for message in messages(page)) <= 2**20
        read += messages(page)
        page = get(logs, nextToken=page["nextForwardToken"])
    assert [message[:2].rstrip("x") for message in read] == [str(number) for number in range(30)]
    assert messages(get(logs))[-1].startswith("29x")
    assert len(search(logs)) == 30


def test_times_bound_what_is_read(logs: Logs) -> None:
    moments = []
    for word in ("early", "middle", "late"):
        moments.append(int(time.time() * 1000))
        logs.put(TRAINING_JOBS, "job/algo-1", [word])
        time.sleep(0.005)
    assert messages(get(logs, startTime=moments[1], startFromHead=True)) == ["middle", "late"]
    assert messages(get(logs, startTime=moments[1], endTime=moments[2])) == ["middle"]
    assert search(logs, startTime=moments[1], endTime=moments[2] - 1) == ["middle"]


def test_reader_misses_and_repeats_nothing_while_a_job_writes(logs: Logs) -> None:
    total = 3_000
    logs.put(TRAINING_JOBS, "job/algo-1", ["0"])

    def write() -> None:
        for number in range(1, total, 3):
            logs.put(TRAINING_JOBS, "job/algo-1", [str(number + offset) for offset in range(3)])

    writer = threading.Thread(target=write)
    writer.start()
    read: list[str] = []
    page = get(logs, startFromHead=True, limit=7)
    while writer.is_alive() or page["events"]:
        read += messages(page)
        page = get(logs, nextToken=page["nextForwardToken"], limit=7)
    writer.join()
    read += messages(page) + messages(get(logs, nextToken=page["nextForwardToken"]))
    assert read == [str(number) for number in range(total + 1)][: len(read)]
    assert len(read) >= total


def test_search_merges_streams_by_time(logs: Logs) -> None:
    for number in range(40):
        logs.put(TRAINING_JOBS, f"job/algo-{number % 3}", [str(number)])
        time.sleep(0.0015)
    everything = [str(number) for number in range(40)]
    assert search(logs) == everything
    assert search(logs, limit=3) == everything
    assert search(logs, logStreamNamePrefix="job/algo-1", limit=2) == everything[1::3]
    assert search(logs, logStreamNames=["job/algo-0", "job/algo-2"]) == [n for n in everything if int(n) % 3 != 1]


def test_search_of_little_in_much_ends(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may be empty and have a token, so that no call looks at everything."""
    logs.put(TRAINING_JOBS, "job/algo-1", [f"line {number}" for number in range(250_000)])
    assert search(logs, filterPattern='"line 249999"') == ["line 249999"]
    page = cloudwatch_logs.filter_log_events({"logGroupName": TRAINING_JOBS, "filterPattern": "nothing"}, logs=logs)
    assert page["events"] == []
    assert page["nextToken"]


def test_long_stream_is_read_by_its_index(logs: Logs) -> None:
    """What a page of a long stream costs does not grow with it: counted in SQLite's steps, not in seconds."""
    logs.put(TRAINING_JOBS, "job/algo-1", ["x"] * 200_000)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    logs._reader.set_progress_handler(count, 100)
    page = get(logs, limit=10)
    get(logs, nextToken=page["nextBackwardToken"], limit=10)
    get(logs, startTime=int(time.time() * 1000) + 60_000, limit=10)
    assert steps < 50


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("", {"loss 0.5", "ERROR disk full", "ERROR 401", "warn: disk"}),
        ("ERROR", {"ERROR disk full", "ERROR 401"}),
        ("ERROR disk", {"ERROR disk full"}),
        ('"warn: disk"', {"warn: disk"}),
        ("?loss ?warn", {"loss 0.5", "warn: disk"}),
        ("ERROR -disk", {"ERROR 401"}),
        ('-ERROR -"loss 0"', {"warn: disk"}),
        ("error", set()),
    ],
)
def test_filter_pattern_means_what_it_means_on_aws(pattern: str, matching: set[str]) -> None:
    lines = {"loss 0.5", "ERROR disk full", "ERROR 401", "warn: disk"}
    assert {line for line in lines if filter_pattern.matcher(pattern)(line)} == matching


@pytest.mark.parametrize("pattern", ["{ $.a = 1 }", "[ip, user]", "%regex%", '"open', "a:b"])
def test_other_filter_pattern_is_refused_in_words(pattern: str) -> None:
    with pytest.raises(ApiError) as caught:
        filter_pattern.matcher(pattern)
    assert caught.value.code == "InvalidParameterException"
    assert len(caught.value.message) > 30


@pytest.mark.parametrize("token", ["", "f/1", "x/00000000000000000001", "f/²0000000000000000000", "b/" + "9" * 20])
def test_token_of_nothing_does_no_harm(logs: Logs, token: str) -> None:
    logs.put(TRAINING_JOBS, "job/algo-1", ["one"])
    if token.startswith("b/"):  # a place behind everything is a place
        assert messages(get(logs, nextToken=token)) == ["one"]
        return
    with pytest.raises(ApiError) as caught:
        get(logs, nextToken=token)
    assert caught.value.code == "InvalidParameterException"


def test_stream_that_grows_without_end_loses_its_head(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STREAM_BYTES", 10_000)
    for number in range(200):
        logs.put(TRAINING_JOBS, "job/algo-1", [f"{number:0100}"])
    kept = [int(message) for message in messages(get(logs))]
    assert kept == list(range(kept[0], 200))
    assert 50 < len(kept) < 110


def test_long_lines_lengthen_no_search_of_others(logs: Logs) -> None:
    """A row of `events` fits its page, whatever was printed: SQLite compares whole rows on its way to a place."""
    lines = ["short", "x" * 900, "é" * 451, "y" * module.MAX_MESSAGE_BYTES, "last"]
    logs.put(TRAINING_JOBS, "job/algo-1", lines)
    assert logs._read("SELECT MAX(LENGTH(CAST(message AS BLOB))) FROM events") == [(900,)]
    assert messages(get(logs)) == search(logs) == lines


def test_long_lines_go_with_their_stream(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STREAM_BYTES", 10_000)
    for number in range(50):
        logs.put(TRAINING_JOBS, "job/algo-1", [f"{number:01000}"])
    kept = [int(message) for message in messages(get(logs))]
    assert kept == list(range(kept[0], 50)) and 5 < len(kept) <= 11
    assert logs._read("SELECT COUNT(*) FROM long_messages") == [(len(kept),)]
    logs.delete(TRAINING_JOBS, "job/algo-1")
    assert logs._read("SELECT COUNT(*) FROM long_messages") == [(0,)]


def test_lines_of_an_earlier_version_stay(tmp_path: Path) -> None:
    """It kept long messages among the others."""
    with contextlib.closing(sqlite3.connect(tmp_path / "logs.db")) as file, file:
        file.executescript(module.SCHEMA)
        file.execute("DROP TABLE long_messages")
        file.execute("INSERT INTO streams VALUES (1, ?, 'job/algo-1', 1, 1, 1, 1002)", (TRAINING_JOBS,))
        file.executemany("INSERT INTO events VALUES (1, ?, 1, ?)", enumerate(["before", "x" * 1000]))
    logs = Logs(tmp_path / "logs.db")
    logs.put(TRAINING_JOBS, "job/algo-1", ["y" * 1000, "after"])
    assert messages(get(logs)) == search(logs) == ["before", "x" * 1000, "y" * 1000, "after"]
    logs.close()


# Over the wire.


@pytest.fixture(scope="module")
def stocked(server: Server) -> Server:
    """Streams as jobs leave them, written beside the server: it has no operation that writes."""
    beside = Logs(server.root / "logs.db")
    for number in range(12):
        beside.put(TRAINING_JOBS, f"stocked-{number:02}/algo-1-1700000000", [f"hello from {number}"])
    beside.put("/aws/sagemaker/TransformJobs", "t/i-1", ["bye"])
    beside.close()
    return server


def test_groups_and_streams_are_paged(stocked: Server) -> None:
    groups = list(stocked.logs.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 1}))
    assert TRAINING_JOBS in [group["logGroupName"] for page in groups for group in page["logGroups"]]
    for order in ({}, {"orderBy": "LastEventTime", "descending": True}):
        pages = stocked.logs.get_paginator("describe_log_streams").paginate(
            logGroupName=TRAINING_JOBS, PaginationConfig={"PageSize": 5}, **order
        )
        names = [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        assert len(names) == len(set(names)) >= 12
    assert names.index("stocked-11/algo-1-1700000000") < names.index("stocked-00/algo-1-1700000000")


def test_streams_are_found_as_airflow_does_it(stocked: Server) -> None:
    found = stocked.logs.describe_log_streams(
        logGroupName=TRAINING_JOBS, logStreamNamePrefix="stocked-03/", orderBy="LogStreamName", limit=1
    )["logStreams"]
    assert [stream["logStreamName"] for stream in found] == ["stocked-03/algo-1-1700000000"]


@pytest.mark.parametrize(
    ("call", "request_", "code"),
    [
        ("describe_log_streams", {"logGroupName": "nothing"}, "ResourceNotFoundException"),
        ("get_log_events", {"logGroupName": TRAINING_JOBS, "logStreamName": "nobody"}, "ResourceNotFoundException"),
        ("filter_log_events", {"logGroupName": TRAINING_JOBS, "logStreamNames": ["no"]}, "ResourceNotFoundException"),
        (
            "describe_log_streams",
            {"logGroupName": TRAINING_JOBS, "logStreamNamePrefix": "a", "orderBy": "LastEventTime"},
            "InvalidParameterException",
        ),
        ("put_retention_policy", {"logGroupName": TRAINING_JOBS, "retentionInDays": 2}, "InvalidParameterException"),
    ],
)
def test_what_is_wrong_has_its_code(stocked: Server, call: str, request_: dict[str, Any], code: str) -> None:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        getattr(stocked.logs, call)(**request_)
    assert caught.value.response["Error"]["Code"] == code


def test_deleted_stream_and_group_are_gone(stocked: Server) -> None:
    group = "/aws/sagemaker/TransformJobs"
    stocked.logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    assert stocked.logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["retentionInDays"] == 7
    stocked.logs.delete_log_stream(logGroupName=group, logStreamName="t/i-1")
    assert stocked.logs.describe_log_streams(logGroupName=group)["logStreams"] == []
    stocked.logs.delete_log_group(logGroupName=group)
    assert stocked.logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"] == []


def test_lines_are_followed_as_aws_logs_tail_does_it(stocked: Server) -> None:
    """aws-cli 2 asks from the newest time it has seen and drops what it has by its eventId."""
    beside = Logs(stocked.root / "logs.db")
    seen: dict[str, str] = {}
    request: dict[str, Any] = {"logGroupName": TRAINING_JOBS, "logStreamNamePrefix": "followed", "limit": 4}
    for number in range(30):
        beside.put(TRAINING_JOBS, f"followed/algo-{number % 2}", [f"line {number}", f"and {number}"])
        page = stocked.logs.filter_log_events(**request)
        seen |= {event["eventId"]: event["message"] for event in page["events"]}
        if "nextToken" in page:
            request["nextToken"] = page["nextToken"]
        else:
            request.pop("nextToken", None)
            request["startTime"] = page["events"][-1]["timestamp"]
    beside.close()
    assert len(seen) == len(set(seen.values()))
    assert {f"line {number}" for number in range(28)} <= set(seen.values())


def test_lines_without_room_are_dropped_and_later_ones_kept(logs: Logs) -> None:
    """SQLite's own limit stands in for the full disk."""
    logs.put(TRAINING_JOBS, "job/algo-1", ["before"])
    (pages,) = logs._db.execute("PRAGMA page_count").fetchone()
    logs._db.execute(f"PRAGMA max_page_count={pages}")
    logs.put(TRAINING_JOBS, "job/algo-1", ["x" * 100_000])
    logs._db.execute("PRAGMA max_page_count=1000000")
    logs.put(TRAINING_JOBS, "job/algo-1", ["after"])
    assert messages(get(logs)) == ["before", "after"]
