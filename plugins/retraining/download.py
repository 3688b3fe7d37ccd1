"""One file from an https address, never more than it may be."""

from __future__ import annotations

import urllib.request
from pathlib import Path

BLOCK_BYTES = 1024 * 1024


class DownloadError(ValueError):
    """The file could not be fetched, or must not be."""


def download(url: str, target: Path, max_bytes: int) -> None:
    """Write what lies at `url` to `target`; DownloadError leaves nothing there."""
    if not url.startswith("https://"):
        raise DownloadError(f"{url}: plain http can be changed on the way; use https, or download it yourself.")
    try:
        _fetch(url, target, max_bytes)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise DownloadError(f"{url} cannot be downloaded: {error}.") from error
    except DownloadError:
        target.unlink(missing_ok=True)
        raise


def _fetch(url: str, target: Path, max_bytes: int) -> None:
    total = 0
    with urllib.request.urlopen(url, timeout=60) as answer, target.open("wb") as out:
        if not answer.url.startswith("https://"):
            raise DownloadError(f"{url} leads to {answer.url}, which is not https.")
        while block := answer.read(BLOCK_BYTES):
            total += len(block)
            if total > max_bytes:
                raise DownloadError(f"{url} is larger than {max_bytes} bytes.")
            out.write(block)
