"""Trains on spot instances with checkpoints, then goes on from the checkpoint in a second job."""

import json
import time
from pathlib import Path

import sagemaker
from sagemaker.pytorch import PyTorch

session = sagemaker.Session()
bucket = session.default_bucket()
estimators = []
for _ in range(2):
    estimator = PyTorch(
        entry_point="count.py",
        source_dir=str(Path(__file__).parents[1] / "source"),
        role="arn:aws:iam::000000000000:role/SageMakerRole",
        framework_version="2.3.0",
        py_version="py311",
        instance_count=1,
        instance_type="ml.m5.large",
        use_spot_instances=True,
        max_run=300,
        max_wait=600,
        checkpoint_s3_uri=f"s3://{bucket}/spot/checkpoints-{int(time.time())}"
        if not estimators
        else estimators[0].checkpoint_s3_uri,
        metric_definitions=[{"Name": "epochs", "Regex": "epochs so far: ([0-9]+)"}],
    )
    estimator.fit(logs=False)
    estimators.append(estimator)
jobs = [estimator.latest_training_job.describe() for estimator in estimators]
print("RESULT", json.dumps({"spot": [job["EnableManagedSpotTraining"] for job in jobs]}))
print("RESULT", json.dumps({"billed": [job["BillableTimeInSeconds"] <= job["TrainingTimeInSeconds"] for job in jobs]}))
print("RESULT", json.dumps({"epochs": [job["FinalMetricDataList"][0]["Value"] for job in jobs]}))
