"""What the server's tests stand on: a server process, real boto3 clients for it, and requests."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import psutil
import pytest

from local_sagemaker.wire import service_model
from tests.object_store import CLIENT, KEY_ID, SECRET
from tests.waiting import PATIENCE_S, wait_until

BUCKET = "test-bucket"
ROLE = "arn:aws:iam::000000000000:role/test"
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14-cpu-amzn2023-sagemaker"
REPOSITORY = Path(__file__).parents[2]
# Beside another worker and its server: jobs of both with a thread for each core would slow each other tenfold.
OWN_CORES = ("--cores", "1", "--max-instances", "2") if "PYTEST_XDIST_WORKER" in os.environ else ()


@dataclasses.dataclass
class Server:
    """A server process and clients for it; every SageMaker response is held against the service model."""

    root: Path
    port: int
    s3_endpoint: str
    images: Path
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.sagemaker = self.client("sagemaker")
        self.runtime = self.client("sagemaker-runtime")
        self.logs = self.client("logs")
        self.s3 = boto3.client("s3", endpoint_url=self.s3_endpoint, **CLIENT)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str, **overrides: Any) -> Any:
        client = boto3.client(service, endpoint_url=self.url, **(CLIENT | overrides))
        if service == "sagemaker":
            client.meta.events.register("before-parse.sagemaker.*", check_response)
        return client

    def start(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "local_sagemaker",
                    "--port",
                    str(self.port),
                    "--root",
                    str(self.root),
                    "--images",
                    str(self.images),
                    "--stop-grace",
                    "3",
                    *OWN_CORES,
                    *self.arguments,
                ],
                cwd=REPOSITORY,
                env=os.environ
                | {
                    "AWS_ACCESS_KEY_ID": KEY_ID,
                    "AWS_SECRET_ACCESS_KEY": SECRET,
                    "AWS_ENDPOINT_URL_S3": self.s3_endpoint,
                },
                stdout=log,
                stderr=log,
            )
        wait_until(self.is_up, self.log, every_s=0.1)

    def is_up(self) -> bool:
        assert self.process and self.process.poll() is None, self.log()
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:  # and no client is made of that
            return False
        return self.answers()

    def answers(self) -> bool:
        try:
            self.client("sts").get_caller_identity()
        except botocore.exceptions.BotoCoreError:
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE_S)

    def log(self) -> str:
        return (self.root / "server.log").read_text()

    def put_source(self, files: dict[str, str], key: str) -> str:
        """Upload a sourcedir.tar.gz; returns its URI."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content.encode())
                tar.addfile(info, io.BytesIO(content.encode()))
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=buffer.getvalue())
        return f"s3://{BUCKET}/{key}"

    def wait(
        self, describe: Callable[[], dict[str, Any]], member: str, *, timeout_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        """Poll until `member` (a status) is terminal; returns the last answer."""
        answer: dict[str, Any] = {}

        def ended() -> bool:
            answer.clear()
            answer.update(describe())
            return answer[member] in {"Completed", "Failed", "Stopped", "InService"}

        def said() -> str:
            return f"{member} is still {answer[member]}\n{self.log()[-2000:]}"

        wait_until(ended, said, every_s=0.1, patience_s=timeout_s)
        return answer


def has_ended(pid: int, within_s: float = 20.0) -> bool:
    """Whether a process runs no more. One that nobody has reaped yet (its parent is gone) has ended too."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def last_line(server: Server, job: str, host: str = "algo-1") -> str:
    """Wait for the job's first output."""

    def printed() -> list[dict[str, Any]]:
        asked = {"logGroupName": "/aws/sagemaker/TrainingJobs", "logStreamNamePrefix": f"{job}/{host}"}
        try:
            return list(server.logs.filter_log_events(**asked)["events"])
        except botocore.exceptions.ClientError:
            return []

    events = wait_until(printed, lambda: f"{job} printed nothing\n{server.log()[-2000:]}", every_s=0.1)
    return str(events[-1]["message"])


def refused(call: Callable[[], Any]) -> dict[str, Any]:
    """The whole response of a call that must be answered with an error."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    answer: dict[str, Any] = caught.value.response
    return answer


def error(call: Callable[[], Any]) -> dict[str, Any]:
    """Code and message of the error that a call must be answered with."""
    return dict(refused(call)["Error"])


def check_response(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] == 200 and response_dict["body"]:
        problems = service_model.check_response("sagemaker", operation_model.name, json.loads(response_dict["body"]))
        # AWS's own StatusDetails have a line feed in them, which the pattern of its model does not allow.
        problems = [problem for problem in problems if "statusDetails' failed to satisfy" not in problem]
        assert not problems, f"{operation_model.name}: {problems}"


def training_request(server: Server, name: str, script: str, **changes: Any) -> dict[str, Any]:
    """A minimal script-mode CreateTrainingJob request that runs `script` as train.py."""
    source = server.put_source({"train.py": script}, f"code/{name}/sourcedir.tar.gz")
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "HyperParameters": {"sagemaker_program": "train.py", "sagemaker_submit_directory": source},
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/jobs"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        # Later than any wait is over: a job that is stopped for its time looks like one that somebody stopped.
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    } | changes
