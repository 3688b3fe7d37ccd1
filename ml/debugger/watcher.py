"""What SageMaker Debugger sees of a training.

Debugging is a guest here. Without a hook configuration nothing happens at all; with one, anything that goes wrong is
said loudly in the log and noted beside the tensors, and the training goes on without saving more (the rules then report
Error, not a clean bill).
"""

import atexit
import json
import os
from dataclasses import replace
from pathlib import Path

import torch

from debugger.hook_config import HookConfig
from network import model
from recordings import notes
from recordings.output import DEBUG_OUTPUT
from recordings.rank import is_first

DEFAULT_FOLDER = "/opt/ml/output/tensors"
DEFAULT_CONFIG = "/opt/ml/input/config/debughookconfig.json"
KIND = "RETRAINING_DEBUG_HOOK"


class Debugger:
    """Watches one training. Every method may be called whether or not debugging is on.

    It follows the platform's debughookconfig.json, else `document`, of the same members, with tensors and end marker
    in DEBUG_OUTPUT below `output_data_dir`.
    """

    def __init__(self, document=None, output_data_dir=None):
        self.hook = self.own_folder = None
        path = platform_config()
        if path is None and document is not None:
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
    def active(self):
        return self.hook is not None

    @property
    def needs_float32(self):
        return self.active and self.hook.needs_float32

    @property
    def steps(self):
        """How many steps were counted in each mode: a checkpoint keeps them."""
        return self.hook.steps if self.active else None

    def go_on(self, steps):
        """Count on from the steps of the training that this one continues."""
        if steps is not None:
            self.guarded("could not go on", lambda hook: hook.go_on(steps))

    def watch(self, network, criterion):
        """Once per training, when the network is on its device. Both must be called as modules from then on."""
        self.guarded("could not watch the network", lambda hook: hook.watch(network, criterion))

    def phase(self, name):
        """`name` is "train" or "eval": the mode of the steps that follow."""
        self.guarded("could not change the mode", lambda hook: hook.set_mode(name.upper()))

    def gradients(self):
        """After the backward pass, before anything changes what it gave."""
        self.guarded("could not save tensors", lambda hook: hook.gradients())

    def batch(self, labels, logits):
        """The batch's accuracy, and what the rules ClassImbalance and Confusion look at."""

        def save(hook):
            hook.record("labels", labels)
            hook.record("predictions", scores(logits.detach()))
            if hook.saves("losses"):
                right = model.predictions(logits.detach()) == labels
                hook.scalar("batch_accuracy", right.float().mean().item())

        self.guarded("could not save labels and predictions", save)

    def record(self, values):
        """Save an epoch's metrics as scalars beside the tensors, whatever the save interval is."""

        def save(hook):
            for name, value in values.items():
                hook.scalar(name.replace(":", "_"), value)

        self.guarded("could not save scalars", save)

    def close(self):
        """Write what is left. Once is enough; it also happens when the process ends in another way."""
        atexit.unregister(self.close)
        self.guarded("could not finish its files", lambda hook: hook.close())
        if self.own_folder and is_first():
            notes.mark_end(self.own_folder)

    def guarded(self, complaint, action):
        if self.hook is not None:
            try:
                action(self.hook)
            except Exception:
                self.give_up(complaint)

    def give_up(self, complaint):
        notes.give_up("debugger", self.own_folder or tensors_folder(), f"the debug hook {complaint}", "debug tensors")
        self.hook = None


def scores(logits):
    """(N, classes), of which the largest is the prediction: the one logit of a binary head is the second class's."""
    return logits if logits.shape[1] > 1 else torch.cat([torch.zeros_like(logits), logits], dim=1)


def platform_config():
    """Where the platform says what to save, unless it is switched off; None if it does not."""
    path = Path(os.environ.get("SMDEBUG_CONFIG_FILE_PATH", DEFAULT_CONFIG))
    wanted = os.environ.get("USE_SMDEBUG", "1").lower() not in ("0", "false")
    return path if wanted and path.is_file() else None


def create(path, document, folder):
    """The hook of the configuration at `path`, else in `document`, with `folder`; None where nobody need watch."""
    kind = os.environ.get(KIND, "own")
    if kind == "smdebug":
        from debugger.smdebug_hook import SmdebugHook

        return SmdebugHook(None if path else document | {"LocalPath": str(folder)})
    if kind != "own":
        raise ValueError(f"{KIND}={kind!r} is neither own nor smdebug")
    if not is_first():  # after a step all processes have the same weights and gradients
        return None
    from debugger.hook import Hook

    return Hook(HookConfig.read(path) if path else replace(HookConfig.of(document), folder=folder))


def tensors_folder():
    """Where the hook was to write to: a note of its failure goes there, and with the tensors to S3."""
    try:
        config = json.loads(Path(os.environ.get("SMDEBUG_CONFIG_FILE_PATH", DEFAULT_CONFIG)).read_text("utf-8"))
        return config.get("LocalPath") or DEFAULT_FOLDER
    except (OSError, ValueError, AttributeError):
        return DEFAULT_FOLDER
