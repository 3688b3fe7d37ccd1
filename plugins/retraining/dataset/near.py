"""Which images are nearly the same picture: saved anew, resized, brightened, or cropped by a twentieth. Pure.

Two thumbs are compared by the correlation of what is left of them without their coarsest shades, the best of eleven
crops of either. How much correlation means something depends on the data: any two X-rays, or two written zeros, are
alike. So a pair counts only where it stands out: both must be clearly further from the next others than from each
other, in Fisher's z (atanh of the correlation). `make bench-near` counts what is found, and what
is taken for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from retraining.dataset.thumb import BYTES, SIDE

# When rules below change, so does `likeness.RULES`.
MIN_CORRELATION, MIN_GAP = 0.9, 1.2
"""A pair's, and by how much it must exceed, in z, that of its images with their OTHERS-th next."""
OTHERS = 10
CANDIDATES = 24
"""Of each image, by a coarser comparison of all with all."""
COARSE, FINE = 10, 20
"""Pixels a side of what is compared."""
MIN_DEVIATION = 2.0
"""Grey levels: plainer images are like all other plain ones."""
MIN_SPREAD = 0.08
"""Share of the pixels that make an image what it is: two edges at the same place are no copies."""
MAX_TINT, DARK = 0.06, 24
"""Shares of red, green and blue may differ by so much: the same shapes in another colour are another thing."""
BLOCK = 1024
CUT = 0.05

Thumbs = NDArray[np.uint8]
Floats = NDArray[np.float32]
Window = tuple[tuple[float, float], tuple[float, float]]


def near_duplicates(bodies: Thumbs) -> list[list[int]]:
    """Clusters of two and more of (N, BYTES of a thumb), each sorted; time grows with the square of N."""
    thumbs, colours = bodies[:, :-3].reshape(len(bodies), SIDE, SIDE), bodies[:, -3:].astype(np.float32)
    told = np.flatnonzero(_tells(thumbs))
    if len(told) < 2:
        return []
    tints = colours / (colours.sum(axis=1, keepdims=True) + DARK)
    pairs = ((int(told[a]), int(told[b])) for a, b in _pairs(thumbs[told].astype(np.float32)))
    return _clusters([(a, b) for a, b in pairs if np.abs(tints[a] - tints[b]).max() <= MAX_TINT])


def _pairs(thumbs: Floats) -> Iterator[tuple[int, int]]:
    candidates = _candidates(thumbs)
    z = np.arctanh(np.clip(_compared(thumbs, candidates), -0.9999, 0.9999))
    nearest = -np.sort(-z, axis=1)
    background = nearest[:, min(OTHERS, z.shape[1]) - 1] if z.shape[1] >= OTHERS else np.zeros(len(z), np.float32)
    for a, b in zip(*np.nonzero(z >= np.arctanh(MIN_CORRELATION)), strict=True):
        other = candidates[a, b]
        if z[a, b] - max(background[a], background[other]) >= MIN_GAP:
            yield int(a), int(other)


def _candidates(thumbs: Floats) -> NDArray[np.intp]:
    """(N, up to CANDIDATES): the images most like each, without itself."""
    count = min(CANDIDATES, len(thumbs) - 1)
    whole = _features(thumbs, WINDOWS[0], COARSE)
    found = np.empty((len(thumbs), count), np.intp)
    views = [_features(thumbs, window, COARSE) for window in COARSE_WINDOWS]
    for start in range(0, len(thumbs), BLOCK):
        block = slice(start, start + BLOCK)
        best = whole[block] @ whole.T
        for view in views:
            np.maximum(best, view[block] @ whole.T, out=best)
            np.maximum(best, whole[block] @ view.T, out=best)
        rows = np.arange(len(best))
        best[rows, rows + start] = -2
        found[block] = np.argpartition(-best, count - 1, axis=1)[:, :count]
    return found


