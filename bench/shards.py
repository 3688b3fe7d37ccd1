"""When tar shards pay: seconds from a job's creation to its first batch, shards beside single files.

    make bench-shards                   (ARGS='--counts 2000 --latencies 0 --rounds 3')

JPEGs of some kilobytes lie in a SeaweedFS of the bench's own, once as single files behind a manifest and once as the
shards that `keep_shards` packs. A local_sagemaker, started anew for each pair of jobs so that its cache is empty,
downloads the channel as for any training (16 requests at a time), and a job of torch's interpreter opens it and asks
for a batch of 64. Between server and store a proxy holds all bytes back, half of the latency in each direction, as a
store that is further off would. The second job finds what the server has kept: single files, no shards. FastFile is a
download here; on AWS it is none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import io
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from PIL import Image as Picture

from bench.sides import REPOSITORY, machine, ratio
from retraining.dataset.sources.source import SourceFile
from retraining.dataset.split import SPLITS
from retraining.dataset.versions.shards import keep_shards
from retraining.dataset.versions.store import Store
from retraining.dataset.versions.version import Image, Version, as_json
from retraining.recipe import Split
from retraining.source import Source
from tests.local_sagemaker.harness import IMAGE, ROLE, Server
from tests.object_store import CLIENT, free_ports, seaweedfs

BUCKET, CLASSES = "bench-shards", 10
FORMS = ("files File", "shards File", "shards FastFile")
PROBE = """
import json, os, time
from dataset import channel
began = time.monotonic()
channel.MEMORY_BYTES = 0
images = channel.Channel(os.environ["SM_CHANNEL_TRAIN"], channel.class_names(os.environ["SM_CHANNEL_TRAIN"]), 64)
opened = time.monotonic()
next(images.batches(64))
batch = time.monotonic()
print("probe", json.dumps({"at": time.time(), "images": len(images), "open": opened - began, "batch": batch - opened}))
"""


@dataclass
class Held:
    """What comes, and from when on it may go."""

    latency_s: float

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

        async def send() -> None:
            while (item := await waiting.get())[1]:
                await asyncio.sleep(item[0] - time.monotonic())
                writer.write(item[1])
                await writer.drain()
            writer.close()

        sending = asyncio.create_task(send())
        with contextlib.suppress(ConnectionError):
            while body := await reader.read(2**18):
                await waiting.put((time.monotonic() + self.latency_s, body))
        await waiting.put((0.0, b""))
        with contextlib.suppress(ConnectionError):
            await sending


@contextlib.contextmanager
def held_back(endpoint: str, latency_s: float) -> Iterator[str]:
    """Another address of the endpoint, half of the latency away in each direction."""
    if not latency_s:
        yield endpoint
        return
    (port,), loop, held = free_ports(1), asyncio.new_event_loop(), Held(latency_s / 2)
    host, _, target = endpoint.removeprefix("http://").partition(":")

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, int(target))
        await asyncio.gather(held.pass_on(reader, there_writer), held.pass_on(there_reader, writer))

    async def listen() -> None:
        await asyncio.start_server(meet, "127.0.0.1", port)

    loop.run_until_complete(listen())
    threading.Thread(target=loop.run_forever, daemon=True).start()
    yield f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(loop.stop)


def jpeg(number: int, side: int) -> bytes:
    values = np.random.default_rng(number).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    image = Picture.fromarray(values).resize((side, side), Picture.Resampling.BICUBIC)
    noise = np.random.default_rng(number).normal(0, 14, (side, side, 3))
    body = io.BytesIO()
    Picture.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)).save(body, "JPEG", quality=88)
    return body.getvalue()


def put(s3: Any, count: int, side: int, folder: Path) -> tuple[Version, float, int]:
    """A version of `count` images in both forms -> it, the seconds that packing took, and the bytes of one image."""
    images, places, size = [], {}, 0
    for number in range(count):
        body, label = jpeg(number, side), f"class{number % CLASSES}"
        path, sha256 = folder / f"{number}.jpg", hashlib.sha256(body).hexdigest()
        path.write_bytes(body)
        size += len(body)
        file = SourceFile(path=path, label=label, split="train", name=path.name)
        images.append(Image(label=label, sha256=sha256, identity=sha256, extension="jpg", split="train", file=file))
        places[f"images/{images[-1].entry}"] = path
    version = Version(images=images, quarantined=[], duplicates=0, source="bench", shares=Split())
    store = Store(s3, BUCKET, f"{count}/", frozenset(), lambda *_: None)
    store.put_missing(places)
    uri = f"s3://{BUCKET}/{count}/images/"
    store.put_changed({"train.manifest": as_json(version.manifest(SPLITS[0], uri))})
    began = time.monotonic()
    keep_shards(version, store, places, folder)
    return version, time.monotonic() - began, size // count


def channel(form: str, count: int, version: Version) -> dict[str, Any]:
    what, mode = form.split()
    root = f"s3://{BUCKET}/{count}"
    kind, uri = {
        "files": ("ManifestFile", f"{root}/train.manifest"),
        "shards": ("S3Prefix", f"{root}/versions/{version.fingerprint}/shards/train/"),
    }[what]
    return {
        "ChannelName": "train",
        "DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}},
        "InputMode": mode,
    }


def job(server: Server, name: str, source: dict[str, Any]) -> dict[str, float]:
    """Its seconds: to the first batch from its creation, and what of them the script took to open it and to read."""
    began = time.time()
    server.sagemaker.create_training_job(
        TrainingJobName=name,
        RoleArn=ROLE,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        HyperParameters={
            "sagemaker_program": "probe.py",
            "sagemaker_submit_directory": f"s3://{BUCKET}/sourcedir.tar.gz",
        },
        InputDataConfig=[source],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/jobs"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    said = server.wait(
        lambda: server.sagemaker.describe_training_job(TrainingJobName=name), "TrainingJobStatus", timeout_s=600
    )
    assert said["TrainingJobStatus"] == "Completed", said["FailureReason"]
    group = "/aws/sagemaker/TrainingJobs"
    lines = [
        e["message"] for e in server.logs.filter_log_events(logGroupName=group, logStreamNamePrefix=name)["events"]
    ]
    told = json.loads(next(line for line in lines if line.startswith("probe ")).removeprefix("probe "))
    spans = {s["Status"]: s for s in said["SecondaryStatusTransitions"]}
    download = spans["Downloading"]["EndTime"] - spans["Downloading"]["StartTime"]
    return {"first": told["at"] - began, "download": download.total_seconds()} | told


def rounds(endpoint: str, count: int, version: Version, number: int, folder: Path) -> dict[str, list[dict[str, float]]]:
    images = folder / "images.toml"
    images.write_text(f'[[image]]\nmatch = ["*"]\ninterpreter = "{REPOSITORY / ".venv/ml/bin/python"}"\n')
    found: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
    again: dict[str, list[dict[str, float]]] = {f"{form}, again": [] for form in FORMS}
    for turn in range(number):
        for form in FORMS:
            with tempfile.TemporaryDirectory() as root:
                server = Server(Path(root), free_ports(1)[0], endpoint, images)
                server.start()
                try:
                    found[form].append(job(server, f"one-{turn}", channel(form, count, version)))
                    again[f"{form}, again"].append(job(server, f"two-{turn}", channel(form, count, version)))
                finally:
                    server.stop()
            print(".", end="", flush=True)
    print()
    return found | again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 10_000])
    parser.add_argument("--latencies", type=float, nargs="+", default=[0, 25], help="ms of each request")
    parser.add_argument("--side", type=int, default=128, help="px of the images; 128: about 8.5 KB")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name, seaweedfs(Path(name)) as endpoint:
        folder = Path(name) / "made"
        folder.mkdir()
        s3 = boto3.client("s3", endpoint_url=endpoint, **CLIENT)
        s3.create_bucket(Bucket=BUCKET)
        source = Source.read(REPOSITORY / "ml")
        s3.put_object(
            Bucket=BUCKET, Key="sourcedir.tar.gz", Body=Source(source.files | {"probe.py": PROBE.encode()}).packed()
        )
        for count in given.counts:
            version, packing_s, size = put(s3, count, given.side, folder)
            print(f"\n{count} images of {size:,} bytes; packing took {packing_s:.1f} s")
            for latency in given.latencies:
                with held_back(endpoint, latency / 1000) as address:
                    report(rounds(address, count, version, given.rounds, folder), latency, given.rounds)


def report(found: dict[str, list[dict[str, float]]], latency: float, number: int) -> None:
    print(f"\n| {latency:g} ms a request, n = {number} | download s | open s | to the first batch s | files / this |")
    print("|---|---|---|---|---|")
    for form, jobs in found.items():
        seconds = {key: statistics.median(job[key] for job in jobs) for key in ("download", "open", "first")}
        base = found[FORMS[0] + (", again" if "again" in form else "")]
        times = ratio([job["first"] for job in base], [job["first"] for job in jobs])
        print(f"| {form} | {seconds['download']:.2f} | {seconds['open']:.2f} | {seconds['first']:.2f} | {times} |")


if __name__ == "__main__":
    main()
