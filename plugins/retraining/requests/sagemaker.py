"""A plan to the requests of the SageMaker API, written as AWS documents them.

Pure: no defaults of our own beyond what is visible here. `tests/contract/test_requests.py` checks each request against
botocore's service model, including the enums, patterns and limits that botocore itself does not check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.account_rules import AccountRules
from retraining.container_images import Images
from retraining.plan import Plan
from retraining.recipe.deployment import Deployment
from retraining.recipe.hyperparameters import as_text
from retraining.recipe.machines import has_gpu
from retraining.requests.account import as_account_asks
from retraining.requests.debugger import managed_members, self_hosted_hyperparameters
from retraining.tuning.warm_start import config as warm_start_config

Request = dict[str, Any]

SCORES = ("loss", "accuracy", "macro_f1", "precision", "recall")
# The metric lines of ml/train.py. The last line repeats the best epoch, and SageMaker keeps the last match as final.
METRIC_NAMES = (
    *(f"{phase}:{score}" for phase in ("train", "validation") for score in SCORES),
    "validation:f1",  # printed when there are two classes
)
METRIC_DEFINITIONS = [{"Name": name, "Regex": f"{name}=([0-9.eE+-]+)"} for name in METRIC_NAMES]

# What ml/pictures/picture.py reads.
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff")
SERVING_ENVIRONMENT = {
    "SAGEMAKER_PROGRAM": "inference.py",
    "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
    # What AWS's Ray Serve containers start; others do not read it.
    "SM_RAYSERVE_APP": "ray_app:app",
}
# AWS's Ray Serve containers need newer NVIDIA drivers than its machines have by default.
GPU_AMI, BATCH_GPU_AMI = "al2-ami-sagemaker-inference-gpu-3-1", "al2-ami-sagemaker-batch-gpu-535"


@as_account_asks(AccountRules.of_tuning)
def tuning_job(
    plan: Plan, images: Images, fingerprint: str, source_uri: str, warm_start: Mapping[str, Any] | None = None
) -> Request:
    """CreateHyperParameterTuningJob: the search. Its trials cannot carry Debugger settings (SageMaker's rule).

    `warm_start` is what `warm_start.choose` decided, as a dict.
    """
    tuning = plan.recipe.tuning
    # The epoch that a trial keeps is best in what the trials are compared by.
    chosen = {"objective": tuning.objective} | plan.recipe.hyperparameters
    static = {name: as_text(value) for name, value in chosen.items()}
    return {
        "HyperParameterTuningJobName": plan.tuning_job,
        "HyperParameterTuningJobConfig": {
            "Strategy": tuning.strategy,
            "HyperParameterTuningJobObjective": {"Type": tuning.goal, "MetricName": tuning.objective},
            "ResourceLimits": {
                "MaxNumberOfTrainingJobs": tuning.max_jobs,
                "MaxParallelTrainingJobs": tuning.max_parallel_jobs,
                "MaxRuntimeInSeconds": plan.tuning_limit_seconds,
            },
            "ParameterRanges": _parameter_ranges(plan),
            "TrainingJobEarlyStoppingType": tuning.early_stopping,
            "RandomSeed": int(plan.recipe.hyperparameters.get("seed", 0)),
        },
        "TrainingJobDefinition": {
            "StaticHyperParameters": static | _script_mode(plan, source_uri),
            "AlgorithmSpecification": _algorithm(images),
            "RoleArn": plan.environment.role_arn,
            "InputDataConfig": _channels(plan, fingerprint),
            "OutputDataConfig": {"S3OutputPath": plan.uri(f"{plan.run_key}/tuning")},
            **_machine(plan),
            "Environment": _environment(plan, run_name=None),
        },
        **warm_start_config(warm_start),
        "Tags": plan.tags,
    }


@as_account_asks(AccountRules.of_training)
def training_job(
    plan: Plan, images: Images, fingerprint: str, source_uri: str, hyperparameters: Mapping[str, str]
) -> Request:
    """CreateTrainingJob: the final model, with the best hyperparameters, watched as the recipe's debugger.mode says.

    A mode of auto counts as managed: it is decided elsewhere whether it has to be something else. The container is that
    of the trials, also where Debugger was refused after them: what they found holds on their torch.
    """
    mode = plan.recipe.debugger.mode
    output = plan.uri(f"{plan.run_key}/training")
    request: Request = {
        "TrainingJobName": plan.training_job,
        "RoleArn": plan.environment.role_arn,
        "AlgorithmSpecification": _algorithm(images),
        "HyperParameters": dict(hyperparameters) | _script_mode(plan, source_uri),
        "InputDataConfig": _channels(plan, fingerprint),
        "OutputDataConfig": {"S3OutputPath": output},
        **_machine(plan),
        "Environment": _environment(plan, plan.run_name),
        "Tags": plan.tags,
    }
    if plan.recipe.training.keep_alive_seconds:
        # Of this job alone: SageMaker refuses a warm pool for the trials of a tuning job.
        request["ResourceConfig"]["KeepAlivePeriodInSeconds"] = plan.recipe.training.keep_alive_seconds
    if mode in ("auto", "managed"):
        request |= managed_members(plan, images, output, plan.training_job)
    if mode == "self_hosted":
        request["HyperParameters"] |= self_hosted_hyperparameters(plan)
    return request


@as_account_asks(AccountRules.of_model)
def model(plan: Plan, name: str, image: str, model_data_url: str) -> Request:
    """CreateModel: the artifact with its own inference code, in the serving image. Its answers tell its name."""
    container = serving_container(plan, image, model_data_url)
    container["Environment"] |= {"MODEL_CUSTOM_ATTRIBUTES": custom_attributes(name)}
    return {
        "ModelName": name,
        "ExecutionRoleArn": plan.environment.role_arn,
        "PrimaryContainer": container,
        "Tags": plan.tags,
    }


def custom_attributes(model: str) -> str:
    """CustomAttributes of InvokeEndpoint's answers, by which a caller knows the Model that answered."""
    return f"model={model}"


def serving_container(plan: Plan, image: str, model_data_url: str) -> Request:
    return {
        "Image": image,
        "ModelDataUrl": model_data_url,
        "Environment": SERVING_ENVIRONMENT | {"SAGEMAKER_REGION": plan.environment.region},
    }


@as_account_asks(AccountRules.of_transform)
def transform_job(plan: Plan, name: str, model_name: str, manifest_key: str) -> Request:
    """CreateTransformJob: the images of a manifest through the serving code, one request per image."""
    return {
        "TransformJobName": name,
        "ModelName": model_name,
        "BatchStrategy": "SingleRecord",
        "MaxConcurrentTransforms": 4,
        "MaxPayloadInMB": 25,
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": 120, "InvocationsMaxRetries": 1},
        "TransformInput": {
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "ManifestFile",
                    "S3Uri": plan.uri(manifest_key),
                }
            },
            # One type for the whole job, JPEG and PNG alike: the inference code looks at the first bytes.
            "ContentType": "application/x-image",
            "SplitType": "None",
            "CompressionType": "None",
        },
        "TransformOutput": {
            "S3OutputPath": plan.uri(plan.scoring_key(name)),
            "Accept": "application/json",
            "AssembleWith": "None",
        },
        "TransformResources": {
            "InstanceType": plan.scoring_instance_type,
            "InstanceCount": 1,
            **({"TransformAmiVersion": BATCH_GPU_AMI} if has_gpu(plan.scoring_instance_type) else {}),
        },
        "Tags": plan.tags,
    }


