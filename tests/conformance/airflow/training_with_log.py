"""Airflow's stock training operator as it is by default: it waits in the worker and prints the job's log."""

import json

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator

BUCKET = "sagemaker-us-east-1-000000000000"
operator = SageMakerTrainingOperator(
    task_id="train",
    config={
        "TrainingJobName": "airflow-with-log",
        "RoleArn": "arn:aws:iam::000000000000:role/SageMakerRole",
        "AlgorithmSpecification": {
            "TrainingImage": "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14-cpu-amzn2023-sagemaker",
            "TrainingInputMode": "File",
        },
        "HyperParameters": {
            "epochs": "5",
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": f"s3://{BUCKET}/work/sourcedir.tar.gz",
        },
        "InputDataConfig": [
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/work/train/"}},
            }
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/work/output"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 300},
    },
    check_interval=1,
)
answer = operator.execute({})
print("RESULT", json.dumps({"status": answer["Training"]["TrainingJobStatus"]}))
