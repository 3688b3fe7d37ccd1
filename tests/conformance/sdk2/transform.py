"""Scores a JSON lines file with batch transform."""

import json
import tarfile
from pathlib import Path

import sagemaker
from sagemaker.pytorch import PyTorchModel

session = sagemaker.Session()
bucket = session.default_bucket()
Path("slope.json").write_text("3.0")
with tarfile.open("model.tar.gz", "w:gz") as tar:
    tar.add("slope.json")
Path("xs.jsonl").write_text("[1, 2]\n[10]\n")
model = PyTorchModel(
    model_data=session.upload_data("model.tar.gz", key_prefix="transform/model"),
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    entry_point="inference.py",
    source_dir=str(Path(__file__).parents[1] / "source"),
    framework_version="2.3.0",
    py_version="py311",
)
transformer = model.transformer(
    instance_count=1,
    instance_type="ml.m5.large",
    strategy="SingleRecord",
    assemble_with="Line",
    accept="application/json",
    output_path=f"s3://{bucket}/transform/output",
)
data = session.upload_data("xs.jsonl", key_prefix="transform/input")
transformer.transform(data, content_type="application/json", split_type="Line", wait=True, logs=True)
print(
    "RESULT",
    json.dumps({"status": session.describe_transform_job(transformer._current_job_name)["TransformJobStatus"]}),
)
answers = session.read_s3_file(bucket, "transform/output/xs.jsonl.out")
print("RESULT", json.dumps({"answers": [json.loads(line) for line in answers.splitlines()]}))
