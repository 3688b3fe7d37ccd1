"""Five epochs from a folder of JPEGs, cache building included, beside the usual loaders, in one interleaved run.

    python -m bench.data_epochs            (--quick for small n; --images, --cores)

Every side makes batches of 64 uint8 images of 224 px: a random part of 35 to 100 % of the image's area and of an aspect
from 3:4 to 4:3, half of them mirrored, in a random order, each image once an epoch. Sides are processes pinned to the
same one (then two) processors; a round is five epochs of one after the other, and the ratio the median of the rounds'
ratios. Imports are not counted. The files are in the page cache for all: each round reads them again.

- ours: `Channel` with an `ArrayCache` in a fresh folder and `augment.augment`, as train.py calls them. It decodes
  in the first epoch, to the middle square of 256 px; later epochs crop from that.
- PIL: torchvision's ImageFolder, RandomResizedCrop, RandomHorizontalFlip, PILToTensor in a DataLoader: the reference.
- v2: torchvision's decode_jpeg and v2 transforms of tensors in a DataLoader.
- DALI: its CPU backend: file reader, decoder of the random part, resize, mirror.
On two processors the DataLoaders have two workers and DALI two threads. Nobody normalises: that is the device's work.

Agreement: equal boxes of the same decoded pictures, cropped by ours and by torchvision, differ by at most 2/255 in the
mean (`same pixels`); else it ends with status 1. `from the file` says how far ours are from torchvision's crops of
the whole decoded file, which the size of the cached square and the JPEG's reduced decoding leave.
The photographs are procedural (bench/photographs.py).
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import photographs
from bench.sides import REPOSITORY, Side, machine, ratio, serve

BATCH, SIDE, EPOCHS, CLASSES = 64, 224, 5, 10
AREA, ASPECT = (0.35, 1.0), (3 / 4, 4 / 3)
TOLERANCE = 2.0  # of 255
OURS = "ours"
# name -> (interpreter's folder, what it is in the table, goal)
SIDES = {
    OURS: ("ml", "ours", ""),
    "pil": ("peers", "torchvision, PIL DataLoader", ">= 4"),
    "v2": ("peers", "torchvision, decode_jpeg and v2", ""),
    "dali": ("peers", "DALI, CPU backend", ">= 2"),
}


# -- the sides: each makes a function that yields an epoch's batches --------------------------------------------------


def ours(folder: Path, cores: int) -> Any:
    sys.path.insert(0, str(REPOSITORY / "ml"))
    import torch

    torch.set_num_threads(cores)
    from dataset import augment
    from dataset.array_cache import ArrayCache
    from dataset.channel import Channel, class_names, shuffled

    assert (augment.CROP_AREA, augment.CROP_ASPECT) == (AREA, ASPECT), "the sides would crop differently"

    def start() -> Any:
        cache, generator = tempfile.mkdtemp(prefix="data-epochs-"), torch.Generator().manual_seed(0)
        side = augment.stored_side("crop+flip", SIDE)
        channel = Channel(folder, class_names(folder), side, ArrayCache(cache, print))
        channel.threads = cores

        def epoch() -> Any:
            for pixels, labels in channel.batches(BATCH, shuffled(channel.labels, generator)):
                yield augment.augment(pixels, "crop+flip", generator, SIDE), labels

        return epoch, lambda: shutil.rmtree(cache)

    return start


def torchvision_loader(folder: Path, cores: int, tensors: bool) -> Any:
    import torch
    from torchvision import datasets, io, transforms
    from torchvision.transforms import v2

    torch.set_num_threads(cores)
    if tensors:
        steps = [v2.RandomResizedCrop(SIDE, scale=AREA, ratio=ASPECT, antialias=True), v2.RandomHorizontalFlip()]
        images = datasets.ImageFolder(
            folder,
            v2.Compose(steps),
            loader=lambda path: io.decode_jpeg(io.read_file(path), mode=io.ImageReadMode.RGB),
        )
    else:
        crop = transforms.RandomResizedCrop(SIDE, scale=AREA, ratio=ASPECT)
        steps = [crop, transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
        images = datasets.ImageFolder(folder, transforms.Compose(steps))

    def start() -> Any:
        workers = {"num_workers": cores, "persistent_workers": True} if cores > 1 else {}
        loader = torch.utils.data.DataLoader(images, BATCH, shuffle=True, **workers)
        return lambda: iter(loader), lambda: None

    return start


def dali(folder: Path, cores: int) -> Any:
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def
    def loading() -> Any:
        files, labels = fn.readers.file(file_root=str(folder), random_shuffle=True, name="files")
        images = fn.decoders.image_random_crop(files, random_area=AREA, random_aspect_ratio=ASPECT)
        images = fn.resize(images, size=(SIDE, SIDE), interp_type=types.INTERP_LINEAR, antialias=True)
        return fn.flip(images, horizontal=fn.random.coin_flip()), labels

    def start() -> Any:
        pipeline = loading(batch_size=BATCH, num_threads=cores, device_id=None, seed=0)
        pipeline.build()
        count = pipeline.epoch_size("files")

        def epoch() -> Any:
            for _ in range(count // BATCH):
                images, labels = pipeline.run()
                yield images.as_array(), labels.as_array()

        return epoch, lambda: None

    return start


def prepare(name: str, folder: Path, cores: int) -> Any:
    start = {
        OURS: lambda: ours(folder, cores),
        "pil": lambda: torchvision_loader(folder, cores, tensors=False),
        "v2": lambda: torchvision_loader(folder, cores, tensors=True),
        "dali": lambda: dali(folder, cores),
    }[name]()

    def answer(question: str, epochs: int = EPOCHS) -> dict[str, Any]:
        if question == "agreement":
            return agreement(folder)
        began, seconds, count = time.perf_counter(), [], 0
        epoch, end = start()
        for _ in range(epochs):
            for images, _ in epoch():
                assert tuple(images.shape[1:]) in ((SIDE, SIDE, 3), (3, SIDE, SIDE)), images.shape
                count += len(images)
            seconds.append(time.perf_counter() - began)
        end()
        return {"seconds": seconds, "images": count}

    return {}, answer


def agreement(folder: Path) -> dict[str, Any]:
    """Mean differences of crops, of 255: of the same pixels, and from the files."""
    import numpy as np
    import torch
    from PIL import Image
    from torchvision.transforms.v2 import functional

    from dataset import augment
    from dataset.channel import decode, to_pixels

    paths = sorted(folder.rglob("*.jpg"))[:64]
    side = augment.stored_side("crop", SIDE)
    stored = torch.stack([torch.from_numpy(to_pixels(decode(p.read_bytes(), side=side), side).copy()) for p in paths])
    boxes = augment.crop_boxes(len(paths), side, side, torch.Generator().manual_seed(1))
    cropped = augment.cut_each(stored, boxes, SIDE).int()
    same, file = [], []
    for path, picture, box, crop in zip(paths, stored, boxes.tolist(), cropped, strict=True):
        theirs = functional.resized_crop(picture.permute(2, 0, 1), *box, [SIDE, SIDE], antialias=True)
        same.append((theirs.permute(1, 2, 0).int() - crop).abs().float().mean().item())
        with Image.open(path) as whole:
            scale = min(whole.size) / side
            left, top = ((length - side * scale) / 2 for length in whole.size)
            edges = (left + box[1] * scale, top + box[0] * scale)
            edges += (edges[0] + box[3] * scale, edges[1] + box[2] * scale)
            theirs = whole.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=edges)
        file.append(np.abs(np.asarray(theirs).astype(int) - crop.numpy()).mean())
    return {"same pixels": statistics.mean(same), "from the file": statistics.mean(file), "n": len(paths)}


# -- the rounds -------------------------------------------------------------------------------------------------------


def run(images: int, rounds: int, cores: list[int]) -> int:
    print(f"machine: {machine()}; {images} images, {EPOCHS} epochs, {rounds} rounds")
    agreed = True
    with tempfile.TemporaryDirectory(prefix="data-epochs-") as folder:
        photographs.write(Path(folder), images, CLASSES)
        sizes = [path.stat().st_size for path in Path(folder).rglob("*.jpg")]
        print(f"JPEGs of {statistics.mean(sizes) / 1000:.0f} KB in the mean\n")
        print("| loader | cores | 5 epochs, s | time, of ours | goal | later epochs, images/s | n |\n|" + "---|" * 7)
        for count in cores:
            module = "bench.data_epochs"
            sides = [Side(module, name, SIDES[name][0], count, "--folder", folder) for name in SIDES]
            for side in sides:
                side.ask(question="epochs", epochs=1)  # the first batch of a process pays for its set-up
            answers: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
            for _ in range(rounds):
                for side in sides:
                    answers[side.name].append(side.ask(question="epochs"))
            print(table(answers, count), flush=True)
            if count == cores[0]:
                found = sides[0].ask(question="agreement")
                agreed = found["same pixels"] <= TOLERANCE
            for side in sides:
                side.close()
    print(
        f"\ncrops differ from torchvision's by {found['same pixels']:.2f} of 255 on the same pixels, by "
        f"{found['from the file']:.2f} from the file (mean of {found['n']} images)"
    )
    if not agreed:
        print(f"NO AGREEMENT: crops of the same pixels differ by more than {TOLERANCE}")
    return 0 if agreed else 1


def table(answers: dict[str, list[dict[str, Any]]], cores: int) -> str:
    whole = {name: [answer["seconds"][-1] for answer in given] for name, given in answers.items()}
    lines = []
    for name, given in answers.items():
        later = [
            answer["images"] * (EPOCHS - 1) / EPOCHS / (answer["seconds"][-1] - answer["seconds"][0])
            for answer in given
        ]
        cells = (
            SIDES[name][1],
            str(cores),
            f"{statistics.median(whole[name]):.2f}",
            "" if name == OURS else ratio(whole[name], whole[OURS]),
            SIDES[name][2],
            f"{statistics.median(later):.0f}",
            str(len(given)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small n: whether it runs, not what it measures")
    parser.add_argument("--images", type=int, default=640, help="a multiple of 64, since DALI fills its last batch up")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.cores[0], lambda: prepare(options.side, options.folder, options.cores[0]))
    else:
        sys.exit(run(64 if options.quick else options.images, 2 if options.quick else 5, options.cores))
