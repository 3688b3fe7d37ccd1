"""Which container images the jobs of one run use.

The SDK knows the registry account of every region, but importing it takes seconds: only `preflight` asks, once a run,
and hands the answer on.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import date

from retraining.container_support import pillow_of, support_of
from retraining.environment import ConfigurationError, Environment
from retraining.recipe import Recipe
from retraining.recipe.machines import has_gpu

log = logging.getLogger(__name__)

# Which of them are patched, and for how long, stands in container_support.py.
# The last training container that carries smdebug. Without SageMaker Debugger there is no reason to stay this far back.
DEBUGGER_VERSION, DEBUGGER_PYTHON = "2.0.1", "py310"
TRAINING_VERSION = "2.14"
# AWS ended its PyTorch inference containers with 2.6.0. Its Ray Serve containers start ml/ray_app.py of the artifact.
SERVING_VERSION = "1.4"

# What the rules are evaluated on has no GPU, whatever the training has.
EVALUATION_INSTANCE_TYPE = "ml.m5.large"

LOCAL_REGISTRY = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
LOCAL_RULES = "503895931360.dkr.ecr.us-east-1.amazonaws.com/sagemaker-debugger-rules:latest"


@dataclass(frozen=True, kw_only=True)
class Images:
    """The image URIs of a run."""

    training: str
    """Of the trials and the final training."""
    training_self_hosted: str
    """What it would be without SageMaker Debugger: the same unless that is to watch the final training."""
    serving: str
    rules: str
    """SageMaker's evaluator of managed rules; empty where none is needed."""
    evaluation: str
    """What evaluates self-hosted rules: any image with Python and NumPy. What verifies images needs Pillow, too."""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def resolve_images(recipe: Recipe, environment: Environment) -> Images:
    """Overrides first; on AWS the SDK's URI for the region; locally the us-east-1 URIs, which the server maps.

    A mode of auto counts as managed. ConfigurationError when the region has no rules for a managed training.
    """
    managed = recipe.debugger.mode in ("auto", "managed")
    training_type = environment.training_instance_type or recipe.training.instance_type
    serving_type = environment.serving_instance_type or recipe.serving.instance_type
    find: type[_Local] | type[_Aws] = _Local if environment.local else _Aws
    region = environment.region

    def newest(instance_type: str) -> str:
        return environment.training_image or find.training(region, instance_type)

    training = newest(training_type)
    rules = rule_image(environment) if managed else ""
    if rules is None:
        raise ConfigurationError(f"SageMaker Debugger has no rules in {region}: choose mode self_hosted.")
    with_smdebug = environment.training_image or (find.with_smdebug(region, training_type) if managed else training)
    return Images(
        training=with_smdebug,
        training_self_hosted=training,
        serving=environment.serving_image or find.serving(region, serving_type),
        rules=rules,
        evaluation=environment.processing_image or newest(EVALUATION_INSTANCE_TYPE),
    )


def verification_obstacle(images: Images, environment: Environment) -> str:
    """Why AWS's own container cannot verify images for this worker, with the way out; empty where it may.

    Nothing is known of an image that the environment names, which looks at its Pillow itself.
    """
    import PIL  # which no DAG file should wait for

    there = pillow_of(images.evaluation)
    named = environment.local or environment.processing_image or environment.training_image
    if named or there in (None, PIL.__version__):
        return ""
    return (
        f"AWS's container {images.evaluation} has Pillow {there}, this worker {PIL.__version__}: they may judge "
        "pictures differently, and a version of the data must not depend on where it was made. Name an image of "
        "docker/processing.Dockerfile by RETRAINING_PROCESSING_IMAGE, or let the worker verify (sync.where: worker)."
    )


def require_patched(images: Images, environment: Environment, today: date) -> None:
    """Tells how long AWS patches each image; ConfigurationError when one on AWS no longer is, unless that is allowed.

    The container of SageMaker Debugger is exempt: there is no newer one with smdebug, and the recipe asks for Debugger.
    """
    smdebug = images.training if images.training != images.training_self_hosted else None
    over = []
    for support in support_of({name: uri for name, uri in images.as_dict().items() if name != "rules"}):
        if not support.is_over(today):
            log.log(logging.WARNING if support.ends_soon(today) else logging.INFO, "Container of %s.", support)
        elif support.uri == smdebug:
            log.warning("Container of %s. SageMaker Debugger needs its smdebug; no newer one has it.", support)
        else:
            log.warning("Container of %s: AWS does not patch it any more.", support)
            over.append(str(support))
    if over and not environment.local and not environment.allow_unpatched_images:
        raise ConfigurationError(
            f"AWS does not patch these container images any more: {'; '.join(over)}. Name others by "
            "RETRAINING_TRAINING_IMAGE and RETRAINING_SERVING_IMAGE (docker/serving.Dockerfile makes one), or update "
            "this package. To use them all the same, set RETRAINING_ALLOW_UNPATCHED_IMAGES=1."
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


class _Local:
    """The URIs of us-east-1, without the SDK: whatever the region, local_sagemaker maps them to this machine."""

    @staticmethod
    def training(region: str, instance_type: str) -> str:
        processor = "cu133" if has_gpu(instance_type) else "cpu"
        return f"{LOCAL_REGISTRY}/pytorch:{TRAINING_VERSION}-{processor}-amzn2023-sagemaker"

    @staticmethod
    def with_smdebug(region: str, instance_type: str) -> str:
        processor = "gpu" if has_gpu(instance_type) else "cpu"
        return f"{LOCAL_REGISTRY}/pytorch-training:{DEBUGGER_VERSION}-{processor}-{DEBUGGER_PYTHON}"

    @staticmethod
    def serving(region: str, instance_type: str) -> str:
        processor = "cuda" if has_gpu(instance_type) else "cpu"
        return f"{LOCAL_REGISTRY}/ray:serve-ml-sagemaker-{processor}-v{SERVING_VERSION}"


class _Aws:
    """The URIs of any region, by the SDK."""

    @staticmethod
    def training(region: str, instance_type: str) -> str:
        # "pytorch" ends with 2.10; the containers on Amazon Linux have a framework name of their own.
        return _retrieve("pytorch-amzn2023", region, instance_type, version=TRAINING_VERSION, image_scope="training")

    @staticmethod
    def with_smdebug(region: str, instance_type: str) -> str:
        python = {"version": DEBUGGER_VERSION, "py_version": DEBUGGER_PYTHON, "image_scope": "training"}
        return _retrieve("pytorch", region, instance_type, **python)

    @staticmethod
    def serving(region: str, instance_type: str) -> str:
        return _retrieve("ray-serve", region, instance_type, version=SERVING_VERSION)


def _retrieve(framework: str, region: str, instance_type: str, **choice: str) -> str:
    from sagemaker.core import image_uris

    try:
        return str(image_uris.retrieve(framework, region=region, instance_type=instance_type, **choice))
    except ValueError as error:
        raise ConfigurationError(
            f"AWS has no {framework} container for {instance_type} in {region}. Name an image of your own by "
            "RETRAINING_TRAINING_IMAGE or RETRAINING_SERVING_IMAGE, or choose another instance type in the recipe. "
            f"The SDK says: {error}"
        ) from None
