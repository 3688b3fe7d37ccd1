"""An artifact's network as OpenVINO's graph, beside its weights: in float32, and in integers of eight bits.

The float32 graph holds no second copy of the weights: its constants point into model.safetensors. That of eight bits
has numbers of its own, a quarter of the size; whoever serves it needs openvino alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import torch

from network import artifact, model, weights
from network.runtime import Unusable, import_openvino, read_graph
from pictures.picture import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType
    from typing import Any

    import openvino
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from dataset.channel import Channel

MAX_GRAPH_BYTES = 2**30
ALIGNMENT = 8  # bytes; the widest constant is an int64
CALIBRATION = 256  # training images that show which numbers occur in the network
TELEMETRY = "openvino_telemetry"


def write_graph(model_dir: Path | str) -> None:
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


def convert(network: nn.Module, example: Tensor) -> openvino.Model:
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


def share_weights(graph: bytes, numbers: bytes, folder: Path) -> tuple[bytes, bytes]:
    """Let a graph's constants point into the weights file where it has the same bytes -> graph, the other numbers.

    To the reader the weights file comes first and those other numbers after it (runtime.read_graph).
    """
    content = (folder / artifact.WEIGHTS).read_bytes()
    known = {hashlib.sha256(content[begin:end]).digest(): begin for begin, end in weights.spans(content)}
    tree, rest = ElementTree.fromstring(graph), bytearray()
    for data in tree.iterfind("layers/layer[@type='Const']/data"):
        begin, size = int(data.attrib["offset"]), int(data.attrib["size"])
        constant = numbers[begin : begin + size]
        place = known.get(hashlib.sha256(constant).digest())
        if place is None:
            rest += b"\0" * (-len(rest) % ALIGNMENT)
            place = len(content) + len(rest)
            rest += constant
        data.set("offset", str(place))
    return ElementTree.tostring(tree), bytes(rest)


# -- eight bits -----------------------------------------------------------------------------------------------------


def write_eight_bits(model_dir: Path | str, train_set: Channel | None) -> None:
    """Quantise the float32 graph, which must be there, after a look at images of `train_set` (a Channel).

    The same weights and images give the same numbers. Raises Unusable where it is not possible.
    """
    openvino, nncf, folder = import_openvino(), import_nncf(), Path(model_dir)
    graph = read_graph(openvino.Core(), openvino, folder)
    images = calibration_images(train_set, artifact.read_description(folder))
    try:
        with quiet(), tempfile.TemporaryDirectory() as temporary:
            quantised = nncf.quantize(graph, nncf.Dataset(images), subset_size=len(images))
            file = Path(temporary) / "graph.xml"
            openvino.save_model(quantised, file, compress_to_fp16=False)
            text, numbers = file.read_bytes(), file.with_suffix(".bin").read_bytes()
    except Exception as error:  # whatever an operation leads to that nncf does not know
        raise Unusable(f"the network cannot be computed in eight bits: {str(error)[:200]}") from error
    artifact.replace_file(folder / artifact.QUANTISED, lambda path: path.write_bytes(text))
    artifact.replace_file(folder / artifact.QUANTISED_NUMBERS, lambda path: path.write_bytes(numbers))


def calibration_images(train_set: Channel | None, description: Mapping[str, Any]) -> list[NDArray[np.float32]]:
    """Up to CALIBRATION of them, one by one as the network takes them, in an order that spreads over all classes."""
    if train_set is None or not len(train_set):
        raise Unusable("eight bits need training images, to see which numbers occur in the network")
    order = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(0))[:CALIBRATION]
    pixels = train_set.read(order.tolist()).cpu().numpy()
    return [
        np.ascontiguousarray(normalise(picture[None], description["mean"], description["std"])) for picture in pixels
    ]


def import_nncf() -> ModuleType:
    """Raises Unusable where it is not installed."""
    # It reports each of its uses to Google Analytics, unless the package that does so is missing.
    reporter = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # None forbids an import
    try:
        with quiet():
            import nncf
    except ImportError:
        raise Unusable("nncf is not installed here, and eight bits need it") from None
    finally:
        sys.modules.pop(TELEMETRY)
        if reporter is not None:
            sys.modules[TELEMETRY] = reporter
    module: ModuleType = nncf
    return module


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep nncf's progress bars out of the log, where metrics are read, and its class of loggers to itself."""
    loggers, disabled = logging.getLoggerClass(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        logging.setLoggerClass(loggers)
