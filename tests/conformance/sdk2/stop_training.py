"""A rule with the SDK's built-in action StopTraining ends a training that learns nothing."""

import json
import time
from pathlib import Path

import sagemaker
from sagemaker.debugger import CollectionConfig, DebuggerHookConfig, Rule, rule_configs
from sagemaker.pytorch import PyTorch

session = sagemaker.Session()
estimator = PyTorch(
    entry_point="train_stuck.py",
    source_dir=str(Path(__file__).parents[1] / "source"),
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    framework_version="2.0.1",
    py_version="py310",
    instance_count=1,
    instance_type="ml.m5.large",
    max_run=600,
    rules=[
        Rule.sagemaker(
            rule_configs.loss_not_decreasing(),
            rule_parameters={"num_steps": "10", "mode": "TRAIN"},
            collections_to_save=[CollectionConfig("losses", {"save_interval": "5"})],
            actions=rule_configs.ActionList(rule_configs.StopTraining(), rule_configs.Email("someone@example.com")),
        )
    ],
    debugger_hook_config=DebuggerHookConfig(s3_output_path=f"s3://{session.default_bucket()}/stop-training"),
)
estimator.fit(wait=False)
job = estimator.latest_training_job
deadline = time.monotonic() + 240
while (described := job.describe())["TrainingJobStatus"] in ("InProgress", "Stopping"):
    if time.monotonic() > deadline:
        break
    time.sleep(1)
(rule,) = job.rule_job_summary()
said = [one["StatusMessage"] for one in described["SecondaryStatusTransitions"] if one["Status"] == "Stopping"]
print("RESULT", json.dumps({"status": described["TrainingJobStatus"], "said": said}))
print("RESULT", json.dumps({"rule": rule["RuleEvaluationStatus"], "details": rule.get("StatusDetails")}))
