"""Tunes a script and lets SageMaker choose ranges, with all that a framework's estimator has beside them."""

import json
from pathlib import Path

import sagemaker
from sagemaker.pytorch import PyTorch
from sagemaker.tuner import ContinuousParameter, HyperparameterTuner

session = sagemaker.Session()
Path("points.csv").write_text("1,2\n2,4\n")
data = session.upload_data("points.csv", key_prefix="autotune/train")
estimator = PyTorch(
    entry_point="train.py",
    source_dir=str(Path(__file__).parents[1] / "source"),
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    framework_version="2.3.0",
    py_version="py311",
    instance_count=1,
    instance_type="ml.m5.large",
    hyperparameters={"epochs": 2, "optimizer": "adam"},
)
tuner = HyperparameterTuner(
    estimator,
    objective_metric_name="train:loss",
    objective_type="Minimize",
    hyperparameter_ranges={"learning-rate": ContinuousParameter(0.001, 0.2)},
    metric_definitions=[{"Name": "train:loss", "Regex": "train:loss=([0-9.]+)"}],
    max_jobs=1,
    base_tuning_job_name="sdk2-autotune",
    autotune=True,
)
tuner.fit({"train": data})
(job,) = tuner.analytics().training_job_summaries()
status = tuner.describe()["HyperParameterTuningJobStatus"]
print("RESULT", json.dumps({"status": status, "tuned": sorted(job["TunedHyperParameters"])}))
