"""A file at the endpoint is the picture that training got of it, in every format that sync reads."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retraining.dataset.pictures.verify import VerifiedImage, verify_image
from retraining.requests.sagemaker import IMAGE_TYPES
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
SIDE = 40
#: Both files of each pair as an endpoint sees them -> the greatest difference.
READ = """
import json, sys
from pathlib import Path
import numpy
from pictures.request import read_request
pixels = lambda path: read_request(Path(path).read_bytes(), "application/x-image").decoded(40).pixels.astype(int)
print(json.dumps({name: int(abs(pixels(a) - pixels(b)).max()) for name, (a, b) in json.load(sys.stdin).items()}))
"""


def noise(mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(3).integers(0, 256, (60, 90, len(Image.new(mode, (1, 1)).getbands())))
    if mode in ("P", "1"):
        return noise("RGB").convert(mode)
    return Image.fromarray(values.astype(np.uint8).squeeze(), mode)


def deep() -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 65536, (60, 90)).astype(np.uint16))


def big_endian() -> Image.Image:
    """As ImageJ writes its numbers."""
    return Image.frombytes("I;16B", (90, 60), np.asarray(deep()).astype(">u2").tobytes())


def sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 8
    return exif


LATER = {"save_all": True, "append_images": [Image.new("RGB", (90, 60))]}
FILES: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
    "webp": (noise(), "WEBP", {"quality": 70}),
    "webp lossless": (noise(), "WEBP", {"lossless": True}),
    "webp with alpha": (noise("RGBA"), "WEBP", {"lossless": True, "exact": True}),
    "webp animated": (noise(), "WEBP", LATER),
    "webp sideways": (noise(), "WEBP", {"exif": sideways()}),
    "gif": (noise("P"), "GIF", {}),
    "gif grey": (noise("L"), "GIF", {}),
    "gif transparent": (noise("P"), "GIF", {"transparency": 7}),
    "gif animated": (noise("P"), "GIF", LATER),
    "gif interlaced": (noise("P"), "GIF", {"interlace": 1}),
    "bmp": (noise(), "BMP", {}),
    "bmp grey": (noise("L"), "BMP", {}),
    "bmp palette": (noise("P"), "BMP", {}),
    "bmp with alpha": (noise("RGBA"), "BMP", {}),
    "bmp black and white": (noise("1"), "BMP", {}),
    "tiff": (noise(), "TIFF", {}),
    "tiff lzw": (noise(), "TIFF", {"compression": "tiff_lzw"}),
    "tiff deflate": (noise("RGBA"), "TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff jpeg": (noise(), "TIFF", {"compression": "jpeg"}),
    "tiff ink": (noise("CMYK"), "TIFF", {}),
    "tiff black and white": (noise("1"), "TIFF", {"compression": "packbits"}),
    "tiff 16 bits": (deep(), "TIFF", {}),
    "tiff 16 bits, big-endian": (big_endian(), "TIFF", {}),
    "tiff 16 bits, white is zero": (deep(), "TIFF", {"tiffinfo": {262: 0}}),
    "tiff 8 bits, white is zero": (noise("L"), "TIFF", {"tiffinfo": {262: 0}}),
    "tiff sideways": (noise(), "TIFF", {"exif": sideways()}),
    "tiff of pages": (noise(), "TIFF", LATER),
    "png": (noise(), "PNG", {}),
    "png 16 bits": (deep(), "PNG", {}),
    "jpeg ink": (noise("CMYK"), "JPEG", {}),
    "jpeg sideways": (noise(), "JPEG", {"exif": sideways()}),
}


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    folder, pairs = tmp_path_factory.mktemp("formats"), {}
    for name, (image, kind, how) in FILES.items():
        path = folder / name
        image.save(path, kind, **how)
        verdict = verify_image(path, folder)
        assert isinstance(verdict, VerifiedImage), (name, verdict)
        pairs[name] = (str(path), str(folder / verdict.sha256 if verdict.original else path))
    done = subprocess.run(
        [ROOT / ".venv/ml/bin/python", "-c", READ],
        env=os.environ | {"PYTHONPATH": str(ROOT / "ml"), "PYTHONWARNINGS": "error::UserWarning"},
        input=json.dumps(pairs), capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", FILES)
def test_training_and_endpoint_see_the_same(differences: dict[str, int], name: str) -> None:
    assert differences[name] == 0


def test_the_registry_names_what_an_endpoint_reads() -> None:
    code = "from pictures.picture import CONTENT_TYPES; print(*CONTENT_TYPES)"
    python, environment = ROOT / ".venv/ml/bin/python", os.environ | {"PYTHONPATH": str(ROOT / "ml")}
    read = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert tuple(read.stdout.split()) == IMAGE_TYPES
