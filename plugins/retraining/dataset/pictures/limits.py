"""What a usable picture is, on this side. ml/pictures/picture.py has the same pixels; a contract test compares.

A source may hold what phones and cameras make: 108 and 50 megapixels are sold, and panoramas are long.
"""

from __future__ import annotations

MAX_BYTES = 25 * 1024**2
"""Of one file: what SageMaker takes as the body of one real-time request."""
MAX_PIXELS = 120_000_000
"""Width by height. A 108-megapixel phone's picture fits."""
MAX_SIDE = 32_768
"""Of either side, in pixels."""
MIN_SIDE = 16
"""Of either side, in pixels."""
MAX_SCANNED = 12 * MAX_PIXELS
"""Pixels times scans of one JPEG: encoders write about ten scans, and one of thousands is decoded for minutes."""
MAX_SEGMENTS = 2_000
"""Of a JPEG; a camera's has some hundreds, and Pillow reads each in turn."""
MAX_CHUNKS = 50_000
"""Of a PNG; editors write its pixels in chunks of 8 kB or more, which are 3,300 at most."""
