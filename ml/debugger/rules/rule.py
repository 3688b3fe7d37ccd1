"""What a rule is: it looks at each saved step once, keeps what it needs of it, and says when something is wrong.

AWS keeps its implementations closed; the rules here follow its documentation (parameters, defaults, meaning; "List of
Debugger built-in rules" of the SageMaker developer guide), and each one's docstring says what it measures exactly and
where the documentation leaves a choice. A rule that cannot judge raises MissingTensors: no evidence is no clean bill.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from debugger.rules.curve import Curve
from debugger.rules.parameters import NAMES, REGEXES, InvalidParameter, Parameter, read_parameters
from debugger.tensors.steps import MissingTensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

    from debugger.tensors.steps import Step
    from debugger.tensors.stream import TensorStream


@dataclass(frozen=True)
class Verdict:
    """`issue` is empty when all is well, else a sentence; `step` is the global step at which the rule fired."""

    issue: str = ""
    step: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


class Rule:
    """The parent of all rules. One object judges one training.

    `look` is called with each step in order until it returns a Verdict, which ends the rule; then or never comes `end`,
    when no more steps will be written, which returns a Verdict or raises MissingTensors. `idle` is called between steps
    while the training runs, and may return a Verdict too.
    """

    PARAMETERS: tuple[Parameter, ...] = ()
    ADVICE = ""  # what to do about an issue, in plain words

    def __init__(self, stream: TensorStream, given: Mapping[str, str]) -> None:
        self.stream = stream
        self.curves: dict[tuple[str, str], Curve] = {}
        self.judged_last: Curve | None = None
        self.parameters = read_parameters(type(self).__name__, self.PARAMETERS, given)
        self.prepare()

    def prepare(self) -> None:
        """Set up the rule's own state; `self.parameters` and `self.stream` are there."""

    def look(self, step: Step) -> Verdict | None:
        raise NotImplementedError

    def idle(self, now: float) -> Verdict | None:
        """`now` is in epoch seconds."""
        return None

    def end(self) -> Verdict:
        raise NotImplementedError

    def note(self, step: int, tensor: str, what: str, value: float, threshold: float) -> None:
        """That `what` of a tensor was judged at a global step. The last one before a verdict is shown with it."""
        self.judged_last = self.curves.setdefault((tensor, what), Curve(tensor, what))
        self.judged_last.add(step, value, threshold)

    def refuse(self, complaint: str) -> NoReturn:
        raise InvalidParameter(f"{type(self).__name__}: {complaint}")

    def seen(self, names: object, what: str) -> None:
        """Whether there are any `names`; for `end`, where nothing seen is no clean bill."""
        if not names:
            raise MissingTensors(f"{what} was not saved; add it to the CollectionConfigurations of the debugger hook")


def where(step: Step) -> dict[str, Any]:
    """What every issue tells of the step besides its number."""
    return {"mode": step.mode, "mode_step": step.mode_step}


def mode_matches(step: Step, mode: str) -> bool:
    return mode == "GLOBAL" or step.mode == mode


def without_biases(names: Sequence[str]) -> list[str]:
    """Gradients to judge a layer by: of its bias only where its weight has none.

    In front of a batch normalisation a bias has no effect, so its gradient is zero in the best of networks; and in a
    last layer it moves even if nothing else does.
    """
    present = set(names)
    return [name for name in names if not name.endswith(".bias") or f"{name[: -len('bias')]}weight" not in present]


# How several rules are told which tensors to look at.
COLLECTION_NAMES = Parameter("collection_names", NAMES, None, "collections whose tensors are looked at")
TENSOR_REGEX = Parameter("tensor_regex", REGEXES, None, "expressions for the names of tensors that are looked at")


class TensorRule(Rule):
    """A rule about the tensors in `collection_names` or matching `tensor_regex`; with neither, about every tensor."""

    PARAMETERS: tuple[Parameter, ...] = (COLLECTION_NAMES, TENSOR_REGEX)
    CHOICE_IS_REQUIRED = True

    def prepare(self) -> None:
        collections, regexes = self.parameters.collection_names, self.parameters.tensor_regex
        if self.CHOICE_IS_REQUIRED and not collections and not regexes:
            self.refuse("needs collection_names or tensor_regex, to know which tensors to look at")
        self.selection = self.stream.selection(collections or (), regexes or ())
        self.looked_at: set[str] = set()

    def chosen(self, step: Step) -> list[str]:
        names = self.selection.of(step)
        self.looked_at.update(names)
        return names

    def end(self) -> Verdict:
        self.seen(self.looked_at, str(self.selection))
        return Verdict(evidence=self.evidence() | {"tensors": len(self.looked_at)})

    def evidence(self) -> dict[str, Any]:
        """What a clean verdict tells beside the number of tensors."""
        return {}
