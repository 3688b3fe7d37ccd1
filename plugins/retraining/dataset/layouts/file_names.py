"""Classes in the names of files: cat.0.jpg, Abyssinian_12.jpg. Pure, but for the search."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from retraining.dataset.layouts.folder_names import split_words
from retraining.dataset.layouts.layout import Understood, without_marks
from retraining.dataset.layouts.name_search import SearchError, search
from retraining.dataset.source_error import SourceError
from retraining.printable import printable

WITHOUT = "without a class in its name"
LIKELY = 0.95
"""Share of the names that have to look alike before anything is proposed."""
MOST_LIKELY = 1000
"""Classes that a proposal may find; more are names of things."""
# A pattern to propose; the shorter a class, the earlier. 12.jpg, of a test set that nobody has labelled, has none.
PROPOSED = r"^(?![0-9]+[.])(.+?)[ ._-]*[(]?[0-9]+[)]?[.]"
NUMBER_FIRST = r"^[0-9]+[ ._-]+([^\W0-9_][^.]*)[.]"
"""The same for 12_bathroom.jpg."""


def understand_names(source: str, names: Iterable[str], pattern: str) -> Understood:
    """Each file with what the pattern finds in its own name, without its folders. Raises SourceError."""
    found = Understood(places={}, pattern=pattern)
    images = without_marks(names, found)
    try:
        labels = search("layout.class_pattern", pattern, [printable(name.rpartition("/")[2]) for name in images])
    except SearchError as error:
        raise SourceError(f"{source}: {error}") from None
    for name, label in zip(images, labels, strict=True):
        if label:
            found.places[name] = (None, "", label)
        else:
            found.leave_out(WITHOUT, name)
    if images and not found.places:
        examples = ", ".join(printable(name.rpartition("/")[2]) for name in images[:3])
        raise SourceError(
            f"{source}: layout.class_pattern = {pattern!r} finds nothing in any of {len(images)} file names, for "
            f"example {examples}. It is searched in each file's own name, without its folders."
        )
    found.split_by_folders()
    return found


def proposal(names: Iterable[str]) -> str:
    """A sentence for who has such names and says nothing of them; empty where they look otherwise."""
    images = without_marks(names, Understood(places={}))
    trained = [name for name in images if "train" in split_words(name.split("/")[:-1]).values()]
    found = (_proposal(some, pattern) for some in (images, trained) for pattern in (PROPOSED, NUMBER_FIRST))
    return next(filter(None, found), "")


def _proposal(images: Sequence[str], pattern: str) -> str:
    found = [match[1] for name in images if (match := re.match(pattern, name.rpartition("/")[2]))]
    counted = Counter(found)
    alone = sum(count == 1 for count in counted.values())
    if len(found) < LIKELY * len(images) or not 1 < len(counted) <= MOST_LIKELY or 2 * alone > len(counted):
        return ""
    # Not train_17.jpg, nor 0017.jpg.
    if len(split_words(counted)) == len(counted) or not any(sign.isalpha() for label in counted for sign in label):
        return ""
    examples = ", ".join(printable(label) for label, _ in counted.most_common(3))
    return (
        f"The files' names look like {len(counted)} classes ({examples}{', …' if len(counted) > 3 else ''}). "
        f"Put into the recipe `layout: {{class_pattern: '{pattern}'}}` if they are."
    )
