"""What a usable picture is has one home on each side: what sync lets through, every later step can hold."""

from __future__ import annotations

import io
import json
import os
import random
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from local_sagemaker.transform.model_client import MAX_MB_IN_FLIGHT
from retraining.dataset.pictures.limits import (
    MAX_BYTES,
    MAX_CHUNKS,
    MAX_PIXELS,
    MAX_SCANNED,
    MAX_SEGMENTS,
    MAX_SIDE,
    MIN_SIDE,
)
from retraining.dataset.pictures.verify import VerifiedImage, verify_image
from retraining.environment import Environment
from retraining.plan import Plan
from retraining.recipe import load_recipe
from retraining.release import golden
from retraining.requests.sagemaker import transform_job
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
RUN_AFTER = datetime(2026, 11, 21, tzinfo=UTC)
ENVIRONMENT = {
    "RETRAINING_ENVIRONMENT": "local",
    "RETRAINING_BUCKET": "bucket",
    "RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/r",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
}
#: Width and height with as many pixels as there may be, to the last one.
LARGEST = (12_000, 10_000)
#: Reads a file as training and as an endpoint do, and says how much memory that took.
READ = """
import json, sys
from pathlib import Path
import numpy
from dataset.channel import Channel
from pictures.request import read_request
# Not ru_maxrss, which begins with what the parent had.
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
path, content_type, before = Path(sys.argv[1]), sys.argv[2], peak()
trained = Channel(path.parents[1], [path.parent.name], 64).read_one(0)
served = read_request(path.read_bytes(), content_type).decoded(64).pixels[0]
assert numpy.array_equal(trained, served)
print(json.dumps({"shape": served.shape, "took_mb": peak() - before}))
"""


def read(path: Path, content_type: str) -> dict[str, Any]:
    """By the other program, in its own interpreter, where any warning is an error."""
    python = ROOT / ".venv/ml/bin/python"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "ml"), "PYTHONWARNINGS": "error::UserWarning"}
    done = subprocess.run(
        [python, "-c", READ, path, content_type], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = tmp_path / "train" / "moon"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "kind", "options", "most_mb"),
    [
        ("RGB", "JPEG", {"quality": 50}, 100),
        ("RGB", "JPEG", {"quality": 50, "progressive": True}, 500),
        ("RGB", "PNG", {"compress_level": 1}, 600),
        ("RGBA", "PNG", {"compress_level": 1}, 1100),
    ],
)
def test_the_largest_picture_goes_all_the_way(
    channel: Path, mode: str, kind: str, options: dict[str, Any], most_mb: int
) -> None:
    assert LARGEST[0] * LARGEST[1] == MAX_PIXELS and max(LARGEST) <= MAX_SIDE
    path = channel / f"moon.{'jpg' if kind == 'JPEG' else 'png'}"
    Image.new(mode, LARGEST, (200, 40, 90, 128)[: len(mode)]).save(path, kind, **options)
    assert path.stat().st_size <= MAX_BYTES
    assert isinstance(verify_image(path), VerifiedImage)
    assert read(path, "image/jpeg" if kind == "JPEG" else "image/png")["took_mb"] < most_mb


