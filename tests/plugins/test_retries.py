"""Bad weather is waited for, other failures are tried twice more, and what cannot change is not tried again."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import RetryAction
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    UnauthorizedSSOTokenError,
)

from retraining.environment import ConfigurationError
from retraining.job_kinds import TRANSFORM_LIMIT_SECONDS, UPDATE_LIMIT_SECONDS
from retraining.retries import RETRIES, UNKNOWN, WEATHER_RETRIES, Patience, remember_failure
from tests.plugins.release_run import Facts


def refused(code: str, status: int = 400, message: str = "m") -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "DescribeEndpoint")


def short_of(limit: int, used: int, asked: int = 1, what: str = "transform job") -> ClientError:
    """In AWS's words."""
    return refused(
        "ResourceLimitExceeded",
        message=f"The account-level service limit 'ml.m5.large for {what} usage' is {limit} Instances, with current "
        f"utilization of {used} Instances and a request delta of {asked} Instances. Please use AWS Service Quotas to "
        "request an increase for this quota.",
    )


def decide(error: BaseException, try_number: int = 1, max_tries: int = WEATHER_RETRIES, context: Any = None) -> Any:
    return Patience().evaluate(error, try_number, max_tries, context)


@pytest.mark.parametrize(
    "error",
    [
        refused("ThrottlingException"),
        refused("ExpiredTokenException"),
        refused("SlowDown", 503),
        refused("SomethingNew", 500),
        refused("Busy", 429),
        refused("RequestTimeTooSkewed", 403),
        refused("TokenRefreshRequired"),
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


LACKING = [
    NoCredentialsError(),
    PartialCredentialsError(provider="env", cred_var="aws_secret_access_key"),
    MetadataRetrievalError(error_msg="timed out"),
    UnauthorizedSSOTokenError(),
    *(refused(code) for code in sorted(UNKNOWN)),
]


def followed(*before: str) -> dict[str, Any]:
    return {"task": SimpleNamespace(upstream_task_ids=set(before))}


@pytest.mark.parametrize("error", LACKING, ids=str)
def test_credentials_that_went_away_are_waited_for(error: BaseException) -> None:
    told = [decide(error, number, context=followed("preflight")) for number in range(1, WEATHER_RETRIES + 1)]
    assert all(one.action is RetryAction.RETRY for one in told)


@pytest.mark.parametrize("error", LACKING, ids=str)
def test_credentials_that_never_were_are_not(error: BaseException) -> None:
    actions = [decide(error, number, context=followed()).action for number in (1, 2, 3)]
    assert actions == [RetryAction.DEFAULT, RetryAction.DEFAULT, RetryAction.FAIL]
    ti = Facts()
    remember_failure({"ti": ti, "exception": error})
    assert "Give every Airflow process credentials that AWS knows" in ti.known["pushed.failure"]


def test_an_expired_token_is_waited_for_at_first_too() -> None:
    assert decide(refused("ExpiredTokenException"), 9, context=followed()).action is RetryAction.RETRY


def test_a_refusal_that_stands_on_bad_weather_waits_too() -> None:
    """As preflight's of a bucket that answered 503."""
    refusal = ConfigurationError("Bucket b cannot be used (503).")
    refusal.__cause__ = refused("503", 503)
    assert decide(refusal).action is RetryAction.RETRY


def test_a_quota_in_use_is_waited_for() -> None:
    tries = [decide(short_of(limit=1, used=1), number) for number in range(1, WEATHER_RETRIES + 1)]
    assert all(told.action is RetryAction.RETRY for told in tries)
    delays = [told.retry_delay for told in tries]
    assert (delays[0], max(delays)) == (timedelta(minutes=1), timedelta(minutes=30))
    assert sum(delays, timedelta()) > timedelta(seconds=TRANSFORM_LIMIT_SECONDS)


def test_endpoints_that_hold_a_quota_are_waited_for_shortly() -> None:
    error = short_of(limit=1, used=1, what="endpoint")
    tried = [decide(error, number) for number in range(1, 8)]
    assert [told.action for told in tried] == [RetryAction.RETRY] * 6 + [RetryAction.FAIL]
    waited = sum((told.retry_delay for told in tried[:-1]), timedelta())
    assert waited >= timedelta(seconds=UPDATE_LIMIT_SECONDS)


@pytest.mark.parametrize(("limit", "asked"), [(0, 1), (1, 2)])
def test_a_quota_that_never_is_enough_is_refused_at_once(limit: int, asked: int) -> None:
    assert decide(short_of(limit, 0, asked)).action is RetryAction.FAIL


def test_a_limit_without_numbers_is_no_quota() -> None:
    """As that a tuning job can have so many trials at most."""
    error = refused("ResourceLimitExceeded", message="A tuning job can have at most 750 training jobs.")
    assert [decide(error, number).action for number in (1, 3)] == [RetryAction.DEFAULT, RetryAction.FAIL]


def test_who_lacks_a_quota_is_told_the_way_out() -> None:
    ti = Facts()
    remember_failure({"ti": ti, "exception": short_of(limit=0, used=0)})
    assert "Ask for 1 or more of 'ml.m5.large for transform job usage' in Service Quotas" in ti.known["pushed.failure"]
    remember_failure({"ti": ti, "exception": short_of(limit=4, used=3, asked=2)})
    assert "Ask for 5 or more" in ti.known["pushed.failure"]


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
