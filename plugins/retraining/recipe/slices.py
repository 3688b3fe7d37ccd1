"""A slice of the test set, in a recipe's words: a pattern for names, or a bound of what the pixels are."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from retraining.recipe.refusal import require

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
NAMED = ("file", "folder", "group")
"""What goes by the names that the source has for the images."""
MEASURED = {"side": "pixels of the shorter side", "brightness": "from 0, black, to 1, white"}
CONDITION = re.compile(r"(side|brightness)\s*(<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)?)")


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a test image is known by. What was not measured is in no slice of that kind."""

    file: str
    """`class/file`, the file's name as the source has it."""
    folder: str = ""
    """Where the source has it."""
    group: str = ""
    """What `split.group_by` finds in its name."""
    side: float | None = None
    brightness: float | None = None


@dataclass(frozen=True, kw_only=True)
class Slice:
    of: str
    """The member of Traits that it goes by."""
    pattern: str = ""
    comparison: str = ""
    bound: float = 0.0

    def holds(self, traits: Traits) -> bool:
        value = getattr(traits, self.of)
        if self.of not in MEASURED:
            return fnmatch.fnmatchcase(value, self.pattern)
        return value is not None and COMPARISONS[self.comparison](value, self.bound)


def read_slice(name: str, text: str) -> Slice:
    """`*_night_*` or `file = *_night_*` for `class/file`, `folder = *scanner-b*`, `group = p7*`, `side < 64` or
    `brightness >= 0.8`. RecipeError for all else.
    """
    require(bool(name and text), "slices", {name: text}, "needs a name and a pattern for class/file, or a condition")
    word, rest = (part.strip() for part in text.partition("=")[::2])
    if word in NAMED and "=" in text:
        require(bool(rest), "slices", {name: text}, f"needs a pattern for the {word}", f"{word} = *b-7*")
        return Slice(of=word, pattern=rest)
    found = CONDITION.fullmatch(text.strip())
    if found is None:
        # A file may be called side=64.png, and hardly a < b.
        meant = re.match(r"\s*(side|brightness|file|folder|group)\b\s*([<>=!]|$)", text) or re.search(
            r"[<>]|\s[=!]=?\s", text
        )
        way_out = "Write side < 64, brightness >= 0.8, folder = *b-7*, or a pattern for class/file."
        require(meant is None, "slices", {name: text}, "is no condition", way_out)
        return Slice(of="file", pattern=text)
    of, comparison, bound = found[1], found[2], float(found[3])
    possible = of == "side" or 0 <= bound <= 1
    require(possible, "slices", {name: text}, f"{of} is measured {MEASURED[of]}")
    return Slice(of=of, comparison=comparison, bound=bound)
