"""What a model was made from, as short digests: the data, the code, the recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from retraining.recipe import Promotion, Recipe

#: Of `promotion`: always part of the gate's digest.
FIRST_KEYS = ("metric", "min_improvement", "evidence", "confidence", "min_value", "min_class_recall")


def dataset_fingerprint(images: Iterable[tuple[str, str, str]]) -> str:
    """Digest of the (split, class, sha256) list: the same data has the same fingerprint, anywhere."""
    digest = hashlib.sha256()
    for split, label, sha256 in sorted(images):
        digest.update(json.dumps([split, label, sha256]).encode())
    return digest.hexdigest()[:20]


def recipe_fingerprint(recipe: Recipe) -> str:
    """Digest of what the recipe says about the model itself; not of schedule, machines or gates."""
    said = asdict(recipe)
    made_from = {key: said[key] for key in ("hyperparameters", "tuning", "pretrained")}
    # How many trials run at the same time changes the time a search takes, not what is searched for.
    made_from["tuning"].pop("max_parallel_jobs")
    # Nor does what it begins from, which is another thing every week.
    made_from["tuning"].pop("warm_start")
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:20]


def gate_fingerprint(recipe: Recipe) -> str:
    """Digest of what a candidate has to pass; another gate may let a model through that this one did not.

    Keys that came later count only where a recipe says something: an upgrade alone tries nobody twice.
    """
    rule, silent = recipe.promotion, asdict(Promotion())
    asked = asdict(rule) | {"evidence": rule.how_sure, "confidence": rule.interval}
    asked = {key: value for key, value in asked.items() if key in FIRST_KEYS or value != silent[key]}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:20]


def shadow_fingerprint(recipe: Recipe) -> str:
    """Digest of the gate with the shadow behind it, in which a candidate may be refused as well."""
    shadow = recipe.deployment.shadow
    asked = [gate_fingerprint(recipe), asdict(shadow) if shadow else None]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:20]


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """The three digests a model is made from."""

    dataset: str
    code: str
    recipe: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def changed_since(self, champion: Mapping[str, Any] | None) -> list[str]:
        """Which of dataset, code and recipe differ from the champion's; all of them when there is no champion."""
        before = (champion or {}).get("ingredients", {})
        return [name for name, digest in self.as_dict().items() if before.get(name) != digest]
