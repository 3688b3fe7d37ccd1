"""What the clients' jobs work on: source, data and a model in the bucket, and requests as AWS documents them."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from pathlib import Path
from typing import Any

from tests.conformance.target import BUCKET, Target

SOURCE = Path(__file__).parent / "source"
ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
REGISTRY = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
TRAINING_IMAGE = f"{REGISTRY}/pytorch:2.14-cpu-amzn2023-sagemaker"
SERVING_IMAGE = f"{REGISTRY}/pytorch-inference:2.6.0-cpu-py312-ubuntu22.04-sagemaker"
LOSS = {"Name": "train:loss", "Regex": "train:loss=([0-9.]+)"}


@dataclasses.dataclass(frozen=True)
class Work:
    bucket: str = BUCKET

    @classmethod
    def prepare(cls, target: Target) -> Work:
        s3 = target.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        scripts = {path.name: path.read_bytes() for path in SOURCE.glob("*.py")}
        s3.put_object(Bucket=BUCKET, Key="work/sourcedir.tar.gz", Body=archive(scripts))
        s3.put_object(Bucket=BUCKET, Key="work/sourcedir/process.py", Body=scripts["process.py"])
        s3.put_object(Bucket=BUCKET, Key="work/train/points.csv", Body=b"1,3\n2,6\n3,9\n")
        model = {"slope.json": b"7.0", "code/inference.py": scripts["inference.py"]}
        s3.put_object(Bucket=BUCKET, Key="work/model.tar.gz", Body=archive(model))
        s3.put_object(Bucket=BUCKET, Key="work/xs/1.json", Body=b"[1, 2]")
        return cls()

    def training(self, name: str, script: str = "train.py", **changes: Any) -> dict[str, Any]:
        """CreateTrainingJob; the metric of train.py is train:loss, 0.006839 at the end."""
        return {
            "TrainingJobName": name,
            "RoleArn": ROLE,
            "AlgorithmSpecification": {
                "TrainingImage": TRAINING_IMAGE,
                "TrainingInputMode": "File",
                "MetricDefinitions": [LOSS],
            },
            "HyperParameters": self._hyperparameters(script) | {"epochs": "5", "learning-rate": "0.05"},
            "InputDataConfig": self._channels(),
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/work/output"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 300},
        } | changes

    def tuning(self, name: str, jobs: int = 2) -> dict[str, Any]:
        training = self.training("unused")
        kept = ("RoleArn", "AlgorithmSpecification", "InputDataConfig", "OutputDataConfig", "ResourceConfig")
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": "Random",
                "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "train:loss"},
                "ResourceLimits": {"MaxNumberOfTrainingJobs": jobs, "MaxParallelTrainingJobs": 2},
                "ParameterRanges": {
                    "ContinuousParameterRanges": [{"Name": "learning-rate", "MinValue": "0.01", "MaxValue": "0.05"}],
                },
            },
            "TrainingJobDefinition": {
                "StaticHyperParameters": self._hyperparameters("train.py") | {"epochs": "2"},
                "StoppingCondition": {"MaxRuntimeInSeconds": 300},
                **{member: training[member] for member in kept},
            },
        }

    def model(self, name: str) -> dict[str, Any]:
        """CreateModel; it answers 7 x."""
        container = {"Image": SERVING_IMAGE, "ModelDataUrl": f"s3://{BUCKET}/work/model.tar.gz"}
        return {"ModelName": name, "ExecutionRoleArn": ROLE, "PrimaryContainer": container}

    def endpoint_config(self, name: str, model: str) -> dict[str, Any]:
        variant = {"VariantName": "AllTraffic", "ModelName": model, "InstanceType": "ml.m5.large"}
        return {"EndpointConfigName": name, "ProductionVariants": [variant | {"InitialInstanceCount": 1}]}

    def transform(self, name: str, model: str) -> dict[str, Any]:
        source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/work/xs/"}}
        return {
            "TransformJobName": name,
            "ModelName": model,
            "TransformInput": {"DataSource": source, "ContentType": "application/json"},
            "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/work/scored/{name}", "Accept": "application/json"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        }

    def processing(self, name: str) -> dict[str, Any]:
        """CreateProcessingJob; counts the lines of the training data."""
        local = "/opt/ml/processing"
        source = {"S3DataType": "S3Prefix", "S3InputMode": "File"}
        inputs = {
            "code": (f"s3://{BUCKET}/work/sourcedir/", f"{local}/code"),
            "data": (f"s3://{BUCKET}/work/train/", f"{local}/input"),
        }
        output = {"S3Uri": f"s3://{BUCKET}/work/processed/{name}", "LocalPath": f"{local}/output"}
        return {
            "ProcessingJobName": name,
            "RoleArn": ROLE,
            "AppSpecification": {
                "ImageUri": TRAINING_IMAGE,
                "ContainerEntrypoint": ["python3", f"{local}/code/process.py"],
                "ContainerArguments": ["--name", name],
            },
            "ProcessingInputs": [
                {"InputName": key, "S3Input": source | {"S3Uri": uri, "LocalPath": path}}
                for key, (uri, path) in inputs.items()
            ],
            "ProcessingOutputConfig": {
                "Outputs": [{"OutputName": "seen", "S3Output": output | {"S3UploadMode": "EndOfJob"}}]
            },
            "ProcessingResources": {
                "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 300},
        }

    def _hyperparameters(self, script: str) -> dict[str, str]:
        return {
            "sagemaker_program": script,
            "sagemaker_submit_directory": f"s3://{BUCKET}/work/sourcedir.tar.gz",
            "sagemaker_region": "us-east-1",
        }

    def _channels(self) -> list[dict[str, Any]]:
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/work/train/"}
        return [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}]


def archive(files: dict[str, bytes]) -> bytes:
    """A tar.gz of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
