"""Statistics of many tensors at once: what a hook saves of weights and gradients instead of the tensors themselves.

A ResNet's weights and gradients are read from memory once, in pieces that stay in the cache while minimum, maximum, sum
and squares are taken of them; small tensors are looked at together. Everything else follows from those. The definitions
are those of smdebug 1.0.34 for torch (`std` and `variance` divide by n - 1).
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from debugger.side_thread import SideThread

    Reduced = tuple[tuple[str, ...], NDArray[np.float32]]  # names, and their values

PIECE = 2**17  # numbers: half a megabyte, which the second-level cache of a processor holds
# Of small tensors the sums are taken in double precision, where it costs nothing.
SMALL = 2**14
ONES = np.ones(PIECE, np.float32)
ABSOLUTE = ("abs_mean", "abs_sum", "abs_std", "abs_variance", "l1", "abs_l1")  # which take the sum of absolute values


def reduce(tensors: Mapping[str, Tensor], reductions: Sequence[str], side: SideThread | None = None) -> Reduced:
    """{name: tensor} and names such as "abs_mean" -> (names "smdebug/reductions/…", float32 values (N,)).

    `side` is a SideThread that takes a share of the work, as much as it finds time for.
    """
    wanted = [name.removesuffix("_norm") for name in reductions]
    if any(tensor.is_cuda for tensor in tensors.values()):
        rows = on_device(list(tensors.values()), wanted)
    else:
        absolute = any(name in ABSOLUTE for name in wanted)
        moments = Moments([flat(tensor) for tensor in tensors.values()], absolute, side)
        rows = np.stack([moments.get(name) for name in wanted], axis=1)
    names = tuple(f"smdebug/reductions/{kind}/{name}" for name in tensors for kind in wanted)
    return names, np.asarray(rows, np.float32).reshape(-1)


def flat(tensor: Tensor) -> Tensor:
    """The numbers of a tensor as a float32 vector, in the order they lie in memory: without a copy, if it is dense."""
    tensor = tensor.detach()
    if tensor.dtype != torch.float32:
        tensor = tensor.float()
    if tensor.ndim == 4 and not tensor.is_contiguous():
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(-1)


class Moments:
    """Extremes, sum and squares of vectors, each an array (N,) in double precision; NaN of a vector without numbers."""

    def __init__(self, vectors: list[Tensor], absolute: bool, side: SideThread | None) -> None:
        self.vectors, self.count = vectors, np.array([len(vector) for vector in vectors], np.float64)
        found = np.full((len(vectors), 5), np.nan)
        small = [index for index, vector in enumerate(vectors) if 0 < len(vector) <= SMALL]
        if small:
            found[small] = together([vectors[index] for index in small])
        large = [index for index, vector in enumerate(vectors) if len(vector) > SMALL]
        shared(side, large, lambda index: found.__setitem__(index, in_pieces(vectors[index].numpy(), absolute)))
        self.low, self.high, self.total, self.squares, self.size = found.T

    def get(self, name: str) -> NDArray[np.float64]:
        """One statistic of every vector."""
        if name in ("std", "variance", "abs_std", "abs_variance"):
            variance = self.variance(absolute=name.startswith("abs_"))
            return variance if name.endswith("variance") else np.sqrt(variance)
        known: dict[str, Callable[[], NDArray[np.float64]]] = {
            "min": lambda: self.low,
            "max": lambda: self.high,
            "sum": lambda: self.total,
            "mean": lambda: self.total / self.count,
            "l2": lambda: np.sqrt(self.squares),
            "abs_max": lambda: np.maximum(np.abs(self.low), np.abs(self.high)),
            "abs_sum": lambda: self.size,
            "abs_mean": lambda: self.size / self.count,
            "l1": lambda: self.size,
        }
        known |= {"abs_l1": known["l1"], "abs_l2": known["l2"]}
        return known[name]() if name in known else self.one_by_one(name)

    def one_by_one(self, name: str) -> NDArray[np.float64]:
        """What does not follow from the sums: the product, and the least absolute value."""
        known: dict[str, Callable[[Tensor], Tensor]] = {
            "prod": lambda vector: vector.prod(),
            "abs_prod": lambda vector: vector.abs().prod(),
            "abs_min": smallest,
        }
        statistic = known[name]
        return np.array([float(statistic(vector)) if len(vector) else np.nan for vector in self.vectors])

    def variance(self, absolute: bool) -> NDArray[np.float64]:
        """Divided by n - 1; NaN of a single number, as torch has it."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            mean = (self.size if absolute else self.total) / self.count
            spread = self.squares / self.count - mean * mean
            variance = np.where(self.count < 2, np.nan, spread * self.count / (self.count - 1))
            # Where the mean is large beside the spread, the difference of two large numbers has lost its digits.
            lost = (self.count > 1) & ~(spread > 1e-3 * mean * mean)
        for index in np.flatnonzero(lost):
            vector = self.vectors[index].double()
            variance[index] = float((vector.abs() if absolute else vector).var())
        return variance


def shared(side: SideThread | None, things: Sequence[int], work: Callable[[int], object]) -> None:
    """Do `work` with all `things`, in this thread and the other: each takes the next as long as there are any."""
    left = deque(things)

    def take() -> None:
        with contextlib.suppress(IndexError):
            while True:
                work(left.popleft())

    other = side.do(take) if side and len(things) > 1 else None
    take()
    if other and not other.cancel():
        other.result()


def smallest(vector: Tensor) -> Tensor:
    return vector.abs().amin()


def together(vectors: list[Tensor]) -> NDArray[np.float64]:
    """(N, 5): minimum, maximum, sum, squares and sum of absolute values of small vectors."""
    values = torch.cat(vectors).double().numpy()
    starts = np.cumsum([0] + [len(vector) for vector in vectors[:-1]])
    sums = [np.add.reduceat(each, starts) for each in (values, values * values, np.abs(values))]
    return np.stack([np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts), *sums], axis=1)


def in_pieces(values: NDArray[np.float32], absolute: bool) -> tuple[float, float, float, float, float]:
    """The same of a large one; the last is only there if it is asked for.

    All of it numpy's: on a processor its extremes are faster than torch's, it leaves the training's threads alone, and
    BLAS adds up faster than its own sum.
    """
    low, high, total, squares, size = [], [], 0.0, 0.0, 0.0
    for start in range(0, len(values), PIECE):
        piece = values[start : start + PIECE]
        ones = ONES[: len(piece)]
        low.append(np.minimum.reduce(piece))
        high.append(np.maximum.reduce(piece))
        total += float(piece.dot(ones))
        squares += float(piece.dot(piece))
        if absolute:
            size += float(np.abs(piece).dot(ones))
    return np.min(low), np.max(high), total, squares, size  # min() would drop a NaN


def on_device(tensors: Sequence[Tensor], wanted: Sequence[str]) -> NDArray[np.float32]:
    """The same on a GPU: one kernel for each statistic and tensor, and one copy of all results at the end."""
    rows = torch.stack(
        [torch.stack([gpu_statistic(tensor.detach().float(), name) for name in wanted]) for tensor in tensors]
    )
    return rows.cpu().numpy()


def gpu_statistic(tensor: Tensor, name: str) -> Tensor:
    if name.startswith("abs_"):
        tensor, name = tensor.abs(), name[4:]
    if name in ("l1", "l2"):
        norm: Tensor = torch.linalg.vector_norm(tensor, ord=int(name[1]))
        return norm
    found: Tensor = getattr(torch, {"variance": "var", "min": "amin", "max": "amax"}.get(name, name))(tensor)
    return found
