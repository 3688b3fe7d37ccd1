import subprocess
from pathlib import Path

import boto3
import pytest

from stack import services, shell
from stack.credentials import Credentials
from stack.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
CREDENTIALS = Credentials.generate()
SETTINGS = Settings(root=ROOT, state=ROOT / ".local", sagemaker_port=15330, s3_port=15333, airflow_port=18080)


@pytest.mark.parametrize("interpreter", ["sh", "bash"])
def test_the_export_lines_work_with_eval(interpreter: str) -> None:
    lines = shell.export_lines(SETTINGS, CREDENTIALS)
    told = subprocess.run(
        [
            interpreter,
            "-c",
            'eval "$EXPORTS"; env | grep ^AWS_ENDPOINT_URL_S3= | cut -d= -f2-',
        ],
        env={"EXPORTS": lines, "PATH": "/usr/bin:/bin", "AWS_ENDPOINT_URL_S3": "https://elsewhere.test"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "http://127.0.0.1:15330"


def test_every_line_for_the_shell_is_an_export() -> None:
    lines = shell.export_lines(SETTINGS, CREDENTIALS).splitlines()
    assert all(line.startswith(("export AWS_", "export SAGEMAKER_", "export RETRAINING_")) for line in lines)
    assert f"export AWS_ACCESS_KEY_ID={CREDENTIALS.aws_access_key_id}" in lines


def test_plain_boto3_follows_the_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in services.aws_environment(SETTINGS, CREDENTIALS).items():
        monkeypatch.setenv(name, value)
    assert boto3.client("sagemaker").meta.endpoint_url == "http://127.0.0.1:15330"
    assert boto3.client("logs").meta.endpoint_url == "http://127.0.0.1:15330"
    assert boto3.client("s3").meta.endpoint_url == "http://127.0.0.1:15333"
    assert boto3.Session().get_credentials().token in (None, "")


def test_a_shell_set_up_for_aws_does_not_leak_in() -> None:
    shell_environment = {
        "AWS_PROFILE": "production",
        "AWS_ENDPOINT_URL_SAGEMAKER": "https://elsewhere.test",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://production",
        "PYTHONPATH": "/elsewhere",
        "HTTPS_PROXY": "http://proxy.test:3128",
        "NO_PROXY": "internal.test",
        "HOME": "/home/user",
    }
    kept = services.inherited_environment(shell_environment)
    assert "production" not in " ".join(kept.values())
    assert "elsewhere" not in " ".join(kept.values())
    assert kept["NO_PROXY"] == "internal.test,127.0.0.1,localhost"
    assert kept["HOME"] == "/home/user"


def test_every_service_listens_on_loopback_only() -> None:
    for service in services.services(SETTINGS, CREDENTIALS):
        if service.ports_variable:
            assert "127.0.0.1" in " ".join(service.command)
        assert "0.0.0.0" not in " ".join((*service.command, *service.environment.values()))


def test_only_airflow_gets_airflows_secrets() -> None:
    for service in services.services(SETTINGS, CREDENTIALS):
        knows = CREDENTIALS.airflow_jwt_secret in service.environment.values()
        assert knows == (service.name in services.AIRFLOW_PARTS)


def test_no_secret_stands_on_a_command_line() -> None:
    """Any user of the machine can read the process list."""
    for service in services.services(SETTINGS, CREDENTIALS):
        assert not set(vars(CREDENTIALS).values()) & set(" ".join(service.command).split())


def test_addresses_keep_the_password_out_of_a_log() -> None:
    assert CREDENTIALS.airflow_password not in shell.addresses(SETTINGS, CREDENTIALS, secret=False)
    assert CREDENTIALS.airflow_password in shell.addresses(SETTINGS, CREDENTIALS, secret=True)


def test_the_shell_and_the_server_agree_on_the_sdks_defaults() -> None:
    from local_sagemaker import sdk_defaults

    written = sdk_defaults.path(SETTINGS.state / "sagemaker")
    assert f"export {sdk_defaults.VARIABLE}={written}" in shell.export_lines(SETTINGS, CREDENTIALS)


def test_no_command_line_holds_a_secret() -> None:
    """Everybody on a machine sees them, with `ps`."""
    words = [word for service in services.services(SETTINGS, CREDENTIALS) for word in service.command]
    secrets = [value for name, value in vars(CREDENTIALS).items() if name != "aws_access_key_id"]
    assert [word for word in words if any(secret in word for secret in secrets)] == []
