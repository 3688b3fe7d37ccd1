"""Trains with Debugger rules, a hook and the profiler, all as the SDK's arguments; then deploys the model."""

import json
import time
from pathlib import Path

import sagemaker
from sagemaker.debugger import CollectionConfig, DebuggerHookConfig, ProfilerConfig, ProfilerRule, Rule, rule_configs
from sagemaker.deserializers import JSONDeserializer
from sagemaker.pytorch import PyTorch
from sagemaker.serializers import JSONSerializer

session = sagemaker.Session()
bucket = session.default_bucket()
estimator = PyTorch(
    entry_point="train_torch.py",
    source_dir=str(Path(__file__).parents[1] / "source"),
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    framework_version="2.0.1",
    py_version="py310",
    instance_count=1,
    instance_type="ml.m5.large",
    metric_definitions=[{"Name": "train:loss", "Regex": "train:loss=([0-9.]+)"}],
    rules=[
        Rule.sagemaker(
            rule_configs.loss_not_decreasing(),
            rule_parameters={"num_steps": "10"},
            collections_to_save=[CollectionConfig("losses", {"save_interval": "2"})],
        ),
        Rule.sagemaker(
            rule_configs.vanishing_gradient(),
            collections_to_save=[CollectionConfig("gradients", {"save_interval": "10"})],
        ),
        ProfilerRule.sagemaker(rule_configs.ProfilerReport()),
    ],
    debugger_hook_config=DebuggerHookConfig(
        s3_output_path=f"s3://{bucket}/debugger",
        collection_configs=[CollectionConfig("biases", {"save_interval": "20"})],
    ),
    profiler_config=ProfilerConfig(s3_output_path=f"s3://{bucket}/debugger", system_monitor_interval_millis=100),
)
estimator.fit(logs=False)
job = estimator.latest_training_job
print("RESULT", json.dumps({"losses": [m["Value"] for m in job.describe()["FinalMetricDataList"]]}))
print("RESULT", json.dumps({"tensors": estimator.latest_job_debugger_artifacts_path()}))
print("RESULT", json.dumps({"profile": estimator.latest_job_profiler_artifacts_path()}))

deadline = time.monotonic() + 240
while time.monotonic() < deadline:
    rules = job.rule_job_summary()
    if all(rule["RuleEvaluationStatus"] not in ("InProgress", "Stopping") for rule in rules):
        break
    time.sleep(1)
found = {rule["RuleConfigurationName"]: rule["RuleEvaluationStatus"] for rule in rules}
print("RESULT", json.dumps({"rules": found, "details": [rule.get("StatusDetails") for rule in rules]}))

predictor = estimator.deploy(
    1,
    "ml.m5.large",
    entry_point="inference_torch.py",
    serializer=JSONSerializer(),
    deserializer=JSONDeserializer(),
)
scores = predictor.predict([[2.0, 0.0, 0.0, 0.0], [-2.0, 0.0, 0.0, 0.0]])
predictor.delete_endpoint()
print("RESULT", json.dumps({"classes": [row.index(max(row)) for row in scores]}))
