"""The IAM policies allow what the code calls, and are policies."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import botocore
import botocore.session
import pytest

from retraining import policy
from retraining.account_rules import AccountRules
from retraining.environment import Environment
from tests.faults.installation import installed
from tests.faults.scenarios import SCENARIOS

PLUGINS = Path(__file__).parents[2] / "plugins"
SERVICES = (
    "sagemaker", "sagemaker-runtime", "s3", "logs", "cloudwatch", "application-autoscaling", "sts", "iam", "ecr", "ec2",
)  # fmt: skip
BY_OTHERS = {"list_images", "search"}
"""A task of the DAG, and regular expressions."""
AS_CALLED = {
    "s3:HeadBucket": ["s3:ListBucket"], "s3:ListObjectsV2": ["s3:ListBucket"], "s3:HeadObject": ["s3:GetObject"],
    "s3:CopyObject": ["s3:GetObject", "s3:PutObject"], "s3:DeleteObjects": ["s3:DeleteObject"],
    "sts:GetCallerIdentity": [],  # nobody needs a right for it
}  # fmt: skip
"""Where an action is not called as its operation: docs.aws.amazon.com/service-authorization."""
AS_SIGNED = {
    "sagemaker-runtime": "sagemaker", "cloudwatch-logs": "logs", "application-auto-scaling": "application-autoscaling",
}  # fmt: skip
OF_IAM_ALONE = {
    "s3:ListBucket", "iam:PassRole", "sagemaker:InvokeEndpoint", "application-autoscaling:TagResource",
    "cloudwatch:TagResource",
}  # fmt: skip
ENVIRONMENT = {
    "RETRAINING_BUCKET": "flowers", "RETRAINING_ROLE_ARN": "arn:aws-cn:iam::111122223333:role/ml/trainer",
    "AWS_DEFAULT_REGION": "cn-north-1",
}  # fmt: skip
KEY = "arn:aws-cn:kms:cn-north-1:111122223333:key/1234"
ASKED = ENVIRONMENT | {
    "RETRAINING_KMS_KEY": KEY,
    "RETRAINING_SUBNETS": "subnet-1",
    "RETRAINING_SECURITY_GROUPS": "sg-1",
}
FULL = [policy.of_airflow(Environment.of(ASKED), ["s3://raw/a"]), policy.of_role(Environment.of(ASKED), ["s3://raw/a"])]


@cache
def operations() -> dict[str, set[str]]:
    """boto3's name → service:Operation."""
    session, found = botocore.session.get_session(), dict[str, set[str]]()
    for service in SERVICES:
        for name in session.get_service_model(service).operation_names:
            prefix = service.removesuffix("-runtime")
            found.setdefault(botocore.xform_name(name), set()).add(f"{prefix}:{name}")
    return found


def called() -> set[str]:
    """By the code: as a method, or by its name, for a paginator or a kind of job."""
    found: set[str] = set()
    for path in PLUGINS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = (
                node.attr if isinstance(node, ast.Attribute) else node.value if isinstance(node, ast.Constant) else None
            )
            if isinstance(name, str) and name not in BY_OTHERS:
                found |= operations().get(name, set())
    return found


def actions(given: policy.Policy) -> set[str]:
    return {action for statement in given["Statement"] for action in statement["Action"]}


def needed(calls: set[str]) -> set[str]:
    return {action for call in calls for action in AS_CALLED.get(call, [call])}


def test_airflow_may_call_what_the_code_calls() -> None:
    calls = called()
    assert len(calls) > 50
    assert needed(calls) - actions(policy.of_airflow(Environment.of(ENVIRONMENT))) == set()


@pytest.mark.slow
def test_simulated_weeks_call_nothing_else(tmp_path: Path) -> None:
    calls: set[str] = set()
    with installed(tmp_path) as installation:
        for name in (
            "first-wrong",
            "linear-good",
            "canary-alarm",
            "shadow-good",
            "spread-good",
            "watched-good",
            "drill",
        ):
            world, run = SCENARIOS[name].begin(installation, {})
            run.finish()
            for call in world.calls:
                service, _, operation = call.partition(".")
                calls.add(f"{AS_SIGNED.get(service, service)}:{operation}")
    assert len(calls) > 40
    assert needed(calls) - actions(policy.of_airflow(Environment.of(ENVIRONMENT))) == set()


@pytest.mark.parametrize("given", FULL, ids=["airflow", "role"])
def test_every_action_is_one_of_its_service(given: policy.Policy) -> None:
    known = set().union(*operations().values()) | OF_IAM_ALONE
    assert {action for action in actions(given) - known if not action.startswith("kms:")} == set()


@pytest.mark.parametrize("given", FULL, ids=["airflow", "role"])
def test_a_policy_fits_into_iam(given: policy.Policy) -> None:
    assert len("".join(json.dumps(given).split())) < policy.MAX_CHARACTERS
    ids = [statement["Sid"] for statement in given["Statement"]]
    assert len(ids) == len(set(ids))
    resources = {resource for statement in given["Statement"] for resource in statement["Resource"]}
    assert all(resource == "*" or resource.startswith("arn:aws-cn:") for resource in resources)
    assert {"arn:aws-cn:s3:::flowers", "arn:aws-cn:s3:::flowers/*", "arn:aws-cn:s3:::raw/*", KEY} <= resources


def test_only_the_role_is_passed() -> None:
    (statement,) = [each for each in FULL[0]["Statement"] if "iam:PassRole" in each["Action"]]
    assert statement["Resource"] == [ENVIRONMENT["RETRAINING_ROLE_ARN"]]
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def test_a_network_is_asked_for_where_there_is_one() -> None:
    assert "ec2:CreateNetworkInterface" in actions(FULL[1])
    assert AccountRules.of(ENVIRONMENT) == AccountRules()
    assert not any(
        action.startswith(("ec2:", "kms:")) for action in actions(policy.of_role(Environment.of(ENVIRONMENT)))
    )


def test_the_command_prints_a_policy(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    digits = (PLUGINS.parent / "dags/recipes/digits.yaml").read_text()
    roses = digits.replace("name: digits", "name: roses").replace("bundled://digits", "s3://raw-roses/2026/")
    (tmp_path / "recipes" / "roses.yaml").write_text(roses)
    (tmp_path / "recipes" / "broken.yaml").write_text("name: [")
    environ = ENVIRONMENT | {"PYTHONPATH": str(PLUGINS), "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path), "PATH": ""}
    command = [sys.executable, "-m", "retraining", "policy"]
    told = subprocess.run([*command, "role"], env=environ, capture_output=True, text=True, check=True, timeout=60)
    assert "arn:aws-cn:s3:::raw-roses/*" in told.stdout
    assert json.loads(told.stdout)["Version"] == "2012-10-17"
    assert "broken.yaml" in told.stderr
    trust = subprocess.run([*command, "trust"], env=environ, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(trust.stdout)["Statement"][0]["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    del environ["RETRAINING_ROLE_ARN"]
    refused = subprocess.run([*command, "role"], env=environ, capture_output=True, text=True, timeout=60)
    assert (refused.returncode, "RETRAINING_ROLE_ARN is not set" in refused.stderr) == (1, True)