@as_account_asks(AccountRules.of_endpoint_config)
def endpoint_config(plan: Plan) -> Request:
    """CreateEndpointConfig: one variant that takes all traffic."""
    return {
        "EndpointConfigName": plan.endpoint_config,
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": plan.model,
                "InstanceType": plan.serving_instance_type,
                "InitialInstanceCount": plan.recipe.serving.instance_count,
                "InitialVariantWeight": 1.0,
                "ContainerStartupHealthCheckTimeoutInSeconds": 600,
                **({"InferenceAmiVersion": GPU_AMI} if has_gpu(plan.serving_instance_type) else {}),
            }
        ],
        **_data_capture(plan),
        "Tags": plan.tags,
    }


def endpoint(plan: Plan, endpoint_config_name: str) -> Request:
    """CreateEndpoint or, with `deployment_config` as DeploymentConfig, UpdateEndpoint."""
    return {"EndpointName": plan.endpoint, "EndpointConfigName": endpoint_config_name}


def deployment_config(deployment: Deployment) -> Request:
    """Of UpdateEndpoint; empty where SageMaker's own default, blue/green all at once, is what the recipe says."""
    if not deployment.guarded:
        return {}
    size = {"Type": "CAPACITY_PERCENT", "Value": deployment.step_percent}
    routing = {"Type": deployment.strategy.upper(), "WaitIntervalInSeconds": deployment.bake} | {
        "all_at_once": {},
        "canary": {"CanarySize": size},
        "linear": {"LinearStepSize": size},
    }[deployment.strategy]
    policy = {
        "TrafficRoutingConfiguration": routing,
        "TerminationWaitInSeconds": deployment.termination_wait_seconds,
        "MaximumExecutionTimeoutInSeconds": deployment.timeout_seconds,
    }
    alarms = [{"AlarmName": name} for name in deployment.alarms]
    return {
        "BlueGreenUpdatePolicy": policy,
        **({"AutoRollbackConfiguration": {"Alarms": alarms}} if alarms else {}),
    }


