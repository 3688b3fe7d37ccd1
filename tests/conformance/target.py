"""The SageMaker that the clients talk to: a local_sagemaker of the tests' own, or any other endpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3

from local_sagemaker import sdk_defaults
from tests.local_sagemaker.harness import Server
from tests.object_store import KEY_ID, REGION, SECRET, free_ports

ROOT = Path(__file__).parents[2]
BUCKET = f"sagemaker-{REGION}-000000000000"

#: What stands in for AWS's images: this interpreter for what needs the standard library only, that of ml/ for torch.
IMAGES = """
[[image]]
match = ["*/pytorch-training:2.0.1-*", "*/pytorch-inference:2.0.1-*"]
interpreter = "{root}/.venv/ml/bin/python"
serve = ["{root}/ml/serve.py", "--host", "127.0.0.1"]

[[image]]
match = ["*sagemaker-debugger-rules:*", "DEFAULT_RULE_EVALUATOR_IMAGE"]
interpreter = "{root}/.venv/ml/bin/python"
rules = ["{root}/ml/evaluate_rules.py"]
follow = true

[[image]]
match = ["*"]
interpreter = "{python}"
serve = ["{root}/ml/serve.py", "--host", "127.0.0.1"]
"""


@dataclasses.dataclass(frozen=True)
class Target:
    url: str
    s3_url: str
    sdk_defaults: Path
    """The SageMaker SDK's defaults. With no bucket named there it asks the real AWS for the account number."""

    concessions: tuple[tuple[str, str], ...] = ()
    """Variables that spare an endpoint what no case is about."""

    def client(self, service: str, **overrides: Any) -> Any:
        """A boto3 client with boto3's own settings, retries included, as a user has it."""
        address = {"endpoint_url": self.s3_url if service == "s3" else self.url, "region_name": REGION}
        keys = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}
        return boto3.client(service, **(address | keys | overrides))

    @property
    def environment(self) -> dict[str, str]:
        """What a user exports to point every AWS client here."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_S3": self.s3_url,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SAGEMAKER_USER_CONFIG_OVERRIDE": str(self.sdk_defaults),
            "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
            **dict(self.concessions),
        }


def of_environment(environ: Mapping[str, str], folder: Path) -> Target | None:
    """The endpoint that CONFORMANCE_ENDPOINT_URL (and CONFORMANCE_S3_ENDPOINT_URL) name, if any."""
    if not (url := environ.get("CONFORMANCE_ENDPOINT_URL")):
        return None
    # SDK 3 asks IAM to simulate the role's policies first, and has this switch for who cannot answer that.
    concessions = (("SAGEMAKER_VALIDATE_ROLE", "false"),)
    return Target(url, environ.get("CONFORMANCE_S3_ENDPOINT_URL", url), defaults_file(folder), concessions)


@contextlib.contextmanager
def local_sagemaker(s3_endpoint: str, folder: Path) -> Iterator[Target]:
    images = folder / "images.toml"
    images.write_text(IMAGES.format(root=ROOT, python=sys.executable))
    arguments = ("--max-concurrent-jobs", "8")
    server = Server(folder / "state", free_ports(1)[0], s3_endpoint, images, arguments)
    try:
        server.start()
        yield Target(server.url, server.url, sdk_defaults.path(server.root))
    finally:
        server.stop()


def defaults_file(folder: Path) -> Path:
    """As local_sagemaker writes it, for an endpoint that does not."""
    path = folder / "sdk-defaults.yaml"
    path.write_text(
        f"""SchemaVersion: "1.0"
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
      Session:
        DefaultS3Bucket: {BUCKET}
"""
    )
    return path
