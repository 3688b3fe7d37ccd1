"""Deploys one model to an asynchronous endpoint, and to one that captures what it is asked."""

import json
import tarfile
import time
from pathlib import Path

import sagemaker
from sagemaker.async_inference import AsyncInferenceConfig, WaiterConfig
from sagemaker.deserializers import JSONDeserializer
from sagemaker.model_monitor import DataCaptureConfig
from sagemaker.pytorch import PyTorchModel
from sagemaker.serializers import JSONSerializer

session = sagemaker.Session()
bucket = session.default_bucket()
Path("slope.json").write_text("3.0")
with tarfile.open("model.tar.gz", "w:gz") as tar:
    tar.add("slope.json")
model_data = session.upload_data("model.tar.gz", key_prefix="async/model")


def model():
    return PyTorchModel(
        model_data=model_data,
        role="arn:aws:iam::000000000000:role/SageMakerRole",
        entry_point="inference.py",
        source_dir=str(Path(__file__).parents[1] / "source"),
        framework_version="2.3.0",
        py_version="py311",
        sagemaker_session=session,
    )


formats = {"serializer": JSONSerializer(), "deserializer": JSONDeserializer()}
capturing = model().deploy(
    1,
    "ml.m5.large",
    endpoint_name="capturing",
    wait=False,
    data_capture_config=DataCaptureConfig(
        True,
        sampling_percentage=100,
        destination_s3_uri=f"s3://{bucket}/captured",
        json_content_types=["application/json"],
        sagemaker_session=session,
    ),
    **formats,
)
later = model().deploy(
    1,
    "ml.m5.large",
    endpoint_name="answers-later",
    async_inference_config=AsyncInferenceConfig(output_path=f"s3://{bucket}/async/output"),
    **formats,
)
answer = later.predict_async([2]).get_result(WaiterConfig(max_attempts=120, delay=1))
print("RESULT", json.dumps({"answer": answer}))
later.delete_endpoint()

session.wait_for_endpoint("capturing", poll=1)
capturing.predict([2])
deadline = time.monotonic() + 120
while not (found := session.list_s3_files(bucket, "captured")) and time.monotonic() < deadline:
    time.sleep(1)
line = session.read_s3_file(bucket, found[0]).splitlines()[0]
print("RESULT", json.dumps({"captured": json.loads(line)["captureData"]}))
capturing.delete_endpoint()
