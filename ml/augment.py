"""How training images vary: whole batches at a time, on the device they are on, from one random generator.

A crop and its flip are one affine map for the whole batch (Jaderberg et al. 2015, arXiv:1506.02025). mixup is Zhang et
al. 2018, arXiv:1710.09412; rand is torchvision's RandAugment (Cubuk et al. 2020, arXiv:1909.13719).
"""

import torch
from torch.nn import functional

KINDS = ("shift", "flip", "crop", "rand")
CROP_AREA = (0.35, 1.0)  # share of the image that a crop keeps; torchvision's 0.08 is for ImageNet's 90 epochs
CROP_ASPECT = (3 / 4, 4 / 3)


def augment(pixels, how, generator):
    """Vary uint8 images (N, H, W, 3); `how` is "none" or some of KINDS joined by +. The generator is a CPU one."""
    kinds = how.split("+")
    if "rand" in kinds:
        pixels = rand(pixels, generator)
    if "shift" in kinds:
        pixels = shift(pixels, generator)
    if "crop" in kinds:
        return crop(pixels, generator, flip="flip" in kinds)
    return flip(pixels, generator) if "flip" in kinds else pixels


def flip(pixels, generator):
    """Mirror half of the images."""
    mirrored = (torch.rand(len(pixels), generator=generator) < 0.5).to(pixels.device)
    return torch.where(mirrored[:, None, None, None], pixels.flip(2), pixels)


def shift(pixels, generator):
    """Move each image by up to a sixteenth of its side; the border pixel repeats."""
    count, height, width, _ = pixels.shape
    reach = max(1, height // 16)
    rows = shifted(height, count, reach, generator).to(pixels.device)  # (N, H)
    columns = shifted(width, count, reach, generator).to(pixels.device)  # (N, W)
    images = torch.arange(count, device=pixels.device)[:, None, None]
    return pixels[images, rows[:, :, None], columns[:, None, :]]


def shifted(length, count, reach, generator):
    """For each of `count` images the source index of each of `length` pixels."""
    offsets = torch.randint(-reach, reach + 1, (count, 1), generator=generator)
    return (torch.arange(length) + offsets).clamp(0, length - 1)


def crop(pixels, generator, flip):
    """A random part of each image at the full size, half of them mirrored if `flip` -> uint8, same shape."""
    count = len(pixels)
    area = CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * torch.rand(count, generator=generator)
    low, high = (torch.tensor(edge).log() for edge in CROP_ASPECT)
    aspect = torch.exp(low + (high - low) * torch.rand(count, generator=generator))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    centre = torch.rand(2, count, generator=generator) * 2 - 1  # of the room that is left, -1 to 1
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0) if flip else torch.ones(count)
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0], maps[:, 0, 2] = width * mirror, centre[0] * (1 - width)
    maps[:, 1, 1], maps[:, 1, 2] = height, centre[1] * (1 - height)
    images = pixels.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(maps.to(pixels.device), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved.round().to(torch.uint8).permute(0, 2, 3, 1)


def rand(pixels, generator):
    """RandAugment, drawn anew for each image."""
    from torchvision.transforms import v2  # only here: it is slow to import

    policy = v2.RandAugment()
    images = pixels.permute(0, 3, 1, 2)
    # torchvision draws from the global generator; it is lent ours, so that a resumed training draws the same.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        varied = torch.stack([policy(image) for image in images])
    return varied.permute(0, 2, 3, 1)


def mixed(images, labels, alpha, generator):
    """mixup: each float image (N, …) blended with another one -> images, the other ones' labels, this one's share."""
    # A Beta(a, a) value as a quotient of two Gamma(a) values, since torch's own Beta takes no generator.
    first, second = (gamma(alpha, generator) for _ in range(2))
    share = first / (first + second) if first + second > 0 else 0.5
    order = torch.randperm(len(images), generator=generator).to(images.device)
    return share * images + (1 - share) * images[order], labels[order], share


def gamma(alpha, generator):
    return float(torch._standard_gamma(torch.tensor([alpha], dtype=torch.float64), generator=generator))


def resized(images, side):
    """Float images (N, 3, H, W) at another side, for the small images of the first epochs."""
    if images.ndim < 4 or images.shape[2] == side:  # vectors of a frozen network have no side
        return images
    return functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def side_at(progress, start, end):
    """The side of training images at `progress` (0 to 1): from `start` to `end` in two thirds of the training.

    In multiples of 16, so that few sizes are met: each new one is planned anew by the convolutions. 0 is "always end".
    """
    if not start or progress >= 2 / 3:
        return end
    return min(end, max(start, round((start + (end - start) * progress * 1.5) / 16) * 16))
