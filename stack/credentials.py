"""The secrets of the local stack, made on first use and kept in one file that only its owner can read."""

import base64
import json
import os
import secrets
import stat
import string
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from stack.errors import StackError


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """One set for all programs: the store and local_sagemaker check requests against the same AWS key pair."""

    aws_access_key_id: str
    aws_secret_access_key: str
    airflow_password: str  # of the user `admin`
    airflow_jwt_secret: str  # signs the tokens between Airflow's components
    airflow_fernet_key: str  # encrypts connections in Airflow's database
    airflow_api_secret: str  # signs Airflow's sessions and file tokens

    @classmethod
    def generate(cls) -> "Credentials":
        # 20 characters like an AWS access key id, but with a prefix that AWS does not give out.
        letters = string.ascii_uppercase + string.digits
        return cls(
            aws_access_key_id="LOCAL" + "".join(secrets.choice(letters) for _ in range(15)),
            aws_secret_access_key=secrets.token_urlsafe(30),
            airflow_password=secrets.token_urlsafe(9),
            airflow_jwt_secret=secrets.token_urlsafe(64),  # HS512 wants at least 64 bytes
            airflow_fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            airflow_api_secret=secrets.token_urlsafe(32),
        )


def load_or_create(path: Path) -> Credentials:
    """The credentials in `path`, generated first if there is no such file."""
    if not path.exists():
        write_private(path, json.dumps(asdict(Credentials.generate()), indent=2) + "\n")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
    try:
        found = json.loads(path.read_text())
        return Credentials(**{field.name: str(found[field.name]) for field in fields(Credentials)})
    except (ValueError, KeyError, TypeError) as error:
        raise StackError(
            f"{path} is not a credentials file of this stack ({type(error).__name__}: {error}). "
            "Stop the stack with `make down`, remove the file, and new credentials are made on the next start."
        ) from error


def write_private(path: Path, text: str) -> None:
    """Writes the file whole or not at all, readable by its owner only from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + f".{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    partial.replace(path)
