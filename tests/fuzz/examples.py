"""Examples that readers of both interpreters begin from: pictures, weights."""

from __future__ import annotations

import io
import json
import struct

from PIL import Image

SIDE = 24

PICTURE_WORDS = (
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xff\xda",
    b"\xff\xdd",
    b"\xff\xe1",
    b"\xff\xfe",
    b"IDAT",
    b"IEND",
    b"iCCP",
    b"acTL",
)


def pictures() -> list[bytes]:
    """Of each kind that Pillow's decoders know."""
    rgb = Image.new("RGB", (SIDE, SIDE))
    rgb.putdata([(x * 10 % 256, x * 7 % 256, x * 3 % 256) for x in range(SIDE * SIDE)])
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for mode, how in (
        ("RGB", {"format": "JPEG", "exif": exif}),
        ("RGB", {"format": "JPEG", "progressive": True, "comment": b"a comment"}),
        ("CMYK", {"format": "JPEG"}),
        ("RGB", {"format": "PNG", "exif": exif, "dpi": (300, 300)}),
        *((mode, {"format": "PNG"}) for mode in ("L", "P", "RGBA", "1", "LA")),
        *((mode, {"format": "WEBP", "lossless": mode == "RGBA"}) for mode in ("RGB", "RGBA")),
        *(("P", {"format": "GIF", "interlace": interlace}) for interlace in (0, 1)),
        *((mode, {"format": "BMP"}) for mode in ("RGB", "P", "1")),
        *(("RGB", {"format": "TIFF", "compression": packed}) for packed in (None, "tiff_lzw", "jpeg", "packbits")),
    ):
        body = io.BytesIO()
        rgb.convert(mode).save(body, **how)
        made.append(body.getvalue())
    return made


def safetensors() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16)
