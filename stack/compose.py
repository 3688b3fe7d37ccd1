"""The secrets of docker-compose.yaml, which has none of its own."""

from collections.abc import Callable
from pathlib import Path

from stack.credentials import Credentials, write_private


def write_environment(path: Path, say: Callable[[str], None]) -> int:
    """Writes `.env` with generated secrets for `docker compose`; an existing file is left as it is."""
    if path.exists():
        say(f"{path} exists and is kept. Its secrets belong to the data volumes: remove both together, or neither.")
        return 0
    write_private(path, environment_text(Credentials.generate()))
    say(f"Wrote {path} (readable by you only). Next: docker compose up --build --wait")
    return 0


def environment_text(credentials: Credentials) -> str:
    database_password = Credentials.generate().airflow_api_secret
    values = {
        "AIRFLOW_ADMIN_PASSWORD": credentials.airflow_password,
        "AIRFLOW_FERNET_KEY": credentials.airflow_fernet_key,
        "AIRFLOW_JWT_SECRET": credentials.airflow_jwt_secret,
        "AIRFLOW_API_SECRET": credentials.airflow_api_secret,
        "POSTGRES_PASSWORD": database_password,
        "LOCAL_AWS_ACCESS_KEY_ID": credentials.aws_access_key_id,
        "LOCAL_AWS_SECRET_ACCESS_KEY": credentials.aws_secret_access_key,
    }
    return "# Secrets of the compose stack, made by `make compose-env`. Not for git.\n" + "".join(
        f"{name}={value}\n" for name, value in values.items()
    )
