import base64
import re
import stat
from pathlib import Path

import pytest

from stack.credentials import Credentials, load_or_create
from stack.errors import StackError


def test_credentials_are_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "credentials.json"
    made = load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create(path) == made
    assert [entry.name for entry in path.parent.iterdir()] == ["credentials.json"]


def test_a_readable_credentials_file_is_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    load_or_create(path)
    path.chmod(0o644)
    load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_stacks_have_different_secrets() -> None:
    first, second = Credentials.generate(), Credentials.generate()
    assert not set(vars(first).values()) & set(vars(second).values())


def test_secrets_have_the_shape_their_readers_need() -> None:
    made = Credentials.generate()
    assert re.fullmatch(r"[A-Z0-9]{20}", made.aws_access_key_id)
    assert len(base64.urlsafe_b64decode(made.airflow_fernet_key)) == 32
    assert len(made.airflow_jwt_secret) >= 64


def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text('{"aws_access_key_id": "x"}')
    with pytest.raises(StackError, match=r"credentials\.json is not a credentials file.*remove the file"):
        load_or_create(path)
