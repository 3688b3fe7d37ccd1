"""A BMP file. Pillow decodes its run-length kind in Python, a step for two bytes, while no other thread gets on."""

from __future__ import annotations

import io
import re

from PIL.BmpImagePlugin import BmpImageFile

from pictures.bad_image import BadImage

# With the size of its header, since texts begin with BM as well.
SIGNATURE = re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)
MAX_RUNS_BYTES = 2**20
RLE8, RLE4 = 1, 2


def read(body: bytes) -> BmpImageFile:
    """Its header. Raises BadImage, and whatever Pillow does for a broken one."""
    if int.from_bytes(body[30:34], "little") in (RLE8, RLE4) and len(body) > MAX_RUNS_BYTES:
        raise BadImage(
            "TOO_MANY_BYTES", f"a run-length BMP of {len(body):,} bytes; at most {MAX_RUNS_BYTES:,}: save it as PNG"
        )
    return BmpImageFile(io.BytesIO(body))
