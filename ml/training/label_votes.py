"""What cheap heads on the network's vectors say of labels that they have not learnt from.

Five folds, three kinds of heads: a softmax regression, a kernel machine, nearest neighbours. Each image is judged by
heads that were fitted to the other four folds; and once more by heads that had not to learn from what the first round
doubted, for a wrong label speaks for its kind. The rule, its bounds and the heads were chosen on scikit-learn's digits
alone; how they fare on other sets, beside cleanlab, is in bench/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

FOLDS = 5
DOUBT = 0.2
"""Of the gap: what the second round does not learn from, where two kinds of heads see another class."""
GAP = 0.4
"""Between the likeliest class and the given one, in mean probability, for a label to be suspected."""
FEWEST = 10
"""Images of a class, for its labels to be judged: with fewer, a fold may not know the class at all."""
KNOWN = 0.5
"""Of a class's images that the heads must take for it: else it is they who are in the wrong."""

NEIGHBOURS = 7
LANDMARKS = 1000
"""Images that the kernel machine knows the others by (Nyström's approximation); exact up to as many."""
REFERENCES = 20_000
"""Images that neighbours are looked for among."""
BLOCK = 2048
DIRECTIONS = 64
"""Of the vectors, that are looked at: those in which they vary most."""
PER_DIRECTION = 10
"""Images that there must be for each: of a few images most directions are noise, which scaling would blow up."""


@dataclass(frozen=True)
class Votes:
    """Of N images: (N,) each, and which classes are judged at all (K,)."""

    likely: Tensor
    """The class that the heads see, by their mean probability."""
    gap: Tensor
    """How much likelier it is than the given one."""
    against: Tensor
    """How many of the three kinds of heads see another class than the given one."""
    judged: Tensor

    def suspects(self, labels: Tensor) -> Tensor:
        """Indices of images whose given label all heads doubt, the surest first."""
        doubted = (self.against == len(HEADS)) & (self.gap > GAP) & self.judged[labels]
        found = doubted.nonzero()[:, 0]
        return found[torch.argsort(self.gap[found], descending=True, stable=True)]


def vote(vectors: Tensor, labels: Tensor, classes: int, seed: int = 0) -> Votes:
    """`vectors` (N, width) floats, `labels` (N,) integers below `classes`; the same input gives the same votes."""
    vectors = _principal(vectors.float())
    learnt = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
    for each in range(2):
        votes = _round(vectors, labels, learnt, classes, seed + each)
        learnt = ~((votes.against >= 2) & (votes.gap > DOUBT))
    return votes


def _round(vectors: Tensor, labels: Tensor, learnt: Tensor, classes: int, seed: int) -> Votes:
    fold = _folds(labels, seed)
    chances = torch.zeros(len(HEADS), len(labels), classes, device=vectors.device)
    for each in range(FOLDS):
        asked, known = fold == each, (fold != each) & learnt
        if not asked.any() or not known.any():
            continue
        seen, new = _scaled(vectors[known], vectors[asked])
        for kind, head in enumerate(HEADS):
            chances[kind, asked] = head(seen, labels[known], new, classes)
    mean = chances.mean(0)
    given = mean.gather(1, labels[:, None])[:, 0]
    sizes = labels.bincount(minlength=classes)
    right = labels[mean.argmax(1) == labels].bincount(minlength=classes)
    return Votes(
        likely=mean.argmax(1),
        gap=mean.max(1).values - given,
        against=(chances.argmax(2) != labels).sum(0),
        judged=(sizes >= FEWEST) & (right >= KNOWN * sizes),
    )


def _principal(vectors: Tensor) -> Tensor:
    """Along the directions in which they vary most, (N, at most DIRECTIONS)."""
    scaled = (vectors - vectors.mean(0)) / _deviation(vectors)
    _, directions = torch.linalg.eigh(scaled.T @ scaled)  # in ascending order
    kept = min(DIRECTIONS, max(2, len(vectors) // PER_DIRECTION))
    along: Tensor = scaled @ directions[:, -kept:]
    return along


def _folds(labels: Tensor, seed: int) -> Tensor:
    """Every class is spread evenly over them."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=draw).to(labels.device)
    fold = torch.empty_like(labels)
    by_class = order[torch.argsort(labels[order], stable=True)]
    fold[by_class] = torch.arange(len(labels), device=labels.device) % FOLDS
    return fold


def _scaled(seen: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Around the mean of those that are learnt from, and half way to the same deviation in all directions.

    All the way, directions of noise would count as much as those that make classes. Their mean length becomes 1.
    """
    mean, deviation = seen.mean(0), _deviation(seen).sqrt()
    seen, new = (seen - mean) / deviation, (new - mean) / deviation
    length = seen.square().sum(1).mean().sqrt().clamp(min=1e-9)
    return seen / length, new / length


def _deviation(vectors: Tensor) -> Tensor:
    """Of each direction, but so that what hardly varies is not blown up."""
    deviation = vectors.std(0, correction=0)
    return deviation.clamp(min=max(1e-3 * float(deviation.max()), 1e-9))


def softmax_regression(seen: Tensor, labels: Tensor, new: Tensor, classes: int) -> Tensor:
    """(n, classes) probabilities for `new`; all heads have this shape."""
    seen, new = (functional.pad(8 * vectors, (0, 1), value=1.0) for vectors in (seen, new))
    weights = torch.zeros(seen.shape[1], classes, device=seen.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        value = functional.cross_entropy(seen @ weights, labels) + 0.005 * weights[:-1].square().sum()
        value.backward()
        return value.item()

    with torch.enable_grad():
        optimizer.step(loss)
    return (new @ weights).detach().softmax(1)


def kernel_machine(seen: Tensor, labels: Tensor, new: Tensor, classes: int) -> Tensor:
    """Ridge regression on the classes with a Gaussian kernel, by LANDMARKS; its width is the median distance."""
    landmarks = seen[:: max(1, -(-len(seen) // LANDMARKS))]
    between = torch.cdist(landmarks, landmarks).square()
    width = between[between > 0].median() / 3 if (between > 0).any() else between.new_tensor(1.0)
    target = functional.one_hot(labels, classes).float()
    kernel = torch.exp(-torch.cdist(seen, landmarks).square() / width)
    ridge = 1e-4 * len(seen) * torch.exp(-between / width)
    normal = kernel.T @ kernel + ridge + 1e-4 * torch.eye(len(landmarks), device=seen.device)
    weights = torch.linalg.solve(normal, kernel.T @ target)
    scores: Tensor = (torch.exp(-torch.cdist(new, landmarks).square() / width) @ weights).clamp(min=0)
    return scores / scores.sum(1, keepdim=True).clamp(min=1e-9)


def nearest_neighbours(seen: Tensor, labels: Tensor, new: Tensor, classes: int) -> Tensor:
    stride = max(1, -(-len(seen) // REFERENCES))
    seen, labels = seen[::stride], labels[::stride]
    most = min(NEIGHBOURS, len(seen))
    near = [torch.cdist(block, seen).topk(most, largest=False).indices for block in new.split(BLOCK)]
    return functional.one_hot(labels[torch.cat(near)], classes).float().mean(1)


HEADS = (softmax_regression, kernel_machine, nearest_neighbours)
