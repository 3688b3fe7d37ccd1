"""The artifact: what train.py leaves behind and a serving container gets, a folder (SageMaker's model.tar.gz).

    model.safetensors   the weights: numbers only, reading them runs no code
    model.json          what it is, how to feed it (train.py's `describe`) and how to compute it (export.py's `serving`)
    code/               inference.py and ray_app.py, network/ and pictures/: what a serving container starts, whole
    openvino.xml, .bin  where export.py chose OpenVINO: the network as a graph, and the few numbers that only it has
    openvino-int8.xml, .bin  where it chose eight bits: that graph, and all its numbers

The one home of that format. Without torch, so that a server whose model needs none does not wait for its import.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from torch import Tensor

FORMAT = 2
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
GRAPH, GRAPH_NUMBERS = "openvino.xml", "openvino.bin"
QUANTISED, QUANTISED_NUMBERS = "openvino-int8.xml", "openvino-int8.bin"
SOURCE = Path(__file__).parents[1]
# What serves a model: programs, and the wings that they stand on, whole.
PROGRAMS, WINGS = ("inference.py", "ray_app.py"), ("network", "pictures")
UNMEASURED = {"runtime": "torch", "precision": "fp32", "agreement": 1.0, "images": 0, "reason": "not measured"}


def save(model_dir: Path | str, state: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write the artifact of a state dict, replacing an earlier one. A reader never sees half-written files."""
    from network import weights  # only here: it needs torch

    model_dir = Path(model_dir)
    code_dir = model_dir / "code"
    code_dir.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        shutil.copyfile(SOURCE / program, code_dir / program)
    for wing in WINGS:
        shutil.copytree(
            SOURCE / wing, code_dir / wing, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
    keep_graphs(model_dir, UNMEASURED)  # they belong to the weights that go away now
    replace_file(model_dir / WEIGHTS, lambda path: weights.write(path, state))
    describe(model_dir, {**description, "serving": UNMEASURED})


def keep_graphs(model_dir: Path | str, serving: Mapping[str, Any]) -> None:
    """Remove the graphs that `serving` does not need. Eight bits keep that in float32, for machines without them."""
    unneeded: tuple[str, ...] = () if serving["precision"] == "int8" else (QUANTISED, QUANTISED_NUMBERS)
    if serving["runtime"] != "openvino":
        unneeded += (GRAPH, GRAPH_NUMBERS)
    for name in unneeded:
        (Path(model_dir) / name).unlink(missing_ok=True)


def describe(model_dir: Path | str, description: Mapping[str, Any]) -> None:
    text = json.dumps({"format": FORMAT, **description}, indent=1, allow_nan=False)
    replace_file(Path(model_dir) / DESCRIPTION, lambda path: path.write_text(text, encoding="utf-8"))


def read_description(model_dir: Path | str) -> dict[str, Any]:
    """model.json as a dict. Raises ValueError when there is none, or one of another format."""
    path = Path(model_dir) / DESCRIPTION
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no {DESCRIPTION} in {model_dir}; the artifact was not written by train.py") from None
    if description.get("format") != FORMAT:
        raise ValueError(f"{DESCRIPTION} has format {description.get('format')!r}; this code reads format {FORMAT}")
    return description


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(path.name + ".partial")
    write(temporary)
    os.replace(temporary, path)
