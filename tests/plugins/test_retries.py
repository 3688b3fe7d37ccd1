"""Bad weather is waited for, other failures are tried twice more, and what cannot change is not tried again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import RetryAction
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from retraining.environment import ConfigurationError
from retraining.retries import RETRIES, WEATHER_RETRIES, Patience, remember_failure


def refused(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "DescribeEndpoint")


def decide(error: BaseException, try_number: int = 1, max_tries: int = WEATHER_RETRIES) -> Any:
    return Patience().evaluate(error, try_number, max_tries)


@pytest.mark.parametrize(
    "error",
    [
        refused("ThrottlingException"),
        refused("ExpiredTokenException"),
        refused("SlowDown", 503),
        refused("SomethingNew", 500),
        refused("Busy", 429),
        EndpointConnectionError(endpoint_url="https://sagemaker"),
        ReadTimeoutError(endpoint_url="https://sagemaker"),
    ],
    ids=str,
)
def test_bad_weather_is_waited_for(error: BaseException) -> None:
    delays = [decide(error, number).retry_delay for number in range(1, WEATHER_RETRIES + 1)]
    assert all(decide(error, number).action is RetryAction.RETRY for number in range(1, WEATHER_RETRIES + 1))
    assert delays[:3] == [timedelta(seconds=15), timedelta(seconds=30), timedelta(seconds=60)]
    assert max(delays) == timedelta(minutes=10)
    assert sum(delays, timedelta()) > timedelta(minutes=70)


def test_a_refusal_that_stands_on_bad_weather_waits_too() -> None:
    """As preflight's of a bucket that answered 503."""
    refusal = ConfigurationError("Bucket b cannot be used (503).")
    refusal.__cause__ = refused("503", 503)
    assert decide(refusal).action is RetryAction.RETRY


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), ConfigurationError("x")], ids=repr)
def test_what_cannot_change_is_not_tried_again(error: BaseException) -> None:
    assert decide(error).action is RetryAction.FAIL


@pytest.mark.parametrize("error", [refused("AccessDeniedException"), RuntimeError("x"), OSError("x")], ids=repr)
def test_other_failures_are_tried_twice_more(error: BaseException) -> None:
    actions = [decide(error, number).action for number in (1, 2, 3)]
    assert actions == [RetryAction.DEFAULT, RetryAction.DEFAULT, RetryAction.FAIL]


def test_a_cleared_task_begins_to_count_again() -> None:
    """Airflow goes on with the number of the try and raises the most that there may be."""
    error = RuntimeError("x")
    tried = [decide(error, number, max_tries=3 + WEATHER_RETRIES).action for number in (4, 5, 6)]
    assert tried == [RetryAction.DEFAULT, RetryAction.DEFAULT, RetryAction.FAIL]
    assert decide(refused("Throttling"), 4, 3 + WEATHER_RETRIES).retry_delay == timedelta(seconds=15)


def test_tasks_may_be_tried_as_often_as_the_policy_says() -> None:
    assert RETRIES["retries"] == WEATHER_RETRIES
    assert RETRIES["on_failure_callback"] is remember_failure
