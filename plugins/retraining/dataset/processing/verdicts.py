"""Verdicts in files of JSON lines: what a container writes, and what of it is believed. Pure.

The first line says by which rules they were found, the last how many there are and the digest of all before, so that a
file which was cut, or is another's, is seen. What a container says was made by decoders that strangers' files steered:
a verdict counts only where each of its members is what it must be.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from retraining.dataset.pictures.convert import RULES as CONVERSION
from retraining.dataset.pictures.limits import MAX_BYTES
from retraining.dataset.pictures.thumb import BYTES as THUMB_BYTES
from retraining.dataset.pictures.verdict import Original, Rejected, VerifiedImage

FORMAT = 1
LINES = 5_000
"""Verdicts of one file, at most."""
MAX_FILE_BYTES = LINES * 16 * 1024
MAX_DETAIL, MAX_FRAMES = 8_000, 2**31
CONVERTED = ("BMP", "GIF", "TIFF", "WebP")
"""What `convert` calls the formats that it reads."""
SHA256 = re.compile(r"[0-9a-f]{64}")
CODE = re.compile(r"[A-Z][A-Z0-9_]{1,39}")

Verdict = VerifiedImage | Rejected


class VerdictsError(ValueError):
    """What a job left cannot be believed."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was found of one file."""

    name: str
    """As the source calls it."""
    size_bytes: int | None
    """None where its process did not live to tell: another sync looks at it again."""
    verdict: Verdict


def written(rules: str, rows: Iterable[Row]) -> bytes:
    """A whole file; at most LINES rows."""
    lines = [{"format": FORMAT, "rules": rules}, *map(_line, rows)]
    body = b"".join(f"{json.dumps(line, separators=(',', ':'))}\n".encode() for line in lines)
    return body + _end(len(lines) - 1, hashlib.sha256(body).hexdigest())


def read(body: bytes, rules: str) -> list[Row]:
    """Raises VerdictsError for anything that `written` does not write."""
    try:
        return list(_rows(body, rules))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise VerdictsError(str(error) or type(error).__name__) from None


def _line(row: Row) -> dict[str, Any]:
    said = {"name": row.name, "size": row.size_bytes}
    if isinstance(row.verdict, VerifiedImage):
        return said | {"image": asdict(row.verdict)}
    return said | {"rejected": asdict(row.verdict) | {"detail": row.verdict.detail[:MAX_DETAIL]}}


def _end(count: int, sha256: str) -> bytes:
    return f"{json.dumps({'count': count, 'sha256': sha256})}\n".encode()


def _rows(body: bytes, rules: str) -> Iterator[Row]:
    above, newline, last = body.removesuffix(b"\n").rpartition(b"\n")
    count, digest = above.count(b"\n"), hashlib.sha256(above + newline).hexdigest()
    if last + b"\n" != _end(count, digest):
        raise ValueError("it was cut, or changed since it was written")
    lines = [json.loads(line) for line in above.split(b"\n")]
    if lines[0] != {"format": FORMAT, "rules": rules}:
        raise ValueError(f"it was written by other rules than {rules}: {lines[0]!r:.200}")
    yield from map(_row, lines[1:])


def _row(line: Mapping[str, Any]) -> Row:
    (kind,) = line.keys() - {"name", "size"}
    name, size = line["name"], line["size"]
    _require(isinstance(name, str), "name", name)
    _require(size is None or _is_number(size, MAX_BYTES), "size", size)
    readers: dict[str, Callable[[Mapping[str, Any]], Verdict]] = {"image": _image, "rejected": _rejected}
    return Row(name=name, size_bytes=size, verdict=readers[kind](line[kind]))


def _image(said: Mapping[str, Any]) -> VerifiedImage:
    _require(_is_digest(said["sha256"]), "sha256", said["sha256"])
    _require(said["extension"] in ("jpg", "png"), "extension", said["extension"])
    _require(_is_number(said["size_bytes"], MAX_BYTES), "size_bytes", said["size_bytes"])
    _require(_is_number(said["frames"], MAX_FRAMES) and said["frames"] > 0, "frames", said["frames"])
    _require(len(base64.b64decode(said["thumb"], validate=True)) == THUMB_BYTES, "thumb", said["thumb"])
    original = said["original"]
    if original is not None:
        _require(original["format"] in CONVERTED, "format", original["format"])
        _require(_is_digest(original["sha256"]), "sha256", original["sha256"])
        _require(original["rules"] == CONVERSION, "rules", original["rules"])
        _require(said["extension"] == "png", "extension", said["extension"])
        original = Original(**original)
    return VerifiedImage(**{**said, "original": original})


def _rejected(said: Mapping[str, Any]) -> Rejected:
    _require(isinstance(said["code"], str) and CODE.fullmatch(said["code"]) is not None, "code", said["code"])
    _require(isinstance(said["detail"], str) and len(said["detail"]) <= MAX_DETAIL, "detail", said["detail"])
    _require(said["sha256"] is None or _is_digest(said["sha256"]), "sha256", said["sha256"])
    return Rejected(**said)


def _require(holds: bool, what: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{what} = {value!r:.200} is none")


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and SHA256.fullmatch(value) is not None


def _is_number(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most
