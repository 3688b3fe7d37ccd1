"""A recipe for a folder of one's own: `make retrain DATA=… NAME=…`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from stack.errors import StackError

NAME = re.compile(r"(?=.{2,32}$)[a-z](-?[a-z0-9])+")
REFUSED = 1  # exit status of `python -m retraining.dataset check`
LINE = "Put into the recipe `layout:"

# Sized for a laptop and some hundred to some thousand images: training from scratch at 64 px, a few minutes in all.
TEMPLATE = """\
# yaml-language-server: $schema=recipe.schema.json
# Made by `make retrain`; yours to edit. docs/recipe.md explains each key.
name: {name}
description: {description}
source: {source}
split: {{train: 0.7, validation: 0.15, test: 0.15}}
schedule: "0 3 * * 1"
training: {{instance_type: ml.m5.xlarge, volume_size_gb: 30, max_runtime_seconds: 3600, spot: false}}
serving: {{instance_type: ml.m5.large, instance_count: 1}}
hyperparameters:
  arch: resnet18
  stem: standard
  image-size: 64
  epochs: 8
  optimizer: adam
  weights: none
  trainable: all
  augment: flip  # left and right; none where they mean something
  seed: 7
tuning:
  objective: validation:accuracy
  goal: Maximize
  strategy: Bayesian
  max_jobs: 4
  max_parallel_jobs: 2
  early_stopping: "Off"
  ranges:
    lr: {{type: continuous, min: 0.0003, max: 0.01, scaling: Logarithmic}}
    batch-size: {{type: categorical, values: [16, 32, 64]}}
debugger:
  rules:
    LossNotDecreasing: warn
    VanishingGradient: warn
    Overfit: warn
    Overtraining: warn
    PoorWeightInitialization: warn
  rule_parameters:
    LossNotDecreasing: {{mode: TRAIN, num_steps: 20}}
    Overfit: {{patience: 3, ratio_threshold: 5}}
    Overtraining: {{patience_train: 80, patience_validation: 15}}
  profiler: true
  save_interval: 5
# Without a min_value the first model is served however good it is. Set one once you know what good means here.
promotion: {{metric: accuracy, min_improvement: 0.0, min_value: null}}
approval: false
"""


def text(name: str, source: str) -> str:
    """The recipe's YAML, whatever characters a path has."""
    told = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in source)  # for people to read
    return TEMPLATE.format(name=name, source=_quoted(source), description=_quoted(f"The images in {told}"))


def _quoted(value: str) -> str:
    """One line of YAML that reads as this text: quotes, tabs and bytes that are no UTF-8 are escaped."""
    return yaml.safe_dump(value, default_style='"', allow_unicode=True, width=float("inf")).strip()


def name_for(data: str, name: str) -> str:
    """The checked name of the classifier; without one, the last part of the data's path."""
    if not name:
        stem = Path(data.rstrip("/")).name.split(".")[0]
        name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:32].strip("-")
        if not NAME.fullmatch(name):
            raise StackError(f"DATA={data} does not tell how to name the classifier; add a name: NAME=…")
    if not NAME.fullmatch(name):
        raise StackError(
            f"NAME={name}: a classifier's name has 2 to 32 lower-case letters, digits and single hyphens "
            "between them, and begins with a letter. For example: NAME=dog-breeds"
        )
    return name


def source_for(data: str) -> str:
    """What goes into the recipe for DATA=…: a local folder or file as absolute path, an address as it is."""
    if "://" in data:
        return data
    path = Path(data).expanduser().resolve()
    if not path.exists():
        raise StackError(f"DATA={data}: there is no {path}. Name a folder that holds one folder of images per class.")
    return str(path)


def refusal(source: str) -> str:
    """Why the images of a local folder have no classes, in the words of the data step, which is asked; empty if not."""
    if not Path(source).is_dir():
        return ""
    checked = subprocess.run(
        [sys.executable, "-m", "retraining.dataset", "check", "--names", "--", source],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "plugins")},
        capture_output=True,
        errors="replace",
        check=False,
    )
    return checked.stdout.removeprefix("Refused: ").strip() if checked.returncode == REFUSED else ""


def ensure(recipes: Path, *, data: str, name: str) -> str:
    """The name of the recipe to run for DATA and NAME, written first if it does not exist yet."""
    if not data and not name:
        return "digits"
    if not data:
        name_for("", name)
        path = recipes / f"{name}.yaml"
        if not path.exists():
            known = ", ".join(sorted(entry.stem for entry in recipes.glob("*.yaml"))) or "none"
            raise StackError(
                f"NAME={name}: there is no recipe {path} (recipes: {known}). "
                f"To make one from a folder of images: make retrain DATA=… NAME={name}"
            )
        return name
    name, source = name_for(data, name), source_for(data)
    path = recipes / f"{name}.yaml"
    if not path.exists():
        why = refusal(source)
        if why and LINE not in why:
            raise StackError(f"DATA={why}")
        path.write_text(text(name, source), encoding="utf-8")
        if why:
            raise StackError(f"DATA={why}\n{path} is the recipe; with that line, run `make retrain NAME={name}`.")
    elif not _same_source(path, source):
        raise StackError(
            f"NAME={name}: the recipe {path} exists and its source is not {source}. "
            f"Run it as it is with `make retrain NAME={name}`, change its `source:` line, or choose another NAME."
        )
    return name


def require_valid(root: Path, name: str) -> None:
    """Refuses a recipe that would become no DAG, in the words in which Airflow would list it.

    dags/recipe_errors.py is the very check that Airflow makes, run here as a process, before anything is started.
    """
    checked = subprocess.run(
        [sys.executable, str(root / "dags" / "recipe_errors.py")],
        env={**os.environ, "PYTHONPATH": str(root / "plugins")},
        capture_output=True,
        text=True,
        check=False,
    )
    told = re.split(r"\n(?!  also )", checked.stderr)  # one recipe's complaint may have several lines
    complaints = [complaint.rstrip() for complaint in told if f"{os.sep}{name}.yaml: " in complaint]
    if checked.returncode and complaints:
        raise StackError("\n".join(complaints))


def _same_source(path: Path, source: str) -> bool:
    try:
        made = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError):
        return False  # what is wrong with it is told by require_valid, when it is run by its name
    return isinstance(made, dict) and made.get("source") == source
