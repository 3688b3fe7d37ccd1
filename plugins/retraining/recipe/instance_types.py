"""Which machines SageMaker has for which kind of job.

Source: the enumerations of SageMaker's service model, which AWS holds each request against; `tests/contract/` holds
these tables against the one that botocore brings. AWS adds types: a recipe's `new_instance_types` names those that it
has and that are not here yet.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from retraining.recipe.refusal import did_you_mean

Kind = Literal["training", "processing", "transform", "hosting"]
JOBS: dict[Kind, str] = {
    "training": "training and tuning jobs",
    "processing": "processing jobs",
    "transform": "batch transform jobs",
    "hosting": "endpoints",
}

_TRAINING = """
    c4 : xlarge 2xlarge 4xlarge 8xlarge
    c5 c5n : xlarge 2xlarge 4xlarge 9xlarge 18xlarge
    c6i : xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge
    c7i m7i r7i : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge
    c7i-flex c8i-flex g4dn : xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge
    c8i : xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge 96xlarge
    g5 g6 g6e : xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge
    g7 g7e : 2xlarge 4xlarge 8xlarge 12xlarge 24xlarge 48xlarge
    m4 : xlarge 2xlarge 4xlarge 10xlarge 16xlarge
    m5 : large xlarge 2xlarge 4xlarge 12xlarge 24xlarge
    m6i r6i : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge
    m7i-flex m8i-flex r8i-flex : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge
    m8i r8i : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge 96xlarge
    p2 : xlarge 8xlarge 16xlarge
    p3 : 2xlarge 8xlarge 16xlarge
    p3dn p4d p4de : 24xlarge
    p5 : 4xlarge 48xlarge
    p5e p5en p6-b200 p6-b300 trn2 : 48xlarge
    p6e-gb200 : 36xlarge
    r5 r5d : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge
    t3 : medium large xlarge 2xlarge
    trn1 : 2xlarge 32xlarge
    trn1n : 32xlarge
"""
_PROCESSING = """
    c4 : xlarge 2xlarge 4xlarge 8xlarge
    c5 : xlarge 2xlarge 4xlarge 9xlarge 18xlarge
    c6i : xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge
    c7i m7i r7i : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge
    c7i-flex c8i-flex g4dn : xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge
    c8i : xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge 96xlarge
    g5 g6 g6e : xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge
    g7 g7e : 2xlarge 4xlarge 8xlarge 12xlarge 24xlarge 48xlarge
    m4 : xlarge 2xlarge 4xlarge 10xlarge 16xlarge
    m5 : large xlarge 2xlarge 4xlarge 12xlarge 24xlarge
    m6i r6i : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge
    m7i-flex m8i-flex r8i-flex : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge
    m8i r8i : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge 96xlarge
    p2 : xlarge 8xlarge 16xlarge
    p3 : 2xlarge 8xlarge 16xlarge
    p5 : 4xlarge
    r5 r5d : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge
    t3 : medium large xlarge 2xlarge
"""
_TRANSFORM = """
    c4 : xlarge 2xlarge 4xlarge 8xlarge
    c5 : xlarge 2xlarge 4xlarge 9xlarge 18xlarge
    c6i m6i r6i : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge
    c7i m7i r7i : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge
    g4dn : xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge
    g5 g6 g6e : xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge
    inf2 : xlarge 8xlarge 24xlarge 48xlarge
    m4 : xlarge 2xlarge 4xlarge 10xlarge 16xlarge
    m5 : large xlarge 2xlarge 4xlarge 12xlarge 24xlarge
    p2 : xlarge 8xlarge 16xlarge
    p3 : 2xlarge 8xlarge 16xlarge
    trn1 : 2xlarge 32xlarge
"""
_HOSTING = """
    c4 : large xlarge 2xlarge 4xlarge 8xlarge
    c5 c5d : large xlarge 2xlarge 4xlarge 9xlarge 18xlarge
    c6g c6gd c6gn c7g m6g m6gd r6g r6gd : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge
    c6i c6in m6i r6i : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge
    c7i m7i r7i : large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge
    c8g m8g r8g : medium large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge
    dl1 p4d p4de : 24xlarge
    g4dn : xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge
    g5 g6 g6e : xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge
    g7 g7e : 2xlarge 4xlarge 8xlarge 12xlarge 24xlarge 48xlarge
    inf1 : xlarge 2xlarge 6xlarge 24xlarge
    inf2 : xlarge 8xlarge 24xlarge 48xlarge
    m4 : xlarge 2xlarge 4xlarge 10xlarge 16xlarge
    m5 m5d r5 r5d : large xlarge 2xlarge 4xlarge 12xlarge 24xlarge
    p2 : xlarge 8xlarge 16xlarge
    p3 : 2xlarge 8xlarge 16xlarge
    p5 : 4xlarge 48xlarge
    p5e p5en p6-b200 p6-b300 trn2 : 48xlarge
    p6e-gb200 : 36xlarge
    r7gd : medium large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge
    t2 : medium large xlarge 2xlarge
    trn1 : 2xlarge 32xlarge
    trn1n : 32xlarge
"""


def _read(table: str) -> frozenset[str]:
    """Lines of families, a colon, and the sizes that each of them has."""
    lines = [line.partition(":") for line in table.strip().splitlines()]
    return frozenset(
        f"ml.{family}.{size}" for families, _, sizes in lines for family in families.split() for size in sizes.split()
    )


INSTANCE_TYPES: dict[Kind, frozenset[str]] = {
    "training": _read(_TRAINING),
    "processing": _read(_PROCESSING),
    "transform": _read(_TRANSFORM),
    "hosting": _read(_HOSTING),
}

SCORED_ON = {"c5d": "c5", "c6in": "c6i", "g7": "g6e", "g7e": "g6e", "m5d": "m5", "r5": "r6i", "r5d": "r6i", "t2": "m5"}
"""Family of an endpoint that batch transform has not → the nearest that it has, where the same container runs."""


def problem(instance_type: str, kind: Kind, also: Collection[str] = ()) -> tuple[str, str] | None:
    """(rule, way out) where SageMaker has no such machine for this kind of job; None where it has.

    `also`: types that AWS has had since these tables were made.
    """
    known = INSTANCE_TYPES[kind]
    if instance_type in known or instance_type in also:
        return None
    others = [JOBS[other] for other, types in INSTANCE_TYPES.items() if instance_type in types]
    rule = f"SageMaker has no such machine for {JOBS[kind]}" + (f", only for {' and '.join(others)}" if others else "")
    near = did_you_mean(instance_type, sorted(known)) or "Take ml.m5.xlarge or another that it has."
    return rule, f"{near} If AWS has had it since, add it to new_instance_types."


def transform_type(serving: str) -> str | None:
    """What scores the images for an endpoint of this type: the same machine where batch transform has it, else the
    smallest that is no smaller in its own family, or in the nearest that has its processor. None where there is none.
    """
    if serving in INSTANCE_TYPES["transform"] or serving not in INSTANCE_TYPES["hosting"]:
        return serving
    _, family, size = serving.split(".")
    family = SCORED_ON.get(family, family)
    larger = [
        one for one in INSTANCE_TYPES["transform"] if one.startswith(f"ml.{family}.") and _rank(one) >= _rank(size)
    ]
    return min(larger, key=_rank, default=None)


def _rank(instance_type: str) -> int:
    """By size: medium, large, xlarge, 2xlarge, …"""
    size = instance_type.rpartition(".")[2]
    small = {"medium": -1, "large": 0, "xlarge": 1}
    return small[size] if size in small else int(size.removesuffix("xlarge"))
