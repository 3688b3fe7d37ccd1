"""Rules about gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from debugger.rules.parameters import Parameter, number
from debugger.rules.rule import Rule, Verdict, where, without_biases
from debugger.tensors.steps import MissingTensors

if TYPE_CHECKING:
    from debugger.tensors.steps import Step


class VanishingGradient(Rule):
    """The mean absolute gradient of some tensor is below `threshold`.

    Looked at are the tensors of the collection 'gradients' in training steps, one by one: a mean over all of them would
    hide a layer that no longer learns behind one that does. The gradient of a layer's bias is looked at only if that of
    its weight was not saved: in front of a batch normalisation it is zero in any network.
    """

    ADVICE = (
        "Use ReLU instead of sigmoid or tanh, batch normalisation, residual connections, or He initialisation; and "
        "check that no layer is cut off from the loss."
    )
    PARAMETERS = (Parameter("threshold", number(0), 1e-7, "mean absolute gradient below which one has vanished"),)

    def prepare(self) -> None:
        self.selection = self.stream.selection(["gradients"])
        self.looked_at = False
        self.smallest: tuple[float, int | None, str | None] = (float("inf"), None, None)

    def look(self, step: Step) -> Verdict | None:
        if step.mode != "TRAIN":
            return None
        for name in without_biases(self.selection.of(step)):
            self.looked_at = True
            size = step.abs_mean(name)
            self.smallest = min(self.smallest, (size, step.number, name), key=lambda entry: entry[0])
            self.note(step.number, name, "mean absolute gradient", size, self.parameters.threshold)
            if size < self.parameters.threshold:
                threshold = self.parameters.threshold
                issue = f"the mean absolute gradient of '{name}' is {size:.3g}, below {threshold:g}"
                evidence = {"tensor": name, "value": size, "threshold": threshold, "abs_mean": size}
                return Verdict(issue, step.number, evidence | where(step))
        return None

    def end(self) -> Verdict:
        size, step, name = self.smallest
        self.seen(self.looked_at, str(self.selection))
        if name is None:
            raise MissingTensors("the gradients are NaN at every step that was saved; ExplodingTensor tells since when")
        return Verdict(evidence={"smallest_abs_mean": size, "tensor": name, "step": step})
