"""Trains, deploys the estimator, asks the endpoint, and deletes it."""

import json
from pathlib import Path

import sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.pytorch import PyTorch
from sagemaker.serializers import JSONSerializer

session = sagemaker.Session()
Path("points.csv").write_text("1,2\n2,4\n")
data = session.upload_data("points.csv", key_prefix="deploy/train")
estimator = PyTorch(
    entry_point="train.py",
    source_dir=str(Path(__file__).parents[1] / "source"),
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    framework_version="2.3.0",
    py_version="py311",
    instance_count=1,
    instance_type="ml.m5.large",
    hyperparameters={"epochs": 20},
)
estimator.fit({"train": data}, logs=False)

predictor = estimator.deploy(
    initial_instance_count=1,
    instance_type="ml.m5.large",
    entry_point="inference.py",
    source_dir=str(Path(__file__).parents[1] / "source"),
    serializer=JSONSerializer(),
    deserializer=JSONDeserializer(),
)
status = session.describe_endpoint(predictor.endpoint_name)["EndpointStatus"]
print("RESULT", json.dumps({"status": status, "endpoint": predictor.endpoint_name}))
print("RESULT", json.dumps({"prediction": predictor.predict([1.0, 10.0])}))

predictor.delete_model()
predictor.delete_endpoint()
