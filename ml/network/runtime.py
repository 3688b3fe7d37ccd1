"""What computes an artifact's logits at serving time: torch, or OpenVINO, which is faster on processors.

model.json's `serving` says which one export.py found to agree with training and to be fastest. That was on the training
machine: what this one has not (OpenVINO, bfloat16 instructions) is replaced by the nearest it has, with a line in the
log; torch in float32 serves every artifact. Where there is a GPU torch uses it. torch and openvino are imported only
where they are needed, since either takes longer than the rest of a server's start.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from network import artifact
from pictures.picture import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType
    from typing import Any

    import openvino
    from numpy.typing import NDArray

CONVERTER = "openvino.tools.ovc"
FLOATS = (artifact.WEIGHTS, artifact.GRAPH_NUMBERS)
GRAPHS = {False: (artifact.GRAPH, FLOATS), True: (artifact.QUANTISED, (artifact.QUANTISED_NUMBERS,))}


class Unusable(Exception):
    """Why a runtime cannot be had on this machine, or not for this artifact."""


class Torch:
    """The network itself, as training evaluates it. Any thread may call it."""

    def __init__(self, model_dir: Path | str, precision: str, device: str = "cpu") -> None:
        try:
            import torch
        except ImportError:
            raise Unusable("torch is not installed here") from None
        from network import model

        self.torch, self.device = torch, device
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        if precision == "bf16" and device == "cpu" and not torch_has_bfloat16(torch):
            raise Unusable("this processor has no bfloat16 instructions, or this torch does not use them")
        network, _ = model.load_artifact(model_dir)
        self.network = network.to(device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch knows it, its types do not

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 array (N, 3, side, side), normalised -> float32 array (N, outputs)."""
        torch = self.torch
        with torch.inference_mode():
            result: NDArray[np.float32] = (
                self.network(torch.from_numpy(images).to(self.device, self.dtype)).float().cpu().numpy()
            )
        return result


class OpenVino:
    """A graph that graph.py wrote, compiled for this processor: once for a single image, which is a little faster where
    that is known, and once for any number of them. Any thread may call it."""

    def __init__(self, model_dir: Path | str, precision: str) -> None:
        openvino = import_openvino()
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise Unusable("this processor has no bfloat16 instructions")
        graph = read_graph(core, openvino, model_dir, *GRAPHS[precision == "int8"])
        settings = processor_settings(precision, int(os.environ.get("OMP_NUM_THREADS") or 0))
        self.several = Requests(core.compile_model(graph, "CPU", settings))
        graph.reshape([1, *list(graph.inputs[0].get_partial_shape())[1:]])
        self.single = Requests(core.compile_model(graph, "CPU", settings))

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 array (N, 3, side, side), normalised -> float32 array (N, outputs)."""
        return (self.single if len(images) == 1 else self.several).logits(images)


class Requests:
    """A compiled graph and its infer requests, each of which belongs to one thread at a time."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self.compiled = compiled
        self.idle: list[openvino.InferRequest] = []

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            request = self.idle.pop()
        except IndexError:
            request = self.compiled.create_infer_request()
        try:
            result: NDArray[np.float32] = request.infer({0: np.ascontiguousarray(images)}, share_inputs=True)[0]
            return result
        finally:
            self.idle.append(request)


def processor_settings(precision: str, threads: int) -> dict[str, str | int]:
    """How OpenVINO is to compute; 0 `threads`: as many as it likes."""
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    return settings | ({"INFERENCE_NUM_THREADS": threads} if threads else {})


RUNTIMES = {"torch": Torch, "openvino": OpenVino}


class Model:
    """An artifact ready to answer."""

    def __init__(self, runtime: Torch | OpenVino, description: dict[str, Any]) -> None:
        self.runtime, self.description = runtime, description
        self.side = description["image_size"]

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (N, side, side, 3) -> what the runtimes take."""
        return normalise(pixels, self.description["mean"], self.description["std"])

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (N, side, side, 3) -> logits, float32 (N, outputs)."""
        return self.runtime.logits(self.normalise(pixels))


def load(model_dir: Path | str) -> Model:
    """The artifact in `model_dir`, on the best runtime that it allows and this machine has. Raises ValueError."""
    description = artifact.read_description(model_dir)
    if has_gpu():
        say("serving with torch in fp32 on the GPU")
        return Model(Torch(model_dir, "fp32", "cuda"), description)
    chosen = description.get("serving", artifact.UNMEASURED)
    wanted, reasons = (chosen["runtime"], chosen["precision"]), []
    for runtime, precision in dict.fromkeys((wanted, (wanted[0], "fp32"), ("torch", "fp32"))):
        try:
            ready = RUNTIMES[runtime](model_dir, precision)
        except Unusable as reason:
            reasons.append(f"cannot serve with {runtime} in {precision}: {reason}")
            say(reasons[-1])
        else:
            say(f"serving with {runtime} in {precision}")
            return Model(ready, description)
    raise ValueError(f"{'; '.join(reasons)}. Install torch, with which every model can be served")


def read_graph(
    core: openvino.Core,
    openvino: ModuleType,
    model_dir: Path | str,
    graph: str = artifact.GRAPH,
    numbers: Iterable[str] = FLOATS,
) -> openvino.Model:
    """A graph of the artifact, its numbers taken from those files (see graph.py), one behind the other."""
    folder = Path(model_dir)
    try:
        return core.read_model((folder / graph).read_bytes(), read_files([folder / name for name in numbers], openvino))
    except FileNotFoundError as error:
        raise Unusable(f"the artifact holds no {Path(error.filename).name}") from None
    except RuntimeError as error:  # whatever OpenVINO finds wrong, such as an operation a release does not know
        raise Unusable(f"OpenVINO cannot read the artifact's graph: {str(error)[:200]}") from error


def read_files(paths: Sequence[Path], openvino: ModuleType) -> openvino.Tensor:
    """The bytes of files, one behind the other, as one tensor."""
    sizes = [path.stat().st_size for path in paths]
    tensor, at = openvino.Tensor(openvino.Type.u8, openvino.Shape([sum(sizes)])), 0
    for path, size in zip(paths, sizes, strict=True):
        with path.open("rb") as file:
            file.readinto(tensor.data[at : at + size])
        at += size
    return tensor


def import_openvino() -> ModuleType:
    """Raises Unusable where it is not installed."""
    # Its import would load a converter of other formats that reports each import to Google Analytics, keeps an identity
    # in the home folder for it, and takes half of the time. OpenVINO does without that converter where there is none.
    absent = sys.modules.setdefault(CONVERTER, None) is None  # type: ignore[arg-type]  # None forbids an import
    try:
        import openvino
    except ImportError:
        raise Unusable("openvino is not installed here") from None
    finally:
        if absent:
            sys.modules.pop(CONVERTER, None)
    module: ModuleType = openvino
    return module


def torch_has_bfloat16(torch: ModuleType) -> bool:
    # torch emulates bfloat16 on processors without it, slower than float32; before 2.4 it cannot say which they are.
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def has_gpu() -> bool:
    """Whether torch can compute on a GPU; where NVIDIA's driver shows none, torch is not imported to be asked."""
    if not Path("/dev/nvidia0").exists():
        return False
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def say(message: str) -> None:
    print(message, flush=True)
