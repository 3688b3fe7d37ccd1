"""Which images are nearly the same picture: saved anew, resized, brightened, or cropped by a twentieth. Pure.

Two thumbs are compared by the correlation of what is left of them without their coarsest shades, the best of eleven
crops of either. How much correlation means something depends on the data: any two X-rays, or two written zeros, are
alike. So a pair counts only where it stands out: both must be clearly further from the next others than from each
other, in Fisher's z (atanh of the correlation). `make bench-near` counts what is found, and what
is taken for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from retraining.dataset.pictures.thumb import SIDE

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
BLOCK, TILE = 256, 8192
"""Rows compared at a time, and with how many of the others: memory grows with the images, not with their square."""
CUT = 0.05

Thumbs = NDArray[np.uint8]
Places = NDArray[np.intp]
Floats = NDArray[np.float32]
Number = TypeVar("Number", np.float16, np.float32)
Window = tuple[tuple[float, float], tuple[float, float]]


def near_duplicates(bodies: Thumbs) -> list[list[int]]:
    """Clusters of two and more of (N, BYTES of a thumb), each sorted.

    Time grows with the square of N; memory with N, by 1.9 kB an image besides `bodies`.
    """
    thumbs, colours = bodies[:, :-3].reshape(len(bodies), SIDE, SIDE), bodies[:, -3:].astype(np.float32)
    told = np.flatnonzero(_tells(thumbs))
    if len(told) < 2:
        return []
    tints = colours / (colours.sum(axis=1, keepdims=True) + DARK)
    pairs = ((int(told[a]), int(told[b])) for a, b in _pairs(thumbs, told))
    return _clusters([(a, b) for a, b in pairs if np.abs(tints[a] - tints[b]).max() <= MAX_TINT])


def _pairs(thumbs: Thumbs, told: Places) -> Iterator[tuple[int, int]]:
    """Of places in `told`, which tells what is compared."""
    candidates = _candidates(thumbs, told)
    z = np.arctanh(np.clip(_compared(thumbs, told, candidates), -0.9999, 0.9999))
    nearest = -np.sort(-z, axis=1)
    background = nearest[:, min(OTHERS, z.shape[1]) - 1] if z.shape[1] >= OTHERS else np.zeros(len(z), np.float32)
    for a, b in zip(*np.nonzero(z >= np.arctanh(MIN_CORRELATION)), strict=True):
        other = candidates[a, b]
        if z[a, b] - max(background[a], background[other]) >= MIN_GAP:
            yield int(a), int(other)


def _candidates(thumbs: Thumbs, told: Places) -> NDArray[np.int32]:
    """(N, up to CANDIDATES): the images most like each, without itself.

    Halves hold what lies for all, as in `_compared`.
    """
    count = min(CANDIDATES, len(told) - 1)
    views = [_features(thumbs, told, window, COARSE, np.float16) for window in (WINDOWS[0], *COARSE_WINDOWS)]
    best, names = np.full((len(told), count), -3, np.float32), np.zeros((len(told), count), np.int32)
    for columns in _blocks(len(told), TILE):
        others, *their_views = (view[columns].astype(np.float32) for view in views)
        for rows in _blocks(len(told), BLOCK):
            whole, *own_views = (view[rows].astype(np.float32) for view in views)
            tile = whole @ others.T
            for own, theirs in zip(own_views, their_views, strict=True):
                np.maximum(tile, own @ others.T, out=tile)
                np.maximum(tile, whole @ theirs.T, out=tile)
            _forget_themselves(tile, rows, columns)
            best[rows], names[rows] = _best(best[rows], names[rows], tile, columns.start, count)
    return names


def _forget_themselves(tile: Floats, rows: slice, columns: slice) -> None:
    both = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
    tile[both - rows.start, both - columns.start] = -2


def _best(
    best: Floats, names: NDArray[np.int32], tile: Floats, start: int, count: int
) -> tuple[Floats, NDArray[np.int32]]:
    """Of what was found before and of a tile, whose first column has the name `start`."""
    some = _largest(tile, count)
    values = np.concatenate([best, np.take_along_axis(tile, some, 1)], axis=1)
    joined = np.concatenate([names, (some + start).astype(np.int32)], axis=1)
    some = _largest(values, count)
    return np.take_along_axis(values, some, 1), np.take_along_axis(joined, some, 1)


def _largest(values: Floats, count: int) -> Places:
    """(N, up to count): places of the largest of each row, in no order."""
    width = values.shape[1]
    return np.argpartition(values, max(0, width - count), axis=1)[:, max(0, width - count) :]


def _compared(thumbs: Thumbs, told: Places, candidates: NDArray[np.int32]) -> Floats:
    """Correlation of each image with each of its candidates, at the best of the windows of either.

    Halves hold what lies for all: a correlation is then off by some 0.00001.
    """
    asked, each = candidates.ravel(), candidates.shape[1]
    by_asked = asked.argsort(kind="stable").astype(np.int32)
    ends = np.bincount(asked, minlength=len(told)).cumsum()  # of those who ask for each, in that order
    found = np.full(len(asked), -1, np.float32)
    whole = _features(thumbs, told, WINDOWS[0], FINE, np.float16)
    for block in _blocks(len(told), BLOCK):
        # Of a block's images alone: all windows of all images would be eleven times `whole`.
        views = np.stack([_features(thumbs, told[block], window, FINE, np.float32) for window in WINDOWS])
        own = slice(block.start * each, block.stop * each)
        found[own] = np.maximum(
            found[own], (whole[candidates[block]].astype(np.float32) @ views.transpose(1, 2, 0)).max(axis=2).ravel()
        )
        about = by_asked[ends[block.start - 1] if block.start else 0 : ends[block.stop - 1]]
        for part in _blocks(len(about), TILE):
            some = about[part]
            asking, place = whole[some // each].astype(np.float32), asked[some] - block.start
            for view in views:
                found[some] = np.maximum(found[some], np.einsum("pd,pd->p", asking, view[place]))
    return found.reshape(candidates.shape)


def _tells(thumbs: Thumbs) -> NDArray[np.bool_]:
    """Whether an image has enough in it to be told from others."""
    told = np.empty(len(thumbs), np.bool_)
    for block in _blocks(len(thumbs), BLOCK):
        squares = _without_shades(_seen(thumbs[block].astype(np.float32), WINDOWS[0], FINE)) ** 2
        deviation = np.sqrt(squares.mean(axis=1))
        spread = squares.mean(axis=1) ** 2 / np.maximum((squares**2).mean(axis=1), 1e-12)
        told[block] = (deviation >= MIN_DEVIATION) & (spread >= MIN_SPREAD)
    return told


def _features(thumbs: Thumbs, some: Places, window: Window, side: int, number: type[Number]) -> NDArray[Number]:
    """(N, side * side) of some of the thumbs, each of length one."""
    found = np.empty((len(some), side * side), number)
    for block in _blocks(len(some), BLOCK):
        details = _without_shades(_seen(thumbs[some[block]].astype(np.float32), window, side))
        found[block] = details / np.maximum(np.linalg.norm(details, axis=1, keepdims=True), 1e-6)
    return found


def _blocks(number: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, number)) for start in range(0, number, size)]


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
