"""Trains on two instances with torchrun, the way the SDK asks for it."""

import json
from pathlib import Path

from sagemaker.pytorch import PyTorch

estimator = PyTorch(
    entry_point="train_ddp.py",
    source_dir=str(Path(__file__).parents[1] / "source"),
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    image_uri="763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.0.1-cpu-py310",
    framework_version="2.0.1",
    py_version="py310",
    instance_count=2,
    instance_type="ml.m5.large",
    distribution={"torch_distributed": {"enabled": True}},
    metric_definitions=[{"Name": "sum", "Regex": "sum over the ranks: ([0-9.]+)"}],
    debugger_hook_config=False,
)
estimator.fit(logs=False)
job = estimator.latest_training_job.describe()
print("RESULT", json.dumps({"sum": [metric["Value"] for metric in job["FinalMetricDataList"]]}))
logs = estimator.sagemaker_session.boto_session.client("logs").describe_log_streams(
    logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=estimator.latest_training_job.name
)
print("RESULT", json.dumps({"hosts": sorted(s["logStreamName"].split("/")[1][:6] for s in logs["logStreams"])}))
