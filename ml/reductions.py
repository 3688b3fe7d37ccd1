"""Statistics of many tensors at once: what a hook saves of weights and gradients instead of the tensors themselves.

A ResNet's weights and gradients are read from memory once, in pieces that stay in the cache while minimum, maximum, sum
and squares are taken of them; everything else follows from those. The definitions are those of smdebug 1.0.34 for torch
(`std` and `variance` divide by n - 1).
"""

import math

import numpy as np
import torch

PIECE = 2**17  # numbers: half a megabyte, which the second-level cache of a processor holds
# Of small tensors the squares are taken in double precision, where it costs nothing.
SMALL = 2**14


def reduce(tensors, reductions):
    """{name: tensor} and names such as "abs_mean" -> (names "smdebug/reductions/…", float32 values (N,))."""
    wanted = [name.removesuffix("_norm") for name in reductions]
    if any(tensor.is_cuda for tensor in tensors.values()):
        rows = on_device(list(tensors.values()), wanted)
    else:
        rows = [statistics(flat(tensor), wanted) for tensor in tensors.values()]
    names = tuple(f"smdebug/reductions/{kind}/{name}" for name in tensors for kind in wanted)
    return names, np.asarray(rows, np.float32).reshape(-1)


def flat(tensor):
    """The numbers of a tensor as a numpy vector, in the order they lie in memory: without a copy, if it is dense."""
    tensor = tensor.detach()
    if tensor.dtype != torch.float32:
        tensor = tensor.float()
    if tensor.ndim == 4 and not tensor.is_contiguous():
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(-1).numpy()


def statistics(values, wanted):
    """The wanted statistics of a float32 vector."""
    if len(values) == 0:
        return [math.nan] * len(wanted)
    moments = Moments(values, absolute=any(name in ("abs_mean", "abs_sum", "l1", "abs_l1") for name in wanted))
    return [moments.get(name) for name in wanted]


class Moments:
    """Extremes, sum and squares of a vector, from one pass through memory."""

    def __init__(self, values, absolute):
        self.values, self.count = values, len(values)
        low, high, total, squares, size = [], [], 0.0, 0.0, 0.0
        for start in range(0, self.count, PIECE):
            piece = values[start : start + PIECE]
            low.append(piece.min())
            high.append(piece.max())
            if self.count <= SMALL:
                piece = piece.astype(np.float64)
            total += float(piece.sum())
            squares += float(piece.dot(piece))
            if absolute:
                size += float(np.abs(piece).sum())
        # numpy's minimum of minima lets a NaN through, as torch's does.
        self.low, self.high = float(np.min(low)), float(np.max(high))
        self.total, self.squares, self.size = total, squares, size

    def get(self, name):
        if name.startswith("abs_"):
            return self.absolute(name[4:])
        if name in ("std", "variance"):
            variance = self.variance()
            return variance if name == "variance" else math.sqrt(variance) if variance == variance else math.nan
        known = {
            "min": lambda: self.low,
            "max": lambda: self.high,
            "sum": lambda: self.total,
            "mean": lambda: self.total / self.count,
            "l1": lambda: self.size,
            "l2": lambda: math.sqrt(self.squares) if self.squares == self.squares else math.nan,
            "prod": lambda: float(np.prod(self.values)),
        }
        return known[name]()

    def absolute(self, name):
        """Of the absolute values."""
        if name == "min":
            return float(np.abs(self.values).min())
        if name == "max":
            return max(abs(self.low), abs(self.high)) if self.low == self.low else math.nan
        if name in ("sum", "l1"):
            return self.size
        if name == "mean":
            return self.size / self.count
        if name == "l2":
            return self.get("l2")
        return statistics(np.abs(self.values), [name])[0]

    def variance(self):
        """Divided by n - 1; NaN of a single number, as torch has it."""
        if self.count < 2:
            return math.nan
        mean = self.total / self.count
        spread = self.squares / self.count - mean * mean
        # Where the mean is large beside the spread, the difference of two large numbers has lost its digits.
        if not spread > 1e-3 * mean * mean:
            return float(self.values.astype(np.float64).var(ddof=1))
        return spread * self.count / (self.count - 1)


def on_device(tensors, wanted):
    """The same on a GPU: one kernel for each statistic and tensor, and one copy of all results at the end."""
    rows = torch.stack(
        [torch.stack([gpu_statistic(tensor.detach().float(), name) for name in wanted]) for tensor in tensors]
    )
    return rows.cpu().numpy()


def gpu_statistic(tensor, name):
    if name.startswith("abs_"):
        tensor, name = tensor.abs(), name[4:]
    if name in ("l1", "l2"):
        return torch.linalg.vector_norm(tensor, ord=int(name[1]))
    return {"variance": torch.var, "min": torch.amin, "max": torch.amax}.get(name, getattr(torch, name, None))(tensor)
