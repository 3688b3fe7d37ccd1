"""Bringing a folder of images into a bucket, beside `aws s3 sync` and s5cmd, with process starts and all.

    make bench-sync            (ARGS='--images 2000 --side 400 --rounds 5 --delay-ms 25 --only ours,s5cmd'; --store for
                               SeaweedFS instead of a sink)

Ours does more: `python -m retraining.dataset sync` decodes, verifies and compares each image before it is put. `upload`
is that part of it alone which its peers do (`Store.put_missing`), in a process of its own. Rows: the first sync;
nothing changed; 1 % of the files touched, their bytes unchanged. The sides take turns; the sink counts requests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import boto3
from PIL import Image, ImageFilter

from bench.sides import REPOSITORY, machine, ratio
from retraining.dataset.versions.store import Store
from retraining.s3.connections import keeping_many
from tests.object_store import KEY_ID, REGION, SECRET, free_ports, seaweedfs
from tests.waiting import wait_until

BUCKET = "bench"
PEERS = REPOSITORY / ".venv" / "sync-peers" / "bin"
CLASSES = 10
KEYS = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": REGION}


def make_images(folder: Path, count: int, side: int) -> None:
    """JPEGs, of about 40 KB with 400 pixels a side; no two alike."""
    for number in range(count):
        make_image(folder / f"class{number % CLASSES}" / f"{number}.jpg", number, side)


def make_image(path: Path, number: int, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.frombytes("RGB", (40, 40), random.Random(number).randbytes(4800))
    image = small.resize((side, side), Image.Resampling.BICUBIC)
    grain = Image.effect_noise((side, side), 30).filter(ImageFilter.GaussianBlur(0.6))
    Image.blend(image, grain.convert("RGB"), 0.3).save(path, quality=85)


@dataclass
class Place:
    """Where the sides put things: an S3, its environment for clients, and the images."""

    endpoint: str
    images: Path
    scratch: Path
    counted: bool
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = os.environ | KEYS | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "RETRAINING_ENVIRONMENT": "local",
            "RETRAINING_BUCKET": BUCKET,
            "RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/bench",
            "RETRAINING_RECIPES": str(self.scratch),
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'plugins'}",
        }  # fmt: skip

    def counts(self) -> dict[str, int]:
        if not self.counted:
            return {}
        with urllib.request.urlopen(f"{self.endpoint}/.counts") as answer:
            return dict(json.load(answer))


Command = Callable[[Place, str], list[str]]


def ours(place: Place, name: str) -> list[str]:
    recipe = (
        (REPOSITORY / "dags" / "recipes" / "digits.yaml").read_text().replace("bundled://digits", str(place.images))
    )
    (place.scratch / f"{name}.yaml").write_text(recipe.replace("name: digits", f"name: {name}"))
    return [sys.executable, "-m", "retraining.dataset", "sync", name]


def upload(place: Place, name: str) -> list[str]:
    return [sys.executable, "-m", "bench.sync", "--upload", str(place.images), name]


def aws(place: Place, name: str) -> list[str]:
    target = f"s3://{BUCKET}/{name}/"
    return [str(PEERS / "aws"), "s3", "sync", "--only-show-errors", str(place.images), target]


def s5cmd(place: Place, name: str) -> list[str]:
    target = f"s3://{BUCKET}/{name}/"
    return [
        str(PEERS / "s5cmd"),
        "--endpoint-url",
        place.endpoint,
        "--log",
        "error",
        "sync",
        f"{place.images}/",
        target,
    ]


SIDES: dict[str, Command] = {"ours": ours, "upload": upload, "aws": aws, "s5cmd": s5cmd}


@dataclass
class Row:
    """Seconds of each side, a round each, and of its processes' CPU; memory; the requests of the last round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)
    memory_mb: dict[str, float] = field(default_factory=dict)
    """Of the largest process."""
    requests: dict[str, dict[str, int]] = field(default_factory=dict)

    def run(self, place: Place, side: str, name: str) -> None:
        place.counts()
        log = place.scratch / "log"
        with log.open("wb") as output:
            command, began = SIDES[side](place, name), time.perf_counter()
            process = subprocess.Popen(command, env=place.environment, stdout=output, stderr=output)
            _, status, used = os.wait4(process.pid, 0)
        self.seconds.setdefault(side, []).append(time.perf_counter() - began)
        if status:
            raise RuntimeError(f"{side}: {log.read_text()[-2000:]}")
        self.processor.setdefault(side, []).append(used.ru_utime + used.ru_stime)
        self.memory_mb[side] = max(self.memory_mb.get(side, 0), used.ru_maxrss / 1024)
        self.requests[side] = place.counts()

    def show(self, title: str) -> None:
        print(f"\n{title}")
        for side, seconds in self.seconds.items():
            middle, used = sorted(seconds)[len(seconds) // 2], sorted(self.processor[side])[len(seconds) // 2]
            beside = "".join(
                f"   {peer}/{side} {ratio(self.seconds[peer], seconds)}"
                for peer in ("aws", "s5cmd")
                if side in ("ours", "upload") and peer in self.seconds
            )
            asked = " ".join(f"{kind} {count}" for kind, count in sorted(self.requests[side].items()))
            print(
                f"  {side:7} {middle:7.2f} s  {used:6.2f} s CPU  {self.memory_mb[side]:4.0f} MB  {asked}{beside}",
                flush=True,
            )


def measure(place: Place, rounds: int, sides: list[str]) -> None:
    first, same, touched = Row(), Row(), Row()
    files = sorted(place.images.rglob("*.jpg"))
    for number in range(rounds):
        order = sides[number % len(sides) :] + sides[: number % len(sides)]
        for side in order:
            first.run(place, side, f"{side}{number}")
        for side in order:
            if side != "upload":
                same.run(place, side, f"{side}{number}")
        for side in order:
            if side != "upload":
                for path in random.Random(number).sample(files, len(files) // 100):
                    os.utime(path)
                time.sleep(1.1)  # peers compare whole seconds
                touched.run(place, side, f"{side}{number}")
    first.show("first sync")
    same.show("nothing changed")
    touched.show("1 % touched, nothing changed")


def put(images: Path, name: str) -> None:
    """The side `upload`."""
    store = Store(boto3.client("s3", config=keeping_many()), BUCKET, f"{name}/", frozenset({"none"}))
    store.put_missing({f"images/{path.parent.name}/{path.name}": path for path in images.rglob("*.jpg")})


@contextlib.contextmanager
def sink(delay_ms: float) -> Iterator[str]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "bench.sink", str(port), "--delay-ms", str(delay_ms)]
    process = subprocess.Popen(command, cwd=REPOSITORY)

    def is_up() -> bool:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/.counts").close()
            return True
        return False

    try:
        wait_until(is_up)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=400, help="pixels")
    parser.add_argument("--only", default=",".join(SIDES), help="sides, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--delay-ms", type=float, default=25)
    parser.add_argument("--store", action="store_true", help="SeaweedFS instead of the sink")
    parser.add_argument("--upload", nargs=2, metavar=("FOLDER", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upload:
        put(Path(options.upload[0]), options.upload[1])
        return
    print(machine())
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        images, scratch = Path(folder) / "images", Path(folder) / "scratch"
        scratch.mkdir()
        (Path(folder) / "s3").mkdir()
        make_images(images, options.images, options.side)
        size = sum(path.stat().st_size for path in images.rglob("*.jpg"))
        where = "SeaweedFS" if options.store else f"a sink of {options.delay_ms:g} ms"
        what = f"{options.images} JPEGs of {options.side}x{options.side}, {size / options.images / 1000:.0f} kB each"
        print(f"{what}, {where}, n = {options.rounds}")
        server = seaweedfs(Path(folder) / "s3") if options.store else sink(options.delay_ms)
        place = Place(stack.enter_context(server), images, scratch, counted=not options.store)
        os.environ.update(KEYS)
        boto3.client("s3", endpoint_url=place.endpoint).create_bucket(Bucket=BUCKET)
        measure(place, options.rounds, options.only.split(","))


if __name__ == "__main__":
    main()
