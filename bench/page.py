"""What a run pays for its page: the pictures and documents that its tasks leave for people, and nobody else reads.

    make bench-page            (ARGS='--images 10000 --classes 133 --side 400 --broken 100')

Strips of each class and pictures of what was kept out (task sync_dataset), pictures of images won, lost and of labels
in doubt (evaluate), the report as one file (report); timed within a real first sync of those images into SeaweedFS, of
which they are given as a share. There is no peer: a run without a page is the other side.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import yaml

from bench.sides import REPOSITORY, machine
from bench.sync import make_image
from retraining.dataset import sync
from retraining.dataset.pictures.small import Thumbnails
from retraining.environment import Environment
from retraining.page.rendering import one_file
from retraining.plan import Plan
from retraining.promotion.album import SHOWN
from retraining.recipe import read_recipe
from retraining.steps.labels import SHOWN as SHOWN_LABELS
from tests.object_store import CLIENT, REGION, seaweedfs
from tests.page.runs import documents

took: defaultdict[str, float] = defaultdict(float)


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        took[what] += time.perf_counter() - began


def within_sync(name: str) -> None:
    """Times what a sync does for people, where it does it."""
    real: Callable[..., None] = getattr(sync, name)

    @functools.wraps(real)
    def told(*given: Any) -> None:
        with timed(name):
            real(*given)

    setattr(sync, name, told)


def make_source(folder: Path, images: int, classes: int, side: int, broken: int) -> None:
    """Photographs by class, and files that are cut in the middle."""
    for number in range(images + broken):
        path = folder / f"{number % classes:03}" / f"{number}.jpg"
        make_image(path, number, side)
        if number >= images:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def plan_of(source: Path, bucket: str) -> Plan:
    environment = Environment.of(
        {
            "RETRAINING_ENVIRONMENT": "local",
            "RETRAINING_BUCKET": bucket,
            "RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/local-sagemaker",
            "AWS_DEFAULT_REGION": REGION,
        }
    )
    digits = yaml.safe_load((REPOSITORY / "dags" / "recipes" / "digits.yaml").read_text())
    recipe = read_recipe(digits | {"source": str(source)}, where="bench")
    return Plan.of(recipe, environment, datetime.now(UTC), "manual__1")


def album(s3: Any, plan: Plan, names: list[str]) -> int:
    """As many pictures as `evaluate` leaves: won, lost, wrong and some of all; and labels in doubt. In bytes."""

    def read(name: str, most: int) -> bytes | None:
        return bytes(s3.get_object(Bucket=plan.environment.bucket, Key=f"{plan.images_key}{name}")["Body"].read(most))

    picture = Thumbnails(read)
    return len(json.dumps([picture(name) for name in names[: 4 * SHOWN + SHOWN_LABELS]]))


def left(s3: Any, plan: Plan) -> int:
    """Bytes in S3 that are there for people."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=plan.environment.bucket, Prefix=plan.data_key)
    entries = [entry for page in pages for entry in page.get("Contents", ())]
    return sum(
        entry["Size"] for entry in entries if "/strips" in entry["Key"] or entry["Key"].endswith("/kept-out.json")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 10_000), ("classes", 133), ("side", 400), ("broken", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    print(machine(), file=sys.stderr)
    for name in ("keep_strips", "keep_kept_out"):
        within_sync(name)
    with tempfile.TemporaryDirectory() as scratch, seaweedfs(Path(scratch)) as endpoint:
        source = Path(scratch) / "source"
        make_source(source, given.images, given.classes, given.side, given.broken)
        s3 = boto3.client("s3", endpoint_url=endpoint, **CLIENT)
        s3.create_bucket(Bucket="bench")
        plan = plan_of(source, "bench")
        with timed("first sync"):
            version = sync.sync_dataset(plan, s3).version
        with timed("pictures of an evaluation"):
            size = album(s3, plan, [image.entry for image in version.images])
        run = documents([f"{number:03}" for number in range(given.classes)], each=given.images // 10 // given.classes)
        with timed("report as one file"):
            size += len(one_file(run))
        size += left(s3, plan)
    page = sum(seconds for name, seconds in took.items() if name != "first sync")
    for name, seconds in took.items():
        print(f"{name:28} {seconds:7.2f} s")
    share = 100 * page / took["first sync"]
    print(f"for the page {page:.2f} s, {share:.1f} % of the first sync alone; {size / 2**20:.1f} MiB left")


if __name__ == "__main__":
    main()
