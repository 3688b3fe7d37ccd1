"""Which failures deserve another try, and what a failed task leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from airflow.sdk import RetryAction
from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
from botocore.exceptions import (
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

from retraining.environment import AWS_CONN_ID
from retraining.promotion.champion import ChampionMoved
from retraining.quota import Quota, quota_of

# An error in what we were given is as true the second time.
FINAL_ERRORS = (ValueError, LookupError, ParamValidationError, ChampionMoved)
# What passes by itself, as AWS's services word it; besides every answer of 429 or 5xx.
WEATHER = {
    "ExpiredToken", "ExpiredTokenException", "InternalError", "InternalFailure", "InternalServerError",
    "PriorRequestNotComplete", "RequestExpired", "RequestLimitExceeded", "RequestThrottled", "RequestTimeout",
    "RequestTimeTooSkewed", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottledException",
    "ThrottlingException", "TokenRefreshRequired", "TooManyRequestsException",
}  # fmt: skip
# Credentials that are not there, or that AWS does not know: the metadata service is away, keys were replaced, a clock
# went wrong. These pass where an earlier task of the run had some. The first ones of a run tell whether there are any.
UNKNOWN = {
    "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidSignatureException", "InvalidToken", "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}  # fmt: skip
NO_CREDENTIALS = (
    MetadataRetrievalError, NoCredentialsError, PartialCredentialsError, SSOError, TokenRetrievalError,
)  # fmt: skip
NO_CREDENTIALS_WAY_OUT = (
    "Give every Airflow process credentials that AWS knows (environment, instance role, or the connection "
    f"{AWS_CONN_ID}), and see that its clock is right."
)
# An hour of throttling, a token that somebody has to renew: 16 tries wait for nearly two hours together, in no slot.
WEATHER_RETRIES = 16
FIRST_DELAY, LONGEST_DELAY = timedelta(seconds=15), timedelta(minutes=10)
# A quota that others use, hopefully not for longer than jobs take: 16 tries wait for six hours. Endpoints do not end;
# another one's update, which takes instances twice, does: seven tries wait for an hour.
FIRST_QUOTA_DELAY, LONGEST_QUOTA_DELAY = timedelta(minutes=1), timedelta(minutes=30)
ENDPOINT_RETRIES = 6
# All else (a process that died, a message that is not understood) may pass, but hardly a third time.
OTHER_RETRIES = 2


class Patience(RetryPolicy):
    """Waits for bad weather to pass, tries other failures twice more, and what cannot change not at all."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """`try_number` counts from 1, on through every time that the task was cleared, and max_tries grows with it."""
        used = try_number - (max_tries - WEATHER_RETRIES)
        if (quota := _quota(exception)) is not None:
            return _wait_for(quota, used)
        if any(map(is_weather, _causes(exception))) or (_lacks_credentials(exception) and not _is_first(context)):
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** max(0, used - 1))
            return RetryDecision.retry(delay, reason="the service is busy or away, or credentials are not valid now")
        if isinstance(exception, FINAL_ERRORS):
            return RetryDecision.fail(reason="it would be as true the second time")
        if used > OTHER_RETRIES:
            return RetryDecision.fail(reason=f"tried {used} times")
        return RetryDecision(action=RetryAction.DEFAULT)


def _wait_for(quota: Quota, used: int) -> RetryDecision:
    if quota.never_enough:
        return RetryDecision.fail(reason=f"the account's quota '{quota.name}' is {quota.limit}, less than it takes")
    if quota.of_endpoints and used > ENDPOINT_RETRIES:
        return RetryDecision.fail(reason=f"the quota '{quota.name}' is in use still after {used} tries")
    delay = min(LONGEST_QUOTA_DELAY, FIRST_QUOTA_DELAY * 2 ** max(0, used - 1))
    return RetryDecision.retry(delay, reason=f"the quota '{quota.name}' of {quota.limit} is in use")


def _quota(exception: BaseException) -> Quota | None:
    return next((quota for error in _causes(exception) if (quota := quota_of(error))), None)


def is_weather(error: BaseException) -> bool:
    """Whether an error of boto3 is one of a service that is busy or away for a while, or of credentials in between."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error.response.get("Error", {}).get("Code") in WEATHER or status == 429 or status >= 500
    # Connections that are refused, cut or too slow, and credentials that could not be renewed.
    return isinstance(error, ConnectionError | HTTPClientError | IncompleteReadError | CredentialRetrievalError)


def _lacks_credentials(exception: BaseException) -> bool:
    """Whether an error tells of credentials that are not there, or that AWS does not know or not take."""
    return any(
        isinstance(error, NO_CREDENTIALS)
        or (isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") in UNKNOWN)
        for error in _causes(exception)
    )


def _is_first(context: Any) -> bool:
    """Whether no task of the run went before this one, so that nobody has seen credentials that were good."""
    task = (context or {}).get("task")
    return task is not None and not task.upstream_task_ids


def _causes(exception: BaseException) -> Iterator[BaseException]:
    """The exception and those it was raised from: a refusal in our words may stand on a service that was away."""
    error: BaseException | None = exception
    while error is not None:
        yield error
        error = error.__cause__


def remember_failure(context: Any) -> None:
    """on_failure_callback: leave the reason where the report finds it."""
    exception = context.get("exception")
    said = [str(exception or "no reason given")[:4000], _way_out(exception) if exception else ""]
    context["ti"].xcom_push(key="failure", value=" ".join(filter(None, said)))


def _way_out(exception: BaseException) -> str:
    """Of what AWS's own words leave open."""
    if quota := _quota(exception):
        return quota.way_out
    return NO_CREDENTIALS_WAY_OUT if _lacks_credentials(exception) else ""


RETRIES: dict[str, Any] = {
    "retries": WEATHER_RETRIES,
    "retry_delay": FIRST_DELAY,
    "retry_policy": Patience(),
    "on_failure_callback": remember_failure,
}
