"""Input channels: which objects of S3 each host gets, and the folders they are put into.

File and FastFile channels are both downloaded before the script starts; a FastFile channel looks the same to a script
(files it can open), only nothing is streamed. Pipe mode is refused when the job is created, and so is what exists
for it alone (augmented manifests, Gzip, RecordIO).
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_sagemaker import s3
from local_sagemaker.jobs import cluster
from local_sagemaker.jobs.cluster import Host
from local_sagemaker.jobs.opt_ml import OptMl
from local_sagemaker.s3 import Object, ObjectStore
from local_sagemaker.sandbox import disk


def shards(objects: list[Object], count: int, seed: int | None = None) -> list[list[Object]]:
    """ShardedByS3Key: every object on exactly one of `count` hosts, as evenly as can be, the same each time.

    The objects are dealt out in the order of their keys, or with a ShuffleConfig in the order that its seed gives.
    SageMaker promises the 1/count; its own order is not documented.
    """
    ordered = sorted(objects, key=lambda item: (item.bucket, item.key))
    if seed is not None:
        random.Random(seed).shuffle(ordered)
    return [sorted(ordered[index::count], key=lambda item: item.key) for index in range(count)]


def fetch(
    store: ObjectStore,
    channel: dict[str, Any],
    hosts: list[tuple[Host, OptMl]],
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Put one channel's objects into the folders of the hosts that get them.

    Raises JobFailedError (`ClientError: …`) when there are none or they cannot be read.
    """
    source = channel["DataSource"]["S3DataSource"]
    objects = store.objects(*s3.data_source(channel), stopped)
    names = {host.name for host in cluster.in_groups([host for host, _ in hosts], source.get("InstanceGroupNames"))}
    targets = [folders for host, folders in hosts if host.name in names]
    sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
    seed = channel.get("ShuffleConfig", {}).get("Seed")
    parts = shards(objects, len(targets), seed) if sharded and targets else [objects] * len(targets)
    name = channel["ChannelName"]
    for index, (folders, part) in enumerate(zip(targets, parts, strict=True)):
        if stopped():
            return
        folder = folders.channel(name)
        folder.mkdir(parents=True, exist_ok=True)
        if index and not sharded:
            _copy(targets[0].channel(name), folder)
        else:
            store.download(part, folder, stopped)
        if source["S3DataType"] == "ManifestFile":
            _write_manifest(folders.data / f"{name}-manifest", part)


def _copy(fetched: Path, folder: Path) -> None:
    """Another host's copy of a replicated channel: its own files, because a script may change them."""
    disk.require(folder, disk.used_bytes(fetched), f"the copy of channel {fetched.name}")
    shutil.copytree(fetched, folder, dirs_exist_ok=True)


def _write_manifest(path: Path, objects: list[Object]) -> None:
    """`<channel>-manifest`: what of the manifest lies on this host, as a manifest.

    Which of the entries AWS lists here on a host with a shard of them could not be verified.
    """
    entries: list[Any] = [item.relative for item in objects]
    first = objects[0] if objects else None
    prefix = f"s3://{first.bucket}/{first.key.removesuffix(first.relative)}" if first else ""
    path.write_text(json.dumps([{"prefix": prefix}, *entries]))
