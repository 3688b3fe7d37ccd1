"""The smdebug hook: what SageMaker Debugger sees of a training. Nothing else imports smdebug.

Debugging is a guest here. Without a hook configuration nothing happens at all; with one, anything that goes wrong is
said loudly in the log and the training goes on without tensors (the rules then report Error, not a clean bill).
"""

import os
import sys
import traceback
from pathlib import Path

from torch import nn

DEFAULT_CONFIG = "/opt/ml/input/config/debughookconfig.json"


class Debugger:
    """Watches one training. Every method may be called whether or not debugging is on."""

    def __init__(self):
        self.hook = self.modes = None
        if Path(os.environ.get("SMDEBUG_CONFIG_FILE_PATH", DEFAULT_CONFIG)).is_file():
            try:
                self.hook, self.modes = create_hook()
            except Exception:
                self.give_up("could not start")

    @property
    def active(self):
        return self.hook is not None

    def watch(self, network, criterion):
        """Once per training, when the network is on its device. Both must be called as modules from then on."""
        if self.hook is None:
            return
        for module in network.modules():
            if isinstance(module, nn.ReLU):
                # smdebug reads inputs after the forward pass; in place they would already be the outputs.
                module.inplace = False
        self.guarded("could not watch the network", lambda hook: hook.register_module(network))
        self.guarded("could not watch the loss", lambda hook: hook.register_loss(criterion))

    def phase(self, name):
        """`name` is "train" or "eval": the mode of the steps that follow."""
        self.guarded("could not change the mode", lambda hook: hook.set_mode(self.modes[name]))

    def record(self, values):
        """Save an epoch's metrics as scalars beside the tensors."""

        def save(hook):
            for name, value in values.items():
                hook.save_scalar(name.replace(":", "_"), value)

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
        traceback.print_exc()
        print(f"WARNING: smdebug {complaint}; training goes on WITHOUT debug tensors", file=sys.stderr, flush=True)
        self.hook = None


def create_hook():
    """smdebug's hook as the platform configured it, and its modes by our names."""
    os.environ.setdefault("SMDEBUG_LOG_LEVEL", "warning")  # its default buries the metric lines; read at import
    import smdebug.pytorch as smd

    hook = smd.get_hook(create_if_not_exists=True)
    if hook is None:
        raise RuntimeError("smdebug refuses this hook configuration or environment (see its message above)")
    # With explicit collections smdebug raises its own errors into the training; only with a "default configuration"
    # does it log them and switch itself off (smdebug 1.0.34, core/error_handling_agent.py).
    hook.has_default_configuration = lambda: True
    return hook, {"train": smd.modes.TRAIN, "eval": smd.modes.EVAL}
