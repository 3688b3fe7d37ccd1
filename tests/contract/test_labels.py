"""labels.json: what ml/training leaves is what the plugin reads, and both doubt by the same rule."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from retraining.dataset.labels import suspects, training_output

TRAINING = Path(__file__).parents[2] / "ml/training"


def constants(name: str) -> dict[str, Any]:
    """Of a file of the other interpreter, read from its text."""
    found = {}
    for node in ast.parse((TRAINING / name).read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found |= {target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_both_sides_doubt_alike() -> None:
    assert constants("label_votes.py")["GAP"] == suspects.GAP


def test_both_sides_know_the_document() -> None:
    theirs = constants("suspects.py")
    assert (theirs["NAME"], theirs["FORMAT"], theirs["MOST"]) == (
        training_output.NAME,
        suspects.FORMAT,
        suspects.MOST,
    )


def test_what_the_training_writes_is_read() -> None:
    """The example in its docstring, which its tests hold true."""
    doc = ast.get_docstring(ast.parse((TRAINING / "suspects.py").read_text())) or ""
    text = doc[doc.index("{") : doc.rindex("}") + 1].replace("…]", "]").replace(", ]", "]")
    document = ast.literal_eval(text)
    doubts = suspects.of_training(document, {"cat/1f….png": "cat", "dog/1.png": "dog", "x": "rare class"})
    assert [(one.label, one.likely, one.gap) for one in doubts.suspects] == [("cat", "dog", 0.93)]
    assert (doubts.judged, list(doubts.unjudged)) == (1524, ["rare class"])
