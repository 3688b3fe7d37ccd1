"""Everything one server instance is configured by; the command line in __main__ is its only writer."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    root: Path
    """Folder that holds the state: SQLite databases and one folder per job and endpoint worker."""
    images: Path | None = None
    """images.toml; None maps every training image to the server's own interpreter."""
    host: str = "127.0.0.1"
    port: int = 14330
    region: str = "us-east-1"
    account: str = "000000000000"
    access_key_id: str
    secret_access_key: str
    """The only key pair whose signatures are accepted, and the one that jobs get as their role's credentials."""
    s3_endpoint: str | None = None
    """Where buckets live; None asks boto3's own configuration."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names beyond loopback that a request may address (a compose service name)."""
    exposed: bool = False
    """Other machines may reach it, so the pages want the key as well."""
    verify_signatures: bool = True
    stop_grace_s: float = 120.0
    """Time between SIGTERM and SIGKILL of a job, as SageMaker gives it."""
    max_concurrent_jobs: int = 4
    """Training, processing and transform jobs that run at once; further ones wait, a training job as Pending."""
    cores: int | None = None
    """Cores that jobs and endpoints are told they may use; None: those of the machine."""
    max_instances: int | None = None
    """Workers of one production variant or transform job at most; None: as many as there are cores."""
    time_scale: float = 1.0
    """Waits that only let production traffic prove itself (canary and linear baking, TerminationWait) are multiplied
    by it; time limits and alarm periods are not."""
    isolation: str = "auto"
    """`auto` gives jobs their own /opt/ml and network namespace where the kernel allows it; `off` does not try."""
    relax_network_isolation: bool = False
    """Run what asks for EnableNetworkIsolation with the network where it cannot be kept, instead of refusing it."""
    debugger: str = "open"
    """`closed` plays an account that Debugger is not available to, as it is to new ones since 2026-07-30."""
    max_log_bytes: int = 64 * 2**20
    """A job that prints more than this is failed: a runaway loop must not fill the disk."""

    def __post_init__(self) -> None:
        if not (self.account.isdigit() and len(self.account) == 12):
            raise ValueError(f"account is '{self.account}'; an AWS account id has 12 digits")
        if self.max_concurrent_jobs < 1:
            raise ValueError(f"max_concurrent_jobs is {self.max_concurrent_jobs}; it must be at least 1")
        if self.cores is not None and self.cores < 1:
            raise ValueError(f"cores is {self.cores}; it must be at least 1")
        if self.max_instances is not None and self.max_instances < 1:
            raise ValueError(f"max_instances is {self.max_instances}; it must be at least 1")
        if self.debugger not in {"open", "closed"}:
            raise ValueError(f"debugger is '{self.debugger}' (LOCAL_SAGEMAKER_DEBUGGER); it must be open or closed")
        if not 0 <= self.time_scale <= 1:
            raise ValueError(f"time_scale is {self.time_scale}; it must be from 0 to 1")

    @property
    def url(self) -> str:
        """Where a client on this machine finds the server, also one that listens on all its addresses."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def folder(self, kind: str, name: str) -> Path:
        """Where a job lives on disk. All lower-case, because smdebug lower-cases the paths in its configuration."""
        digest = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:6]
        return self.root / kind / f"{name.lower()}-{digest}"

    def arn(self, kind: str, name: str) -> str:
        """SageMaker lower-cases the last part of an ARN; the *Name* members keep their case."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind}/{name.lower()}"
