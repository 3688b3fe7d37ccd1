"""Base images by digest, told by a `docker` that stands in for the real one."""

from pathlib import Path

import pytest

from stack.compose_pins import write_pins
from stack.errors import StackError

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yaml"


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text("POSTGRES_PASSWORD=secret\nPYTHON_IMAGE=python:3.11\n")
    path.chmod(0o600)
    return path


def docker(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """`docker` is this shell script; its arguments are kept in `asked`."""
    program = folder / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_each_base_image_gets_a_digest(tmp_path: Path, env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(tmp_path, monkeypatch, """[ "$1" = pull ] || echo "[\\"${5%%:*}@sha256:abc\\"]" """)
    for _ in range(2):
        assert write_pins(COMPOSE, env_file, lambda _: None) == 0
        assert sorted(env_file.read_text().splitlines()) == [
            "POSTGRES_IMAGE=postgres@sha256:abc", "POSTGRES_PASSWORD=secret", "PYTHON_IMAGE=python@sha256:abc",
        ]  # fmt: skip
    assert env_file.stat().st_mode & 0o77 == 0
    assert "pull --quiet postgres:16" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("""[ "$1" = pull ] || echo '[]'""", "has no digest to name it by"),
        ("echo 'Cannot connect to the Docker daemon' >&2; exit 1", "failed: Cannot connect to the Docker daemon"),
    ],
)
def test_what_has_no_digest_changes_nothing(
    tmp_path: Path, env_file: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    before = env_file.read_text()
    docker(tmp_path, monkeypatch, script)
    with pytest.raises(StackError, match=told):
        write_pins(COMPOSE, env_file, lambda _: None)
    assert env_file.read_text() == before


def test_without_secrets_there_is_nothing_to_pin(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="make compose-env"):
        write_pins(COMPOSE, tmp_path / ".env", lambda _: None)
