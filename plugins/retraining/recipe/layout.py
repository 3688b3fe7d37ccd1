"""Which folders of a source are its splits, or which table tells its classes, where their names do not."""

from __future__ import annotations

from dataclasses import dataclass

from retraining.recipe.refusal import require
from retraining.recipe.rules import SECTION
from retraining.recipe.split import Group


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Folders below the source, each holding the class folders of one split; or `classes`, holding those of all.

    Or a `table` beside the images that tells the class of each. Nothing said: the names people use for splits are
    recognised, what else looks like splits is refused, and a table is read where folders tell no classes.
    """

    __pydantic_config__ = SECTION

    train: str | None = None
    validation: str | None = None
    test: str | None = None
    classes: str | None = None
    table: str | None = None
    """File below the source, or with a * several, one of each split: its columns are recognised, or named."""
    image_column: str | None = None
    class_column: str | None = None
    class_pattern: Group | None = None
    """A regular expression with one group, searched in each file's own name, without its folders: its class."""

    def __post_init__(self) -> None:
        for key in ("image_column", "class_column"):
            named = getattr(self, key)
            require(named is None or bool(self.table), key, named, "is a column of a table, which `table` has to name")
        said = {key: value for key, value in vars(self).items() if value is not None and not key.endswith("_column")}
        if self.class_pattern:
            require(set(said) == {"class_pattern"}, "", said, "must name folders, a table or a pattern alone")
            return
        for key, path in said.items():
            require(
                bool(path) and not path.startswith("/") and ".." not in path.split("/"),
                key,
                path,
                "must be a file below the source, such as labels.csv"
                if key == "table"
                else "must be a folder below the source, such as Training, or . for the source itself",
            )
        if self.table:
            require(set(said) == {"table"}, "", said, "must name folders, a table or a pattern alone")
            return
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
    def names_folders(self) -> bool:
        """Whether a person has said which folders count, so that nothing is guessed."""
        return bool(self.classes or self.splits)

    @property
    def splits(self) -> dict[str, str]:
        """Split → folder; empty when nothing, or only `classes`, is said."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: folder for split, folder in named.items() if folder is not None}
