"""smdebug's own readers on what a job wrote: its tensors as a trial, its system metrics as the profiler reads them."""

import json
import time

import boto3
from smdebug.profiler.algorithm_metrics_reader import S3AlgorithmMetricsReader
from smdebug.profiler.system_metrics_reader import S3SystemMetricsReader
from smdebug.trials import create_trial

BUCKET, JOB = "sagemaker-us-east-1-000000000000", "smdebug-readers"
sagemaker = boto3.client("sagemaker")
sagemaker.create_training_job(
    TrainingJobName=JOB,
    RoleArn="arn:aws:iam::000000000000:role/SageMakerRole",
    AlgorithmSpecification={
        "TrainingImage": "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.0.1-cpu-py310",
        "TrainingInputMode": "File",
    },
    HyperParameters={
        "sagemaker_program": "train_torch.py",
        "sagemaker_submit_directory": f"s3://{BUCKET}/work/sourcedir.tar.gz",
    },
    OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/smdebug"},
    ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    StoppingCondition={"MaxRuntimeInSeconds": 300},
    DebugHookConfig={
        "S3OutputPath": f"s3://{BUCKET}/smdebug",
        "CollectionConfigurations": [
            {"CollectionName": "losses", "CollectionParameters": {"save_interval": "4"}},
            {"CollectionName": "weights", "CollectionParameters": {"save_interval": "20"}},
        ],
    },
    ProfilerConfig={"S3OutputPath": f"s3://{BUCKET}/smdebug", "ProfilingIntervalInMilliseconds": 100},
)
while (job := sagemaker.describe_training_job(TrainingJobName=JOB))["TrainingJobStatus"] == "InProgress":
    time.sleep(0.5)
print("RESULT", json.dumps({"status": job["TrainingJobStatus"], "reason": job.get("FailureReason")}))

trial = create_trial(f"s3://{BUCKET}/smdebug/{JOB}/debug-output")
losses = trial.tensor_names(collection="losses")
print("RESULT", json.dumps({"losses": losses, "steps": trial.steps(), "ended": trial.loaded_all_steps}))
first, last = (
    float(trial.tensor(losses[0]).value(step)) for step in (trial.tensor(losses[0]).steps()[i] for i in (0, -1))
)
print("RESULT", json.dumps({"first": first, "last": last}))

reader = S3SystemMetricsReader(f"s3://{BUCKET}/smdebug/{JOB}/profiler-output")
reader.refresh_event_file_list()
events = reader.get_events(0, time.time() * 1_000_000)
print(
    "RESULT", json.dumps({"system": sorted({event.dimension or event.name for event in events}), "count": len(events)})
)
framework = S3AlgorithmMetricsReader(f"s3://{BUCKET}/smdebug/{JOB}/profiler-output")
framework.refresh_event_file_list()
timed = framework.get_events(0, time.time() * 1_000_000)
print("RESULT", json.dumps({"framework": sorted({event.event_phase for event in timed})}))
