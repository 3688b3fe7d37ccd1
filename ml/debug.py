"""What SageMaker Debugger sees of a training.

Debugging is a guest here. Without a hook configuration nothing happens at all; with one, anything that goes wrong is
said loudly in the log and noted beside the tensors, and the training goes on without saving more (the rules then report
Error, not a clean bill).
"""

import json
import os
from pathlib import Path

import model
import recording
from distributed import is_first

DEFAULT_FOLDER = "/opt/ml/output/tensors"
DEFAULT_CONFIG = "/opt/ml/input/config/debughookconfig.json"
KIND = "RETRAINING_DEBUG_HOOK"


class Debugger:
    """Watches one training. Every method may be called whether or not debugging is on."""

    def __init__(self):
        self.hook = None
        path = Path(os.environ.get("SMDEBUG_CONFIG_FILE_PATH", DEFAULT_CONFIG))
        if path.is_file() and os.environ.get("USE_SMDEBUG", "1").lower() not in ("0", "false"):
            try:
                self.hook = create(path)
            except Exception:
                self.give_up("could not start")

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
            hook.record("predictions", logits.detach())
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
        self.guarded("could not finish its files", lambda hook: hook.close())

    def guarded(self, complaint, action):
        if self.hook is not None:
            try:
                action(self.hook)
            except Exception:
                self.give_up(complaint)

    def give_up(self, complaint):
        recording.give_up("debugger", tensors_folder(), f"the debug hook {complaint}", "debug tensors")
        self.hook = None


def create(path):
    """The hook that is wanted, or None in a process that need not watch."""
    kind = os.environ.get(KIND, "own")
    if kind == "smdebug":
        from smdebug_hook import SmdebugHook

        return SmdebugHook()
    if kind != "own":
        raise ValueError(f"{KIND}={kind!r} is neither own nor smdebug")
    if not is_first():  # after a step all processes have the same weights and gradients
        return None
    from hook import Hook
    from hook_config import HookConfig

    return Hook(HookConfig.read(path))


def tensors_folder():
    """Where the hook was to write to: a note of its failure goes there, and with the tensors to S3."""
    try:
        config = json.loads(Path(os.environ.get("SMDEBUG_CONFIG_FILE_PATH", DEFAULT_CONFIG)).read_text("utf-8"))
        return config.get("LocalPath") or DEFAULT_FOLDER
    except (OSError, ValueError, AttributeError):
        return DEFAULT_FOLDER
