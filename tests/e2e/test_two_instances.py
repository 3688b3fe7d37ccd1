"""The training script over two instances: CreateTrainingJob with torch_distributed, as AWS starts it too."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from retraining.source import Source
from tests.local_sagemaker.harness import IMAGE, REPOSITORY, ROLE, Server
from tests.local_sagemaker.test_training import archive, channel
from tests.object_store import free_ports

BUCKET = "two-instances-bucket"
OUR_OPTIONS = {"stem": "small", "image-size": "16", "batch-size": "4", "epochs": "1", "serving": "torch"}


@pytest.fixture
def server(tmp_path: Path, s3_endpoint: str) -> Iterator[Server]:
    images = tmp_path / "images.toml"
    images.write_text(f'[[image]]\nmatch = ["*"]\ninterpreter = "{REPOSITORY / ".venv/ml/bin/python"}"\n')
    running = Server(tmp_path / "server", free_ports(1)[0], s3_endpoint, images)
    running.start()
    running.s3.create_bucket(Bucket=BUCKET)
    running.s3.put_object(Bucket=BUCKET, Key="sourcedir.tar.gz", Body=Source.read(REPOSITORY / "ml").packed())
    for number, colour in enumerate(("blue", "red") * 3):
        picture = io.BytesIO()
        Image.new("RGB", (16, 16), colour).save(picture, "PNG")
        for name in ("train", "validation"):
            running.s3.put_object(Bucket=BUCKET, Key=f"{name}/{colour}/{number}.png", Body=picture.getvalue())
    yield running
    running.stop()


@pytest.mark.slow
def test_two_instances_train_one_network(server: Server) -> None:
    """Asked for by one hyperparameter; the first instance speaks, and its model is the job's."""
    platform_options = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": f"s3://{BUCKET}/sourcedir.tar.gz",
        "sagemaker_torch_distributed_enabled": "true",
    }
    server.sagemaker.create_training_job(
        TrainingJobName="two-trainers",
        RoleArn=ROLE,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        HyperParameters=OUR_OPTIONS | platform_options,
        InputDataConfig=[channel(name, f"s3://{BUCKET}/{name}/") for name in ("train", "validation")],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/jobs"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 300},
    )
    job = server.wait(
        lambda: server.sagemaker.describe_training_job(TrainingJobName="two-trainers"),
        "TrainingJobStatus",
        timeout_s=300,
    )
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    first, second = (said(server, f"two-trainers/{host}") for host in ("algo-1", "algo-2"))
    assert "2 processes share each batch of 4 images" in first
    assert any(line.startswith("best epoch=1/1") for line in first)
    assert not any("epoch=" in line for line in second)
    names = archive(server, job["ModelArtifacts"]["S3ModelArtifacts"]).getnames()
    assert {"model.safetensors", "model.json"} <= set(names)


def said(server: Server, stream: str) -> list[str]:
    group = "/aws/sagemaker/TrainingJobs"
    events = server.logs.filter_log_events(logGroupName=group, logStreamNamePrefix=stream)["events"]
    return [event["message"] for event in events]