def model_package_group(plan: Plan) -> Request:
    return {
        "ModelPackageGroupName": plan.model_package_group,
        "ModelPackageGroupDescription": f"Classifiers retrained by the DAG retrain_{plan.recipe.name}",
        **({"Tags": plan.environment.account_rules.tag_list} if plan.environment.account_rules.tags else {}),
    }


def model_package(
    plan: Plan, image: str, model_data_url: str, evaluation_uri: str, training_job_arn: str, facts: Mapping[str, str]
) -> Request:
    """CreateModelPackage: the model with its measurements and where it came from; approved once its release is done.

    The client token is the run's name: registering twice in one run is one version.
    """
    return {
        "ModelPackageGroupName": plan.model_package_group,
        "ModelPackageDescription": f"Run {plan.run_name}",
        "ModelApprovalStatus": "PendingManualApproval",
        "InferenceSpecification": {
            "Containers": [serving_container(plan, image, model_data_url)],
            "SupportedContentTypes": [*IMAGE_TYPES, "application/x-image", "application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
            "SupportedRealtimeInferenceInstanceTypes": [plan.serving_instance_type],
            "SupportedTransformInstanceTypes": [plan.scoring_instance_type],
        },
        "ModelMetrics": {
            "ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": evaluation_uri}},
        },
        "MetadataProperties": {"GeneratedBy": training_job_arn},
        "CustomerMetadataProperties": {"run_name": plan.run_name} | {key: _metadata(facts[key]) for key in facts},
        "Domain": "COMPUTER_VISION",
        "Task": "IMAGE_CLASSIFICATION",
        "ClientToken": plan.run_name,
    }


# --- parts ----------------------------------------------------------------------------------------------------------


def _data_capture(plan: Plan) -> Request:
    """Of CreateEndpointConfig; empty where the recipe keeps no requests."""
    capture = plan.recipe.capture
    if not capture.percent:
        return {}
    config = {
        "EnableCapture": True,
        "InitialSamplingPercentage": capture.percent,
        "DestinationS3Uri": plan.uri(plan.captured_key),
        "CaptureOptions": [{"CaptureMode": mode} for mode in capture.modes],
        # All else is kept as base64.
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
    }
    return {"DataCaptureConfig": config}


