"""A user's inference.py, turned into two calls: load the model, answer a request.

Follows the SageMaker inference toolkit (sagemaker-inference 1.10, sagemaker-pytorch-inference 2.0): model_fn, input_fn,
predict_fn, output_fn or transform_fn, each optional, each with an optional last argument `context`. Beyond the toolkit
there is predict_batch_fn(requests, model) -> list: for each of several results of input_fn a prediction or an
exception. A module that has it lets its input_fn and output_fn run in several threads; its model computes in one.
Not covered: multi-model endpoints, and requirements.txt (the serving image must hold what the code imports).
"""

import importlib.util
import inspect
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

from micro_batch import MicroBatch

DEFAULT_ACCEPT = "application/json"
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

    def __init__(self, status_code, content_type):
        super().__init__(f"content type {content_type!r} is not supported by the default handlers")
        self.status_code = status_code


class Handlers:
    """One loaded model. `respond` may be called from several threads at once if the user's functions may."""

    def __init__(self, model_dir, code_dir, program, default_accept=DEFAULT_ACCEPT):
        self.model_dir, self.default_accept = str(model_dir), default_accept
        self.context = SimpleNamespace(
            system_properties={"model_dir": self.model_dir, "gpu_id": None}, model_name="model", manifest={}
        )
        self.functions = functions_of(import_program(Path(code_dir), program), self.context)
        self.model = None
        self.batches = "predict_batch_fn" in self.functions
        self.can_warm_up = "model_warmup_fn" in self.functions
        self.together = MicroBatch(self.predict_one, self.predict_many)

    def load(self):
        """Run model_fn and, where there is one, the warm-up."""
        if "pre_model_fn" in self.functions:
            self.functions["pre_model_fn"](self.model_dir)
        self.model = self.functions.get("model_fn", default_model)(self.model_dir)
        if self.can_warm_up:
            self.warm_up()

    def warm_up(self):
        self.functions["model_warmup_fn"](self.model_dir, self.model)

    def predict_one(self, request):
        return self.functions.get("predict_fn", default_predict)(request, self.model)

    def predict_many(self, requests):
        return self.functions["predict_batch_fn"](requests, self.model)

    def respond(self, body, content_type, accept):
        """Bytes in, (bytes, content type) out. Raises whatever the user's functions raise."""
        accept = self.default_accept if accept in (None, "", "*/*") else accept
        if content_type is not None and content_type.split(";")[0].strip().lower() in TEXT_TYPES:
            body = bytes(body).decode("utf-8")
        if "transform_fn" in self.functions:
            result = self.functions["transform_fn"](self.model, body, content_type, accept)
        else:
            request = self.functions.get("input_fn", default_input)(body, content_type)
            size_bytes = len(body)
            prediction = self.together.predict(request, size_bytes) if self.batches else self.predict_one(request)
            result = self.functions.get("output_fn", default_output)(prediction, accept)
        answer, kind = result if isinstance(result, tuple) else (result, accept)
        if not isinstance(answer, str | bytes | bytearray | memoryview):
            raise TypeError(f"the answer must be str or bytes, not {type(answer).__name__}; let output_fn encode it")
        if not isinstance(kind, str):
            raise TypeError(f"the answer's content type must be str, not {type(kind).__name__}")
        return answer.encode() if isinstance(answer, str) else bytes(answer), kind


def import_program(code_dir, program):
    """The module `program` of `code_dir`, its siblings importable; None where the model brings no code."""
    path = code_dir / program
    if not path.is_file():
        if any(code_dir.glob("*.py")):
            raise FileNotFoundError(f"no '{program}' in the code folder; name the entry point in SAGEMAKER_PROGRAM")
        return None
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def functions_of(module, context):
    """The handler functions a module defines, each callable without thinking about `context`."""
    found = {name: getattr(module, name) for name in ARGUMENTS if callable(getattr(module, name, None))}
    mixed = [name for name in ("input_fn", "predict_fn", "predict_batch_fn", "output_fn") if name in found]
    if "transform_fn" in found and mixed:
        raise ValueError(f"inference code defines transform_fn and also {', '.join(mixed)}; it must choose one way")
    return {name: with_context(name, function, context) for name, function in found.items()}


def with_context(name, function, context):
    expected, actual = ARGUMENTS[name], len(inspect.signature(function).parameters)
    if actual == expected:
        return function
    if actual == expected + 1:
        return lambda *arguments: function(*arguments, context)
    raise TypeError(f"{name} takes {actual} arguments; it must take {expected}, or {expected + 1} with `context`")


# What the toolkit does where the user's module says nothing. torch is imported only here: not every model needs it.


def default_model(model_dir):
    import torch

    files = [path for path in Path(model_dir).iterdir() if path.suffix in (".pt", ".pth")]
    if len(files) != 1:
        raise ValueError(f"without model_fn the model must be one TorchScript file (.pt, .pth); there are {len(files)}")
    return torch.jit.load(str(files[0]), map_location="cpu").eval()


def default_input(body, content_type):
    import numpy as np
    import torch

    kind = (content_type or "").split(";")[0].strip().lower()
    if kind == "application/json":
        array = np.array(json.loads(body))
    elif kind == "text/csv":
        array = np.genfromtxt(io.StringIO(body), dtype=np.float32, delimiter=",")
    elif kind == "application/x-npy":
        array = np.load(io.BytesIO(body), allow_pickle=False)
    elif kind == "application/x-npz":
        archive = np.load(io.BytesIO(body), allow_pickle=False)
        array = archive[archive.files[0]]
    else:
        raise Unsupported(415, content_type)
    return torch.tensor(array, dtype=torch.float32)


def default_predict(data, model):
    import torch

    with torch.no_grad():
        return model(data)


def default_output(prediction, accept):
    import numpy as np

    array = np.asarray(prediction.detach().cpu() if hasattr(prediction, "detach") else prediction)
    if accept == "application/json":
        return json.dumps(array.tolist())
    if accept == "text/csv":
        return "\n".join(",".join(map(str, row)) for row in np.atleast_2d(array).tolist()) + "\n"
    if accept == "application/x-npy":
        buffer = io.BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()
    raise Unsupported(406, accept)
