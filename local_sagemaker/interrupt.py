"""`python -m local_sagemaker interrupt <training job>`: take the instances of a managed spot job away.

What AWS does when it needs them; here it is asked for, to try out whether a script resumes from its checkpoints.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import httpx

_TIMEOUT_S = 30.0


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    try:
        key_id, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    except KeyError as error:
        print(f"{error.args[0]} is not set; export the key pair that the server was started with", file=sys.stderr)
        return 2
    request = botocore.awsrequest.AWSRequest(
        "POST",
        options.url,
        {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "LocalSageMaker.InterruptTrainingJob"},
        json.dumps({"TrainingJobName": options.name}).encode(),
    )
    credentials = botocore.credentials.Credentials(key_id, secret)
    botocore.auth.SigV4Auth(credentials, "sagemaker", options.region).add_auth(request)
    try:
        with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
            answer = client.post(options.url, content=request.data, headers=dict(request.headers))
    except httpx.TransportError as error:
        print(f"no local_sagemaker answers at {options.url}: {error}; --url names another one", file=sys.stderr)
        return 1
    if answer.status_code != 200:
        print(answer.json().get("message", answer.text), file=sys.stderr)
        return 1
    print(f"{options.name} is interrupted; it starts again when its processes have ended")
    return 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m local_sagemaker interrupt",
        description="Interrupt a managed spot training job, as AWS does when it needs the instances.",
    )
    result.add_argument("name", help="the training job")
    url = os.environ.get("AWS_ENDPOINT_URL_SAGEMAKER") or os.environ.get("AWS_ENDPOINT_URL") or "http://127.0.0.1:14330"
    result.add_argument("--url", default=url, help="address of the server (default: %(default)s)")
    result.add_argument("--region", default=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
    return result
