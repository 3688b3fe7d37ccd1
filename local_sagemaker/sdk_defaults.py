"""The SageMaker SDK's file of defaults, versions 2 and 3, for whoever uses the SDK against this server.

Without a default bucket named there the SDK asks the real AWS for the account number, whatever AWS_ENDPOINT_URL says
(it names STS's address itself), and it sends a record of each call to AWS. `get_execution_role()` still asks AWS.
"""

from __future__ import annotations

from pathlib import Path

from local_sagemaker.settings import Settings

VARIABLE = "SAGEMAKER_USER_CONFIG_OVERRIDE"
"""Where the SDK looks for the name of the file."""


def path(root: Path) -> Path:
    return root / "sagemaker-sdk.yaml"


def write(settings: Settings) -> None:
    """The bucket is the one that the SDK would choose on AWS; it makes it when it is not there."""
    path(settings.root).write_text(
        f"""# Written by local_sagemaker at every start; {VARIABLE} points the SageMaker SDK here.
SchemaVersion: "1.0"
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
      Session:
        DefaultS3Bucket: sagemaker-{settings.region}-{settings.account}
"""
    )
