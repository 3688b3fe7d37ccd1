"""How an artifact will be served, decided at the end of its training by measurement.

Candidates are torch and OpenVINO, each in float32 and bfloat16, as far as this machine has them; runtime.py computes
with the chosen one. The fastest for one image at a time is chosen if it agrees with torch in float32 on the validation
images (AGREEMENT, TOLERANCE), else the next one. Not a candidate is torch.compile's AOTInductor: what it leaves is
machine code for one kind of processor, which needs a compiler here and would be run, not read, by the server.

The graph for OpenVINO holds no second copy of the weights: its constants point into model.safetensors.
"""

import hashlib
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch

import artifact
import model
import weights
from picture import normalise
from runtime import RUNTIMES, Unusable, import_openvino

AGREEMENT = 0.99  # share of the validation images whose class must be the same
TOLERANCE = 1e-3  # of float32 logits, as a share of the largest: another order of summation, nothing more
CHECK_S = 5  # no longer than about this are validation images compared, in an order that spreads over all of them
CHUNK = 16  # images compared at once
ROUNDS, MEASURE_S = 20, 2  # of one image; at most, so many seconds long
GAIN = 0.9  # a later candidate must take less than this share of the time of a simpler one
# Simplest first. OpenVINO in float32 stands before torch because a server without torch starts in half the time.
CANDIDATES = (("openvino", "fp32"), ("torch", "fp32"), ("openvino", "bf16"), ("torch", "bf16"))
REFERENCE = "torch fp32"
MAX_GRAPH_BYTES = 2**30
ALIGNMENT = 8  # bytes; the widest constant is an int64


@dataclass
class Candidate:
    """One way to compute the logits, and how it did. `why_not` says why it may not be chosen; empty: it may."""

    runtime: str
    precision: str
    engine: object = None
    agreement: float = 1.0
    milliseconds: float = float("inf")
    """For one image."""
    why_not: str = ""

    def __str__(self):
        return f"{self.runtime} {self.precision}"


def export(model_dir, validation_set, wanted="auto"):
    """Choose how the artifact in `model_dir` is served, and write it there -> what model.json then says of it.

    `validation_set` is a data.Channel of pixels; `wanted` is "auto", "torch" (nothing is measured) or "openvino". Never
    raises: a training that went well does not fail for want of a faster way to serve it, since torch remains.
    """
    description = artifact.read_description(model_dir)
    try:
        serving = choose(model_dir, validation_set, description, wanted)
    except Exception as error:
        traceback.print_exc()
        serving = artifact.UNMEASURED | {
            "reason": f"the measurement failed: {type(error).__name__}: {str(error)[:200]}"
        }
    if serving["runtime"] != "openvino":
        artifact.remove_graph(model_dir)
    artifact.describe(model_dir, description | {"serving": serving})
    return serving


def choose(model_dir, validation_set, description, wanted):
    if wanted == "torch":
        return artifact.UNMEASURED | {"reason": "--serving torch asked for it"}
    candidates = make_candidates(model_dir, wanted)
    reference = next(candidate for candidate in candidates if str(candidate) == REFERENCE)
    measure(candidates, description)
    chosen, images = fastest(candidates, wanted), 0
    while chosen is not reference:
        images = compare(reference, chosen, validation_set, description)
        if not chosen.why_not:
            break
        chosen = fastest(candidates, wanted)
    return report(chosen, candidates, images)


def summary(serving):
    """A line for the log."""
    return f"serving: {serving['runtime']} in {serving['precision']} ({serving['reason']})"


def make_candidates(model_dir, wanted):
    """All that may be asked for, ready to compute; those that this machine cannot have carry the reason."""
    candidates = [Candidate(*pair) for pair in CANDIDATES]
    candidates = [entry for entry in candidates if wanted in ("auto", entry.runtime) or str(entry) == REFERENCE]
    for candidate in candidates:
        try:
            if str(candidate) == "openvino fp32":
                write_graph(model_dir)
            candidate.engine = RUNTIMES[candidate.runtime](model_dir, candidate.precision)
        except Unusable as reason:
            candidate.why_not = str(reason)
    return candidates


def measure(candidates, description):
    """Milliseconds for one image, the shortest of several rounds in which all take turns."""
    side, usable = description["image_size"], [candidate for candidate in candidates if not candidate.why_not]
    image = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    until = time.monotonic() + MEASURE_S
    for turn in range(ROUNDS):
        for candidate in usable:
            started = time.perf_counter()
            candidate.engine.logits(image)
            took = (time.perf_counter() - started) * 1000
            candidate.milliseconds = min(candidate.milliseconds, took)
        if turn > 1 and time.monotonic() > until:
            break


def fastest(candidates, wanted):
    usable = [candidate for candidate in candidates if not candidate.why_not]
    chosen, *others = [candidate for candidate in usable if wanted in ("auto", candidate.runtime)] or usable
    for other in others:
        if other.milliseconds < GAIN * chosen.milliseconds:
            chosen = other
    return chosen


