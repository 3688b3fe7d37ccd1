"""Which container images the jobs of one run use.

The SDK knows the registry account of every region, but importing it takes seconds: only `preflight` asks, once a run,
and hands the answer on.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from retraining.environment import ConfigurationError, Environment
from retraining.recipe import Recipe

# The last training container that carries smdebug. Without SageMaker Debugger there is no reason to stay this far back.
DEBUGGER_VERSION, DEBUGGER_PYTHON = "2.0.1", "py310"
TRAINING_VERSION, TRAINING_PYTHON = "2.9.0", "py312"
# The last PyTorch inference container AWS made. It holds TorchServe; RETRAINING_SERVING_IMAGE names a better one.
SERVING_VERSION, SERVING_PYTHON = "2.6.0", "py312"

# What the rules are evaluated on has no GPU, whatever the training has.
EVALUATION_INSTANCE_TYPE = "ml.m5.large"

LOCAL_REGISTRY = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
LOCAL_RULES = "503895931360.dkr.ecr.us-east-1.amazonaws.com/sagemaker-debugger-rules:latest"


@dataclass(frozen=True, kw_only=True)
class Images:
    """The image URIs of a run."""

    training: str
    training_self_hosted: str
    """Of a training that SageMaker Debugger does not watch; the same as `training` unless it does."""
    serving: str
    rules: str
    """SageMaker's evaluator of managed rules; empty where none is needed."""
    evaluation: str
    """What evaluates self-hosted rules: any image with Python and NumPy."""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def resolve_images(recipe: Recipe, environment: Environment) -> Images:
    """Overrides first; on AWS the SDK's URI for the region; locally the us-east-1 URIs, which the server maps.

    A mode of auto counts as managed. ConfigurationError when the region has no rules for a managed training.
    """
    managed = recipe.debugger.mode in ("auto", "managed")
    training_type = environment.training_instance_type or recipe.training.instance_type
    serving_type = environment.serving_instance_type or recipe.serving.instance_type
    find = _local_uri if environment.local else _aws_uri

    def training(version: str, python: str, instance_type: str) -> str:
        given = environment.training_image
        return given or find(environment.region, "training", version, python, instance_type)

    newest = training(TRAINING_VERSION, TRAINING_PYTHON, training_type)
    rules = rule_image(environment) if managed else ""
    if rules is None:
        raise ConfigurationError(f"SageMaker Debugger has no rules in {environment.region}: choose mode self_hosted.")
    return Images(
        training=training(DEBUGGER_VERSION, DEBUGGER_PYTHON, training_type) if managed else newest,
        training_self_hosted=newest,
        serving=environment.serving_image
        or find(environment.region, "inference", SERVING_VERSION, SERVING_PYTHON, serving_type),
        rules=rules,
        evaluation=training(TRAINING_VERSION, TRAINING_PYTHON, EVALUATION_INSTANCE_TYPE),
    )


def rule_image(environment: Environment) -> str | None:
    """SageMaker's evaluator of Debugger rules in this region; None when it has none."""
    if environment.local:
        return LOCAL_RULES
    from sagemaker.core import image_uris

    try:
        return str(image_uris.retrieve("debugger", region=environment.region))
    except ValueError:
        return None


def _local_uri(region: str, scope: str, version: str, python: str, instance_type: str) -> str:
    # The first letter of the family tells: ml.g5 and ml.p4d have GPUs.
    processor = "gpu" if re.match(r"ml\.[gp]\d", instance_type) else "cpu"
    return f"{LOCAL_REGISTRY}/pytorch-{scope}:{version}-{processor}-{python}"


def _aws_uri(region: str, scope: str, version: str, python: str, instance_type: str) -> str:
    from sagemaker.core import image_uris

    uri = image_uris.retrieve(
        "pytorch",
        region=region,
        version=version,
        py_version=python,
        instance_type=instance_type,
        image_scope=scope,
    )
    return str(uri)
