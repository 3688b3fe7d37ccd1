"""How many good pictures the data step refuses: 10,000 files of many encoders, cameras' structures and editors' habits.

    .venv/airflow/bin/python -m bench.good_pictures        (--count N, --seed N)

Every file is a whole picture: made by an encoder from pixels, then dressed as cameras, phones, shops and editors dress
theirs. Pillow's encoders are always there; cjpeg, jpegtran, pnmtojpeg, pnmtopng, convert (ImageMagick), ffmpeg,
optipng, pngcrush, jpegoptim and exiftool join in where this machine has them, and the output says which it found.
There is no peer: none of the usual loaders judges files before a training.
"""

from __future__ import annotations

import argparse
import io
import platform
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "plugins")]

import numpy as np  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

from retraining.dataset.pictures.verify import Rejected, verify_image  # noqa: E402

POOL = 24  # pictures of each encoder; each is then dressed in many ways


# --- what is in the picture -----------------------------------------------------------------------------------------


def scene(seed: int) -> Image.Image:
    """A photograph, a flat or letterboxed one, a drawing or noise, of a size that no block of 8 or 16 divides."""
    random = np.random.default_rng(seed)
    width, height = (int(side) for side in random.integers(17, 180, 2))
    coarse = random.integers(0, 255, (max(2, height // 6), max(2, width // 6), 3), np.uint8)
    photo = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    kind = seed % 6
    if kind == 1:  # padded to a square with grey, as detectors' and shops' tools do
        side = max(width, height) + 16
        square = Image.new("RGB", (side, side), (128, 128, 128))
        square.paste(photo, ((side - width) // 2, (side - height) // 2))
        return square
    if kind == 2:  # a studio's background
        photo.paste((128, 128, 128), (0, height // 3, width, height))
    elif kind == 3:
        ImageDraw.Draw(photo).ellipse((0, 0, width // 2, height // 2), fill=(255, 0, 0), outline=(0, 0, 0))
    elif kind == 4:
        photo = Image.fromarray(random.integers(0, 255, (height, width, 3), np.uint8))
    elif kind == 5:
        photo = Image.new("RGB", (width, height), tuple(int(shade) for shade in random.integers(0, 255, 3)))
    return photo


# --- who wrote it ---------------------------------------------------------------------------------------------------


def pillow(kind: str, mode: str = "RGB", **settings: object) -> Callable[[Image.Image], bytes]:
    def encode(image: Image.Image) -> bytes:
        body = io.BytesIO()
        image.convert(mode).save(body, kind, **settings)
        return body.getvalue()

    return encode


def with_second_picture(image: Image.Image) -> bytes:
    body = io.BytesIO()
    thumbnail = image.resize((max(16, image.width // 3), max(16, image.height // 3)))
    image.save(body, "MPO", save_all=True, append_images=[thumbnail])
    return body.getvalue()


def animation(image: Image.Image) -> bytes:
    body = io.BytesIO()
    image.save(body, "PNG", save_all=True, append_images=[image.rotate(180)])
    return body.getvalue()


def with_clear_colour(image: Image.Image) -> bytes:
    body = io.BytesIO()
    image.quantize(16).save(body, "PNG", transparency=3)
    return body.getvalue()


PILLOW: dict[str, Callable[[Image.Image], bytes]] = {
    **{f"Pillow JPEG q{quality}": pillow("JPEG", quality=quality) for quality in (5, 50, 75, 95, 100)},
    "Pillow JPEG 4:4:4": pillow("JPEG", subsampling=0),
    "Pillow JPEG 4:2:2": pillow("JPEG", subsampling=1),
    "Pillow JPEG optimised": pillow("JPEG", optimize=True),
    "Pillow JPEG progressive": pillow("JPEG", progressive=True, quality=90),
    "Pillow JPEG restarts by row": pillow("JPEG", restart_marker_rows=1),
    "Pillow JPEG restarts by block": pillow("JPEG", restart_marker_blocks=2),
    "Pillow JPEG restarts, progressive": pillow("JPEG", restart_marker_blocks=3, progressive=True),
    "Pillow JPEG kept RGB": pillow("JPEG", keep_rgb=True),
    "Pillow JPEG grey": pillow("JPEG", "L"),
    "Pillow JPEG grey progressive": pillow("JPEG", "L", progressive=True),
    "Pillow JPEG CMYK": pillow("JPEG", "CMYK"),
    "Pillow JPEG of web's tables": pillow("JPEG", quality="web_low"),
    "Pillow MPO": with_second_picture,
    "Pillow PNG": pillow("PNG"),
    "Pillow PNG stored": pillow("PNG", compress_level=0),
    "Pillow PNG optimised": pillow("PNG", optimize=True),
    "Pillow PNG RGBA": pillow("PNG", "RGBA"),
    "Pillow PNG grey": pillow("PNG", "L"),
    "Pillow PNG grey and alpha": pillow("PNG", "LA"),
    "Pillow PNG palette": pillow("PNG", "P"),
    "Pillow PNG two colours": pillow("PNG", "1"),
    "Pillow PNG clear colour": with_clear_colour,
    "Pillow APNG": animation,
}

JPEGTRAN = [["-progressive"], ["-optimize", "-rotate", "90"], ["-restart", "1B"], ["-copy", "none", "-grayscale"]]
# Tool → its command lines; {in} is a PPM, {out} the file it must write, absent where it writes to its output.
TOOLS: dict[str, list[list[str]]] = {
    "cjpeg": [
        *(["-quality", "90", *more] for more in ([], ["-optimize"], ["-progressive"], ["-sample", "1x2"])),
        *([*more] for more in (["-dct", "float"], ["-restart", "1"], ["-grayscale"], ["-rgb"], ["-smooth", "20"])),
        ["-quality", "60", "-sample", "4x1"],
    ],
    "pnmtojpeg": [[], ["--progressive"], ["--optimize", "--quality=30"]],
    "pnmtopng": [[], ["-interlace"], ["-text", "/dev/null"]],
    "convert": [
        ["{in}", *more]
        for more in (
            ["jpg:{out}"], ["-quality", "92", "-interlace", "Plane", "jpg:{out}"], ["-colorspace", "Gray", "jpg:{out}"],
            ["-sampling-factor", "4:2:0", "jpg:{out}"], ["-colorspace", "CMYK", "jpg:{out}"],
            ["-interlace", "PNG", "png:{out}"], ["-type", "Palette", "png:{out}"], ["png8:{out}"], ["png24:{out}"],
            ["-comment", "made by hand", "-density", "300", "jpg:{out}"],
        )
    ],
    "ffmpeg": [
        ["-loglevel", "error", "-y", "-i", "{in}", *more, "{out}"]
        for more in (
            ["-f", "image2", "-c:v", "mjpeg", "-q:v", "3"], ["-f", "image2", "-c:v", "mjpeg", "-pix_fmt", "yuvj444p"],
            ["-f", "image2", "-c:v", "png"], ["-f", "image2", "-c:v", "png", "-pix_fmt", "pal8"],
        )
    ],
}  # fmt: skip
# Those that work on a file of another encoder.
REWRITERS: dict[str, tuple[str, list[list[str]]]] = {
    "jpegtran": ("jpg", [[*more, "-outfile", "{out}", "{in}"] for more in JPEGTRAN]),
    "jpegoptim": ("jpg", [["-q", "--stdout", "{in}"], ["-q", "--all-progressive", "--stdout", "{in}"]]),
    "optipng": ("png", [["-quiet", "-o1", "-out", "{out}", "{in}"], ["-quiet", "-i1", "-out", "{out}", "{in}"]]),
    "pngcrush": ("png", [["-q", "{in}", "{out}"], ["-q", "-brute", "{in}", "{out}"]]),
    "exiftool": (
        "jpg",
        [
            ["-q", "-o", "{out}", *more, "{in}"]
            for more in (
                ["-Make=Canon", "-Model=Canon EOS R5", "-Orientation#=6", "-Artist=somebody", "-DateTimeOriginal=now"],
                ["-GPSLatitude=48.1", "-GPSLongitude=11.5", "-XMP:Title=ünï", "-IPTC:Keywords=dog"],
                ["-ThumbnailImage<={in}", "-Make=NIKON CORPORATION", "-UserComment=ça va"],
            )
        ],
    ),
}


def run_tool(tool: str, arguments: list[str], picture: bytes, suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / f"in.{suffix}", Path(folder) / f"out.{suffix if suffix != 'ppm' else 'bin'}"
        source.write_bytes(picture)
        filled = [part.replace("{in}", str(source)).replace("{out}", str(target)) for part in arguments]
        named = any("{in}" in part for part in arguments)
        done = subprocess.run([tool, *filled], input=None if named else picture, capture_output=True, check=False)
        if done.returncode:
            return b""  # not every tool takes every picture; another one is tried then
        return target.read_bytes() if target.exists() else done.stdout


def encoders() -> dict[str, Callable[[Image.Image], bytes]]:
    """All that this machine has; each is one way of writing a file."""
    found = dict(PILLOW)
    for tool, ways in TOOLS.items():
        if shutil.which(tool):
            for number, arguments in enumerate(ways):
                found[f"{tool} {number}"] = _of_tool(tool, arguments, pillow("PPM"), "ppm")
    for tool, (suffix, ways) in REWRITERS.items():
        if shutil.which(tool):
            first = pillow("JPEG", quality=88) if suffix == "jpg" else pillow("PNG")
            for number, arguments in enumerate(ways):
                found[f"{tool} {number}"] = _of_tool(tool, arguments, first, suffix)
    # A version that does not know an option is left out whole.
    return {name: encode for name, encode in found.items() if encode(scene(0))}


def _of_tool(
    tool: str, arguments: list[str], first: Callable[[Image.Image], bytes], suffix: str
) -> Callable[[Image.Image], bytes]:
    return lambda image: run_tool(tool, arguments, first(image), suffix)


# --- how cameras, phones and editors dress it -----------------------------------------------------------------------


def segment(kind: int, content: bytes) -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(content) + 2) + content


def exif(order: str, entries: int, *, claimed: int | None = None, extra: bytes = b"") -> bytes:
    """A TIFF directory of some entries, which may claim to have others."""
    sign = "<" if order == "II" else ">"
    tags = [(0x010F, 2, 4, b"Cam\0"), (0x0112, 3, 1, struct.pack(sign + "HH", 6, 0)), (0x0128, 3, 1, b"\2\0\0\0")]
    body = b"".join(struct.pack(sign + "HHI", *tags[n % 3][:3]) + tags[n % 3][3] for n in range(entries))
    head = order.encode() + struct.pack(sign + "HI", 42, 8)
    return head + struct.pack(sign + "H", entries if claimed is None else claimed) + body + b"\0\0\0\0" + extra


def dressed(content: bytes, *, kind: int = 0xE1, behind: bytes = b"") -> Callable[[bytes, random.Random], bytes]:
    return lambda body, _: body[:2] + segment(kind, content) + body[2:] + behind


def before_jfif_gone(content: bytes) -> Callable[[bytes, random.Random], bytes]:
    """Cameras write EXIF in JFIF's place, not behind it."""

    def dress(body: bytes, _: random.Random) -> bytes:
        size = int.from_bytes(body[4:6]) + 2 if body[2:4] == b"\xff\xe0" else 0
        return body[:2] + segment(0xE1, content) + body[2 + size :]

    return dress


EXIF = b"Exif\0\0"
ICC = b"ICC_PROFILE\0\1\1"
PHOTOSHOP = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", 0x03ED, 0, 16) + b"\0\x48\0\0\0\1\0\1\0\x48\0\0\0\1\0\1"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
FILM = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(range(256)) * 8 + b"\xff\xd8\xff\xd9\xff\xda\0"

JPEG_DRESSES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "as it is": lambda body, _: body,
    "EXIF, little-endian": dressed(EXIF + exif("II", 3)),
    "EXIF, big-endian, no JFIF": before_jfif_gone(EXIF + exif("MM", 3)),
    "EXIF cut short": dressed(EXIF + exif("II", 1, claimed=5)[:-4]),
    "EXIF cut short, no JFIF": before_jfif_gone(EXIF + exif("II", 1, claimed=200)[:-4]),
    "EXIF offset out of the block": before_jfif_gone(EXIF + b"MM\0*\x7f\xff\xff\xff"),
    "EXIF of eight bytes": before_jfif_gone(EXIF + b"II*\0\x08\0\0\0"),
    "EXIF that is none": before_jfif_gone(EXIF + b"\0" * 40),
    "EXIF, empty": before_jfif_gone(EXIF),
    "EXIF twice": lambda body, _: body[:2] + segment(0xE1, EXIF + exif("II", 2)) * 2 + body[2:],
    "EXIF, thumbnail": dressed(EXIF + exif("II", 2, extra=b"\xff\xd8\xff\xc0\0\x04ab\xff\xda\0\x02cut\xff\xd9")),
    "maker's note": dressed(EXIF + exif("MM", 3, extra=b"Nikon\0\2\x10\0\0MM\0*" + bytes(range(256)) * 9)),
    "XMP": dressed(XMP + b"<x:xmpmeta xmlns:x='adobe:ns:meta/'></x:xmpmeta>"),
    "XMP that is broken": dressed(XMP + b"<x:xmpmeta <<< \xff\xfe"),
    "XMP, Ultra HDR": dressed(XMP + b'<rdf:Description hdrgm:Version="1.0"/>', behind=b"\xff\xd8\xff\xe0gain map"),
    "profile": dressed(ICC + b"\0" * 128, kind=0xE2),
    "profile of which parts are missing": dressed(b"ICC_PROFILE\0\2\7" + b"\0" * 64, kind=0xE2),
    "Photoshop's block": dressed(PHOTOSHOP, kind=0xED),
    "Photoshop's block cut short": dressed(PHOTOSHOP[:-9], kind=0xED),
    "a list of pictures that is broken": dressed(b"MPF\0II*\0\x08\0\0\0\x03\0" + b"\xff" * 20, kind=0xE2),
    "a list of pictures that is empty": dressed(b"MPF\0", kind=0xE2),
    "FlashPix": dressed(b"FPXR\0\0\1" + b"\0" * 30, kind=0xE2),
    "a note": dressed("Ça, λ, 猫".encode(), kind=0xFE),
    "a note in Latin-1": dressed(b"\xe9\xff\xd9\xff\xda", kind=0xFE),
    "ducky": dressed(b"Ducky\0\1\0\4\0\0\0\x3c\0\0", kind=0xEC),
    "a film behind it": lambda body, _: body + FILM,
    "zeros behind it": lambda body, _: body + bytes(4096),
    "a second picture behind it": lambda body, _: body + body[: len(body) // 2],
    "Samsung's trailer": lambda body, _: body + b"\0\0\1\x0a\x0e\0\0\0Image_UTC_Data1700000000000SEFHk\0\0\0SEFT",
    "a newline behind it": lambda body, _: body + b"\r\n",
    "fill bytes before markers": lambda body, _: body[:2] + b"\xff\xff" + body[2:-2] + b"\xff\xff\xff" + body[-2:],
}


def chunk(kind: bytes, content: bytes, wrong: int = 0) -> bytes:
    return len(content).to_bytes(4) + kind + content + (zlib.crc32(kind + content) ^ wrong).to_bytes(4)


def with_chunks(*chunks: bytes) -> Callable[[bytes, random.Random], bytes]:
    return lambda body, _: body[:33] + b"".join(chunks) + body[33:]


def split_data(body: bytes, random: random.Random) -> bytes:
    """IDAT in many pieces, some of them empty."""
    out, at = [body[:8]], 8
    while at < len(body):
        size, kind = int.from_bytes(body[at : at + 4]), body[at + 4 : at + 8]
        content = body[at + 8 : at + 8 + size]
        pieces = [content[n : n + 97] for n in range(0, size, 97)] + [b""] if kind == b"IDAT" else [content]
        out += [chunk(kind, piece) for piece in pieces]
        at += 12 + size
    return b"".join(out)


PNG_DRESSES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "as it is": lambda body, _: body,
    "a text": with_chunks(chunk(b"tEXt", b"Software\0paint")),
    "a text with a wrong checksum": with_chunks(chunk(b"tEXt", b"Comment\0x", wrong=1)),
    "a large text": with_chunks(chunk(b"zTXt", b"c\0\0" + zlib.compress(b"x" * 5_000_000))),
    "a large international text": with_chunks(chunk(b"iTXt", b"c\0\1\0\0\0" + zlib.compress(b"y" * 3_000_000))),
    "a text that does not unpack": with_chunks(chunk(b"zTXt", b"c\0\0not zlib")),
    "a profile": with_chunks(chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(b"\0" * 200))),
    "a profile with a wrong checksum": with_chunks(chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(b"\0"), wrong=9)),
    "a profile that does not unpack": with_chunks(chunk(b"iCCP", b"x\0\0nothing")),
    "EXIF": with_chunks(chunk(b"eXIf", exif("MM", 3))),
    "EXIF cut short": with_chunks(chunk(b"eXIf", exif("MM", 1, claimed=9)[:-4])),
    "gamma and physical size": with_chunks(chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"pHYs", b"\0" * 9)),
    "short chunks": with_chunks(chunk(b"gAMA", b"\0"), chunk(b"pHYs", b"\0"), chunk(b"cHRM", b"")),
    "chunks of its maker": with_chunks(
        chunk(b"vpAg", b"\0" * 9), chunk(b"iDOT", b"\0" * 28), chunk(b"mkBT", b"?" * 99)
    ),
    "data in pieces": split_data,
    "no end": lambda body, _: body[:-12],
    "bytes behind its end": lambda body, _: body + b"\0" * 100 + b"PK",
}


def good_pictures(
    count: int, ways: dict[str, Callable[[Image.Image], bytes]], seed: int = 0
) -> Iterator[tuple[str, bytes]]:
    """(what it is, its bytes), the encoders in turn, each picture dressed anew."""
    pools: dict[str, list[bytes]] = {}
    names, random_ = list(ways), random.Random(seed)
    for number in range(count):
        name, turn = names[number % len(names)], number // len(names)
        pool = pools.setdefault(name, [])
        if len(pool) < POOL and (made := ways[name](scene(seed * 1009 + number))):
            pool.append(made)
        body = pool[turn % len(pool)]
        dresses = PNG_DRESSES if body.startswith(b"\x89PNG") else JPEG_DRESSES
        dress = list(dresses)[(turn + number) % len(dresses)]
        yield f"{name}; {dress}", dresses[dress](body, random_)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    ways, refused, digests = encoders(), Counter[str](), set()
    tools = [tool for tool in (*TOOLS, *REWRITERS) if shutil.which(tool)]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        for what, body in good_pictures(settings.count, ways, settings.seed):
            path.write_bytes(body)
            verdict = verify_image(path)
            if isinstance(verdict, Rejected):
                refused[f"{what}: {verdict.code}, {verdict.detail}"] += 1
            else:
                digests.add(verdict.sha256)
    print(
        f"{len(ways)} encoders and settings, of Pillow {Image.__version__} and of {', '.join(tools) or 'nothing else'};"
    )
    print(f"{len(JPEG_DRESSES)} ways to dress a JPEG, {len(PNG_DRESSES)} to dress a PNG; seed {settings.seed}")
    print(f"refused {sum(refused.values())} of {settings.count} good files ({len(digests)} different)")
    for what, times in refused.most_common(40):
        print(f"  {times} x {what}")
    print(f"{time.perf_counter() - started:.0f} s, {platform.machine()}, Python {platform.python_version()}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
