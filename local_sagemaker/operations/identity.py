"""STS GetCallerIdentity, IAM GetRole and SimulatePrincipalPolicy: what clients ask before they start."""

from __future__ import annotations

import time
import urllib.parse
from typing import Any

from local_sagemaker.settings import Settings


def get_caller_identity(request: dict[str, Any], *, settings: Settings) -> dict[str, Any]:
    account = settings.account
    return {"Arn": f"arn:aws:iam::{account}:root", "UserId": account, "Account": account}


def get_role(request: dict[str, Any], *, settings: Settings) -> dict[str, Any]:
    """Every role exists here and may do everything: permissions are AWS's business, not this machine's."""
    name = request.get("RoleName", "")
    trust = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow",'
        '"Principal":{"Service":"sagemaker.amazonaws.com"},"Action":"sts:AssumeRole"}]}'
    )
    return {
        "Role": {
            "Path": "/",
            "RoleName": name,
            "RoleId": "AROALOCALSAGEMAKER000",
            "Arn": f"arn:aws:iam::{settings.account}:role/{name}",
            "CreateDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(0)),
            "AssumeRolePolicyDocument": urllib.parse.quote(trust),
        }
    }


def simulate_principal_policy(request: dict[str, Any]) -> dict[str, Any]:
    """What the SageMaker SDK asks of a role before it starts a job: everything is allowed."""
    return {
        "EvaluationResults": [
            {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": "allowed"}
            for action in request.get("ActionNames", [])
            for resource in request.get("ResourceArns", ["*"])
        ],
        "IsTruncated": False,
    }
