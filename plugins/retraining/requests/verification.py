"""CreateProcessingJob of a sync: each container judges its share of the images that are new."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.account_rules import AccountRules
from retraining.container_images import Images
from retraining.plan import Plan
from retraining.requests.account import as_account_asks

Request = dict[str, Any]

# The paths are arguments of their own: a server that cannot mount /opt/ml moves them.
UNPACK_AND_VERIFY = (
    'set -e; code=$(mktemp -d); tar -xzf "$1" -C "$code"; shift; export PYTHONPATH="$code"; '
    'exec python -m retraining.dataset.processing.part "$@"'
)
INPUT = "/opt/ml/processing/input"
OUTPUT = "/opt/ml/processing/output/found"
CONFIG = "/opt/ml/config"
FILES_EACH = 500
"""Fewer are not worth another machine, which takes minutes to start."""
MOST = {"digest": "", "code_digest": "", "rules": "", "pillow": "", "in_job": 10**9, "size_bytes": 0}
"""Neither data nor code is known when a run's price is, and neither is a limit."""
SPACE, LEAST_GB = 4, 20
"""Disk in multiples of the files' size: a converted picture may be larger than it was."""


@as_account_asks(AccountRules.of_processing)
def verification_job(plan: Plan, images: Images, divided: Mapping[str, Any] | None) -> Request:
    """`divided`: a Division as a dict; None where only the most that it may cost is asked for."""
    sync = plan.recipe.sync
    said: dict[str, Any] = dict(divided or MOST)
    digest, instances = said["digest"], min(sync.instances, -(-said["in_job"] // FILES_EACH))
    inputs = [
        _input("code", plan.uri(plan.source_key(said["code_digest"])), "S3Prefix", "FullyReplicated"),
        _input("files", plan.uri(plan.work_manifest_key(digest)), "ManifestFile", "ShardedByS3Key"),
    ]
    return {
        "ProcessingJobName": plan.verification_job,
        "RoleArn": plan.environment.role_arn,
        "AppSpecification": {
            "ImageUri": images.evaluation,
            "ContainerEntrypoint": ["/bin/sh", "-c", UNPACK_AND_VERIFY, "verify_images"],
            "ContainerArguments": [
                f"{INPUT}/code/sourcedir.tar.gz",
                *("--files", f"{INPUT}/files"),
                *("--output", OUTPUT),
                *("--job", f"{CONFIG}/processingjobconfig.json"),
                *("--hosts", f"{CONFIG}/resourceconfig.json"),
                *("--rules", said["rules"]),
                *("--pillow", said["pillow"]),
            ],
        },
        "ProcessingInputs": inputs,
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "found",
                    "S3Output": {
                        "S3Uri": plan.uri(plan.found_key(digest)),
                        "LocalPath": OUTPUT,
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": instances,
                "InstanceType": sync.instance_type,
                "VolumeSizeInGB": _volume_gb(said["size_bytes"] / instances),
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": sync.max_runtime_seconds},
        "Environment": {"PYTHONUNBUFFERED": "1"},
        "Tags": plan.tags,
    }


def _volume_gb(size_bytes: float) -> int:
    return min(16_384, LEAST_GB + int(SPACE * size_bytes / 1e9))


def _input(name: str, uri: str, data_type: str, distribution: str) -> Request:
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": uri,
            "LocalPath": f"{INPUT}/{name}",
            "S3DataType": data_type,
            "S3InputMode": "File",
            "S3DataDistributionType": distribution,
        },
    }
