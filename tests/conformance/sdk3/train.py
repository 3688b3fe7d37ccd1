"""Trains with ModelTrainer: the source folder, an input and hyperparameters; waits with the logs."""

import json
import logging
from pathlib import Path

from sagemaker.core.helper.session_helper import Session
from sagemaker.core.shapes import MetricDefinition
from sagemaker.core.training.configs import Compute, InputData, SourceCode
from sagemaker.train import ModelTrainer

logging.basicConfig(level=logging.INFO)  # the logs of a job are log records of the SDK
logging.getLogger("sagemaker").setLevel(logging.INFO)
session = Session()
Path("points.csv").write_text("1,3\n2,6\n3,9\n")
data = session.upload_data("points.csv", key_prefix="v3/train")
trainer = ModelTrainer(
    training_image="763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14-cpu-amzn2023-sagemaker",
    source_code=SourceCode(source_dir=str(Path(__file__).parents[1] / "source"), entry_script="train_v3.py"),
    compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=10),
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    hyperparameters={"learning-rate": 0.05, "epochs": 5},
    base_job_name="v3",
).with_metric_definitions([MetricDefinition(name="train:loss", regex="train:loss=([0-9.]+)")])
trainer.train(
    input_data_config=[InputData(channel_name="train", data_source=data.rpartition("/")[0])], wait=True, logs=True
)
job = trainer._latest_training_job.refresh()
print("RESULT", json.dumps({"status": job.training_job_status, "model": job.model_artifacts.s3_model_artifacts}))
found = {metric.metric_name: metric.value for metric in job.final_metric_data_list or []}
print("RESULT", json.dumps({"metrics": found}))
