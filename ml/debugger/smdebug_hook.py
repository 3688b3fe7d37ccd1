"""AWS's own hook, for who wants it in place of ours: nothing else imports smdebug's writing side.

It costs more (it saves tensors one by one, through pure-Python protocol buffers), knows no bfloat16, wants numpy below
2.3 and has not been released since 2023; its files and ours are read alike.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from torch import Tensor


class SmdebugHook:
    """smdebug's hook, with the methods of hook.Hook: as the platform configured it, or as `document` says."""

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        if document is not None:  # it reads nothing but a file
            with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False, encoding="utf-8") as file:
                json.dump(document, file)
            os.environ["SMDEBUG_CONFIG_FILE_PATH"] = file.name
        os.environ.setdefault("SMDEBUG_LOG_LEVEL", "warning")  # its default buries the metric lines; read at import
        import smdebug.pytorch as smd

        self.modes = smd.modes
        self.error: Exception | None = None
        self.hook = smd.get_hook(create_if_not_exists=True)
        if self.hook is None:
            raise RuntimeError("smdebug refuses this hook configuration or environment (see its message above)")
        # With explicit collections smdebug raises its own errors into the training; only with a "default configuration"
        # does it log them and switch itself off (smdebug 1.0.34, core/error_handling_agent.py).
        self.hook.has_default_configuration = lambda: True

    needs_float32 = True  # it keeps tensors as numpy arrays, which know no bfloat16
    steps = None

    def watch(self, network: nn.Module, criterion: nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, nn.ReLU):
                # It reads inputs after the forward pass; in place they would already be the outputs.
                module.inplace = False
        self.guard_gradients()
        self.hook.register_module(network)
        self.hook.register_loss(criterion)

    def guard_gradients(self) -> None:
        """smdebug's callbacks on gradients outlive its own switching off, and then raise into the training."""
        make = self.hook.backward_hook

        def backward_hook(name: str) -> Callable[[Tensor], None]:
            save = make(name)

            def guarded(gradient: Tensor) -> None:
                if self.error is None:
                    try:
                        save(gradient)
                    except Exception as error:
                        self.error = error

            return guarded

        self.hook.backward_hook = backward_hook

    def go_on(self, steps: Mapping[str, Any]) -> None:
        """It counts by itself."""

    def set_mode(self, mode: str) -> None:
        self.hook.set_mode(self.modes[mode])

    def saves(self, collection: str) -> bool:
        return any(entry.name == collection for entry in self.hook._get_collections_to_save_for_step())

    def gradients(self) -> None:
        """Saved by its own hooks in the backward pass; what they could not do is raised here."""
        if self.error is not None:
            raise self.error

    def scalar(self, name: str, value: float) -> None:
        self.hook.save_scalar(name, value)

    def record(self, name: str, tensor: Tensor) -> None:
        self.hook.record_tensor_value(name, tensor)

    def close(self) -> None:
        self.hook.close()