def compare(reference, other, validation_set, description):
    """Hold a candidate against the reference -> how many images that took. `other.why_not` then says if it failed."""
    order = torch.randperm(len(validation_set), generator=torch.Generator().manual_seed(0))
    same, images, difference, until = 0, 0, 0.0, time.monotonic() + CHECK_S
    for pixels, _ in validation_set.batches(CHUNK, order):
        batch = normalise(pixels.cpu().numpy(), description["mean"], description["std"])
        expected, logits = reference.engine.logits(batch), other.engine.logits(batch)
        same += int((classes(logits) == classes(expected)).sum())
        # np.maximum, which keeps what is not a number
        difference = np.maximum(difference, np.abs(logits - expected).max() / np.maximum(1, np.abs(expected).max()))
        images += len(batch)
        if time.monotonic() > until:
            break
    other.agreement = same / images
    if other.agreement < AGREEMENT:
        other.why_not = f"it gives only {other.agreement:.1%} of {images} validation images the class that torch does"
    elif not np.isfinite(difference):
        other.why_not = "its logits are not all finite numbers"
    elif other.precision == "fp32" and difference > TOLERANCE:
        other.why_not = f"its logits differ from torch's by {difference:.2g} of the largest"
    return images


def report(chosen, candidates, images):
    """What model.json keeps."""
    times = [f"{candidate} {candidate.milliseconds:.1f} ms" for candidate in candidates if candidate.engine]
    reasons = [f"one image takes {', '.join(times)}"]
    if str(chosen) != REFERENCE:
        reasons.append(f"{chosen.agreement:.1%} of {images} validation images get the class that torch fp32 gives them")
    reasons += [f"not {candidate}: {candidate.why_not}" for candidate in candidates if candidate.why_not]
    return {
        "runtime": chosen.runtime,
        "precision": chosen.precision,
        "agreement": chosen.agreement,
        "images": images,
        "reason": "; ".join(reasons),
    }


def classes(logits):
    return logits.argmax(1) if logits.shape[1] > 1 else logits[:, 0] > 0


# -- the graph ------------------------------------------------------------------------------------------------------


def write_graph(model_dir):
    """Write the network as OpenVINO's graph beside its weights. Raises Unusable where that is not possible."""
    openvino, folder = import_openvino(), Path(model_dir)
    if (folder / artifact.WEIGHTS).stat().st_size > MAX_GRAPH_BYTES:
        raise Unusable(f"weights of more than {MAX_GRAPH_BYTES >> 20} MB are not converted; it would take minutes")
    network, description = model.load_artifact(folder)
    side = description["image_size"]
    try:
        graph = convert(network, torch.zeros(2, 3, side, side))
        graph.reshape([-1, 3, side, side])
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "graph.xml"
            openvino.save_model(graph, file, compress_to_fp16=False)
            text, numbers = share_weights(file.read_bytes(), file.with_suffix(".bin").read_bytes(), folder)
    except Exception as error:  # the converter raises whatever an operation it does not know leads to
        raise Unusable(f"the network cannot become an OpenVINO graph: {str(error)[:200]}") from error
    artifact.replace_file(folder / artifact.GRAPH, lambda path: path.write_bytes(text))
    artifact.replace_file(folder / artifact.GRAPH_NUMBERS, lambda path: path.write_bytes(numbers))


def convert(network, example):
    """A torch network -> an OpenVINO model.

    Not by openvino.convert_model: that one reports its use over the network, and lets torch check the trace, which
    takes ten times as long as all the rest (4 s for a ResNet-18; torch 2.15). The comparison here checks it anyway.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.trace is deprecated; OpenVINO has no reader of its successor yet
        traced = torch.jit.trace(network, example, check_trace=False)
    decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion, though OpenVINO holds no reference to it
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


def share_weights(graph, numbers, folder):
    """Let a graph's constants point into the weights file where it has the same bytes -> graph, the other numbers.

    To the reader the weights file comes first and those other numbers after it (runtime.read_graph).
    """
    content = (folder / artifact.WEIGHTS).read_bytes()
    known = {hashlib.sha256(content[begin:end]).digest(): begin for begin, end in weights.spans(content)}
    tree, rest = ElementTree.fromstring(graph), bytearray()
    for data in tree.iterfind("layers/layer[@type='Const']/data"):
        begin, size = int(data.get("offset")), int(data.get("size"))
        constant = numbers[begin : begin + size]
        place = known.get(hashlib.sha256(constant).digest())
        if place is None:
            rest += b"\0" * (-len(rest) % ALIGNMENT)
            place = len(content) + len(rest)
            rest += constant
        data.set("offset", str(place))
    return ElementTree.tostring(tree), bytes(rest)
