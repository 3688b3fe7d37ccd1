"""The state of a training after an epoch, as one file that a killed training goes on from.

A training that is resumed ends with the weights of one that was never interrupted (on a CPU: bit for bit), because
everything that decides them is in the file: weights, optimizer, averages, the random streams of every process and the
position. The
epoch that was cut off is trained again. The best epoch's weights are in it too: after a spot interruption the folder
with the artifact is empty.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from network import artifact
from training import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FORMAT = 2
NAME = "last.pt"


def save(folder: Path | str, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint. A kill at any moment leaves the old one or the new one."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    artifact.replace_file(folder / NAME, lambda path: torch.save({"format": FORMAT, **state}, path))


def load(folder: Path | str, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state to go on from, or None when there is none; `identity` is what must be the same (flags, data).

    Raises ValueError for a checkpoint of another training: going on from it would give a model nobody asked for.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"the checkpoint '{path}' cannot be read ({error}); delete it to start anew") from error
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise ValueError(f"the checkpoint '{path}' has format {found!r}, not {FORMAT}; delete it to start anew")
    before = state["identity"]
    if different := sorted(name for name in identity if before.get(name) != identity[name]):
        values = ", ".join(f"{name} {short(before.get(name))} then, {short(identity[name])} now" for name in different)
        raise ValueError(f"the checkpoint '{path}' is of another training ({values}); delete it or use another folder")
    if broken := metrics.nonfinite(state["progress"]["best"] or {}):
        raise ValueError(
            f"the best epoch of the checkpoint '{path}' has no finite {broken[0]}; delete it to start anew"
        )
    return state


def short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:60]} … {text[-50:]}"
