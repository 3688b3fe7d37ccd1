"""Put pretrained weights where training jobs find them, and print the line for the recipe.

SOURCE is a .pth file (a plain state dict), a .safetensors file, or torchvision:NAME, which is downloaded. TARGET is
s3://bucket/recipe. S3 is reached as by every AWS client: AWS_ENDPOINT_URL_S3, AWS_PROFILE and so on.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from retraining.account_rules import AccountRules
from retraining.download import DownloadError
from retraining.pretrained.staging import Target, TargetError, stage
from retraining.pretrained.torchvision import ALTERNATIVE, default_python, fetch_torchvision
from retraining.pretrained.weights_file import WeightsError, WeightsFile, read_weights_file
from retraining.s3.encryption import encrypting
from retraining.telling import tell

OF_TORCHVISION = "torchvision:"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m retraining.pretrained",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="weights.pth, weights.safetensors, or torchvision:resnet34")
    parser.add_argument("target", help="s3://bucket/recipe")
    parser.add_argument("--name", help="what to call them in S3 (default: the network's or the file's name)")
    parser.add_argument(
        "--python", type=Path, default=default_python(), help="an interpreter with torchvision (default: that of ml/)"
    )
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="retraining-") as scratch:
            _stage(arguments, Path(scratch))
    except DownloadError as error:
        return _failed(f"{error} {ALTERNATIVE}")
    except (WeightsError, TargetError, OSError) as error:
        return _failed(str(error))
    return 0


def _stage(arguments: argparse.Namespace, scratch: Path) -> None:
    source: str = arguments.source
    target = Target.of(arguments.target)
    if source.startswith(OF_TORCHVISION):
        name = source.removeprefix(OF_TORCHVISION)
        path = fetch_torchvision(name, scratch, arguments.python)
    else:
        path = Path(source).expanduser()
        name = path.stem
    weights = read_weights_file(path)
    tell(_summary(weights), error=True)
    staged = _to_s3(weights, arguments.name or name, target)
    tell(f"pretrained: {staged}")


def _summary(weights: WeightsFile) -> str:
    last = next(reversed(weights.shapes))
    return (
        f"{weights.path.name}: {len(weights.shapes)} tensors, {weights.numbers:,} numbers, "
        f"the last one {last} {list(weights.shapes[last])}"
    )


def _to_s3(weights: WeightsFile, name: str, target: Target) -> str:
    """The URI; what goes wrong with S3 becomes a TargetError."""
    import boto3
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        s3 = encrypting(boto3.client("s3"), AccountRules.of(os.environ))
        staged = stage(weights, name, target, s3)
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise TargetError(f"s3://{target.bucket} cannot be written: {error}") from error
    tell("uploaded" if staged.uploaded else "it was there already", error=True)
    return staged.uri


def _failed(why: str) -> int:
    tell(f"python -m retraining.pretrained: {why}", error=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
