"""Names of files in folders, for tests of what a layout makes of them."""

from __future__ import annotations

from collections.abc import Iterable

from retraining.dataset.layouts.layout import Understood, understand
from retraining.recipe.layout import Layout


def files(*folders: str, count: int = 3) -> list[str]:
    return [f"{folder}/{number}.jpg" for folder in folders for number in range(count)]


def read(names: Iterable[str], empty: Iterable[str] = (), **layout: str) -> Understood:
    return understand("here", names, empty, Layout(**layout))


def classes(found: Understood) -> set[tuple[str | None, str]]:
    return {(split, label) for split, _, label in found.places.values()}


TRAIN_TEST = {("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")}
