"""Where things are and on which ports they listen."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stack.errors import StackError

ACCOUNT = "000000000000"
REGION = "us-east-1"
BUCKET = "retraining-local"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/local-sagemaker"

# SeaweedFS opens each of its ports a second time for gRPC, this much higher.
GRPC_OFFSET = 10_000
PORT_FIELDS = ("sagemaker_port", "s3_port", "airflow_port")
STORE_PARTS = ("S3", "master", "volume", "filer", "admin")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The laptop stack of one checkout."""

    root: Path  # the checkout: dags/, plugins/, ml/, .venv/
    state: Path  # everything the stack writes; git ignores it
    sagemaker_port: int = 14330
    s3_port: int = 14333  # and the next four for the store's inner parts
    airflow_port: int = 8080

    def __post_init__(self) -> None:
        highest = {"SAGEMAKER_PORT": 65_535, "AIRFLOW_PORT": 65_535}
        highest["S3_PORT"] = 65_535 - GRPC_OFFSET - len(STORE_PARTS) + 1
        given = {
            "SAGEMAKER_PORT": self.sagemaker_port,
            "S3_PORT": self.s3_port,
            "AIRFLOW_PORT": self.airflow_port,
        }
        for variable, port in given.items():
            if not 1024 <= port <= highest[variable]:
                raise StackError(f"{variable}={port}: a port between 1024 and {highest[variable]} is needed.")
        used: dict[int, str] = {}
        for variable, ports in self.ports().items():
            for port in ports:
                if port in used:
                    raise StackError(
                        f"{variable}={given[variable]} makes two programs use port {port} "
                        f"(the other one comes from {used[port]}); choose another {variable}."
                    )
                used[port] = variable

    @classmethod
    def from_environment(cls, root: Path, environ: Mapping[str, str] = os.environ) -> "Settings":
        """The ports that SAGEMAKER_PORT, S3_PORT and AIRFLOW_PORT name; else those of the running stack; else defaults.

        So `make local-env` speaks of the stack that runs, also when it was started with `make up AIRFLOW_PORT=…`.
        """
        state = root / ".local"
        ports = ports_in_use(state)
        for field in PORT_FIELDS:
            text = environ.get(field.upper(), "").strip()
            if not text:
                continue
            if not text.isascii() or not text.isdigit():
                raise StackError(f"{field.upper()}={text}: a port number is needed.")
            ports[field] = int(text)
        return cls(root=root, state=state, **ports)

    def ports(self) -> dict[str, list[int]]:
        """Every port that the stack listens on, by the variable that moves it."""
        store = [self.s3_port + offset for offset in range(len(STORE_PARTS))]
        return {
            "SAGEMAKER_PORT": [self.sagemaker_port],
            "S3_PORT": store + [port + GRPC_OFFSET for port in store],
            "AIRFLOW_PORT": [self.airflow_port],
        }

    def remember_ports(self) -> None:
        """Keeps the ports for later commands; `ports_in_use` finds them until `forget_ports`."""
        chosen = {field: getattr(self, field) for field in PORT_FIELDS}
        _ports_file(self.state).write_text(json.dumps(chosen) + "\n")

    def forget_ports(self) -> None:
        _ports_file(self.state).unlink(missing_ok=True)

    @property
    def sagemaker_url(self) -> str:
        return f"http://127.0.0.1:{self.sagemaker_port}"

    @property
    def s3_url(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.airflow_port}"

    @property
    def airflow_home(self) -> Path:
        return self.state / "airflow"

    @property
    def recipes(self) -> Path:
        return self.root / "dags" / "recipes"


def ports_in_use(state: Path) -> dict[str, int]:
    """The ports that the stack was last started with; empty when it is stopped."""
    try:
        kept = json.loads(_ports_file(state).read_text())
        return {field: int(kept[field]) for field in PORT_FIELDS}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def _ports_file(state: Path) -> Path:
    return state / "run" / "ports"
