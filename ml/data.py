"""A channel folder -> batches, and an image -> the pixels a network sees.

The only home of the transforms: training and inference share every step, so a picture means the same to both.
A channel is `<folder>/<class>/<any name>`, as SageMaker downloads it; every image is JPEG or PNG.
"""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, which pretrained weights expect; as good as any for training from scratch
STD = (0.229, 0.224, 0.225)
# Of Pillow's forty decoders only the two that pipelines need: each one more is attack surface.
FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 50_000_000
MEMORY_BYTES = 4 * 2**30  # decoded channels up to this size stay in memory


class BadImage(ValueError):
    """An image that cannot be used; `code` is a stable upper-case word, the message says why."""

    def __init__(self, code, detail):
        super().__init__(detail)
        self.code = code


def decode(body, max_pixels=MAX_PIXELS):
    """Encoded bytes -> an upright RGB image. Raises BadImage, from the header alone where that suffices."""
    try:
        image = Image.open(io.BytesIO(body), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(
            "TOO_MANY_PIXELS", f"the image has too many pixels; at most {max_pixels:,} are accepted"
        ) from error
    except UnidentifiedImageError as error:
        raise BadImage("FORMAT", f"not a readable image; accepted are {' and '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's parsers raise SyntaxError, struct.error, … on hostile headers
        raise BadImage("UNDECODABLE", "the image's header is damaged") from error
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height}"
        raise BadImage("TOO_MANY_PIXELS", f"the image has {size} pixels; at most {max_pixels:,} are accepted")
    try:
        image.load()
        return to_rgb(upright(image))
    except Exception as error:
        code = "TRUNCATED" if "truncated" in str(error) else "UNDECODABLE"
        raise BadImage(code, f"the image is damaged: {str(error)[:200]}") from error


def upright(image):
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF is no reason to refuse a good picture
        return image


def to_rgb(image):
    """Eight bits, three channels. Transparency shows a white page; 16-bit samples are scaled, not cut off."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(page, image)
    return image.convert("RGB")


def to_pixels(image, size):
    """The short side becomes `size`, the middle is cut out -> (size, size, 3) uint8."""
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def normalise(pixels, mean=MEAN, std=STD):
    """uint8 (N, H, W, 3) -> float (N, 3, H, W), on whichever device they are; a view, channels last in memory."""
    mean = torch.tensor(mean, device=pixels.device) * 255
    std = torch.tensor(std, device=pixels.device) * 255
    return ((pixels - mean) / std).permute(0, 3, 1, 2)


class Channel:
    """The images of one channel, `classes` in the order of the network's outputs.

    Decoded once into memory if they fit into MEMORY_BYTES, else again in each epoch; either way by a pool of threads,
    since Pillow decodes without holding Python's lock.
    """

    def __init__(self, folder, classes, image_size):
        self.folder, self.image_size = Path(folder), image_size
        self.paths, self.labels = list_images(self.folder, classes)
        self.labels = torch.tensor(self.labels)
        self.threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        in_memory = len(self) * image_size**2 * 3 <= MEMORY_BYTES
        self.pixels = self.read(range(len(self))) if in_memory else None  # uint8 (N, size, size, 3)

    def __len__(self):
        return len(self.paths)

    def read(self, indices):
        with ThreadPoolExecutor(self.threads) as pool:
            return torch.from_numpy(np.stack(list(pool.map(self.read_one, indices))))

    def read_one(self, index):
        path = self.paths[index]
        try:
            return to_pixels(decode(path.read_bytes()), self.image_size)
        except BadImage as error:
            name = path.relative_to(self.folder.parent)
            raise BadImage(error.code, f"'{name}': {error}; remove it from the data set or replace it") from error

    def batches(self, batch_size, order=None):
        """Yields (pixels uint8 (n, size, size, 3), labels (n,)), in the given `order` of indices, or in its own."""
        for chunk in chunks(len(self), batch_size, order):
            pixels = self.read(chunk.tolist()) if self.pixels is None else self.pixels[chunk]
            yield pixels, self.labels[chunk]


def chunks(count, batch_size, order=None):
    """The indices of each batch: of 0 to `count` in the given order, or in their own."""
    order = torch.arange(count) if order is None else order
    parts = list(order.split(batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:  # BatchNorm cannot learn from a batch of one
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def shuffled(labels, generator):
    """Every image once, in a random order."""
    return torch.randperm(len(labels), generator=generator)


def balanced(labels, generator):
    """As many indices as there are images, each class equally often: rare ones repeated, common ones in turn.

    Every image of a class is used once before any is used again.
    """
    classes = labels.unique()
    share, rest = divmod(len(labels), len(classes))
    chosen = []
    for position, label in enumerate(classes):
        members = (labels == label).nonzero()[:, 0]
        wanted = share + (position < rest)
        rounds = [members[shuffled(members, generator)] for _ in range(-(-wanted // len(members)))]
        chosen.append(torch.cat(rounds)[:wanted])
    drawn = torch.cat(chosen)
    return drawn[shuffled(drawn, generator)]


def list_images(folder, classes):
    """Paths and class indices, in an order that does not depend on the file system."""
    found = class_names(folder)
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise ValueError(f"channel '{folder.name}' has folders {unknown}; the data set's classes are {classes}")
    paths, labels = [], []
    for index, name in enumerate(classes):
        for path in sorted((folder / name).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                paths.append(path)
                labels.append(index)
    if not paths:
        raise ValueError(f"channel '{folder.name}' holds no images; expected {folder}/<class>/<image>")
    return paths, labels


def class_names(folder):
    return sorted(path.name for path in Path(folder).iterdir() if path.is_dir() and not path.name.startswith("."))
