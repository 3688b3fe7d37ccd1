"""What a user sets in the connection `aws_default` holds for every client of this package."""

from __future__ import annotations

import json

import pytest
from botocore.config import Config

from retraining.run import client

SETTINGS = {"max_pool_connections": 5, "read_timeout": 7, "proxies": {"https": "http://proxy.example:3128"}}


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    extra = {"conn_type": "aws", "extra": {"config_kwargs": SETTINGS}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(extra))


def test_the_connections_settings_hold() -> None:
    config = client("s3").meta.config
    assert {name: getattr(config, name) for name in SETTINGS} == SETTINGS


def test_a_pages_haste_leaves_the_rest() -> None:
    config = client("s3", Config(read_timeout=1)).meta.config
    assert (config.read_timeout, config.max_pool_connections, config.proxies) == (1, 5, SETTINGS["proxies"])


def test_many_connections_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")
    assert client("s3").meta.config.max_pool_connections == 32
