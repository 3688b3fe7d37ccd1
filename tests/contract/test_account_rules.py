"""What an account asks for, as SageMaker takes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from retraining.account_rules import AccountRules
from retraining.environment import ConfigurationError, Environment
from retraining.recipe.machines import has_local_storage
from retraining.s3.encryption import encrypting
from tests.contract.test_requests import DIGITS_RECIPE, ENVIRONMENT, LONG_RECIPE, every_request, problems

KEY = "arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
ASKED = {
    "RETRAINING_SUBNETS": "subnet-0a1b",
    "RETRAINING_SECURITY_GROUPS": "sg-0e3f",
    "RETRAINING_KMS_KEY": KEY,
    "RETRAINING_ENCRYPT_TRAFFIC": "1",
    "RETRAINING_TAGS": "team=vision",
}
RULES = AccountRules.of(ASKED)
WITHIN = replace(ENVIRONMENT, account_rules=RULES)


@pytest.mark.parametrize("recipe", [DIGITS_RECIPE, LONG_RECIPE], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("operation", every_request(DIGITS_RECIPE))
def test_sagemaker_would_accept_what_an_account_asks(operation: str, recipe: Any) -> None:
    assert problems(operation, every_request(recipe, WITHIN)[operation]) == []


def test_disks_of_a_machine_have_no_key() -> None:
    """SageMaker refuses one for them."""
    made = every_request(LONG_RECIPE, WITHIN)  # trains on ml.g5.xlarge, serves on ml.m5.large
    assert "VolumeKmsKeyId" not in made["CreateTrainingJob"]["ResourceConfig"]
    assert made["CreateTrainingJob"]["OutputDataConfig"]["KmsKeyId"] == KEY
    assert made["CreateEndpointConfig"]["KmsKeyId"] == KEY


@pytest.mark.parametrize(
    ("instance_type", "local"),
    [
        ("ml.m5.large", False), ("ml.m5d.large", True), ("ml.c6gd.xlarge", True), ("ml.c5n.xlarge", False),
        ("ml.g4dn.xlarge", True), ("ml.g5.xlarge", True), ("ml.g6e.2xlarge", True), ("ml.p3.2xlarge", False),
        ("ml.p3dn.24xlarge", True), ("ml.p4d.24xlarge", True), ("ml.p5.48xlarge", True), ("ml.trn1.2xlarge", True),
        ("ml.inf1.xlarge", False), ("ml.t3.medium", False), ("ml.m7i.large", False), ("ml.r6id.large", True),
        ("ml.m7i-flex.large", False),
    ],
)  # fmt: skip
def test_machines_with_disks_of_their_own_are_known(instance_type: str, local: bool) -> None:
    assert has_local_storage(instance_type) is local


def test_without_rules_nothing_is_added() -> None:
    assert every_request(DIGITS_RECIPE, replace(ENVIRONMENT, account_rules=AccountRules.of({}))) == every_request(
        DIGITS_RECIPE
    )


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("RETRAINING_SUBNETS", "subnet-0a1b,vpc-1", r"RETRAINING_SUBNETS: 'vpc-1' is none.*such as subnet-"),
        ("RETRAINING_SUBNETS", "", r"RETRAINING_SUBNETS and RETRAINING_SECURITY_GROUPS belong together"),
        ("RETRAINING_SUBNETS", ",".join(f"subnet-{n:x}" for n in range(17)), r"has 17; SageMaker takes 16"),
        ("RETRAINING_SECURITY_GROUPS", "default", r"RETRAINING_SECURITY_GROUPS: 'default' is none"),
        ("RETRAINING_KMS_KEY", "alias/mine", r"RETRAINING_KMS_KEY = 'alias/mine': must be a key's full ARN"),
        ("RETRAINING_TAGS", "team", r"'team' is no tag; write key=value"),
        ("RETRAINING_TAGS", "aws:x=1", r"'aws:x=1' is no tag.*is others'"),
        ("RETRAINING_TAGS", "a={b}", r"'a=\{b\}' is no tag"),
        ("RETRAINING_TAGS", f"a={'b' * 257}", r"a key has at most 128 characters, a value 256"),
        ("RETRAINING_TAGS", ",".join(f"a{n}=" for n in range(41)), r"has 41 tags; 40 at most"),
    ],
)
def test_what_no_account_asks_is_refused(variable: str, value: str, told: str) -> None:
    base = {
        "RETRAINING_ENVIRONMENT": "aws", "RETRAINING_BUCKET": "b", "AWS_DEFAULT_REGION": "us-east-1",
        "RETRAINING_ROLE_ARN": "arn:aws:iam::111122223333:role/r",
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match=told):
        Environment.of(base | ASKED | {variable: value})


def test_all_that_is_written_is_encrypted(tmp_path: Path) -> None:
    """Over the wire, one part or many."""
    s3 = encrypting(
        encrypting(boto3.client("s3", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b"), RULES), RULES
    )
    sent: list[tuple[str, Any]] = []

    def answer(request: Any, event_name: str, **_: Any) -> AWSResponse:
        operation = event_name.rpartition(".")[2]
        sent.append((operation, request.headers.get("x-amz-server-side-encryption-aws-kms-key-id")))
        body = b"<CreateMultipartUploadResult><UploadId>1</UploadId></CreateMultipartUploadResult>"
        return AWSResponse(
            request.url, 200, {"ETag": '"e"'}, type("Raw", (), {"stream": lambda *_, **__: iter([body])})()
        )

    s3.meta.events.register("before-send.s3", answer)
    large = tmp_path / "large"
    large.write_bytes(bytes(9 * 2**20))
    s3.put_object(Bucket="b", Key="k", Body=b"")
    s3.copy_object(Bucket="b", Key="k", CopySource={"Bucket": "b", "Key": "j"})
    s3.upload_file(str(large), "b", "k")
    writing = {
        (operation, key) for operation, key in sent if operation not in ("UploadPart", "CompleteMultipartUpload")
    }
    assert writing == {(name, KEY.encode()) for name in ("PutObject", "CopyObject", "CreateMultipartUpload")}
