"""The IAM policies that this package needs, with the bucket, the role and the account of an environment. Pure.

Of Airflow's credentials: every call that the DAGs, the pages and the commands make (tests/contract/test_policy.py reads
them from the code). Of the execution role: what SageMaker's jobs and endpoints do with it,
https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from retraining.environment import Environment

Policy = dict[str, Any]

MAX_CHARACTERS = 6144
"""Of a managed policy, without spaces."""
JOBS = ("TrainingJob", "HyperParameterTuningJob", "TransformJob", "ProcessingJob")
SAGEMAKER = (
    *(f"{verb}{job}" for job in JOBS for verb in ("Create", "Describe", "Stop")),
    *(
        f"{verb}{thing}"
        for thing in ("Model", "EndpointConfig", "Endpoint")
        for verb in ("Create", "Describe", "Delete")
    ),
    *("CreateModelPackageGroup", "CreateModelPackage", "DescribeModelPackage", "UpdateModelPackage"),
    *("UpdateEndpoint", "UpdateEndpointWeightsAndCapacities", "InvokeEndpoint", "AddTags", "ListTags"),
)
"""UpdateEndpointWeightsAndCapacities is asked for by Application Auto Scaling, in the caller's name."""
SAGEMAKER_LISTS = (
    *(f"List{job}s" for job in JOBS),
    *(
        "ListTrainingJobsForHyperParameterTuningJob",
        "ListModels",
        "ListEndpointConfigs",
        "ListEndpoints",
        "ListModelPackages",
    ),
)
ALARMS = ("PutMetricAlarm", "SetAlarmState", "DeleteAlarms", "TagResource")
METRICS = ("DescribeAlarms", "GetMetricStatistics")
SCALING = (
    *("RegisterScalableTarget", "DeregisterScalableTarget", "DescribeScalableTargets", "PutScalingPolicy"),
    *("DescribeScalingPolicies", "DeleteScalingPolicy", "TagResource"),
)
LOGS = ("DescribeLogStreams", "GetLogEvents")
BUCKET, OBJECTS = (
    ("ListBucket", "GetBucketLocation"),
    ("GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload"),
)
KEY = ("Encrypt", "Decrypt", "GenerateDataKey*", "ReEncrypt*", "DescribeKey")
SCALING_ROLE = "sagemaker.application-autoscaling.amazonaws.com"
NETWORK = (
    *(f"{verb}NetworkInterface{what}" for verb in ("Create", "Delete") for what in ("", "Permission")),
    *(f"Describe{what}" for what in ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")),
)


def of_airflow(environment: Environment, sources: Iterable[str] = ()) -> Policy:
    """For whoever runs the DAGs, the pages and the commands. `sources`: S3 addresses that recipes read from."""
    at = f"arn:{environment.partition}"
    here = f"{environment.region}:{environment.account}"
    passed = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    scaled = f"{at}:iam::{environment.account}:role/aws-service-role/{SCALING_ROLE}/*"
    return _policy(
        *_storage(environment, sources),
        _allow("Jobs", "sagemaker", SAGEMAKER, f"{at}:sagemaker:{here}:*"),
        _allow("Lists", "sagemaker", SAGEMAKER_LISTS, "*"),
        _allow("Role", "iam", ["PassRole"], environment.role_arn) | {"Condition": passed},
        _allow("JobLogs", "logs", LOGS, f"{at}:logs:{here}:log-group:/aws/sagemaker/*"),
        _allow("Alarms", "cloudwatch", ALARMS, f"{at}:cloudwatch:{here}:alarm:*"),
        _allow("Metrics", "cloudwatch", METRICS, "*"),
        _allow("Scaling", "application-autoscaling", SCALING, "*"),
        _allow("ScalingRole", "iam", ["CreateServiceLinkedRole"], scaled)
        | {"Condition": {"StringEquals": {"iam:AWSServiceName": SCALING_ROLE}}},
        *_keys(environment, KEY),
    )


def of_role(environment: Environment, sources: Iterable[str] = ()) -> Policy:
    """For the execution role."""
    at = f"arn:{environment.partition}"
    logs = f"{at}:logs:{environment.region}:{environment.account}:log-group:/aws/sagemaker/*"
    images = ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer", "GetAuthorizationToken")
    network = [_allow("Network", "ec2", NETWORK, "*")] if environment.account_rules.subnets else []
    return _policy(
        *_storage(environment, sources),
        _allow("ContainerImages", "ecr", images, "*"),
        _allow("JobLogs", "logs", ["CreateLogGroup", "CreateLogStream", "PutLogEvents", "DescribeLogStreams"], logs),
        # An update goes back where an alarm of the run goes off, which SageMaker looks at as this role.
        _allow("Metrics", "cloudwatch", ["PutMetricData", "DescribeAlarms"], "*"),
        *network,
        *_keys(environment, (*KEY, "CreateGrant")),
    )


def trust() -> Policy:
    """Who may take the execution role."""
    principal = {"Service": "sagemaker.amazonaws.com"}
    return _policy({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"})


# --- parts ----------------------------------------------------------------------------------------------------------


def _policy(*statements: dict[str, Any]) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(sid: str, service: str, actions: Iterable[str], *resources: str) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": sorted(f"{service}:{action}" for action in actions),
        "Resource": list(resources),
    }


def _storage(environment: Environment, sources: Iterable[str]) -> list[dict[str, Any]]:
    at = f"arn:{environment.partition}:s3:::"
    own = f"{at}{environment.bucket}"
    others = sorted({urlsplit(source).netloc for source in sources} - {environment.bucket})
    read = [_allow("Sources", "s3", ["GetObject"], *(f"{at}{bucket}/*" for bucket in others))] if others else []
    return [
        _allow("Buckets", "s3", BUCKET, own, *(f"{at}{bucket}" for bucket in others)),
        _allow("Objects", "s3", OBJECTS, f"{own}/*"),
        *read,
    ]


def _keys(environment: Environment, actions: Iterable[str]) -> list[dict[str, Any]]:
    key = environment.account_rules.kms_key
    return [_allow("Key", "kms", actions, key)] if key else []
