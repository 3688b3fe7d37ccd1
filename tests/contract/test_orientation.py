"""Small pictures are the way up that training and an endpoint see."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from retraining.dataset.pictures.orientation import ORIENTATION, orientation_of
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
READ = """
import json, sys
from pathlib import Path
from pictures.picture import open_header, orientation
print(json.dumps([orientation(open_header(Path(path).read_bytes())) or 1 for path in json.load(sys.stdin)]))
"""
CUT = b"Exif\0\0II*\0" + struct.pack("<IHHHIHH", 8, 5, ORIENTATION, 3, 1, 6, 0)
"""One entry of the five it names."""


def files() -> list[bytes]:
    """Every orientation there is, and some there are not, in each way of saying so."""
    made = [saved("JPEG", exif=CUT), saved("JPEG", exif=b"Exif\0\0xx"), saved("PNG", exif=CUT)]
    for number in range(10):
        exif = Image.Exif()
        exif[271], exif[ORIENTATION] = "maker", number
        exif.endian = "<>"[number % 2]
        xmp = b'<rdf:Description tiff:Orientation="%d"/>' % number
        made += [saved("JPEG", exif=exif), saved("PNG", exif=exif), saved("JPEG", xmp=xmp)]
        made.append(saved("JPEG", exif=exif, xmp=b'<rdf:Description tiff:Orientation="3"/>'))
    return made


def saved(kind: str, **notes: object) -> bytes:
    body = io.BytesIO()
    Image.new("L", (30, 20)).save(body, kind, **notes)
    return body.getvalue()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_both_sides_read_the_same_orientation(tmp_path: Path) -> None:
    paths, here = [], []
    for number, body in enumerate(files()):
        paths.append(str(tmp_path / str(number)))
        Path(paths[-1]).write_bytes(body)
        with Image.open(paths[-1]) as image:
            image.load()
            here.append(orientation_of(image.info))
    done = subprocess.run(
        [ROOT / ".venv/ml/bin/python", "-c", READ],
        env=os.environ | {"PYTHONPATH": str(ROOT / "ml")},
        input=json.dumps(paths), capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    there = json.loads(done.stdout)
    assert [one or 1 for one in here] == there
    assert set(range(1, 9)) <= set(there)
