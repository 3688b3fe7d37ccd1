"""What the tests of models, endpoints and transform jobs stand on: an image that serves, and models for it."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

from tests.local_sagemaker.harness import ROLE, Server
from tests.waiting import PATIENCE_S

SERVING_IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312"


def write_image_map(folder: Path) -> Path:
    path = folder / "images.toml"
    program = Path(__file__).with_name("model_server.py")
    path.write_text(
        f'[[image]]\nmatch = ["*/pytorch-inference:*"]\ninterpreter = "{sys.executable}"\nserve = ["{program}"]\n'
    )
    return path


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:6]}"


def put_model(server: Server, **content: Any) -> str:
    """Upload a model.tar.gz that holds model.json; returns its URI."""
    return server.put_source({"model.json": json.dumps(content)}, f"models/{unique('m')}/model.tar.gz")


def create_model(server: Server, environment: dict[str, str] | None = None, **content: Any) -> str:
    name = unique("Model")
    container = {"Image": SERVING_IMAGE, "ModelDataUrl": put_model(server, **content), "Environment": environment or {}}
    server.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    return name


def create_config(
    server: Server, *models: str, weights: tuple[float, ...] = (1.0, 1.0), instances: int = 1, **members: Any
) -> str:
    """An endpoint configuration with a production variant per model (AllTraffic, Second) and what else is asked for."""
    name = unique("Config")
    variants = [
        {
            "VariantName": variant,
            "ModelName": model,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": instances,
            "InitialVariantWeight": weight,
        }
        for variant, model, weight in zip(("AllTraffic", "Second"), models, weights, strict=False)
    ]
    server.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, **members)
    return name


def wait_endpoint(server: Server, name: str) -> dict[str, Any]:
    return server.wait(lambda: server.sagemaker.describe_endpoint(EndpointName=name), "EndpointStatus")


def wait_deleted(server: Server, name: str) -> None:
    patience = {"Delay": 1, "MaxAttempts": int(PATIENCE_S)}
    server.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=patience)


def deploy(server: Server, config: str) -> str:
    """A new endpoint in service."""
    name = unique("Endpoint")
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    answer = wait_endpoint(server, name)
    assert answer["EndpointStatus"] == "InService", answer
    return name


def invoke(server: Server, name: str, body: bytes = b"image", **members: Any) -> dict[str, Any]:
    answer = server.runtime.invoke_endpoint(EndpointName=name, Body=body, **members)
    content: dict[str, Any] = json.loads(answer["Body"].read())
    return content