def _compared(thumbs: Floats, candidates: NDArray[np.intp]) -> Floats:
    """Correlation of each image with each of its candidates, at the best of the windows."""
    whole = _features(thumbs, WINDOWS[0], FINE)
    best = np.full(candidates.shape, -1, np.float32)
    for window in WINDOWS:
        view = _features(thumbs, window, FINE)
        for start in range(0, len(thumbs), BLOCK):
            block = slice(start, start + BLOCK)
            others = candidates[block]
            for one, other in ((view[block], whole), (whole[block], view)):
                best[block] = np.maximum(best[block], np.einsum("nd,nkd->nk", one, other[others], optimize=True))
    return best


def _tells(thumbs: Thumbs) -> NDArray[np.bool_]:
    """Whether an image has enough in it to be told from others."""
    details = _without_shades(_seen(thumbs.astype(np.float32), WINDOWS[0], FINE))
    squares = details**2
    deviation = np.sqrt(squares.mean(axis=1))
    spread = squares.mean(axis=1) ** 2 / np.maximum((squares**2).mean(axis=1), 1e-12)
    return np.asarray((deviation >= MIN_DEVIATION) & (spread >= MIN_SPREAD))


def _features(thumbs: Floats, window: Window, side: int) -> Floats:
    """(N, side * side), each of length one."""
    details = _without_shades(_seen(thumbs, window, side))
    return np.asarray(details / np.maximum(np.linalg.norm(details, axis=1, keepdims=True), 1e-6), np.float32)


def _without_shades(views: Floats) -> Floats:
    side = views.shape[1]
    blur = _blur(side)
    details = (views - 0.8 * (blur @ views @ blur.T)).reshape(len(views), side * side)
    return np.asarray(details - details.mean(axis=1, keepdims=True))


def _seen(thumbs: Floats, window: Window, side: int) -> Floats:
    """(N, side, side) of what lies within a window, given as shares of the height and of the width."""
    rows, columns = (_axis(thumbs.shape[1], part, side) for part in window)
    return np.asarray(rows @ thumbs @ columns.T)


def _axis(pixels: int, part: tuple[float, float], side: int) -> Floats:
    """(side, pixels): weights that sample a part of a row three times for each pixel of the result."""
    begin, end = part
    weights, each = np.zeros((side, pixels), np.float32), np.arange(side)
    for offset in (-1 / 3, 0, 1 / 3):
        at = (begin + (end - begin) * (each + 0.5 + offset) / side) * pixels - 0.5
        left = np.clip(np.floor(at).astype(int), 0, pixels - 2)
        share = np.clip(at - left, 0, 1)
        weights[each, left] += (1 - share) / 3
        weights[each, left + 1] += share / 3
    return weights


def _blur(side: int) -> Floats:
    """Gaussian of 3 pixels of FINE."""
    at = np.arange(side)
    weights = np.exp(-((at[:, None] - at[None]) ** 2) / (2 * (3 * side / FINE) ** 2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _windows() -> list[Window]:
    whole, middle, inner = (0.0, 1.0), (CUT / 2, 1 - CUT / 2), (CUT, 1 - CUT)
    first, last = (0.0, 1 - CUT), (CUT, 1.0)
    corners = [(rows, columns) for rows in (first, last) for columns in (first, last)]
    sides = [(whole, first), (whole, last), (first, whole), (last, whole)]
    return [(whole, whole), (middle, middle), (inner, inner), *corners, *sides]


WINDOWS = _windows()
COARSE_WINDOWS = WINDOWS[1:2]


def _clusters(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    root: dict[int, int] = {}

    def find(one: int) -> int:
        while (above := root.setdefault(one, one)) != one:
            one = above
        return one

    for a, b in pairs:
        low, high = sorted((find(a), find(b)))
        root[high] = low
    members: dict[int, list[int]] = {}
    for one in sorted(root):
        members.setdefault(find(one), []).append(one)
    return list(members.values())


def as_thumbs(bodies: Sequence[bytes]) -> Thumbs:
    """(N, BYTES of a thumb)."""
    return np.frombuffer(b"".join(bodies), np.uint8).reshape(len(bodies), BYTES)
