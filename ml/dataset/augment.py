"""How training images vary: uint8 batches on the device they are on, all chance from one CPU generator.

On a GPU a step is one operation on the whole batch; a processor is several times faster image by image, in threads
(7,000 crops to 224 px a second and core against 500; torch 2.15). mixup is Zhang et al. 2018, arXiv:1710.09412; rand is
torchvision's RandAugment (Cubuk et al. 2020, arXiv:1909.13719).
"""

from __future__ import annotations

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

KINDS = ("shift", "affine", "flip", "crop", "rand")
CROP_AREA = (0.35, 1.0)  # share of the image that a crop keeps; torchvision's 0.08 is for ImageNet's 90 epochs
CROP_ASPECT = (3 / 4, 4 / 3)
AFFINE_TURN, AFFINE_SCALE, AFFINE_SLANT, AFFINE_SHIFT = 12, 1.16, 0.15, 0.08  # degrees, times, and shares of the side
STORED_SIDE = 256 / 224  # of an image that will be cropped to 1: the parts keep more of what the photograph shows


def stored_side(how: str, side: int) -> int:
    """The side (px) of the pictures that `augment` wants so that its results have `side`."""
    return round(side * STORED_SIDE) if "crop" in how.split("+") else side


def augment(pixels: Tensor, how: str, generator: Generator, side: int | None = None) -> Tensor:
    """Vary uint8 images (N, H, W, 3); `how` is "none" or some of KINDS joined by +. The generator is a CPU one.

    Crops come in `side` px (without one: in the images' own), everything else in the size it had. A flip also takes
    what a frozen network saw, (N, 2, width): of each image as it is and mirrored.
    """
    kinds = how.split("+")
    if "rand" in kinds:
        pixels = rand(pixels, generator)
    if "shift" in kinds:
        pixels = shift(pixels, generator)
    if "affine" in kinds:
        pixels = affine(pixels, generator)
    if "crop" in kinds:
        return crop(pixels, generator, side or pixels.shape[1], flip="flip" in kinds)
    return flip(pixels, generator) if "flip" in kinds else pixels


def flip(pixels: Tensor, generator: Generator) -> Tensor:
    """Mirror half of the images."""
    mirrored = torch.rand(len(pixels), generator=generator) < 0.5
    if pixels.ndim == 3:  # two views of each
        return pixels[torch.arange(len(pixels)), mirrored.long()]
    return mirror(pixels.clone(), mirrored)


def mirror(pixels: Tensor, mirrored: Tensor) -> Tensor:
    """Turn round, in place, those of the images (N, H, W, 3) that the mask (N,) names -> the images."""
    chosen = mirrored.nonzero()[:, 0]
    turned = pixels.index_select(0, chosen.to(pixels.device))
    turned = turned.permute(0, 3, 1, 2).flip(3).permute(0, 2, 3, 1)  # in this layout flipping has a fast path
    if pixels.device.type != "cpu":
        return pixels.index_copy_(0, chosen.to(pixels.device), turned)
    for index, image in zip(chosen.tolist(), turned, strict=True):  # five times faster than index_copy_
        pixels[index] = image
    return pixels


