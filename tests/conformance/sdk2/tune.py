"""Tunes a script, and looks at the result as data frames."""

import json
from pathlib import Path

import sagemaker
from sagemaker.pytorch import PyTorch
from sagemaker.tuner import CategoricalParameter, ContinuousParameter, HyperparameterTuner, IntegerParameter

session = sagemaker.Session()
Path("points.csv").write_text("1,2\n2,4\n")
data = session.upload_data("points.csv", key_prefix="tune/train")
metrics = [{"Name": "train:loss", "Regex": "train:loss=([0-9.]+)"}]
estimator = PyTorch(
    entry_point="train.py",
    source_dir=str(Path(__file__).parents[1] / "source"),
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    framework_version="2.3.0",
    py_version="py311",
    instance_count=1,
    instance_type="ml.m5.large",
)
tuner = HyperparameterTuner(
    estimator,
    objective_metric_name="train:loss",
    objective_type="Minimize",
    hyperparameter_ranges={
        "learning-rate": ContinuousParameter(0.001, 0.2, scaling_type="Logarithmic"),
        "epochs": IntegerParameter(1, 4),
        "optimizer": CategoricalParameter(["sgd", "adam"]),
    },
    metric_definitions=metrics,
    max_jobs=4,
    max_parallel_jobs=2,
    base_tuning_job_name="sdk2-tune",
)
tuner.fit({"train": data})
best = tuner.best_training_job()
print("RESULT", json.dumps({"status": tuner.describe()["HyperParameterTuningJobStatus"], "best": best}))

frame = tuner.analytics().dataframe()
print("RESULT", json.dumps({"jobs": sorted(frame.columns), "losses": frame["FinalObjectiveValue"].tolist()}))
print(
    "RESULT", json.dumps({"best_is_least": frame.set_index("TrainingJobName")["FinalObjectiveValue"].idxmin() == best})
)
print("RESULT", json.dumps({"best_estimator": tuner.best_estimator().model_data}))

attached = HyperparameterTuner.attach(tuner.latest_tuning_job.name)
losses = attached.analytics().dataframe()["FinalObjectiveValue"].tolist()
print("RESULT", json.dumps({"attached_best": attached.best_training_job(), "attached_losses": losses}))
