"""The recipes of the simulated runs: what each says besides what all of them do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PHOTOS = "photos"
"""The prefix of the source in S3."""
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "shadow": {"deployment": {"shadow": {"requests": 20, "min_agreement": 0.9}}, "capture": {"percent": 50}},
    "canary": {
        "deployment": {
            "strategy": "canary", "percent": 40, "bake_seconds": 300, "termination_wait_seconds": 120,
            "max_5xx_percent": 1, "max_latency_ratio": 3, "alarms": ["pager"],
        },
        "serving": {"instance_count": 2},
    },
    # Another instance type than before: SageMaker refuses such an update as long as the endpoint is scaled.
    "linear": {
        "deployment": {"strategy": "linear", "percent": 50, "bake_seconds": 120}, "capture": {"percent": 10},
        "serving": {
            "instance_type": "ml.c5.large", "instance_count": 2,
            "autoscaling": {"min": 2, "max": 4, "invocations_per_instance": 100},
        },
    },
    "spread": {"source": f"s3://simulated/{PHOTOS}", "sync": {"where": "processing"}},
    "watched": {"debugger": {"mode": "auto"}},
}  # fmt: skip


def recipe(kind: str, images: Path) -> dict[str, Any]:
    """As a YAML file says it; `images` is the folder of those that have none in S3."""
    common = {
        "name": "colors", "source": str(images), "hyperparameters": {"arch": "resnet18", "epochs": 2},
        "tuning": {"ranges": {"lr": {"type": "continuous", "min": 0.001, "max": 0.1}}},
        "debugger": {"mode": "off"}, "promotion": {"min_value": 0.8},
    }  # fmt: skip
    return common | RECIPES[kind]
