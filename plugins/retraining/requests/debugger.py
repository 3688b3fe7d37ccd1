"""What a training and its watchers are sent, in the modes managed and self_hosted.

managed: the four Debugger members of CreateTrainingJob, shaped as SageMaker's SDK writes them. self_hosted: two
hyperparameters that ml/train.py heeds, and a processing job that evaluates the same rules on what the training left in
its output.tar.gz, into the layout that managed rules have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.account_rules import AccountRules
from retraining.container_images import Images
from retraining.debugger.mode import HOOK_HYPERPARAMETER, PROFILE_HYPERPARAMETER
from retraining.plan import Plan
from retraining.recipe.hyperparameters import Value, as_text
from retraining.requests.account import as_account_asks

Request = dict[str, Any]

PROFILER_REPORT = "ProfilerReport"
PROFILING_INTERVAL_MS = 500
EVALUATION_LIMIT_SECONDS = 1800

# The paths are arguments of their own: a server that cannot mount /opt/ml moves them.
UNPACK_AND_JUDGE = (
    'set -e; code=$(mktemp -d); tar -xzf "$1" -C "$code"; shift; exec python "$code"/evaluate_rules.py "$@"'
)
INPUT = "/opt/ml/processing/input"
OUTPUT = "/opt/ml/processing/output/rule"


def managed_members(plan: Plan, images: Images, output: str, training_job: str) -> Request:
    """DebugHookConfig, DebugRuleConfigurations, ProfilerConfig and ProfilerRuleConfigurations, as far as wanted."""
    debugger = plan.recipe.debugger
    members: Request = {}
    if debugger.rules:
        members["DebugHookConfig"] = {
            "S3OutputPath": output,
            "CollectionConfigurations": debugger.saved_collections(),
        }
        members["DebugRuleConfigurations"] = [
            {
                "RuleConfigurationName": rule,
                "RuleEvaluatorImage": images.rules,
                "RuleParameters": _parameters(plan, rule)
                | ({"action_json": stop_training(training_job)} if rule in debugger.stop_training else {}),
            }
            for rule in debugger.rules
        ]
    if debugger.profiler:
        members["ProfilerConfig"] = {
            "S3OutputPath": output,
            "DisableProfiler": False,
            "ProfilingIntervalInMilliseconds": PROFILING_INTERVAL_MS,
        }
        members["ProfilerRuleConfigurations"] = [
            {
                "RuleConfigurationName": PROFILER_REPORT,
                "RuleEvaluatorImage": images.rules,
                "RuleParameters": _parameters(plan, PROFILER_REPORT),
            }
        ]
    return members


def stop_training(training_job: str) -> str:
    """The SDK's built-in action: StopTrainingJob for the one job in progress whose name begins so.

    With backslashes before its quotes, as smdebug_rulesconfig writes it and the rule containers expect it.
    """
    return f'{{\\"name\\": \\"stoptraining\\", \\"training_job_prefix\\": \\"{training_job}\\"}}'


def self_hosted_hyperparameters(plan: Plan) -> dict[str, str]:
    """What tells ml/train.py to save tensors and to profile itself; the same tensors as in a managed training."""
    debugger = plan.recipe.debugger
    given = {HOOK_HYPERPARAMETER: debugger.hook_config()} if debugger.rules else {}
    return given | ({PROFILE_HYPERPARAMETER: "true"} if debugger.profiler else {})


def rule_names(plan: Plan) -> dict[str, list[str]]:
    """The rules of a watched training, by the list of DescribeTrainingJob that tells their statuses when managed."""
    debugger = plan.recipe.debugger
    return {
        "DebugRuleEvaluationStatuses": list(debugger.rules),
        "ProfilerRuleEvaluationStatuses": [PROFILER_REPORT] if debugger.profiler else [],
    }


def evaluation_documents(plan: Plan, training_job: Mapping[str, Any]) -> dict[str, Any]:
    """What the evaluation reads beside tensors, by its URI. `training_job`: the answer of DescribeTrainingJob."""
    moments = ("CreationTime", "TrainingStartTime", "TrainingEndTime")
    job = {
        "TrainingJobName": training_job["TrainingJobName"],
        **{name: training_job[name].timestamp() if training_job.get(name) else None for name in moments},
        "HyperParameters": training_job.get("HyperParameters", {}),
        "InstanceType": training_job["ResourceConfig"].get("InstanceType", ""),
    }
    rules = [
        {"RuleConfigurationName": rule, "RuleParameters": _parameters(plan, rule)}
        for names in rule_names(plan).values()
        for rule in names
    ]
    return {plan.uri(f"{plan.evaluation_key}/{name}.json"): what for name, what in (("rules", rules), ("job", job))}


def rule_output_key(plan: Plan, training_job: str) -> str:
    """Where managed rules of this job would leave their output; ours do too."""
    return f"{plan.run_key}/training/{training_job}/rule-output"


@as_account_asks(AccountRules.of_processing)
def evaluation_job(plan: Plan, images: Images, source_uri: str, training_job: str) -> Request:
    """CreateProcessingJob: the rules of a self-hosted training, evaluated by the training's own code."""
    inputs = {
        "code": source_uri,
        "output": plan.uri(f"{plan.run_key}/training/{training_job}/output/output.tar.gz"),
        "rules": plan.uri(f"{plan.evaluation_key}/"),
    }
    return {
        "ProcessingJobName": plan.evaluation_job,
        "RoleArn": plan.environment.role_arn,
        "AppSpecification": {
            "ImageUri": images.evaluation,
            "ContainerEntrypoint": ["/bin/sh", "-c", UNPACK_AND_JUDGE, "evaluate_rules"],
            "ContainerArguments": [
                f"{INPUT}/code/sourcedir.tar.gz",
                *("--training-output", f"{INPUT}/output/output.tar.gz"),
                *("--rules", f"{INPUT}/rules/rules.json"),
                *("--job", f"{INPUT}/rules/job.json"),
                *("--output", OUTPUT),
            ],
        },
        "ProcessingInputs": [_input(name, uri) for name, uri in inputs.items()],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "rule",
                    "S3Output": {
                        "S3Uri": plan.uri(rule_output_key(plan, training_job)),
                        "LocalPath": OUTPUT,
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": plan.recipe.debugger.instance_type,
                "VolumeSizeInGB": plan.recipe.training.volume_size_gb,
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": EVALUATION_LIMIT_SECONDS},
        "Environment": {"PYTHONUNBUFFERED": "1"},
        "Tags": plan.tags,
    }


# --- parts ----------------------------------------------------------------------------------------------------------


def _parameters(plan: Plan, rule: str) -> dict[str, str]:
    given: Mapping[str, Value] = plan.recipe.debugger.rule_parameters.get(rule, {})
    return {"rule_to_invoke": rule} | {name: as_text(value) for name, value in given.items()}


def _input(name: str, uri: str) -> Request:
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": uri,
            "LocalPath": f"{INPUT}/{name}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
        },
    }
