"""Why a job ends badly: for what the user gave it, or for what the platform did."""

from __future__ import annotations


class JobFailedError(Exception):
    """A job cannot go on; the text becomes its FailureReason (`ClientError: …`, `AlgorithmError: …`, …)."""


class InternalFailureError(JobFailedError):
    """A job that ended through no fault of its own (`InternalServerError: …`); a RetryStrategy begins it again."""
