"""The command line of train.py: hyperparameters, and folders that default to SageMaker's variables."""

import argparse
import math
import os

import model

HYPERPARAMETERS = (  # attribute names; what model.json records
    *("arch", "stem", "weights", "trainable", "image_size", "augment"),
    *("epochs", "batch_size", "optimizer", "lr", "momentum", "weight_decay", "seed"),
)


class UsageError(Exception):
    """A flag is unknown, missing or out of its range; the message names it, the value and the rule."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(message)


def parse(arguments, description):
    """The settings of one training, an argparse namespace. Raises UsageError; reads the environment, no file."""
    parser = Parser(
        prog="train.py",
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flag = parser.add_argument_group("network").add_argument
    flag("--arch", choices=model.ARCHITECTURES, default="resnet18")
    flag(
        "--stem",
        choices=model.STEM_NAMES,
        default="standard",
        help="small: for images of up to about 64 px",
    )
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
        help="the part that learns (default all)",
    )

    flag = parser.add_argument_group("images").add_argument
    flag("--image-size", type=number(int, 8, 1024), default=224, help="side of the square images, px (default 224)")
    flag("--augment", choices=("none", "shift", "flip"), default="none", help="vary training images (default none)")

    flag = parser.add_argument_group("optimisation").add_argument
    flag("--epochs", type=number(int, 1, 1000), default=5)
    flag("--batch-size", type=number(int, 2, 4096), default=64)
    flag("--optimizer", choices=("adam", "sgd"), default="adam")
    flag("--lr", type=number(float, 0, 10, low_included=False), default=0.001, help="peak rate (default 0.001)")
    flag("--momentum", type=number(float, 0, 0.999), default=0.9, help="of sgd (default 0.9)")
    flag("--weight-decay", type=number(float, 0, 1), default=0.0, help="L2 penalty (default 0)")
    flag("--seed", type=number(int, 0, 2**31 - 1), default=0)

    flag = parser.add_argument_group("folders (on SageMaker set by its variables)").add_argument
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
    return parser.parse_args(arguments)


def number(kind, low, high, low_included=True):
    """An argparse type: a finite number within the limits, refused with the rule it breaks."""
    noun = "an integer" if kind is int else "a number"
    rule = f"{noun} from {low} to {high}" if low_included else f"{noun} above {low}, at most {high}"

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (value == low and not low_included):
            raise argparse.ArgumentTypeError(f"{text!r} is not {rule}")
        return value

    return convert
