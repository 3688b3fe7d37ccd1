"""A candidate that was weighed and found wanting is remembered, and whatever is wrong with the memory harms nobody."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import boto3
import pytest

from retraining.promotion.rejections import KEPT, Rejection, recall_rejections, remember_rejection
from tests.object_store import CLIENT, free_ports

KEY = "digits/rejected-candidates.json"
INGREDIENTS = {"dataset": "d", "code": "c", "recipe": "r"}
ONE = Rejection(run_name="run-1", ingredients=INGREDIENTS, gate="g", champion="run-0", reason="worse")


def remember(s3: Any, bucket: str, rejection: Rejection) -> None:
    remember_rejection(s3, bucket, KEY, "digits", rejection)


def recall(s3: Any, bucket: str) -> list[Rejection]:
    return recall_rejections(s3, bucket, KEY, "digits")


def test_before_the_first_there_is_none(s3: Any, bucket: str, caplog: pytest.LogCaptureFixture) -> None:
    assert recall(s3, bucket) == []
    assert caplog.records == []


def test_what_is_remembered_comes_back_in_order(s3: Any, bucket: str) -> None:
    two = replace(ONE, run_name="run-2", champion=None)
    for rejection in (ONE, two, ONE, two):  # reports may be repeated
        remember(s3, bucket, rejection)
    assert recall(s3, bucket) == [ONE, two]


def test_the_document_explains_itself(s3: Any, bucket: str) -> None:
    remember(s3, bucket, ONE)
    assert json.loads(s3.get_object(Bucket=bucket, Key=KEY)["Body"].read()) == {
        "format": 1,
        "recipe": "digits",
        "candidates": [
            {"run_name": "run-1", "ingredients": INGREDIENTS, "gate": "g", "champion": "run-0", "reason": "worse"}
        ],
    }


def test_the_oldest_are_forgotten(s3: Any, bucket: str) -> None:
    for number in range(KEPT + 2):
        remember(s3, bucket, replace(ONE, run_name=f"run-{number}"))
    assert [one.run_name for one in recall(s3, bucket)] == [f"run-{number}" for number in range(2, KEPT + 2)]


def test_of_two_writers_neither_is_lost(s3: Any, bucket: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: remember(s3, bucket, replace(ONE, run_name=f"run-{number}")), range(3)))
    assert {one.run_name for one in recall(s3, bucket)} == {"run-0", "run-1", "run-2"}


@pytest.mark.parametrize(
    "other",
    [{"ingredients": INGREDIENTS | {"dataset": "d2"}}, {"gates": ("g2",)}, {"champion": "run-9"}, {"champion": None}],
    ids=["data", "gate", "champion", "no champion"],
)
def test_it_is_about_the_same_case_alone(other: dict[str, Any]) -> None:
    same = {"ingredients": dict(INGREDIENTS), "gates": ("g", "shadow"), "champion": "run-0"}
    assert ONE.is_about(**same)
    assert not ONE.is_about(**same | other)


def test_a_persons_no_holds_whoever_is_champion() -> None:
    persons = replace(ONE, by="ann")
    assert persons.is_about(dict(INGREDIENTS), ("g2",), "run-9")
    assert not persons.is_about(INGREDIENTS | {"dataset": "d2"}, ("g",), "run-0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 2, "recipe": "digits", "candidates": []}',
        '{"format": 1, "recipe": "dogs", "candidates": []}',
        '{"format": 1, "recipe": "digits", "candidates": [1]}',
        '{"format": 1, "recipe": "digits", "candidates": [{"run_name": "x"}]}',
        '{"format": 1, "recipe": "digits", "candidates": [{"run_name": 1, "ingredients": [], "gate": 1, '
        '"champion": 1, "reason": 1}]}',
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
)
def test_a_foreign_or_broken_document_is_said_and_passed_over(
    s3: Any, bucket: str, text: Any, caplog: pytest.LogCaptureFixture
) -> None:
    s3.put_object(Bucket=bucket, Key=KEY, Body=text)
    assert recall(s3, bucket) == []
    assert "is passed over, because it is not what this package writes" in caplog.text
    remember(s3, bucket, ONE)
    assert recall(s3, bucket) == [ONE]


def test_a_store_that_refuses_is_said_and_passed_over(s3: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert recall(s3, "no-such-bucket") == []
    remember(s3, "no-such-bucket", ONE)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    nowhere = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{free_ports(1)[0]}", **CLIENT)
    assert recall(nowhere, "b") == []
    remember(nowhere, "b", ONE)
    assert "so the same will be tried again" in caplog.text
