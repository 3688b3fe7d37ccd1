"""Models and endpoint configurations: created once, found again by every later attempt."""

from __future__ import annotations

from typing import Any

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerEndpointConfigOperator, SageMakerModelOperator
from airflow.sdk import Context

from retraining.creation import create_once
from retraining.identity import require_own
from retraining.release.artifact import measure
from retraining.run import client


class ModelOperator(SageMakerModelOperator):
    """CreateModel, or the model an earlier attempt made under this name; and the digest of what it will be made of."""

    def execute(self, context: Context) -> dict[str, Any]:
        self.preprocess_config()
        create_once(self.hook.conn.create_model, self.config)
        model = self.hook.conn.describe_model(ModelName=self.config["ModelName"])
        require_own("model", model["ModelName"], self.config, model)
        artifact = measure(client("s3"), model["PrimaryContainer"]["ModelDataUrl"])
        return {"name": model["ModelName"], "arn": model["ModelArn"], "artifact": artifact}


class EndpointConfigOperator(SageMakerEndpointConfigOperator):
    """CreateEndpointConfig, or the configuration an earlier attempt made under this name."""

    def execute(self, context: Context) -> dict[str, Any]:
        self.preprocess_config()
        create_once(self.hook.conn.create_endpoint_config, self.config)
        config = self.hook.conn.describe_endpoint_config(EndpointConfigName=self.config["EndpointConfigName"])
        require_own("endpoint config", config["EndpointConfigName"], self.config, config)
        return {"name": config["EndpointConfigName"], "arn": config["EndpointConfigArn"]}
