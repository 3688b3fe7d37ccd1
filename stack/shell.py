"""What a person needs to look around in the running stack: addresses, and the environment for AWS clients."""

import shlex

from stack.credentials import Credentials
from stack.services import aws_environment, retraining_environment
from stack.settings import Settings


def export_lines(settings: Settings, credentials: Credentials) -> str:
    """One `export NAME=value` a line: understood by sh, bash, zsh and fish."""
    # The server passes S3 requests on to the store, and those that only the real S3 would understand in a form it does.
    variables = (
        aws_environment(settings, credentials)
        | retraining_environment()
        | {
            "AWS_ENDPOINT_URL_S3": settings.sagemaker_url,
            "SAGEMAKER_USER_CONFIG_OVERRIDE": str(settings.state / "sagemaker" / "sagemaker-sdk.yaml"),
        }
    )
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def addresses(settings: Settings, credentials: Credentials, *, secret: bool) -> str:
    """Where everything listens. `secret`: print Airflow's password instead of where it is kept."""
    kept = settings.state / "credentials.json"
    password = credentials.airflow_password if secret else f"in {kept}"
    return "\n".join(
        [
            f"Airflow UI       {settings.airflow_url}   user admin, password {password}",
            f"SageMaker API    {settings.sagemaker_url}",
            f"S3 API           {settings.s3_url}",
            'AWS clients      eval "$(make -s local-env)"; aws sagemaker list-training-jobs',
        ]
    )
