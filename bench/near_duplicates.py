"""What near-duplicates are found, and what is taken for one, beside a 64-bit difference hash (dHash, Hamming <= 4).

    make bench-near [ARGS='--images 20000']

Copies are made of forty parts of scikit-learn's two photographs, eleven ways; the false pairs are looked for among its
1,797 written digits, and among `--images` clouds of noise (1/f), which also give the time.
"""

from __future__ import annotations

import argparse
import base64
import os
import time

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from retraining.dataset.near.pairs import near_duplicates
from retraining.dataset.pictures.thumb import SIDE, thumb_of
from tests.plugins.test_near import WAYS, as_thumbs, photographs

MAX_DISTANCE = 4


def dhash(image: Image.Image) -> int:
    """As imagehash makes it: whether each of 8 x 8 pixels is brighter than the one before."""
    pixels = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), int)
    return int.from_bytes(np.packbits(pixels[:, 1:] > pixels[:, :-1]).tobytes())


def hash_pairs(images: list[Image.Image]) -> set[tuple[int, int]]:
    hashes = np.array([dhash(image) for image in images], np.uint64)
    found = set()
    for one in range(len(hashes)):
        near = np.flatnonzero(np.bitwise_count(hashes[one + 1 :] ^ hashes[one]) <= MAX_DISTANCE)
        found |= {(one, one + 1 + int(other)) for other in near}
    return found


def our_pairs(images: list[Image.Image]) -> set[tuple[int, int]]:
    clusters = near_duplicates(as_thumbs([base64.b64decode(thumb_of(image)) for image in images]))
    return {(a, b) for cluster in clusters for a in cluster for b in cluster if a < b}


def clouds(count: int) -> NDArray[np.uint8]:
    frequency = np.fft.fftfreq(SIDE)
    falling = (np.hypot(frequency[:, None], frequency[None]) + 0.02) ** 1.2
    noise = np.random.default_rng(0).normal(size=(count, SIDE, SIDE))
    made = np.real(np.fft.ifft2(np.fft.fft2(noise) / falling))
    low, high = made.min(axis=(1, 2), keepdims=True), made.max(axis=(1, 2), keepdims=True)
    grey = ((made - low) / (high - low) * 255).astype(np.uint8).reshape(count, -1)
    return np.concatenate([grey, np.full((count, 3), 128, np.uint8)], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    count, images = parser.parse_args().images, photographs()
    print(f"{len(images)} photographs, found of each kind of copy   ours   dHash")
    for way, make in WAYS.items():
        both, right = images + [make(image) for image in images], {(n, n + len(images)) for n in range(len(images))}
        ours, theirs = our_pairs(both), hash_pairs(both)
        wrong = f"   wrong: {len(ours - right)}, {len(theirs - right)}"
        print(f"{way:28} {len(ours & right) / len(images):28.3f} {len(theirs & right) / len(images):7.3f}{wrong}")
    digits = [Image.fromarray((pixels * 15).astype(np.uint8)).resize((32, 32)) for pixels in load_digits().images]
    print(f"pairs among {len(digits)} digits: {len(our_pairs(digits))}, {len(hash_pairs(digits))}")
    bodies = clouds(count)
    began = time.perf_counter()
    pairs = near_duplicates(bodies)
    took = time.perf_counter() - began
    print(f"pairs among {count} clouds: {len(pairs)}, {took:.1f} s on {len(os.sched_getaffinity(0))} cores")


if __name__ == "__main__":
    main()
