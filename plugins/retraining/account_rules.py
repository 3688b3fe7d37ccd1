"""What an account asks of all that is made in it: a network of its own, keys of its own, tags. Pure.

Organizations refuse what lacks these (AWS Config, service control policies). They are of the account and not of a
recipe, so they come from the environment; `requests` adds them to what a recipe asks for.
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html (sagemaker:VpcSubnets, …)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from retraining.recipe.machines import has_local_storage

Request = dict[str, Any]

MAX_SUBNETS, MAX_SECURITY_GROUPS, MAX_TAGS = 16, 5, 40
"""SageMaker's limits; of the 50 tags that a thing may have some are this package's own."""
KEY_ARN = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]{1,100}")
TAG = re.compile(r"[\w\s.:/=+\-@]+")
"""The characters of a tag's key and value."""


@dataclass(frozen=True, kw_only=True)
class AccountRules:
    """Nothing of it, unless it is set."""

    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    encrypt_traffic: bool = False
    """Between the machines of one job."""
    kms_key: str | None = None
    """ARN of a key for disks, outputs and what is written into the bucket."""
    tags: tuple[tuple[str, str], ...] = ()
    """Of everything that is made, besides this package's own."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """RETRAINING_SUBNETS and so on. Raises ValueError, which names the variable."""
        subnets = _list(environ, "RETRAINING_SUBNETS", "subnet-", MAX_SUBNETS)
        groups = _list(environ, "RETRAINING_SECURITY_GROUPS", "sg-", MAX_SECURITY_GROUPS)
        if bool(subnets) != bool(groups):
            raise ValueError("RETRAINING_SUBNETS and RETRAINING_SECURITY_GROUPS belong together; set both, or neither.")
        key = environ.get("RETRAINING_KMS_KEY") or None
        if key and not KEY_ARN.fullmatch(key):
            raise ValueError(
                f"RETRAINING_KMS_KEY = {key!r}: must be a key's full ARN, such as "
                "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab; SageMaker takes no alias "
                "for disks."
            )
        return cls(
            subnets=subnets,
            security_groups=groups,
            encrypt_traffic=environ.get("RETRAINING_ENCRYPT_TRAFFIC", "0") not in ("", "0"),
            kms_key=key,
            tags=_tags(environ.get("RETRAINING_TAGS", "")),
        )

    @property
    def tag_list(self) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in self.tags]

    # What becomes of each request.
    def of_training(self, request: Request) -> Request:
        """CreateTrainingJob, or the definition of a search's trials."""
        resources = request["ResourceConfig"]
        return request | {
            "OutputDataConfig": request["OutputDataConfig"] | self._key("KmsKeyId"),
            "ResourceConfig": resources | self._disk("VolumeKmsKeyId", resources["InstanceType"]),
            **self._network,
        }

    def of_tuning(self, request: Request) -> Request:
        return request | {"TrainingJobDefinition": self.of_training(request["TrainingJobDefinition"])}

    def of_processing(self, request: Request) -> Request:
        cluster = request["ProcessingResources"]["ClusterConfig"]
        return request | {
            "ProcessingOutputConfig": request["ProcessingOutputConfig"] | self._key("KmsKeyId"),
            "ProcessingResources": {"ClusterConfig": cluster | self._disk("VolumeKmsKeyId", cluster["InstanceType"])},
            **({"NetworkConfig": self._network} if self._network else {}),
        }

    def of_transform(self, request: Request) -> Request:
        """Its network is that of the model."""
        resources = request["TransformResources"]
        return request | {
            "TransformOutput": request["TransformOutput"] | self._key("KmsKeyId"),
            "TransformResources": resources | self._disk("VolumeKmsKeyId", resources["InstanceType"]),
        }

    def of_model(self, request: Request) -> Request:
        return request | self._vpc

    def of_endpoint_config(self, request: Request) -> Request:
        capture = request.get("DataCaptureConfig")
        (variant,) = request["ProductionVariants"]
        return (
            request
            | self._disk("KmsKeyId", variant["InstanceType"])
            | ({"DataCaptureConfig": capture | self._key("KmsKeyId")} if capture else {})
        )

    def of_object(self, request: Request) -> Request:
        """What is sent to S3 with each object that is written."""
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key} if self.kms_key else {}
        return request | encryption

    @property
    def _vpc(self) -> Request:
        config = {"Subnets": list(self.subnets), "SecurityGroupIds": list(self.security_groups)}
        return {"VpcConfig": config} if self.subnets else {}

    @property
    def _network(self) -> Request:
        """Of a job; a Model has only the first."""
        return self._vpc | ({"EnableInterContainerTrafficEncryption": True} if self.encrypt_traffic else {})

    def _key(self, member: str) -> Request:
        return {member: self.kms_key} if self.kms_key else {}

    def _disk(self, member: str, instance_type: str) -> Request:
        """Disks that are part of a machine are encrypted by itself; SageMaker refuses a key for them."""
        return {} if has_local_storage(instance_type) else self._key(member)


def _list(environ: Mapping[str, str], name: str, prefix: str, most: int) -> tuple[str, ...]:
    values = tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip())
    if wrong := next((value for value in values if not re.fullmatch(f"{prefix}[0-9a-f]+", value)), None):
        raise ValueError(f"{name}: {wrong!r} is none; give ids with commas between them, such as {prefix}0a1b2c3d.")
    if len(values) > most:
        raise ValueError(f"{name} has {len(values)}; SageMaker takes {most} at most.")
    return values


def _tags(text: str) -> tuple[tuple[str, str], ...]:
    """`team=vision,cost-center=42`."""
    tags: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        key, there, value = (piece.strip() for piece in part.partition("="))
        own = key.lower().startswith(("aws:", "retraining:"))
        if not (there and TAG.fullmatch(key) and (not value or TAG.fullmatch(value))) or own:
            raise ValueError(
                f"RETRAINING_TAGS: {part!r} is no tag; write key=value with commas between them, of letters, digits, "
                "spaces and _.:/=+-@. What begins with aws: or retraining: is others'."
            )
        if len(key) > 128 or len(value) > 256:
            raise ValueError(
                f"RETRAINING_TAGS: {key[:40]!r} is too long: a key has at most 128 characters, a value 256."
            )
        tags[key] = value
    if len(tags) > MAX_TAGS:
        raise ValueError(
            f"RETRAINING_TAGS has {len(tags)} tags; {MAX_TAGS} at most, for SageMaker takes 50 of a thing."
        )
    return tuple(tags.items())


NO_RULES = AccountRules()
