"""Which rules decide about a picture: those of this code, and of this Pillow."""

from __future__ import annotations

import hashlib
from pathlib import Path

from retraining.dataset.pictures import convert, jpeg, limits, orientation, png, thumb, verify


def rules() -> str:
    """Digest of what decides about a picture; verdicts of other rules are not remembered, nor taken from a job."""
    import PIL  # which no DAG file should wait for

    code = b"".join(
        Path(str(module.__file__)).read_bytes() for module in (convert, jpeg, limits, orientation, png, thumb, verify)
    )
    return hashlib.sha256(code + PIL.__version__.encode()).hexdigest()[:20]
