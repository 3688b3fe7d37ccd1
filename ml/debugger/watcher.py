"""What SageMaker Debugger sees of a training.

Debugging is a guest here. Without a hook configuration nothing happens at all; with one, anything that goes wrong is
said loudly in the log and noted beside the tensors, and the training goes on without saving more (the rules then report
Error, not a clean bill).
"""

from __future__ import annotations

import atexit
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from debugger.hook_config import HookConfig
from network import model
from recordings import notes
from recordings.output import DEBUG_OUTPUT
from recordings.rank import is_first

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from torch import Tensor, nn

    from debugger.hook import Hook
    from debugger.smdebug_hook import SmdebugHook

DEFAULT_FOLDER = "/opt/ml/output/tensors"
DEFAULT_CONFIG = "/opt/ml/input/config/debughookconfig.json"
KIND = "RETRAINING_DEBUG_HOOK"


class Debugger:
    """Watches one training. Every method may be called whether or not debugging is on.

    It follows the platform's debughookconfig.json, else `document`, of the same members, with tensors and end marker
    in DEBUG_OUTPUT below `output_data_dir`.
    """

    def __init__(self, document: Mapping[str, Any] | None = None, output_data_dir: Path | str | None = None) -> None:
        self.hook: Hook | SmdebugHook | None = None
        self.own_folder: Path | None = None
        path = platform_config()
        if path is None and document is not None:
            assert output_data_dir is not None
            self.own_folder = Path(output_data_dir) / DEBUG_OUTPUT
        elif document is not None and is_first():
            print(f"--debug-hook-config is left alone: the platform's {path} is followed", flush=True)
        if path is not None or document is not None:
            try:
                if self.own_folder and is_first():
                    notes.clear(self.own_folder)
                self.hook = create(path, document, self.own_folder)
            except Exception:
                self.give_up("could not start")
            atexit.register(self.close)  # a training that fails has tensors too, those of its last step above all

    @property
    def active(self) -> bool:
        return self.hook is not None

    @property
    def needs_float32(self) -> bool:
        return self.hook is not None and self.hook.needs_float32

    @property
    def steps(self) -> dict[str, Any] | None:
        """How many steps were counted in each mode: a checkpoint keeps them."""
        return None if self.hook is None else self.hook.steps

    def go_on(self, steps: Mapping[str, Any] | None) -> None:
        """Count on from the steps of the training that this one continues."""
        if steps is not None:
            self.guarded("could not go on", lambda hook: hook.go_on(steps))

    def watch(self, network: nn.Module, criterion: nn.Module) -> None:
        """Once per training, when the network is on its device. Both must be called as modules from then on."""
        self.guarded("could not watch the network", lambda hook: hook.watch(network, criterion))

    def phase(self, name: str) -> None:
        """`name` is "train" or "eval": the mode of the steps that follow."""
        self.guarded("could not change the mode", lambda hook: hook.set_mode(name.upper()))

    def gradients(self) -> None:
        """After the backward pass, before anything changes what it gave."""
        self.guarded("could not save tensors", lambda hook: hook.gradients())

    def batch(self, labels: Tensor, logits: Tensor) -> None:
        """The batch's accuracy, and what the rules ClassImbalance and Confusion look at."""

        def save(hook: Hook | SmdebugHook) -> None:
            hook.record("labels", labels)
            hook.record("predictions", scores(logits.detach()))
            if hook.saves("losses"):
                right = model.predictions(logits.detach()) == labels
                hook.scalar("batch_accuracy", right.float().mean().item())

        self.guarded("could not save labels and predictions", save)

    def record(self, values: Mapping[str, float]) -> None:
        """Save an epoch's metrics as scalars beside the tensors, whatever the save interval is."""

        def save(hook: Hook | SmdebugHook) -> None:
            for name, value in values.items():
                hook.scalar(name.replace(":", "_"), value)

        self.guarded("could not save scalars", save)

    def close(self) -> None:
        """Write what is left. Once is enough; it also happens when the process ends in another way."""
        atexit.unregister(self.close)
        self.guarded("could not finish its files", lambda hook: hook.close())
        if self.own_folder and is_first():
            notes.mark_end(self.own_folder)

    def guarded(self, complaint: str, action: Callable[[Hook | SmdebugHook], object]) -> None:
        if self.hook is not None:
            try:
                action(self.hook)
            except Exception:
                self.give_up(complaint)

    def give_up(self, complaint: str) -> None:
        notes.give_up("debugger", self.own_folder or tensors_folder(), f"the debug hook {complaint}", "debug tensors")
        self.hook = None


def scores(logits: Tensor) -> Tensor:
    """(N, classes), of which the largest is the prediction: the one logit of a binary head is the second class's."""
    return logits if logits.shape[1] > 1 else torch.cat([torch.zeros_like(logits), logits], dim=1)


def platform_config() -> Path | None:
    """Where the platform says what to save, unless it is switched off; None if it does not."""
    path = Path(os.environ.get("SMDEBUG_CONFIG_FILE_PATH", DEFAULT_CONFIG))
    wanted = os.environ.get("USE_SMDEBUG", "1").lower() not in ("0", "false")
    return path if wanted and path.is_file() else None


def create(path: Path | None, document: Mapping[str, Any] | None, folder: Path | None) -> Hook | SmdebugHook | None:
    """The hook of the configuration at `path`, else in `document`, with `folder`; None where nobody need watch."""
    kind = os.environ.get(KIND, "own")
    if kind == "smdebug":
        from debugger.smdebug_hook import SmdebugHook

        return SmdebugHook(None if path or document is None else {**document, "LocalPath": str(folder)})
    if kind != "own":
        raise ValueError(f"{KIND}={kind!r} is neither own nor smdebug")
    if not is_first():  # after a step all processes have the same weights and gradients
        return None
    from debugger.hook import Hook

    if path:
        return Hook(HookConfig.read(path))
    assert folder is not None
    return Hook(replace(HookConfig.of(document), folder=folder))


def tensors_folder() -> str:
    """Where the hook was to write to: a note of its failure goes there, and with the tensors to S3."""
    try:
        config = json.loads(Path(os.environ.get("SMDEBUG_CONFIG_FILE_PATH", DEFAULT_CONFIG)).read_text("utf-8"))
        return config.get("LocalPath") or DEFAULT_FOLDER
    except (OSError, ValueError, AttributeError):
        return DEFAULT_FOLDER
