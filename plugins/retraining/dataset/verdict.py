"""What one file is found to be: an image that decodes completely, or the reason why it is kept out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VerifiedImage:
    """A file that decodes completely."""

    sha256: str
    extension: str
    """By its first bytes, whatever the file is called: jpg or png."""
    size_bytes: int
    frames: int = 1
    """More for an animation, of which the first picture counts."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A file that is kept out. `code` is for counting, `detail` for the person who repairs the source."""

    code: str
    detail: str


class Damaged(ValueError):
    """Why a file's pixels cannot be had."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.rejected = Rejected(code=code, detail=detail)
