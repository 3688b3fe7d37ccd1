"""A user's inference.py, turned into two calls: load the model, answer a request.

Follows the SageMaker inference toolkit (sagemaker-inference 1.10, sagemaker-pytorch-inference 2.0): model_fn, input_fn,
predict_fn, output_fn or transform_fn, each optional, each with an optional last argument `context`
(request_context.py). Beyond the toolkit there is predict_batch_fn(requests, model) -> list: for each of several results
of input_fn a prediction or an exception. A module that has it lets its input_fn and output_fn run in several threads;
its model computes in one.
Not covered: multi-model endpoints, and requirements.txt (the serving image must hold what the code imports).
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import json
import sys
import uuid
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from server.micro_batch import MAX_REQUESTS, MicroBatch
from server.request_context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from torch import Tensor

    from server.request_context import Given, RequestProcessor

DEFAULT_ACCEPT = "application/json"
READ_TYPES = ("application/json", "text/csv", "application/x-npy", "application/x-npz")
MAX_UNPACKED_BYTES = 256 * 2**20  # of a zip: ten times the largest body
NPZ_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of others Python unpacks all at once
WRITTEN_TYPES = ("application/json", "text/csv", "application/x-npy")
TEXT_TYPES = ("application/json", "text/csv")  # their bodies reach input_fn as str
ARGUMENTS = {  # function of inference.py -> how many arguments it takes besides `context`
    "pre_model_fn": 1,
    "model_fn": 1,
    "model_warmup_fn": 2,
    "input_fn": 2,
    "predict_fn": 2,
    "predict_batch_fn": 2,
    "output_fn": 2,
    "transform_fn": 4,
}


class Unsupported(ValueError):
    """A default handler cannot read or write this content type."""

    def __init__(self, status_code: int, content_type: str | None) -> None:
        super().__init__(f"content type {content_type!r} is not supported by the default handlers")
        self.status_code = status_code


class Unreadable(ValueError):
    """A default handler cannot make an array of this body: its sender's fault."""

    status_code = 400


class Answer(NamedTuple):
    content: bytes
    content_type: str
    status: int
    """What the user's code set; 200 if it set nothing."""
    headers: Any
    """What the user's code set beside the content type."""


