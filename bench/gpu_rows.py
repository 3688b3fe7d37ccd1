"""The rows of bench/gpu.py: what is measured, at which size, beside whom, and what we want to reach."""

from __future__ import annotations

from dataclasses import dataclass

FULL = {
    **{"side": 224, "images": 8192, "batch": 256, "files": 8351, "distinct": 256},
    **{"small images": 50000, "small validation": 10000, "small classes": 100, "small batch": 512},
    **{"our epochs": 24, "their epochs": 200},
    **{"head images": 6680, "head batch": 64, "head epochs": 5, "trials": 256, "measured trials": 8},
    **{"calls": 300, "asked": 256, "hook batch": 64, "hook steps": 20},
}
QUICK = {
    **{"side": 32, "images": 16, "batch": 8, "files": 12, "distinct": 4},
    **{"small images": 64, "small validation": 32, "small classes": 4, "small batch": 32},
    **{"our epochs": 2, "their epochs": 2},
    **{"head images": 32, "head batch": 8, "head epochs": 2, "trials": 4, "measured trials": 2},
    **{"calls": 4, "asked": 4, "hook batch": 8, "hook steps": 2},
}


@dataclass(frozen=True)
class Row:
    """A metric: its cases, and the sides that are measured in each. A side's name ends in @ and its only case."""

    title: str
    unit: str
    more_is_better: bool
    agreement: float
    """How far the sides' numbers may lie from ours, of their norm; 0: there are none."""
    cases: dict[str, str]
    """Case -> our goal, in absolute numbers."""
    ours: dict[str, str]
    peers: dict[str, tuple[str, str]]
    """Name -> (what it is, the goal of the ratio)."""

    def sides(self, case: str) -> dict[str, str]:
        """Those of a case: name -> process."""
        named = {name: "ours" for name in self.ours} | {name: "peers" for name in self.peers}
        return {name: process for name, process in named.items() if name.partition("@")[2] in ("", case)}

    def say(self, side: str) -> tuple[str, str]:
        return self.peers[side] if side in self.peers else (self.ours[side], "")


ROWS = {
    "G1": Row(
        "a training at 224 px, images in GPU memory",
        "images/s",
        True,
        0.02,
        {"resnet18": ">= 15,000", "resnet34": "", "resnet50": ">= 4,500"},
        {"ours": "ours", "ours-compiled": "ours, --compile true"},
        {
            "torchvision": ("torchvision reference, float32", ""),
            "timm": ("timm, bfloat16, channels last", ""),
            "timm-compiled": ("timm, the same, compiled", ">= 1.5"),
            "timm-jpeg@resnet18": ("timm, bfloat16, channels last, fed from JPEGs", ">= 4"),
        },
    ),
    "G2": Row(
        "from JPEGs to GPU memory",
        "images/s",
        True,
        0.05,
        {"256 px": ">= 12,000"},
        {"ours": "ours, decoded on the processor", "ours-cache": "ours, with a fresh cache on disk"},
        {
            "nvjpeg": ("torchvision decode_jpeg on the GPU (nvJPEG)", ""),
            "pil": ("torchvision, PIL DataLoader", ""),
        },
    ),
    "G3": Row(
        "time to the recipe's accuracy, 32 px",
        "s",
        False,
        0,
        {"100 classes": "<= 25"},
        {"ours": "ours, 24 epochs"},
        {"recipe": ("the usual recipe, 200 epochs, float32", ">= 8")},
    ),
    "G4": Row(
        "256 trials of a head, 5 epochs",
        "s",
        False,
        0.03,
        {"6,680 images": "<= 2"},
        {"ours": "ours"},
        {
            "optuna": ("Optuna, frozen network in bfloat16 each epoch", ">= 300"),
            "all-heads": ("all heads in one matrix product (the limit)", ""),
        },
    ),
    "G5": Row(
        "serving raw tensors, ResNet-18",
        "ms (median), images/s",
        True,
        0.03,
        {"1 image": "<= 0.8 ms", "256 images": ">= 30,000 images/s"},
        {"ours": "ours, the runtime", "ours-request@1 image": "ours, a whole request"},
        {"eager": ("torch eager, float32", ""), "eager-bf16": ("torch eager, bfloat16, channels last", "")},
    ),
    "G6": Row(
        "statistics of weights and gradients at every step",
        "% of a step",
        False,
        0,
        {"bf16": "<= 1", "fp32": "<= 1"},
        {"ours": "our hook"},
        {"smdebug@fp32": ("smdebug 1.0.34", "")},
    ),
}
