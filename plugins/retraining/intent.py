"""What a run asks of its endpoint, written down in S3 before it is asked: runs/<run name>/release.json.

UpdateEndpoint has no token and no precondition, and SageMaker calls an endpoint InService also after it has rolled an
update back. So an attempt that follows a killed one can see neither that the update was asked for nor what served
before; both stand here, outside the attempt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC
from typing import Any

from retraining.s3.documents import read_document, write_document


@dataclass(frozen=True, kw_only=True)
class Intent:
    """The endpoint as it was before this run touched it, and what this run wants of it."""

    endpoint: str
    config: str
    """The endpoint configuration that is to serve."""
    before: str | None
    """The one that served until then; None: there was no endpoint, so that it is this run's to remove."""
    last_modified: str | None
    """The endpoint's LastModifiedTime until then, ISO 8601: another one means that something was asked of it."""
    taken_back: bool = False
    """Whether this run's release has failed and was, or is being, undone."""
    promoted: bool = False
    """Whether this run became the champion; then nothing of it is taken back, also when it is cleared weeks later."""
    canary: dict[str, Any] | None = None
    """What golden images found out while the update baked; see `release.canary.try_canary`."""

    @classmethod
    def of(cls, endpoint: str, config: str, description: Mapping[str, Any] | None) -> Intent:
        """`description` is DescribeEndpoint's answer, None where there is no endpoint."""
        before = str(description["EndpointConfigName"]) if description else None
        return cls(endpoint=endpoint, config=config, before=before, last_modified=_modified(description))

    def was_asked(self, description: Mapping[str, Any] | None) -> bool:
        """Whether an earlier attempt's request, or somebody else's, reached the endpoint since this was written."""
        return _modified(description) != self.last_modified


@dataclass(frozen=True, kw_only=True)
class Intents:
    """Where the intent of one run is kept."""

    s3: Any
    bucket: str
    key: str

    @property
    def address(self) -> dict[str, str]:
        """All but the client, as an operator's configuration can hold it."""
        return {"bucket": self.bucket, "key": self.key}

    def read(self) -> Intent | None:
        """None when this run has asked nothing of its endpoint."""
        text, _ = read_document(self.s3, self.bucket, self.key)
        return Intent(**json.loads(text)) if text is not None else None

    def declare(self, intent: Intent) -> Intent:
        """The intent of this run: this one, or the one that an earlier attempt wrote first."""
        if write_document(self.s3, self.bucket, self.key, asdict(intent), etag=None):
            return intent
        earlier = self.read()
        assert earlier is not None  # nobody deletes it
        return earlier

    def take_back(self) -> None:
        """From here on no attempt of this run's `deploy` asks again."""
        self._note(taken_back=True)

    def promote(self) -> None:
        """From here on there is nothing to take back."""
        self._note(promoted=True)

    def tell(self, canary: dict[str, Any]) -> None:
        """What was found out once, for whichever attempt goes on."""
        self._note(canary=canary)

    def _note(self, **news: Any) -> None:
        text, etag = read_document(self.s3, self.bucket, self.key)
        if text is None:
            return
        # Only this run's own tasks write here, and they say the same.
        write_document(self.s3, self.bucket, self.key, asdict(replace(Intent(**json.loads(text)), **news)), etag)


def _modified(description: Mapping[str, Any] | None) -> str | None:
    # boto3 answers in the time zone of the machine, and the next attempt may be on another.
    return description["LastModifiedTime"].astimezone(UTC).isoformat() if description else None