class Handlers:
    """One loaded model. `respond` may be called from several threads at once if the user's functions may."""

    def __init__(
        self,
        model_dir: Path | str,
        code_dir: Path | str,
        program: str,
        default_accept: str = DEFAULT_ACCEPT,
        max_batch: int = MAX_REQUESTS,
    ) -> None:
        self.model_dir, self.default_accept = str(model_dir), default_accept
        defaults: dict[str, Callable[..., Any]] = {
            "model_fn": default_model,
            "input_fn": default_input,
            "predict_fn": default_predict,
            "output_fn": default_output,
        }
        given = functions_of(import_program(Path(code_dir), program))
        self.functions = {name: without_context(function) for name, function in defaults.items()} | given
        self.model = None
        self.batches, self.can_warm_up = "predict_batch_fn" in given, "model_warmup_fn" in given
        self.together = MicroBatch(self.predict_one, self.predict_many, max_requests=max_batch)

    def load(self) -> None:
        """Run model_fn and, where there is one, the warm-up."""
        if "pre_model_fn" in self.functions:
            self.functions["pre_model_fn"](self.model_dir, context=Context(self.model_dir))
        self.model = self.functions["model_fn"](self.model_dir, context=Context(self.model_dir))
        if self.can_warm_up:
            self.warm_up()

    def warm_up(self) -> None:
        self.functions["model_warmup_fn"](self.model_dir, self.model, context=Context(self.model_dir))

    def predict_one(self, waiting: tuple[Any, Context]) -> Any:
        request, context = waiting
        return self.functions["predict_fn"](request, self.model, context=context)

    def predict_many(self, waiting: Sequence[tuple[Any, Context]]) -> Any:
        requests, contexts = zip(*waiting, strict=True)
        together = Context.of_batch(self.model_dir, contexts)
        return self.functions["predict_batch_fn"](list(requests), self.model, context=together)

    def respond(self, body: bytes, content_type: str | None, accept: str | None, headers: Given = ()) -> Answer:
        """An Answer. Raises whatever the user's functions raise."""
        context = Context.of_request(self.model_dir, headers, str(uuid.uuid4()))
        accept = self.default_accept if accept in (None, "", "*/*") else accept
        given: bytes | str = body
        if content_type is not None and content_type.split(";")[0].strip().lower() in TEXT_TYPES:
            given = bytes(body).decode("utf-8")
        if "transform_fn" in self.functions:
            result = self.functions["transform_fn"](self.model, given, content_type, accept, context=context)
        else:
            request = self.functions["input_fn"](given, content_type, context=context)
            size_bytes, waiting = len(given), (request, context)
            prediction = self.together.predict(waiting, size_bytes) if self.batches else self.predict_one(waiting)
            result = self.functions["output_fn"](prediction, accept, context=context)
        return self.answer(result, accept, context.processor_of(0))

    def answer(self, result: Any, accept: str, processor: RequestProcessor) -> Answer:
        """A type that output_fn returns goes before one that it gave the context; without either it is `accept`."""
        headers = dict(processor.get_response_headers())
        said = headers.pop("Content-Type", accept)
        content, kind = result if isinstance(result, tuple) else (result, said)
        if not isinstance(kind, str):
            raise TypeError(f"the answer's content type must be str, not {type(kind).__name__}")
        return Answer(body_of(content), kind, processor.get_response_status_code(), headers)


def body_of(content: Any) -> bytes:
    """The body of an answer. What is no text is JSON, indented as TorchServe and MMS do it."""
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    if isinstance(content, str):
        return content.encode()
    try:
        return json.dumps(content, indent=2).encode()
    except (TypeError, ValueError) as error:
        kind = type(content).__name__
        raise TypeError(
            f"the answer is a {kind}, which is neither text nor bytes nor JSON ({error}); let output_fn encode it"
        ) from None


def import_program(code_dir: Path, program: str) -> ModuleType | None:
    """The module `program` of `code_dir`, its siblings importable; None where the model brings no code."""
    path = code_dir / program
    if not path.is_file():
        if any(code_dir.glob("*.py")):
            raise FileNotFoundError(f"no '{program}' in the code folder; name the entry point in SAGEMAKER_PROGRAM")
        return None
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def functions_of(module: ModuleType | None) -> dict[str, Callable[..., Any]]:
    """The handler functions a module defines, each callable with a `context`, whether it takes one or not."""
    found = {name: getattr(module, name) for name in ARGUMENTS if callable(getattr(module, name, None))}
    mixed = [name for name in ("input_fn", "predict_fn", "predict_batch_fn", "output_fn") if name in found]
    if "transform_fn" in found and mixed:
        raise ValueError(f"inference code defines transform_fn and also {', '.join(mixed)}; it must choose one way")
    return {name: with_context(name, function) for name, function in found.items()}


