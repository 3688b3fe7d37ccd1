"""What runs: the command, environment and ports of each program of the laptop stack."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stack import credentials as secret_files
from stack import store
from stack.credentials import Credentials
from stack.settings import BUCKET, REGION, ROLE_ARN, Settings

STORE, SERVER = "store", "local_sagemaker"
AIRFLOW_PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
FORKING = ("scheduler", "dag-processor")
"""Whose children are our tasks and parses: they begin with what these have imported."""
PRELOADED = "retraining.preloaded"
# The names under which /api/v2/monitor/health reports the parts.
HEALTH_KEYS = {
    "metadatabase": "api-server",
    "scheduler": "scheduler",
    "dag_processor": "dag-processor",
    "triggerer": "triggerer",
}

# A shell set up for real AWS or for another Airflow must not leak into the stack.
FOREIGN_PREFIXES = ("AIRFLOW", "AWS_", "PYTHON", "VIRTUAL_ENV")


@dataclass(frozen=True, kw_only=True)
class Service:
    """One process to start."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    ports_variable: str | None  # which of Settings.ports() it listens on


def aws_environment(settings: Settings, credentials: Credentials) -> dict[str, str]:
    """What makes any AWS client talk to the local stack, and to nothing else."""
    return {
        "AWS_ACCESS_KEY_ID": credentials.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.aws_secret_access_key,
        "AWS_SESSION_TOKEN": "",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": settings.sagemaker_url,
        "AWS_ENDPOINT_URL_S3": settings.s3_url,
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
    }


def retraining_environment() -> dict[str, str]:
    return {
        "RETRAINING_ENVIRONMENT": "local",
        "RETRAINING_BUCKET": BUCKET,
        "RETRAINING_ROLE_ARN": ROLE_ARN,
    }


def airflow_options(settings: Settings, credentials: Credentials) -> dict[str, str]:
    home = settings.airflow_home
    options = {
        "CORE__DAGS_FOLDER": str(settings.root / "dags"),
        "CORE__PLUGINS_FOLDER": str(settings.root / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "8",
        "CORE__FERNET_KEY": credentials.airflow_fernet_key,
        "CORE__EXECUTION_API_SERVER_URL": f"{settings.airflow_url}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords_file(settings)),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "API__HOST": "127.0.0.1",
        "API__PORT": str(settings.airflow_port),
        "API__BASE_URL": settings.airflow_url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": credentials.airflow_api_secret,
        "API_AUTH__JWT_SECRET": credentials.airflow_jwt_secret,
        # A task's supervisor may sleep this long before it notices that a task has deferred itself and ended. At the
        # default of 5 s a short job is over sooner, and the scheduler takes the resumed task for one that vanished.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # While trainings take all cores, the API server's answer may take long. A task gives up after five times 5 s by
        # default, and that costs one of its attempts.
        "WORKERS__EXECUTION_API_TIMEOUT": "60",
        # A new recipe shows up in seconds; the default is five minutes.
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    }
    return {"AIRFLOW_HOME": str(home), "AIRFLOW_CONN_AWS_DEFAULT": "aws://"} | {
        f"AIRFLOW__{name}": value for name, value in options.items()
    }


def passwords_file(settings: Settings) -> Path:
    return settings.airflow_home / "passwords.json"


def write_airflow_password(settings: Settings, credentials: Credentials) -> None:
    """SimpleAuthManager reads its users' passwords from this file, and invents one where it is missing."""
    secret_files.write_private(passwords_file(settings), json.dumps({"admin": credentials.airflow_password}))


def inherited_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The shell's environment without what would lead the stack to real AWS or to another Airflow."""
    kept = {name: value for name, value in environ.items() if not name.startswith(FOREIGN_PREFIXES)}
    # A proxy for the outside world cannot reach this machine's loopback.
    for name in ("no_proxy", "NO_PROXY"):
        kept[name] = ",".join(filter(None, [environ.get(name, ""), "127.0.0.1,localhost"]))
    tools = str(Path(sys.executable).parent)
    kept["PATH"] = os.pathsep.join([tools, environ.get("PATH", os.defpath)])
    # No profile and no instance role: only the generated key pair counts.
    return kept | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONUNBUFFERED": "1",
    }


def airflow_process_environment(settings: Settings, credentials: Credentials) -> dict[str, str]:
    """The whole environment of each Airflow process, and of the tasks it runs."""
    return (
        inherited_environment()
        | aws_environment(settings, credentials)
        | retraining_environment()
        | airflow_options(settings, credentials)
    )


def services(settings: Settings, credentials: Credentials) -> tuple[Service, ...]:
    """The processes of the stack, in the order in which they are started."""
    aws = inherited_environment() | aws_environment(settings, credentials)
    tools = Path(sys.executable).parent
    airflow_environment = airflow_process_environment(settings, credentials)
    airflow_arguments = {
        "api-server": ("api-server", "--host", "127.0.0.1", "--port", str(settings.airflow_port)),
        # The logs of a running task are read from the shared folder: no need for two more open ports.
        "scheduler": ("scheduler", "--skip-serve-logs"),
        "dag-processor": ("dag-processor",),
        "triggerer": ("triggerer", "--skip-serve-logs"),
    }
    return (
        Service(
            name=STORE,
            command=store.command(settings, str(tools / "weed")),
            environment=store.environment(aws),
            ports_variable="S3_PORT",
        ),
        Service(
            name=SERVER,
            command=(
                *(sys.executable, "-m", "local_sagemaker"),
                *("--host", "127.0.0.1", "--port", str(settings.sagemaker_port)),
                *("--root", str(settings.state / "sagemaker")),
                *("--images", str(settings.root / "stack" / "images.toml")),
            ),
            environment=aws,
            ports_variable="SAGEMAKER_PORT",
        ),
        *(
            Service(
                name=part,
                command=(sys.executable, "-m", PRELOADED if part in FORKING else "airflow", *airflow_arguments[part]),
                environment=airflow_environment | {"PYTHONPATH": str(settings.root / "plugins")},
                ports_variable="AIRFLOW_PORT" if part == "api-server" else None,
            )
            for part in AIRFLOW_PARTS
        ),
    )
