"""Runs a script as a processing job, in the three ways the SDK has."""

import json
import sys
from pathlib import Path

import sagemaker
from sagemaker.processing import FrameworkProcessor, ProcessingInput, ProcessingOutput, ScriptProcessor
from sagemaker.pytorch import PyTorch
from sagemaker.sklearn.processing import SKLearnProcessor

session = sagemaker.Session()
bucket = session.default_bucket()
source = Path(__file__).parents[1] / "source"
Path("rows.csv").write_text("a\nb\nc\n")
data = session.upload_data("rows.csv", key_prefix="processing/input")
common = {
    "role": "arn:aws:iam::000000000000:role/SageMakerRole",
    "instance_count": 1,
    "instance_type": "ml.m5.large",
    "env": {"MODE": "counting"},
}
processors = {
    "script": ScriptProcessor(
        image_uri="111122223333.dkr.ecr.us-east-1.amazonaws.com/own:1", command=["python3"], **common
    ),
    "sklearn": SKLearnProcessor(framework_version="1.2-1", **common),
    "framework": FrameworkProcessor(PyTorch, framework_version="2.3.0", py_version="py311", **common),
}
failed = False
for name, processor in processors.items():
    where = (
        {"source_dir": str(source), "code": "process.py"}
        if name == "framework"
        else {"code": str(source / "process.py")}
    )
    try:
        processor.run(
            inputs=[ProcessingInput(source=data, destination="/opt/ml/processing/input")],
            outputs=[
                ProcessingOutput(source="/opt/ml/processing/output", destination=f"s3://{bucket}/processing/{name}")
            ],
            arguments=["--name", name],
            wait=True,
            logs=True,
            **where,
        )
        print("RESULT", json.dumps({name: json.loads(session.read_s3_file(bucket, f"processing/{name}/seen.json"))}))
    except Exception as error:
        failed = True
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
sys.exit(failed)