def with_context(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    expected, actual = ARGUMENTS[name], len(inspect.signature(function).parameters)
    if actual == expected:
        return without_context(function)
    if actual == expected + 1:
        return lambda *arguments, context: function(*arguments, context)
    raise TypeError(f"{name} takes {actual} arguments; it must take {expected}, or {expected + 1} with `context`")


def without_context(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, context: function(*arguments)


# What the toolkit does where the user's module says nothing. torch is imported only here: not every model needs it.


def default_model(model_dir: str) -> Any:
    import torch

    files = [path for path in Path(model_dir).iterdir() if path.suffix in (".pt", ".pth")]
    files = [path for path in files if path.name == "model.pt"] or files
    if len(files) != 1:
        raise ValueError(
            "without model_fn the model must be one TorchScript file (model.pt, or any one .pt or .pth); "
            f"there are {len(files)}{code_astray(Path(model_dir))}"
        )
    return torch.jit.load(str(files[0]), map_location="cpu").eval()


def code_astray(model_dir: Path) -> str:
    """Where an archive has its code that was packed from another folder; most often one too high, or one too low."""
    found = sorted(str(path.relative_to(model_dir)) for path in model_dir.rglob("inference.py"))
    astray = [path for path in found if path != "code/inference.py"]
    return f". Code is read from code/inference.py of the archive, which has it in {astray[0]}" if astray else ""


def default_input(body: Any, content_type: str | None) -> Tensor:
    import torch

    kind = (content_type or "").split(";")[0].strip().lower()
    if kind not in READ_TYPES:
        raise Unsupported(415, content_type)
    try:
        array = array_of(body, kind)
        return torch.tensor(array, dtype=torch.float32) if kind in TEXT_TYPES else torch.from_numpy(array)
    except Exception as error:  # nearly everything, for what is no JSON, no array, or one of words
        raise Unreadable(f"the body is no {kind} of numbers: {str(error)[:200] or type(error).__name__}") from None


def array_of(body: Any, kind: str) -> Any:
    import numpy as np

    if kind == "application/json":
        return np.array(json.loads(body))
    if kind == "text/csv":
        return np.genfromtxt(io.StringIO(body), dtype=np.float32, delimiter=",")
    stream = io.BytesIO(body)
    if kind == "application/x-npz":
        with zipfile.ZipFile(stream) as archive:
            first = archive.infolist()[0]
            if first.file_size > MAX_UNPACKED_BYTES:
                raise ValueError(f"its first array unpacks to more than {MAX_UNPACKED_BYTES} bytes")
            if first.compress_type not in NPZ_METHODS:
                raise ValueError(f"its first array is packed by method {first.compress_type}; numpy uses Deflate")
            with archive.open(first) as member:  # no more of it than it says that it has
                stream = io.BytesIO(member.read(first.file_size))
    return np.load(stream, allow_pickle=False)


def default_predict(data: Tensor, model: Callable[[Tensor], Any]) -> Any:
    import torch

    if isinstance(model, torch.nn.Module):
        model.eval()  # a model_fn may have left that to the toolkit
    with torch.no_grad():
        return model(data)


def default_output(prediction: Any, accept: str) -> tuple[str | bytes, str]:
    import numpy as np

    kind = written_type(accept)
    if hasattr(prediction, "detach"):  # a tensor
        prediction = prediction.tolist()
    if kind == "application/json":
        return json.dumps(prediction, default=plain), kind
    if kind == "text/csv":
        lines = io.StringIO()
        np.savetxt(lines, np.atleast_1d(prediction), delimiter=",", fmt="%s")
        return lines.getvalue(), kind
    buffer = io.BytesIO()
    np.save(buffer, prediction)
    return buffer.getvalue(), kind


def plain(value: Any) -> Any:
    """Arrays and tensors, also within a prediction, as lists of Python's numbers; all else stays as it is."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def written_type(accept: str) -> str:
    """The type that an Accept header likes best of those the default handlers write; the first one of equals."""
    for _, asked in sorted(map(liked, accept.lower().split(",")), key=lambda entry: -entry[0]):
        for kind in WRITTEN_TYPES:
            if asked in ("*/*", kind, f"{kind.split('/')[0]}/*"):
                return kind
    raise Unsupported(406, accept)


def liked(entry: str) -> tuple[float, str]:
    """`type;q=0.5` -> (0.5, type). What is not liked at all is no type."""
    kind, *words = (word.strip() for word in entry.split(";"))
    try:
        weight = float(next((word[2:] for word in words if word.startswith("q=")), 1))
    except ValueError:
        weight = 1.0
    return (weight, kind) if weight > 0 else (0.0, "")
