"""Trains a PyTorch estimator, waits with all logs, and reads back what a user reads back."""

import json
import tarfile
from pathlib import Path

import sagemaker
from sagemaker.pytorch import PyTorch

session = sagemaker.Session()
bucket = session.default_bucket()
Path("points.csv").write_text("1,3\n2,6\n3,9\n")
data = session.upload_data("points.csv", key_prefix="line/train")

estimator = PyTorch(
    entry_point="train.py",
    source_dir=str(Path(__file__).parents[1] / "source"),
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    framework_version="2.3.0",
    py_version="py311",
    instance_count=1,
    instance_type="ml.m5.large",
    hyperparameters={"learning-rate": 0.05, "epochs": 5, "optimizer": "sgd"},
    metric_definitions=[{"Name": "train:loss", "Regex": "train:loss=([0-9.]+)"}],
    output_path=f"s3://{bucket}/line/output",
    sagemaker_session=session,
)
estimator.fit({"train": data.rpartition("/")[0]}, wait=True, logs="All")
job = estimator.latest_training_job.describe()
print("RESULT", json.dumps({"fit": job["TrainingJobStatus"], "model_data": estimator.model_data}))
print("RESULT", json.dumps({"metrics": {m["MetricName"]: m["Value"] for m in job.get("FinalMetricDataList", [])}}))

attached = PyTorch.attach(job["TrainingJobName"], sagemaker_session=session)
print("RESULT", json.dumps({"attached": attached.model_data, "attached_hyperparameters": attached.hyperparameters()}))

session.download_data(".", bucket, f"line/output/{job['TrainingJobName']}/output/output.tar.gz")
with tarfile.open("output.tar.gz") as tar:
    print("RESULT", json.dumps({"seen": json.load(tar.extractfile("seen.json"))}))