def _metadata(fact: str) -> str:
    """As a value of CustomerMetadataProperties: 256 letters, digits, spaces and _.:/=+-@ at most."""
    return "".join(sign if sign.isalnum() or sign in " _.:/=+-@" else "_" for sign in fact)[:256]


def _algorithm(images: Images) -> Request:
    return {
        "TrainingImage": images.training,
        "TrainingInputMode": "File",
        "MetricDefinitions": [dict(definition) for definition in METRIC_DEFINITIONS],
    }


def _script_mode(plan: Plan, source_uri: str) -> dict[str, str]:
    """The hyperparameters that speak to the container, as SageMaker's SDKs write them; the script never sees them."""
    settings = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": source_uri,
        "sagemaker_region": plan.environment.region,
        "sagemaker_container_log_level": "20",
    }
    if plan.recipe.training.distribution == "torchrun":
        settings |= {
            "sagemaker_torch_distributed_enabled": "true",
            "sagemaker_instance_type": plan.training_instance_type,
        }
    return settings


def _environment(plan: Plan, run_name: str | None) -> dict[str, str]:
    return {"PYTHONUNBUFFERED": "1"} | plan.recipe.tracking.environment(plan.recipe.name, run_name)


def _channels(plan: Plan, fingerprint: str) -> list[Request]:
    channels = [
        _images(plan, fingerprint, "train"),
        _images(plan, fingerprint, "validation"),
        # A prefix that matches exactly one object, and lands as <channel>/dataset.json.
        _channel("dataset", "S3Prefix", plan.uri(f"{plan.version_key(fingerprint)}/dataset.json")),
    ]
    if plan.recipe.pretrained is not None:
        channels.append(_channel("pretrained", "S3Prefix", plan.recipe.pretrained))
    return channels


def _images(plan: Plan, fingerprint: str, split: str) -> Request:
    """Single files by their manifest, or shards; by a prefix, for SageMaker streams no manifest (FastFile)."""
    if plan.recipe.sync.shards == "off":
        return _channel(split, "ManifestFile", plan.uri(plan.manifest_key(fingerprint, split)))
    return _channel(split, "S3Prefix", plan.uri(plan.shards_key(fingerprint, split)), plan.recipe.sync.shards)


def _channel(name: str, data_type: str, uri: str, mode: str = "File") -> Request:
    source = {"S3DataType": data_type, "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": mode}


def _machine(plan: Plan) -> Request:
    training = plan.recipe.training
    stopping = {"MaxRuntimeInSeconds": training.max_runtime_seconds}
    checkpoints = {}
    if plan.spot_wait_seconds is not None:
        # An interrupted job starts again on another machine; ml/train.py goes on from what lies here under its name.
        checkpoints = {"CheckpointConfig": {"S3Uri": plan.uri(f"{plan.run_key}/checkpoints")}}
        stopping["MaxWaitTimeInSeconds"] = plan.spot_wait_seconds
    return {
        "ResourceConfig": {
            "InstanceType": plan.training_instance_type,
            "InstanceCount": training.instance_count,
            "VolumeSizeInGB": training.volume_size_gb,
        },
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": training.spot,
        **checkpoints,
    }


def _parameter_ranges(plan: Plan) -> Request:
    ranges: Request = {
        "ContinuousParameterRanges": [],
        "IntegerParameterRanges": [],
        "CategoricalParameterRanges": [],
    }
    for name, choices in plan.recipe.tuning.ranges.items():
        if choices.type == "categorical":
            values = [as_text(value) for value in choices.values]
            ranges["CategoricalParameterRanges"].append({"Name": name, "Values": values})
            continue
        low, high = choices.bounds
        whole = choices.type == "integer"
        ranges["IntegerParameterRanges" if whole else "ContinuousParameterRanges"].append(
            {
                "Name": name,
                "MinValue": str(int(low)) if whole else repr(low),
                "MaxValue": str(int(high)) if whole else repr(high),
                "ScalingType": choices.scaling,
            }
        )
    return ranges