def shift(pixels: Tensor, generator: Generator) -> Tensor:
    """Move each image by up to a sixteenth of its side; the border pixel repeats."""
    count, height, width, _ = pixels.shape
    reach = max(1, height // 16)
    rows, columns = (torch.randint(-reach, reach + 1, (count, 1), generator=generator) for _ in range(2))
    if pixels.device.type == "cpu":
        moved = torch.empty_like(pixels)
        move = functools.partial(move_one, pixels.numpy(), rows[:, 0].tolist(), columns[:, 0].tolist(), moved.numpy())
        for_each(move, count)
        return moved
    rows = (torch.arange(height) + rows).clamp(0, height - 1).to(pixels.device)  # (N, H): from where
    columns = (torch.arange(width) + columns).clamp(0, width - 1).to(pixels.device)  # (N, W)
    images = torch.arange(count, device=pixels.device)[:, None, None]
    return pixels[images, rows[:, :, None], columns[:, None, :]]


def move_one(
    sources: NDArray[np.uint8], rows: list[int], columns: list[int], targets: NDArray[np.uint8], index: int
) -> None:
    """targets[index][y, x] = sources[index][y + row, x + column], of numpy arrays, the border repeating."""
    image, moved, row, column = sources[index], targets[index], rows[index], columns[index]
    height, width, _ = image.shape
    top, left = max(0, -row), max(0, -column)  # where the image now begins
    bottom, right = min(height, height - row), min(width, width - column)
    moved[top:bottom, left:right] = image[top + row : bottom + row, left + column : right + column]
    moved[top:bottom, :left] = moved[top:bottom, left : left + 1]
    moved[top:bottom, right:] = moved[top:bottom, right - 1 : right]
    moved[:top] = moved[top]
    moved[bottom:] = moved[bottom - 1]


def affine(pixels: Tensor, generator: Generator) -> Tensor:
    """Turn, scale, slant and move each image a little, as hands and scanners do; the border pixel repeats."""
    draws = torch.rand(5, len(pixels), generator=generator) * 2 - 1
    angle, slant = draws[0] * math.radians(AFFINE_TURN), draws[2] * AFFINE_SLANT
    scale = torch.exp(-draws[1] * math.log(AFFINE_SCALE))  # of the map from the result to the image: the inverse
    cos, sin = angle.cos() * scale, angle.sin() * scale
    across, down = 2 * AFFINE_SHIFT * draws[3:]  # grid_sample measures from -1 to 1
    maps = torch.stack([cos, cos * slant - sin, across, sin, sin * slant + cos, down], dim=1).view(-1, 2, 3)
    images = pixels.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(maps.to(pixels.device), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved.round().to(torch.uint8).permute(0, 2, 3, 1)


def crop(pixels: Tensor, generator: Generator, side: int, flip: bool) -> Tensor:
    """A random part of each image in `side` px, half of them mirrored if `flip` -> uint8 (N, side, side, 3)."""
    count, height, width, _ = pixels.shape
    boxes = crop_boxes(count, height, width, generator)
    mirrored = torch.rand(len(pixels), generator=generator) < 0.5 if flip else None
    cut = cut_each if pixels.device.type == "cpu" else cut_batch
    cropped = cut(pixels, boxes, side)
    return cropped if mirrored is None else mirror(cropped, mirrored)


def crop_boxes(count: int, height: int, width: int, generator: Generator) -> Tensor:
    """Whole-pixel boxes (N, 4): top, left, height, width."""
    area = CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * torch.rand(count, generator=generator)
    low, high = (torch.tensor(edge).log() for edge in CROP_ASPECT)
    aspect = torch.exp(low + (high - low) * torch.rand(count, generator=generator))
    size = torch.stack([(area / aspect).sqrt() * height, (area * aspect).sqrt() * width], dim=1)
    whole = torch.tensor([height, width])
    size = torch.minimum(size.round().long().clamp(min=1), whole)
    room = whole - size + 1  # how many places there are
    corner = (torch.rand(count, 2, generator=generator) * room).long().clamp(max=room - 1)
    return torch.cat([corner, size], dim=1)


def cut_each(pixels: Tensor, boxes: Tensor, side: int) -> Tensor:
    """The boxes of the images in `side` px, on a processor: as torchvision's resized_crop with antialias."""
    cropped = torch.empty(len(pixels), side, side, 3, dtype=torch.uint8)
    for_each(functools.partial(cut_one, pixels.numpy(), boxes.tolist(), side, cropped.numpy()), len(pixels))
    return cropped


def cut_one(
    sources: NDArray[np.uint8], boxes: list[list[int]], side: int, targets: NDArray[np.uint8], index: int
) -> None:
    top, left, height, width = boxes[index]
    part = torch.from_numpy(sources[index : index + 1, top : top + height, left : left + width].copy())
    targets[index] = scaled(part.permute(0, 3, 1, 2), side)[0].permute(1, 2, 0).numpy()


def scaled(images: Tensor, side: int) -> Tensor:
    """uint8 images (N, 3, H, W) in `side` px, without jagged edges."""
    try:
        return functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    except RuntimeError:  # torch 2.0 does this with floats alone
        images = functional.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
        return images.round().clamp(0, 255).to(torch.uint8)


def cut_batch(pixels: Tensor, boxes: Tensor, side: int) -> Tensor:
    """The same at once, for a GPU: an affine map for each image (Jaderberg et al. 2015, arXiv:1506.02025)."""
    whole = torch.tensor(pixels.shape[1:3])
    share = boxes[:, 2:] / whole  # of the image's height and width
    centre = (boxes[:, :2] * 2 + boxes[:, 2:]) / whole - 1  # from -1 to 1
    maps = torch.zeros(len(pixels), 2, 3)
    maps[:, 0, 0], maps[:, 0, 2] = share[:, 1], centre[:, 1]
    maps[:, 1, 1], maps[:, 1, 2] = share[:, 0], centre[:, 0]
    grid = functional.affine_grid(maps.to(pixels.device), [len(pixels), 3, side, side], align_corners=False)
    images = pixels.permute(0, 3, 1, 2).float()
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved.round().to(torch.uint8).permute(0, 2, 3, 1)


def for_each(work: Callable[[int], object], count: int) -> None:
    """work(0) to work(count - 1), in as many threads as torch computes with; they must not hold Python's lock long."""
    threads = min(torch.get_num_threads(), count)
    if threads == 1:
        for index in range(count):
            work(index)
        return
    parts = [range(start, count, threads) for start in range(threads)]
    list(workers(threads).map(lambda part: [work(index) for index in part], parts))


@functools.lru_cache(maxsize=1)
def workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def rand(pixels: Tensor, generator: Generator) -> Tensor:
    """RandAugment, drawn anew for each image."""
    from torchvision.transforms import v2  # only here: it is slow to import

    policy = v2.RandAugment()
    images = pixels.permute(0, 3, 1, 2)
    # torchvision draws from the global generator; it is lent ours, so that a resumed training draws the same.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        varied = torch.stack([policy(image) for image in images])
    return varied.permute(0, 2, 3, 1)


def mixed(images: Tensor, labels: Tensor, alpha: float, generator: Generator) -> tuple[Tensor, Tensor, float]:
    """mixup: each float image (N, …) blended with another one -> images, the other ones' labels, this one's share."""
    # A Beta(a, a) value as a quotient of two Gamma(a) values, since torch's own Beta takes no generator.
    first, second = (gamma(alpha, generator) for _ in range(2))
    share = first / (first + second) if first + second > 0 else 0.5
    order = torch.randperm(len(images), generator=generator).to(images.device)
    return share * images + (1 - share) * images[order], labels[order], share


def gamma(alpha: float, generator: Generator) -> float:
    return float(torch._standard_gamma(torch.tensor([alpha], dtype=torch.float64), generator=generator))


def resized(images: Tensor, side: int) -> Tensor:
    """Float images (N, 3, H, W) at another side, for the small images of the first epochs."""
    if images.ndim < 4 or images.shape[2] == side:  # vectors of a frozen network have no side
        return images
    return functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def side_at(progress: float, start: int, end: int) -> int:
    """The side of training images at `progress` (0 to 1): from `start` to `end` in two thirds of the training.

    In multiples of 16, so that few sizes are met: each new one is planned anew by the convolutions. 0 is "always end".
    """
    if not start or progress >= 2 / 3:
        return end
    return min(end, max(start, round((start + (end - start) * progress * 1.5) / 16) * 16))
