"""The pages' clients of AWS, each made once a minute: to make one takes longer than the rest of a page."""

from __future__ import annotations

from typing import Any

from botocore.config import Config

from retraining.page.kept import Kept
from retraining.run import client

HASTE = Config(connect_timeout=2, read_timeout=4, retries={"total_max_attempts": 1})
"""For what a page can do without, or asks many of."""
KEPT_S = 60.0
"""So long a changed connection `aws_default` is not seen. Credentials that expire are renewed by the client itself."""

_made: Kept[Any] = Kept(most=16, seconds=KEPT_S)


def kept_client(service: str, config: Config) -> Any:
    """A boto3 client, which threads may share; one for each `config`, which is one of a module."""
    return _made.get((service, id(config)), lambda: client(service, config))


def forget_clients() -> None:
    """For whoever changes where they lead."""
    _made.forget()