@pytest.mark.slow
def test_the_largest_file_goes_all_the_way(channel: Path) -> None:
    """A JPEG may be padded by comments; SageMaker is asked to take as much in batch, and takes it in real time."""
    body = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 40, 90)).save(body, "JPEG")
    head, rest = body.getvalue()[:2], body.getvalue()[2:]
    missing = MAX_BYTES - len(head) - len(rest)
    sizes = [65_000] * (missing // 65_000 - 1)
    sizes.append(missing - sum(sizes) - 65_000)
    comments = b"".join(b"\xff\xfe" + (size - 2).to_bytes(2) + bytes(size - 4) for size in [*sizes, 65_000])
    path = channel / "moon.jpg"
    path.write_bytes(head + comments + rest)
    assert path.stat().st_size == MAX_BYTES
    assert isinstance(verify_image(path), VerifiedImage)
    assert read(path, "image/jpeg")["shape"] == [64, 64, 3]


def test_both_sides_decode_as_many_scans() -> None:
    (times,) = re.findall(
        r"^MAX_SCANNED = (\d+) \* MAX_PIXELS", (ROOT / "ml/pictures/picture.py").read_text(), re.MULTILINE
    )
    assert int(times) * MAX_PIXELS == MAX_SCANNED
    for name, file, ours in (("MAX_SEGMENTS", "jpeg", MAX_SEGMENTS), ("MAX_CHUNKS", "png", MAX_CHUNKS)):
        (theirs,) = re.findall(rf"^{name} = ([\d_]+)", (ROOT / f"ml/pictures/{file}.py").read_text(), re.MULTILINE)
        assert int(theirs) == ours


def test_a_smoke_test_keeps_to_what_a_request_may_hold() -> None:
    (most,) = re.findall(r"^MAX_INSTANCES = (\d+)", (ROOT / "ml/pictures/request.py").read_text(), re.MULTILINE)
    assert int(most) == golden.MAX_INSTANCES
    assert golden.SAFE_BODY_BYTES < golden.MAX_BODY_BYTES <= MAX_BYTES


def test_a_batch_transform_takes_the_largest_file() -> None:
    plan = Plan.of(load_recipe(ROOT / "dags/recipes/digits.yaml"), Environment.of(ENVIRONMENT), RUN_AFTER, "manual__1")
    request = transform_job(plan, "score", "model", "test.manifest")
    assert request["MaxPayloadInMB"] * 2**20 >= MAX_BYTES
    assert request["MaxPayloadInMB"] * request["MaxConcurrentTransforms"] <= MAX_MB_IN_FLIGHT


def test_the_model_server_takes_the_largest_file() -> None:
    (payload_mb,) = re.findall(r"^PAYLOAD_MB = (\d+)", (ROOT / "ml/serve.py").read_text(), re.MULTILINE)
    assert int(payload_mb) * 2**20 >= MAX_BYTES


@pytest.mark.slow
def test_the_smallest_picture_goes_all_the_way(channel: Path) -> None:
    path = channel / "moon.png"
    Image.new("L", (MIN_SIDE, MIN_SIDE)).save(path)
    assert isinstance(verify_image(path), VerifiedImage)
    assert read(path, "application/x-image")["shape"] == [64, 64, 3]


def test_what_sync_lets_through_is_read(tmp_path: Path) -> None:
    """Of files with random damage: one that only training or serving refused would be found out after all is paid."""
    noise, grey = random.Random(7), Image.effect_noise((64, 48), 80)
    whole = [encoded(grey, "JPEG"), encoded(grey.convert("RGB"), "JPEG", progressive=True), encoded(grey, "PNG")]
    whole += [encoded(grey.convert("P"), "PNG"), encoded(grey, "MPO", save_all=True, append_images=[grey])]
    taken = 0
    for number in range(600):
        body = bytearray(noise.choice(whole))
        for _ in range(noise.randrange(3)):
            body[noise.randrange(len(body))] = noise.randrange(256)
        (tmp_path / f"{number}").write_bytes(body[: noise.choice([len(body), noise.randrange(1, len(body))])])
        if isinstance(verify_image(tmp_path / f"{number}"), VerifiedImage):
            taken += 1
        else:
            (tmp_path / f"{number}").unlink()
    assert taken > 50
    code = "import pathlib, sys\nfrom pictures import picture\nfor path in pathlib.Path(sys.argv[1]).iterdir():\n"
    code += "    picture.decode(path.read_bytes())"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "ml"), "PYTHONWARNINGS": "error::UserWarning"}
    done = subprocess.run(
        [ROOT / ".venv/ml/bin/python", "-c", code, tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    body = io.BytesIO()
    image.save(body, kind, **options)
    return body.getvalue()
