"""Deploys a model that was trained elsewhere."""

import json
import tarfile
from pathlib import Path

import sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.pytorch import PyTorchModel
from sagemaker.serializers import JSONSerializer

session = sagemaker.Session()
Path("slope.json").write_text("4.0")
with tarfile.open("model.tar.gz", "w:gz") as tar:
    tar.add("slope.json")
model_data = session.upload_data("model.tar.gz", key_prefix="trained-elsewhere")

model = PyTorchModel(
    model_data=model_data,
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    entry_point="inference.py",
    source_dir=str(Path(__file__).parents[1] / "source"),
    framework_version="2.3.0",
    py_version="py311",
    sagemaker_session=session,
)
predictor = model.deploy(
    1, "ml.m5.large", serializer=JSONSerializer(), deserializer=JSONDeserializer(), endpoint_name="model-of-elsewhere"
)
status = session.describe_endpoint(predictor.endpoint_name)["EndpointStatus"]
print("RESULT", json.dumps({"status": status}))
try:
    print("RESULT", json.dumps({"prediction": predictor.predict([2.0])}))
finally:
    predictor.delete_endpoint()
    session.sagemaker_client.get_waiter("endpoint_deleted").wait(
        EndpointName=predictor.endpoint_name, WaiterConfig={"Delay": 1, "MaxAttempts": 240}
    )
    left = session.sagemaker_client.list_endpoints(NameContains=predictor.endpoint_name)["Endpoints"]
    print("RESULT", json.dumps({"left": [entry["EndpointName"] for entry in left]}))
