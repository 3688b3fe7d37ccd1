"""What people call the folders of their images: splits, wrappers, masks, parts. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from retraining.dataset.split import SplitName

# Without accents; in the languages in which people have been seen to name them.
SPLIT_WORDS: dict[str, SplitName] = {
    **dict.fromkeys(
        ("train", "training", "trn", "trainval", "entrenamiento", "treino", "treinamento", "entrainement",
         "apprentissage", "addestramento", "trainings", "trening", "\u8bad\u7ec3", "\u8bad\u7ec3\u96c6"), "train"
    ),
    **dict.fromkeys(
        ("validation", "valid", "val", "dev", "eval", "evaluation", "validate", "validacion", "validacao",
         "validazione", "validierung", "validierungs", "\u9a8c\u8bc1", "\u9a8c\u8bc1\u96c6"), "validation"
    ),
    **dict.fromkeys(
        ("test", "testing", "tst", "holdout", "prueba", "pruebas", "teste", "testes", "prova",
         "\u6d4b\u8bd5", "\u6d4b\u8bd5\u96c6"), "test"
    ),
}  # fmt: skip
# What people put before and after them: seg_train, train_set, testData, images-val, train2017.
FILLERS = {
    "set", "data", "dataset", "image", "images", "imgs", "img", "photos", "pictures", "split", "seg", "folder", "dir",
    "samples", "labelled", "labeled", "class", "classes", "cls", "the",
}  # fmt: skip
WRAPPERS = FILLERS | {"jpegimages", "all", "jpg", "png"}
# What is drawn over images for other tasks than this one, often as images too: images/, masks/.
MARKS = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "segmentations", "trimap",
    "trimaps", "groundtruth", "gt", "seg",
}  # fmt: skip
# Of one set that was too large for one folder, archive or upload: images_001, HAM10000_images_part_2.
PARTS = {
    "part", "parts", "batch", "chunk", "images", "image", "imgs", "img", "photos", "pictures", "folder", "archive",
    "shard", "volume", "vol", "disk", "disc", "data", "dataset", "subset", "section", "piece", "split", "fold",
}  # fmt: skip


# What no class is called that lies beside classes: images that nobody has labelled, or that show others once more.
NO_CLASS = {
    "test", "tests", "testing", "unlabeled", "unlabelled", "predict", "prediction", "predictions", "pred",
    "thumbnail", "thumbnails", "thumbs", "submission", "untitled folder", "new folder", "no_label",
}  # fmt: skip

# What lies beside the data of a project: beside classes where nothing else says that this is one, it may be a class.
PROJECT = {
    "src", "source", "doc", "docs", "documentation", "out", "output", "outputs", "result", "results", "run", "runs",
    "tmp", "temp", "logs", "assets", "checkpoint", "checkpoints", "readme", "static", "resources", "misc", "css", "js",
    "ui", "gui", "script", "scripts", "notebook", "notebooks", "utils", "venv", "env", "docker",
}  # fmt: skip
# The same, and what classes of charts or of screens are called as well.
FIGURES = {
    "model", "models", "weights", "example", "examples", "sample", "demo", "demos", "plot", "plots", "graph", "graphs",
    "figure", "figures", "fig", "figs", "chart", "charts", "loss", "confusion", "matrix", "screenshot", "screenshots",
    "media", "app", "web", "server", "client", "report", "reports", "logo",
}  # fmt: skip


def split_words(folders: Iterable[str]) -> dict[str, SplitName]:
    """Folder → the split that its name says it is, for those that do: seg_train, Testing, valid-set, val2017.

    What else a name says must be the same of all: asl_alphabet_train and asl_alphabet_test are splits.
    """
    by_rest: dict[tuple[str, ...], dict[str, SplitName]] = {}
    for folder in folders:
        words = words_of(folder)
        words = [word for word in words if word not in ("public", "private")]  # a competition's two test sets
        said = [word for word in words if word in SPLIT_WORDS]
        if len(said) == 1 or [SPLIT_WORDS[word] for word in said] == ["train", "validation"]:  # of which we divide
            rest = tuple(word for word in words if word not in said)
            by_rest.setdefault(rest, {})[folder] = SPLIT_WORDS[said[0]]
    for found in by_rest.values():
        whole = [folder for folder in found if is_whole(folder)]
        if {"train", "validation"} <= {split for folder, split in found.items() if folder not in whole}:
            for folder in whole:
                del found[folder]
    named = [found for rest, found in by_rest.items() if rest and {"train"} < set(found.values())]
    return by_rest.get((), {}) or (named[0] if len(named) == 1 else {})


def is_whole(folder: str) -> bool:
    """Whether this is train and validation together, which may also lie beside it."""
    return "trainval" in words_of(folder)


def words_of(folder: str) -> list[str]:
    """Without numbers and accents, and without what says nothing."""
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", folder) if not unicodedata.combining(sign))
    spaced = re.sub(r"(?i)\bhold[\W_]out(?![a-z])", "holdout", re.sub(r"([a-z])([A-Z])", r"\1 \2", plain))
    words = (
        re.sub(r"(?<=[a-z]{3})(sets?|data|daten|images|imgs|dataset|split|folder)$", "", word)
        for word in re.split(r"[\W_\d]+", spaced.lower())
    )
    return [word for word in words if word and word not in FILLERS]


def says(folder: str, what: set[str]) -> bool:
    """Whether a folder's name is nothing but such words."""
    words = words_of(folder)
    return bool(words) and set(words) <= what


def are_marks(folder: str) -> bool:
    """Whether a folder's name says that it holds what is drawn over images, or written about them: ground_truth."""
    return says(folder, MARKS) or "".join(words_of(folder)) in MARKS or folder.lower() in MARKS


def are_parts(folders: Iterable[str]) -> bool:
    """Whether these names are one name and a number, and the name says that there are others: part_1 and part_2."""
    alike = {_without_numbers(folder) for folder in folders}
    return len(alike) == 1 and bool(PARTS & set(re.split(r"[\W_]+", min(alike))))


def are_numbered(folders: Iterable[str]) -> bool:
    """Whether these names are one name and a number, whatever the name says: flowers-001 and flowers-002."""
    alike = {_without_numbers(folder) for folder in folders}
    return len(alike) == 1 and any(sign.isalpha() for sign in min(alike))


def _without_numbers(folder: str) -> str:
    return re.sub(r"\d+|(?<![^\W_])[a-z](?![^\W_])", "", folder.lower())


def classes_with_splits(folders: Iterable[str]) -> bool:
    """Whether each name is a class's and a split's, as in cat_train, cat_test, dog_train and dog_test."""
    found: dict[tuple[str, ...], set[SplitName]] = {}
    for folder in folders:
        words = words_of(folder)
        said = [word for word in words if word in SPLIT_WORDS]
        rest = tuple(word for word in words if word not in said)
        if len(said) != 1 or not rest:
            return False
        found.setdefault(rest, set()).add(SPLIT_WORDS[said[0]])
    return len(found) > 1 and all("train" in splits and len(splits) > 1 for splits in found.values())
