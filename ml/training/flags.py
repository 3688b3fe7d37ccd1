"""The command line of train.py: hyperparameters, and folders that default to SageMaker's variables."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import sys
from typing import TYPE_CHECKING

from dataset import augment
from debugger import hook_config
from network import model
from recordings.output import DEBUG_OUTPUT, PROFILER_OUTPUT
from training import metrics
from training.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NoReturn

    Flag = Callable[..., argparse.Action]  # a group's add_argument

DEFAULT_CHECKPOINT_CONFIG = "/opt/ml/input/config/checkpointconfig.json"


class UsageError(Exception):
    """A flag is unknown, missing or out of its range; the message names it, the value and the rule."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parse(arguments: Sequence[str] | None, description: str | None) -> Settings:
    """The settings of one training. Raises UsageError; reads the environment."""
    parser = Parser(
        prog="train.py",
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_network(parser.add_argument_group("network").add_argument)
    add_images(parser.add_argument_group("images").add_argument)
    add_optimisation(parser.add_argument_group("optimisation").add_argument)
    add_selection(parser.add_argument_group("which epoch is kept").add_argument)
    add_computation(parser.add_argument_group("computation").add_argument)
    add_watching(parser.add_argument_group("watching (where SageMaker's own Debugger does not)").add_argument)
    add_folders(parser.add_argument_group("folders (on SageMaker set by its variables)").add_argument)
    given = parser.parse_args(without_platforms(sys.argv[1:] if arguments is None else arguments))
    check(parser, given)
    if given.profile:
        given.profiler_dir = os.path.join(given.output_data_dir, PROFILER_OUTPUT)
    return Settings.of(vars(given))


def without_platforms(arguments: Iterable[str]) -> list[str]:
    """The arguments without SageMaker's own hyperparameters, which some containers pass on with the user's."""
    kept, theirs = [], False
    for word in arguments:
        if word.startswith("--"):
            theirs = word.startswith("--sagemaker_") or word.partition("=")[0] == "--_tuning_objective_metric"
        if not theirs:
            kept.append(word)
    return kept


def add_network(flag: Flag) -> None:
    flag(
        "--arch",
        type=model.architecture,
        default="resnet18",
        help="a ResNet-18 to -152, or any classification network of torchvision (default resnet18)",
    )
    flag("--stem", choices=model.STEM_NAMES, default="standard", help="small: for images of up to about 64 px")
    flag(
        "--weights",
        choices=("none", "channel", "imagenet"),
        default="none",
        help="where training starts (default none)",
    )
    flag(
        "--trainable",
        choices=tuple(model.TRAINABLE),
        default="all",
        help="the part that learns; less than all needs weights to start from (default all)",
    )
    flag(
        "--head",
        choices=model.HEADS,
        default="softmax",
        help="binary: one logit for the second of two classes (default softmax: one for each class)",
    )
    flag(
        "--hidden-units", type=number(int, 0, 8192), default=0, help="width of one more layer before the last; 0: none"
    )
    flag("--dropout", type=number(float, 0, 0.95), default=0.0, help="share dropped before the last layer (default 0)")


def add_images(flag: Flag) -> None:
    flag("--image-size", type=number(int, 8, 1024), default=224, help="side of the square images, px (default 224)")
    flag(
        "--start-size",
        type=number(int, 0, 1024),
        default=0,
        help="side of the first images, px; it grows to --image-size in two thirds of the training (default 0: off)",
    )
    flag(
        "--augment",
        type=augmentations,
        default="none",
        help=f"how training images vary: none, or some of {', '.join(augment.KINDS)} joined by + (default none)",
    )
    flag("--mixup", type=number(float, 0, 10), default=0.0, help="alpha of mixup; 0: off (default)")
    flag(
        "--sampler",
        choices=("shuffle", "balanced"),
        default="shuffle",
        help="balanced: every class equally often, rare ones repeated (default shuffle)",
    )


def add_optimisation(flag: Flag) -> None:
    flag("--epochs", type=number(int, 1, 1000), default=5)
    flag(
        "--batch-size",
        type=number(int, 2, 4096),
        default=64,
        help="images of a step, of all processes together when torchrun starts several (default 64)",
    )
    flag("--optimizer", choices=("adam", "adamw", "sgd"), default="adam")
    flag("--lr", type=number(float, 0, 10, low_included=False), default=0.001, help="peak rate (default 0.001)")
    flag(
        "--schedule",
        choices=("onecycle", "cosine", "step", "constant"),
        default="onecycle",
        help="how the rate runs over the training (default onecycle)",
    )
    flag(
        "--warm-up", type=number(float, 0, 0.9), default=0.3, help="share of the steps in which it rises (default 0.3)"
    )
    flag("--momentum", type=number(float, 0, 0.999), default=0.9, help="of sgd (default 0.9)")
    flag("--weight-decay", type=number(float, 0, 1), default=0.0, help="L2 penalty, decoupled with adamw (default 0)")
    flag("--decay-all", type=boolean, default=False, help="true: also biases and normalisation layers (default false)")
    flag("--label-smoothing", type=number(float, 0, 0.5), default=0.0)
    flag(
        "--class-weights",
        choices=("none", "balanced"),
        default="none",
        help="balanced: errors in rare classes count more, in inverse proportion to their size (default none)",
    )
    flag("--clip-norm", type=number(float, 0, 1e6), default=0.0, help="largest norm of all gradients; 0: off (default)")
    flag("--ema", type=number(float, 0, 0.99999), default=0.0, help="decay of averaged weights; 0: off (default)")


def add_selection(flag: Flag) -> None:
    flag(
        "--objective",
        choices=tuple(metrics.OBJECTIVES),
        default="validation:accuracy",
        help="what the best epoch is best in (default validation:accuracy; at equal values the lower loss); "
        "validation:loss is the log loss, whatever is minimised",
    )
    flag("--patience", type=number(int, 0, 1000), default=0, help="epochs without gain before it ends early; 0: off")
    flag("--min-delta", type=number(float, 0, 1), default=0.0, help="what counts as a gain for --patience (default 0)")


def add_computation(flag: Flag) -> None:
    flag(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="of the forward and backward pass; auto: bf16 where it is faster, else fp32",
    )
    flag("--deterministic", type=boolean, default=False, help="true: refuse operations that vary from run to run")
    flag("--compile", type=boolean, default=False, help="true: torch.compile, which pays off in long trainings")
    flag("--seed", type=number(int, 0, 2**31 - 1), default=0)
    flag(
        "--serving",
        choices=("auto", "torch", "openvino", "int8"),
        default="auto",
        help="what the model is served with; auto: the fastest that gives the same answers, not measured for trials of "
        "a search; torch: fp32, unmeasured; int8: like auto, and 8-bit integers too if 99 %% of the validation images "
        "keep their class (needs nncf)",
    )


def add_watching(flag: Flag) -> None:
    flag(
        "--debug-hook-config",
        type=debug_hook,
        help=f"JSON with CollectionConfigurations, as in the API's DebugHookConfig: tensors go to {DEBUG_OUTPUT} below "
        "--output-data-dir (default: only as SageMaker's DebugHookConfig says, if any)",
    )
    flag(
        "--profile",
        type=boolean,
        default=False,
        help=f"true: times of steps and the machine's metrics go to {PROFILER_OUTPUT} below --output-data-dir",
    )
    flag(
        "--check-labels",
        type=boolean,
        default=True,
        help="labels that the trained network doubts are named in labels.json below --output-data-dir, if there is "
        "one; trials of a search do without (default: true)",
    )


def add_folders(flag: Flag) -> None:
    for name, variable, text in (
        ("--train-dir", "SM_CHANNEL_TRAIN", "training images, <class>/<image>"),
        ("--validation-dir", "SM_CHANNEL_VALIDATION", "validation images, <class>/<image>"),
        ("--model-dir", "SM_MODEL_DIR", "where the artifact goes"),
    ):
        default = os.environ.get(variable)
        flag(name, default=default, required=default is None, help=f"{text} (${variable})")
    for name, variable, text in (
        ("--dataset-dir", "SM_CHANNEL_DATASET", "holds dataset.json, which fixes the order of the classes"),
        ("--pretrained-dir", "SM_CHANNEL_PRETRAINED", "holds one .pth state dict, for --weights channel"),
        ("--output-data-dir", "SM_OUTPUT_DATA_DIR", "where history.json goes"),
        ("--output-dir", "SM_OUTPUT_DIR", "where the file `failure` goes"),
    ):
        flag(name, default=os.environ.get(variable), help=f"{text} (${variable})")
    flag(
        "--cache-dir",
        default=os.environ.get("RETRAINING_CACHE_DIR"),
        help="where trainings share decoded images and what frozen layers saw in them; none: nowhere (default "
        "$RETRAINING_CACHE_DIR, else SageMaker's warm pool cache, else a folder of the user's among temporary files)",
    )
    flag(
        "--profiler-dir",
        help="records the times of steps and the machine's metrics there (default: as SageMaker's ProfilerConfig says, "
        "if any; the machine is then measured by SageMaker)",
    )
    flag(
        "--checkpoint-dir",
        default=checkpoint_dir(),
        help="training goes on from the checkpoint there, and keeps one (default: LocalPath of SageMaker's "
        "CheckpointConfig, with the job's name below it)",
    )


def check(parser: argparse.ArgumentParser, settings: argparse.Namespace) -> None:
    """Rules between flags."""
    watching = ("--debug-hook-config", settings.debug_hook_config is not None), ("--profile", settings.profile)
    for flag, given in watching:
        if given and not settings.output_data_dir:
            parser.error(f"argument {flag}: needs --output-data-dir, below which it records")
    if settings.profile and settings.profiler_dir:
        parser.error(
            f"arguments --profile and --profiler-dir: both say where to record; keep one ({settings.profiler_dir})"
        )
    if settings.serving == "openvino" and importlib.util.find_spec("openvino") is None:
        parser.error("argument --serving: openvino is not installed here; install it, or use auto or torch")
    if settings.weights == "none" and settings.trainable != "all":
        parser.error(
            f"arguments --weights and --trainable: none and {settings.trainable} would freeze layers at random values; "
            "use --weights channel or imagenet, or --trainable all"
        )
    if settings.start_size > settings.image_size:
        parser.error(f"argument --start-size: {settings.start_size} is more than --image-size {settings.image_size}")
    if settings.augment != "none" and settings.image_size < 16 and "rand" in settings.augment:
        parser.error(f"argument --augment: rand needs --image-size of at least 16, got {settings.image_size}")
    if settings.class_weights == "balanced" and settings.sampler == "balanced":
        parser.error("arguments --class-weights and --sampler: both balanced would count rare classes twice; keep one")


def checkpoint_dir() -> str | None:
    """Where SageMaker keeps checkpoints, if the job has any; jobs of one tuning share the prefix, hence the name."""
    try:
        with open(os.environ.get("CHECKPOINT_CONFIG_FILE_PATH", DEFAULT_CHECKPOINT_CONFIG), encoding="utf-8") as file:
            folder = json.load(file).get("LocalPath") or "/opt/ml/checkpoints"
    except (OSError, ValueError, AttributeError):
        return None
    return os.path.join(folder, os.environ.get("TRAINING_JOB_NAME", ""))


def number(kind: type[int] | type[float], low: float, high: float, low_included: bool = True) -> Callable[[str], float]:
    """An argparse type: a finite number within the limits, refused with the rule it breaks."""
    noun = "an integer" if kind is int else "a number"
    rule = f"{noun} from {low} to {high}" if low_included else f"{noun} above {low}, at most {high}"

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (value == low and not low_included):
            raise argparse.ArgumentTypeError(f"{text!r} is not {rule}")
        return value

    return convert


def boolean(text: str) -> bool:
    """An argparse type. SageMaker passes every flag with a value, and bool("false") would be True."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return known[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false") from None


def debug_hook(text: str) -> dict[str, Any]:
    """An argparse type: the members of the API's DebugHookConfig, checked.

    SageMaker's training toolkit reads hyperparameters as JSON, and passes an object on as `key=value,…` with Python's
    quotes (sagemaker_training/mapping.py); the object itself is then in $SM_HPS.
    """
    try:
        try:
            document: dict[str, Any] = json.loads(text)
        except ValueError:
            document = json.loads(os.environ.get("SM_HPS", "{}")).get("debug-hook-config")
            if not isinstance(document, dict):
                raise
        if isinstance(document, str):  # as SDKs write hyperparameters
            document = json.loads(document)
        hook_config.HookConfig.of(document)
        if unknown := [member for member in document if member not in hook_config.MEMBERS]:
            members = " and ".join(hook_config.MEMBERS[:2])
            raise hook_config.BadHookConfig(f"it has '{unknown[0]}'; known are {members}")
    except hook_config.BadHookConfig as error:
        raise argparse.ArgumentTypeError(f"{short(text)} cannot be followed: {error}") from None
    except (ValueError, AttributeError) as error:
        raise argparse.ArgumentTypeError(f"{short(text)} is not JSON: {error}") from None
    return document


def short(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}…")


def augmentations(text: str) -> str:
    """An argparse type: the text itself, once every word of it is known."""
    unknown = [kind for kind in text.split("+") if kind not in augment.KINDS]
    if unknown and text != "none":
        kinds = ", ".join(augment.KINDS)
        raise argparse.ArgumentTypeError(f"{text!r} is neither none nor some of {kinds} joined by + ({unknown[0]!r})")
    return text
