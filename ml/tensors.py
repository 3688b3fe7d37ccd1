"""The tensors a training saved, read back through smdebug: the only place that knows smdebug's reader.

`steps` are mode steps: the fifth training batch is step 4 in mode TRAIN, however many validation batches came before.
"""

import os
import re
from pathlib import Path

END_MARKER = "training_job_end.ts"


class MissingTensors(Exception):
    """A rule cannot judge because what it needs was not saved; the message says what, and how to have it saved."""


class Tensors:
    """One training's tensors. Statistics come from reductions where the hook saved those, else from the values."""

    def __init__(self, folder):
        folder = Path(folder)
        if not (folder / "collections").is_dir():
            raise MissingTensors(
                "the training saved no tensors at all; its image must have smdebug, and its script must create the hook"
            )
        if not (folder / END_MARKER).is_file():  # smdebug would wait for it for ever
            raise MissingTensors(f"'{END_MARKER}' is missing, so the saved tensors may be incomplete")
        os.environ.setdefault("SMDEBUG_LOG_LEVEL", "warning")  # read at import
        os.environ.setdefault("SMDEBUG_TRAINING_END_DELAY_REFRESH", "0")
        from smdebug.trials import create_trial

        self.trial = create_trial(str(folder))

    def names(self, collections=(), regex=None):
        """Saved tensors that belong to any of the collections or match the expression, in a stable order."""
        names = {
            name
            for collection in collections
            if collection in self.trial.collections()
            for name in self.trial.tensor_names(collection=collection)
        }
        if regex:
            names |= {name for name in self.trial.tensor_names() if re.search(regex, name)}
        return sorted(names)

    def steps(self, name, mode):
        """`mode` is "TRAIN", "EVAL" or "GLOBAL"."""
        return self.trial.tensor(name).steps(mode=self.mode(mode))

    def mean(self, name, step, mode):
        return float(self.statistic(name, step, mode, "mean", False, lambda values: values.mean()))

    def abs_mean(self, name, step, mode):
        return float(self.statistic(name, step, mode, "mean", True, lambda values: abs(values).mean()))

    def variance(self, name, step, mode):
        return float(self.statistic(name, step, mode, "variance", False, lambda values: values.var()))

    def spread(self, name, step, mode):
        """The 95th minus the 5th percentile; from reductions, maximum minus minimum, which is at least as large."""
        import numpy as np

        tensor = self.trial.tensor(name)
        saved = tensor.reduction_values(step, mode=self.mode(mode)) or {}
        if ("min", False) in saved and ("max", False) in saved:
            return float(saved["max", False] - saved["min", False])
        low, high = np.percentile(tensor.value(step, mode=self.mode(mode)), [5, 95])
        return float(high - low)

    def statistic(self, name, step, mode, reduction, absolute, compute):
        tensor = self.trial.tensor(name)
        saved = tensor.reduction_values(step, mode=self.mode(mode)) or {}
        if (reduction, absolute) in saved:
            return saved[reduction, absolute]
        return compute(tensor.value(step, mode=self.mode(mode)))

    def phases(self, names):
        """[("TRAIN" | "EVAL", [global steps])]: the stretches of training and evaluation, as they alternated."""
        phases = []
        for step in sorted({step for name in names for step in self.steps(name, "GLOBAL")}):
            mode = self.trial.mode(step).name
            if not phases or phases[-1][0] != mode:
                phases.append((mode, []))
            phases[-1][1].append(step)
        return phases

    def mode(self, name):
        from smdebug import modes

        return getattr(modes, name)
