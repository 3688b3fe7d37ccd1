"""Tunes a ModelTrainer."""

import json
from pathlib import Path

from sagemaker.core.helper.session_helper import Session
from sagemaker.core.parameter import ContinuousParameter
from sagemaker.core.training.configs import Compute, InputData, SourceCode
from sagemaker.train import ModelTrainer
from sagemaker.train.tuner import HyperparameterTuner

session = Session()
Path("points.csv").write_text("1,3\n2,6\n3,9\n")
data = session.upload_data("points.csv", key_prefix="v3-tune/train")
trainer = ModelTrainer(
    training_image="763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14-cpu-amzn2023-sagemaker",
    source_code=SourceCode(source_dir=str(Path(__file__).parents[1] / "source"), entry_script="train_v3.py"),
    compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=10),
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    hyperparameters={"epochs": 3},
    base_job_name="v3-tune",
)
tuner = HyperparameterTuner(
    model_trainer=trainer,
    objective_metric_name="train:loss",
    objective_type="Minimize",
    hyperparameter_ranges={"learning-rate": ContinuousParameter(0.001, 0.05)},
    metric_definitions=[{"Name": "train:loss", "Regex": "train:loss=([0-9.]+)"}],
    max_jobs=2,
    max_parallel_jobs=2,
)
tuner.tune(inputs=[InputData(channel_name="train", data_source=data.rpartition("/")[0])], wait=True)
job = tuner.describe().refresh()
print("RESULT", json.dumps({"status": job.hyper_parameter_tuning_job_status, "best": tuner.best_training_job()}))
best = job.best_training_job
print("RESULT", json.dumps({"objective": best.final_hyper_parameter_tuning_job_objective_metric.value}))
