"""Saves what SageMaker Debugger is configured to see of a training, in smdebug's format, at a fraction of its cost.

Names, steps and values are those of smdebug 1.0.34, with two faults of it mended: inputs are what came in even where
the module then works in place, and a module that has only a number for a name (in a Sequential) carries its kind as
well (`features.1.relu_output_0`), so that `.*relu_output` finds it. The network runs as if nobody watched at every step
that is not saved: hooks stand only on modules whose tensors are wanted, and look first whether this step is one.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from debugger.hook_config import MODES
from debugger.reductions import reduce
from debugger.side_thread import SideThread
from debugger.tensors.writer import TensorWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from debugger.hook_config import Collection, HookConfig
    from debugger.reductions import Reduced

SCALAR = "scalar/"


class Hook:
    """What is saved of one training. A step begins when a batch enters the network, in either mode."""

    needs_float32 = False

    def __init__(self, config: HookConfig) -> None:
        self.collections = config.collections
        self.writer = TensorWriter(config.folder)
        self.mode = self.mode_of_step = "GLOBAL"
        self.step = -1
        self.mode_steps = dict.fromkeys(MODES, -1)
        self.network: nn.Module = nn.Identity()  # until it watches one
        self.root = ""
        self.saving: tuple[Collection, ...] = ()
        self.calls: dict[str, int] = {}
        self.statistics: list[Future[Reduced]] = []
        self.arrays: dict[str, NDArray[Any]] = {}
        self.reduced: dict[str, tuple[Tensor, list[str]]] = {}
        self.side = SideThread("debug-hook")
        self.written: Future[None] | None = None
        self.known: dict[str, tuple[Collection, ...]] = {}
        self.error: Exception | None = None
        self.exported: int | None = None

    @property
    def steps(self) -> dict[str, Any]:
        return {"step": self.step, "mode_steps": dict(self.mode_steps)}

    def go_on(self, steps: Mapping[str, Any]) -> None:
        self.step, self.mode_steps = steps["step"], dict(steps["mode_steps"])

    # -- what is watched ------------------------------------------------------------------------------------------

    def watch(self, network: nn.Module, criterion: nn.Module) -> None:
        self.network, self.root = network, type(network).__name__
        network.register_forward_pre_hook(lambda *_: self.safely(self.begin))
        network.register_forward_hook(lambda *_: self.safely(self.forwarded))
        for name, module in network.named_modules():
            self.watch_module(module, module_name(name, module) or self.root)
        self.watch_module(criterion, type(criterion).__name__)

    def watch_module(self, module: nn.Module, name: str) -> None:
        """Modules whose tensors no collection can match are left alone."""
        if self.expected(f"{name}_input_0"):
            module.register_forward_pre_hook(lambda _, inputs: self.safely(self.add_all, f"{name}_input", inputs))
        if self.expected(f"{name}_output_0"):
            module.register_forward_hook(lambda _, __, outputs: self.safely(self.add_all, f"{name}_output", outputs))

    def safely(self, action: Callable[..., object], *arguments: object) -> None:
        """Within the network's forward pass nothing of the hook's may be raised; `check` raises it afterwards."""
        if self.error is None:
            try:
                action(*arguments)
            except Exception as error:
                self.error, self.saving = error, ()

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def expected(self, tensor_name: str) -> bool:
        return any(collection.matches(tensor_name) for collection in self.collections)

    # -- a step ---------------------------------------------------------------------------------------------------

    def set_mode(self, mode: str) -> None:
        self.check()
        self.mode = mode

    def saves(self, collection: str) -> bool:
        """Whether this step saves the collection of that name."""
        return any(entry.name == collection for entry in self.saving)

    def begin(self) -> None:
        """A batch is about to enter the network; what the step before saved is written now."""
        self.flush()
        self.mode_of_step = self.mode
        self.step += 1
        self.mode_steps[self.mode] += 1
        self.mode_steps["GLOBAL"] = self.step
        number = self.mode_steps[self.mode]
        self.saving = tuple(entry for entry in self.collections if entry.at(self.mode, number))
        self.calls.clear()
        if self.saving:
            for name, parameter in self.network.named_parameters():
                self.add(f"{self.root}_{name}", parameter.data)
            self.reduce_all(meanwhile=True)

    def forwarded(self) -> None:
        """From here on the weights may change."""
        wait(self.statistics)

    def gradients(self) -> None:
        """The gradients of this step are whole, and nothing has changed them yet."""
        self.check()
        if self.saving:
            for name, parameter in self.network.named_parameters():
                if parameter.grad is not None:
                    self.add(f"gradient/{self.root}_{name}", parameter.grad)
            self.reduce_all()

    def add_all(self, name: str, values: object) -> None:
        if not self.saving:
            return
        values = values if isinstance(values, list | tuple) else (values,)
        for value in values:
            if isinstance(value, torch.Tensor):
                number = self.calls[name] = self.calls.get(name, -1) + 1
                self.add(f"{name}_{number}", value)
        self.reduce_all()  # before the network works in place on it

    def add(self, name: str, tensor: Tensor) -> None:
        """Keep the tensor, or the request for its reductions, if a collection that is saved now holds it."""
        for entry in self.holders(name):
            if entry not in self.saving:
                continue
            for reduction in entry.reductions:
                self.reduced.setdefault(name, (tensor, []))[1].append(reduction)
            if entry.raw and name not in self.arrays:
                self.arrays[name] = array(tensor)

    def holders(self, name: str) -> tuple[Collection, ...]:
        """The collections that a tensor belongs to, which become known as tensors are met."""
        if name not in self.known:
            self.known[name] = tuple(entry for entry in self.collections if entry.matches(name))
            for entry in self.known[name]:
                entry.tensor_names.add(name)
        return self.known[name]

    def reduce_all(self, meanwhile: bool = False) -> None:
        """Statistics of what was kept, together for all tensors that want the same ones.

        `meanwhile`: while the network goes forward, which does not change its weights.
        """
        groups: dict[tuple[str, ...], dict[str, Tensor]] = {}
        for name, (tensor, wanted) in self.reduced.items():
            groups.setdefault(tuple(dict.fromkeys(wanted)), {})[name] = tensor
        for kinds, tensors in groups.items():
            if meanwhile and not any(tensor.is_cuda for tensor in tensors.values()):
                self.statistics.append(self.side.do(reduce, tensors, kinds))
            else:
                self.statistics.append(done(reduce(tensors, kinds, self.side)))
        self.reduced = {}

    def scalar(self, name: str, value: float) -> None:
        """A number beside the tensors, saved whatever the interval: `scalar/<name>` of the current step."""
        self.arrays[SCALAR + name] = np.asarray(value)

    def record(self, name: str, tensor: Tensor) -> None:
        """A tensor that no module makes, such as labels: saved when a collection wants `<name>_output_0`."""
        self.add_all(f"{name}_output", tensor)

    # -- writing --------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        self.reduce_all()
        if self.statistics or self.arrays:
            statistics = [reduced.result() for reduced in self.statistics]
            names = tuple(name for names, _ in statistics for name in names)
            values = np.concatenate([values for _, values in statistics]) if names else ()
            self.finish_writing()
            self.export_collections()
            mode, number = self.mode_of_step, max(self.mode_steps[self.mode_of_step], 0)
            step = max(self.step, 0), mode, number, (names, values), self.arrays
            self.written = self.side.do(self.writer.write, *step)
        self.statistics, self.arrays = [], {}

    def finish_writing(self) -> None:
        """Raises what was raised in writing the step before."""
        if self.written is not None:
            self.written.result()

    def export_collections(self) -> None:
        """Before the first step, and again when tensors were met that it does not name yet."""
        if len(self.known) != self.exported:
            self.writer.write_collections(self.collections)
            self.exported = len(self.known)

    def close(self) -> None:
        """Write what is left, and tell readers that no more will come: in a training job the platform does that."""
        self.check()
        self.flush()
        self.finish_writing()
        self.saving = ()
        if "TRAINING_JOB_NAME" not in os.environ:
            self.writer.end()


def done(result: Reduced) -> Future[Reduced]:
    future: Future[Reduced] = Future()
    future.set_result(result)
    return future


def module_name(path: str, module: nn.Module) -> str:
    """smdebug's name of a module, with its kind where the path ends in nothing but a number."""
    if re.search(r"(^|\.)\d+$", path) and not isinstance(module, nn.Sequential):
        return f"{path}.{type(module).__name__.lower()}"
    return path


def array(tensor: Tensor) -> NDArray[Any]:
    """A copy: the training goes on with the tensor. numpy knows no bfloat16."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return tensor.cpu().contiguous().numpy().copy()
