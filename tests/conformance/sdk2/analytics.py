"""Draws a finished job's metric over time (TrainingJobAnalytics reads it from CloudWatch)."""

import json
import time
from pathlib import Path

import sagemaker
from sagemaker.analytics import TrainingJobAnalytics
from sagemaker.pytorch import PyTorch

session = sagemaker.Session()
Path("points.csv").write_text("1,2\n2,4\n")
data = session.upload_data("points.csv", key_prefix="analytics/train")
estimator = PyTorch(
    entry_point="train.py",
    source_dir=str(Path(__file__).parents[1] / "source"),
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    framework_version="2.3.0",
    py_version="py311",
    instance_count=1,
    instance_type="ml.m5.large",
    hyperparameters={"epochs": 3},
    metric_definitions=[{"Name": "train:loss", "Regex": "train:loss=([0-9.]+)"}],
)
estimator.fit({"train": data}, logs=False)
time.sleep(1)
frame = TrainingJobAnalytics(estimator.latest_training_job.name, ["train:loss"]).dataframe()
print("RESULT", json.dumps({"metrics": frame["metric_name"].unique().tolist(), "points": len(frame)}))
