"""What one file is found to be: an image that decodes completely, or the reason why it is kept out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """What a picture was before it was converted."""

    format: str
    sha256: str
    rules: str
    """How it was converted; other rules make another picture of the same file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifiedImage:
    """A file that decodes completely."""

    sha256: str
    """Of what training gets: of the file, or of the PNG it was converted to."""
    extension: str
    """By its first bytes, whatever the file is called: jpg or png."""
    size_bytes: int
    frames: int = 1
    """More for an animation, of which the first picture counts."""
    original: Original | None = None
    thumb: str = field(default="", compare=False, repr=False)
    """See `thumb`; only where the file was just read."""

    @property
    def identity(self) -> str:
        """What the picture is the same by, anywhere. Not the PNG's own digest: the next zlib packs it otherwise."""
        if self.original is None:
            return self.sha256
        return hashlib.sha256(f"{self.original.rules}:{self.original.sha256}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A file that is kept out. `code` is for counting, `detail` for the person who repairs the source."""

    code: str
    detail: str
    sha256: str | None = None
    """Of the file, where it was read."""


class Damaged(ValueError):
    """Why a file's pixels cannot be had."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.rejected = Rejected(code=code, detail=detail)
