"""Which folders of a source are its splits, where their names do not tell."""

from __future__ import annotations

from dataclasses import dataclass

from retraining.recipe.refusal import require
from retraining.recipe.rules import SECTION


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Folders below the source, each holding the class folders of one split; or `classes`, holding those of all.

    Nothing said: the names people use for splits are recognised, and what else looks like splits is refused.
    """

    __pydantic_config__ = SECTION

    train: str | None = None
    validation: str | None = None
    test: str | None = None
    classes: str | None = None

    def __post_init__(self) -> None:
        said = {key: folder for key, folder in vars(self).items() if folder is not None}
        for key, folder in said.items():
            require(
                bool(folder) and not folder.startswith("/") and ".." not in folder.split("/"),
                key,
                folder,
                "must be a folder below the source, such as Training, or . for the source itself",
            )
        alone = set(said) == {"classes"}
        require(
            not said or alone or ("train" in said and "classes" not in said),
            "",
            said,
            "must name train, and validation and test where the source has them, or classes alone",
            "For example {train: Training, test: Testing}, or {classes: .} when no folder is a split.",
        )
        require(len(set(said.values())) == len(said), "", said, "must name another folder for each split")

    @property
    def splits(self) -> dict[str, str]:
        """Split → folder; empty when nothing, or only `classes`, is said."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: folder for split, folder in named.items() if folder is not None}
