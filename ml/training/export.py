"""How an artifact will be served, decided at the end of its training by measurement.

Candidates are torch and OpenVINO, each in float32 and bfloat16, as far as this machine has them; runtime.py computes
with the chosen one. The fastest for one image at a time is chosen if it agrees with torch in float32 on the validation
images (AGREEMENT, TOLERANCE), else the next one. Not a candidate is torch.compile's AOTInductor: what it leaves is
machine code for one kind of processor, which needs a compiler here and would be run, not read, by the server.

OpenVINO in integers of eight bits is a candidate only where it is asked for (`int8`), since its logits are not quite
those of training: it must also keep the accuracy on the validation images (ACCURACY_LOSS), of which more are compared.
graph.py calibrates it on training images, so that those of validation stay an honest judge.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from network import artifact
from network.runtime import RUNTIMES, Unusable
from pictures.picture import normalise
from training import graph

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from dataset.channel import Channel
    from network.runtime import OpenVino, Torch

AGREEMENT = 0.99  # share of the validation images whose class must be the same
ACCURACY_LOSS = 0.005  # of eight bits, on the validation images; more is refused
TOLERANCE = 1e-3  # of float32 logits, as a share of the largest: another order of summation, nothing more
# No longer than about this are validation images compared, in an order that spreads over all of them.
CHECK_S, CHECK_INT8_S = 5, 60
CHUNK = 16  # images compared at once
ROUNDS, MEASURE_S = 20, 2  # of one image; at most, so many seconds long
GAIN = 0.9  # a later candidate must take less than this share of the time of a simpler one
# Simplest first. OpenVINO in float32 stands before torch because a server without torch starts in half the time.
CANDIDATES = (("openvino", "fp32"), ("torch", "fp32"), ("openvino", "bf16"), ("torch", "bf16"))
EIGHT_BITS = ("openvino", "int8")
REFERENCE = "torch fp32"


@dataclass
class Candidate:
    """One way to compute the logits, and how it did. `why_not` says why it may not be chosen; empty: it may."""

    runtime: str
    precision: str
    engine: Torch | OpenVino | None = None
    agreement: float = 1.0
    accuracy_loss: float = 0.0
    """How many more of the validation images get a wrong class than from the reference, as a share."""
    milliseconds: float = float("inf")
    """For one image."""
    why_not: str = ""

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"


TRIAL = "trial"
"""Of a search, whose artifact nobody serves: the best values are trained with once more."""
NOT_MEASURED = {"torch": "--serving torch asked for it", TRIAL: "a trial of a search is not served"}


def export(
    model_dir: Path | str, validation_set: Channel, wanted: str = "auto", train_set: Channel | None = None
) -> dict[str, Any]:
    """Choose how the artifact in `model_dir` is served, and write it there -> what model.json then says of it.

    `validation_set` is a Channel of pixels; `wanted` is "auto", "torch" or TRIAL (nothing is measured), "openvino", or
    "int8": auto, and OpenVINO in eight bits, for which `train_set` is needed, a Channel too. Never raises: a
    training that went well does not fail for want of a faster way to serve it, since torch remains.
    """
    description = artifact.read_description(model_dir)
    try:
        serving = choose(model_dir, validation_set, train_set, description, wanted)
    except Exception as error:
        traceback.print_exc()
        serving = artifact.UNMEASURED | {
            "reason": f"the measurement failed: {type(error).__name__}: {str(error)[:200]}"
        }
    artifact.keep_graphs(model_dir, serving)
    artifact.describe(model_dir, description | {"serving": serving})
    return serving


def choose(
    model_dir: Path | str,
    validation_set: Channel,
    train_set: Channel | None,
    description: Mapping[str, Any],
    wanted: str,
) -> dict[str, Any]:
    if wanted in NOT_MEASURED:
        return artifact.UNMEASURED | {"reason": NOT_MEASURED[wanted]}
    candidates = make_candidates(model_dir, wanted, train_set)
    reference = next(candidate for candidate in candidates if str(candidate) == REFERENCE)
    measure(candidates, description)
    chosen, images = fastest(candidates, wanted), 0
    while chosen is not reference:
        images = compare(reference, chosen, validation_set, description)
        if not chosen.why_not:
            break
        chosen = fastest(candidates, wanted)
    return report(chosen, candidates, images)


def summary(serving: Mapping[str, Any]) -> str:
    """A line for the log."""
    return f"serving: {serving['runtime']} in {serving['precision']} ({serving['reason']})"


def make_candidates(model_dir: Path | str, wanted: str, train_set: Channel | None) -> list[Candidate]:
    """All that may be asked for, ready to compute; those that this machine cannot have carry the reason."""
    candidates = [Candidate(*pair) for pair in (*CANDIDATES, *[EIGHT_BITS] * (wanted == "int8"))]
    candidates = [entry for entry in candidates if allowed(entry, wanted) or str(entry) == REFERENCE]
    for candidate in candidates:
        try:
            if str(candidate) == "openvino fp32":
                graph.write_graph(model_dir)
            elif candidate.precision == "int8":
                graph.write_eight_bits(model_dir, train_set)
            candidate.engine = RUNTIMES[candidate.runtime](model_dir, candidate.precision)
        except Unusable as reason:
            candidate.why_not = str(reason)
    return candidates


def allowed(candidate: Candidate, wanted: str) -> bool:
    return wanted in ("auto", "int8", candidate.runtime)


def measure(candidates: Sequence[Candidate], description: Mapping[str, Any]) -> None:
    """Milliseconds for one image, the shortest of several rounds in which all take turns."""
    side, usable = description["image_size"], [candidate for candidate in candidates if not candidate.why_not]
    image = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    until = time.monotonic() + MEASURE_S
    for turn in range(ROUNDS):
        for candidate in usable:
            assert candidate.engine is not None  # or it would say why not
            started = time.perf_counter()
            candidate.engine.logits(image)
            took = (time.perf_counter() - started) * 1000
            candidate.milliseconds = min(candidate.milliseconds, took)
        if turn > 1 and time.monotonic() > until:
            break


def fastest(candidates: Sequence[Candidate], wanted: str) -> Candidate:
    usable = [candidate for candidate in candidates if not candidate.why_not]
    chosen, *others = [candidate for candidate in usable if allowed(candidate, wanted)] or usable
    for other in others:
        if other.milliseconds < GAIN * chosen.milliseconds:
            chosen = other
    return chosen


def compare(reference: Candidate, other: Candidate, validation_set: Channel, description: Mapping[str, Any]) -> int:
    """Hold a candidate against the reference -> how many images that took. `other.why_not` then says if it failed."""
    order = torch.randperm(len(validation_set), generator=torch.Generator().manual_seed(0))
    same, lost, images, difference, started = 0, 0, 0, 0.0, time.monotonic()
    assert reference.engine is not None and other.engine is not None
    for pixels, labels in validation_set.batches(CHUNK, order):
        batch, right = normalise(pixels.cpu().numpy(), description["mean"], description["std"]), labels.cpu().numpy()
        expected, logits = reference.engine.logits(batch), other.engine.logits(batch)
        same += int((classes(logits) == classes(expected)).sum())
        lost += int((classes(expected) == right).sum()) - int((classes(logits) == right).sum())
        # np.maximum, which keeps what is not a number
        difference = np.maximum(difference, np.abs(logits - expected).max() / np.maximum(1, np.abs(expected).max()))
        images += len(batch)
        if time.monotonic() - started > (CHECK_INT8_S if other.precision == "int8" else CHECK_S):
            break
    other.agreement, other.accuracy_loss = same / images, lost / images
    other.why_not = disagreement(other, images, difference)
    return images


def disagreement(other: Candidate, images: int, difference: float) -> str:
    """Why a compared candidate may not be chosen; empty: it may."""
    if other.agreement < AGREEMENT:
        return f"it gives only {other.agreement:.1%} of {images} validation images the class that torch does"
    if not np.isfinite(difference):
        return "its logits are not all finite numbers"
    if other.precision == "fp32" and difference > TOLERANCE:
        return f"its logits differ from torch's by {difference:.2g} of the largest"
    if other.precision == "int8" and other.accuracy_loss > ACCURACY_LOSS:
        return (
            f"it loses {other.accuracy_loss:.2%} of accuracy on {images} validation images; {ACCURACY_LOSS:.1%} may go"
        )
    return ""


def report(chosen: Candidate, candidates: Sequence[Candidate], images: int) -> dict[str, Any]:
    """What model.json keeps."""
    times = [f"{candidate} {candidate.milliseconds:.1f} ms" for candidate in candidates if candidate.engine]
    reasons = [f"one image takes {', '.join(times)}"]
    if str(chosen) != REFERENCE:
        reasons.append(f"{chosen.agreement:.1%} of {images} validation images get the class that torch fp32 gives them")
    if chosen.precision == "int8":
        reasons.append(f"accuracy on them changes by {0.0 - 100 * chosen.accuracy_loss:+.2f} percentage points")
    reasons += [f"not {candidate}: {candidate.why_not}" for candidate in candidates if candidate.why_not]
    return {
        "runtime": chosen.runtime,
        "precision": chosen.precision,
        "agreement": chosen.agreement,
        "images": images,
        "reason": "; ".join(reasons),
    }


def classes(logits: NDArray[np.float32]) -> NDArray[Any]:
    return logits.argmax(1) if logits.shape[1] > 1 else logits[:, 0] > 0
