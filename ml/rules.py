"""SageMaker Debugger's built-in rules that the pipeline uses, as functions (tensors, parameters) -> Verdict.

AWS keeps its implementations closed; these follow its documentation (parameters, defaults, meaning), and say where that
leaves a choice. `tensors` is a tensors.Tensors or anything with its methods. A rule that cannot judge raises
MissingTensors: no evidence is not a clean bill.
"""

from dataclasses import dataclass, field
from statistics import fmean

from tensors import MissingTensors


@dataclass(frozen=True)
class Verdict:
    """`issue` is empty when all is well, else a sentence; `step` is where the rule fired."""

    issue: str = ""
    step: int | None = None
    evidence: dict = field(default_factory=dict)


def loss_not_decreasing(tensors, parameters):
    """The mean loss of `num_steps` steps is not `diff_percent` percent below that of the `num_steps` before.

    AWS compares single saved steps. Means over the steps between them are the same where the saving interval is
    `num_steps`, and do not mistake the noise of one batch for a trend where it is shorter. A rise beyond
    `increase_threshold_percent` is reported as such.
    """
    num_steps = int(parameters.get("num_steps", 10))
    least_drop = float(parameters.get("diff_percent", 0.1))
    most_rise = float(parameters.get("increase_threshold_percent", 5))
    names = loss_names(tensors, parameters)
    mode, losses = losses_by_step(tensors, names, parameters.get("mode"))
    checked = min(losses)
    comparisons = 0
    for step in losses:
        if step - checked < num_steps:
            continue
        before = [loss for s, loss in losses.items() if step - 2 * num_steps < s <= step - num_steps]
        now = [loss for s, loss in losses.items() if step - num_steps < s <= step]
        checked = step
        if not before:
            continue
        comparisons += 1
        drop = 100 * (fmean(before) - fmean(now)) / abs(fmean(before)) if fmean(before) else 0.0
        if not drop >= least_drop:
            what = f"rose by {-drop:.2f} %" if -drop > most_rise else f"changed by {-drop:+.2f} %"
            issue = f"the mean {mode} loss {what} over {num_steps} steps, from {fmean(before):.4g} to {fmean(now):.4g}"
            evidence = {"before": fmean(before), "now": fmean(now), "change_percent": -drop, "mode": mode}
            return Verdict(f"{issue}; it should fall by {least_drop:g} % or more", step, evidence)
    if not comparisons:
        raise MissingTensors(
            f"losses were saved at {len(losses)} {mode} step(s), none {num_steps} apart; "
            "lower num_steps or their save_interval"
        )
    return Verdict(evidence={"comparisons": comparisons, "mode": mode})


def vanishing_gradient(tensors, parameters):
    """The mean absolute gradient of some tensor is below `threshold`."""
    threshold = float(parameters.get("threshold", 1e-7))
    names = required(tensors.names(["gradients"]), "the collection 'gradients'")
    smallest = (float("inf"), None, None)
    for step, saved in by_step(tensors, names, "TRAIN").items():
        for name in saved:
            size = tensors.abs_mean(name, step, "TRAIN")
            smallest = min(smallest, (size, step, name), key=lambda entry: entry[0])
            if size < threshold:
                issue = f"the mean absolute gradient of '{name}' is {size:.3g}, below {threshold:g}"
                return Verdict(issue, step, {"tensor": name, "abs_mean": size, "threshold": threshold})
    return Verdict(evidence={"smallest_abs_mean": smallest[0], "tensor": smallest[2], "step": smallest[1]})


def overfit(tensors, parameters):
    """Validation loss exceeds training loss by the share `ratio_threshold` in over `patience` evaluations running."""
    start_step = int(parameters.get("start_step", 0))
    patience = int(parameters.get("patience", 1))
    threshold = float(parameters.get("ratio_threshold", 0.1))
    names = loss_names(tensors, parameters)
    running, pairs = 0, train_and_eval_losses(tensors, names)
    for step, train, validation in pairs:
        if step < start_step:
            continue
        ratio = (validation - train) / train if train else 0.0
        running = running + 1 if ratio > threshold else 0
        if running > patience:
            issue = f"validation loss {validation:.4g} exceeds training loss {train:.4g} by {100 * ratio:.0f} %"
            evidence = {"train_loss": train, "validation_loss": validation, "ratio": ratio, "evaluations": running}
            return Verdict(
                f"{issue}, more than {100 * threshold:g} % for {running} evaluations running", step, evidence
            )
    return Verdict(evidence={"evaluations": len(pairs)})


def overtraining(tensors, parameters):
    """No new best training loss for over `patience_train` saved steps, or validation loss for `patience_validation`.

    A best must be lower by `delta`. Of validation each whole evaluation counts as one step: its batches are different
    images every time, so comparing them with each other says nothing.
    """
    delta = float(parameters.get("delta", 0.01))
    names = loss_names(tensors, parameters)
    evaluations = {step: loss for mode, step, loss in phase_losses(tensors, names) if mode == "EVAL"}
    histories = {"train": mean_losses(tensors, names, "TRAIN"), "validation": evaluations}
    if not any(histories.values()):
        raise MissingTensors("no losses were saved in mode TRAIN or EVAL; give the collection 'losses' a save_interval")
    for kind, default in (("train", 5), ("validation", 10)):
        patience, best, waited = int(parameters.get(f"patience_{kind}", default)), float("inf"), 0
        for step, loss in histories[kind].items():
            best, waited = (loss, 0) if loss < best - delta else (best, waited + 1)
            if waited > patience:
                issue = f"the {kind} loss did not improve on {best:.4g} by {delta:g} for {waited} saved steps"
                return Verdict(issue, step, {"kind": kind, "best": best, "steps_without_improvement": waited})
    return Verdict(evidence={"train_steps": len(histories["train"]), "evaluations": len(evaluations)})


def poor_weight_initialization(tensors, parameters):
    """In the first `steps` saved steps: layers of very unequal variance, or gradients or losses that do not move.

    Gradients count as too narrow only if those of every tensor are: large layers have small ones in any good training.
    """
    threshold = float(parameters.get("threshold", 10.0))
    least_spread = float(parameters.get("distribution_range", 0.001))
    patience, num_steps = int(parameters.get("patience", 5)), int(parameters.get("steps", 10))
    regex = parameters.get("activation_inputs_regex", ".*relu_input")
    activations = required(tensors.names(regex=regex), f"activation inputs matching '{regex}'")
    gradients = required(tensors.names(["gradients"]), "the collection 'gradients'")
    for step, names in first(by_step(tensors, activations, "TRAIN"), num_steps):
        variances = {name: tensors.variance(name, step, "TRAIN") for name in names}
        low, high = min(variances, key=variances.get), max(variances, key=variances.get)
        if variances[high] > threshold * variances[low]:
            issue = f"the variance of '{high}' ({variances[high]:.3g}) is over {threshold:g} times that of '{low}'"
            evidence = {"largest": variances[high], "smallest": variances[low], "tensors": [high, low]}
            return Verdict(f"{issue} ({variances[low]:.3g})", step, evidence)
    for step, names in first(by_step(tensors, gradients, "TRAIN"), num_steps):
        spread = max(tensors.spread(name, step, "TRAIN") for name in names)
        if spread < least_spread:
            issue = f"every gradient lies within {spread:.3g}, less than {least_spread:g}"
            return Verdict(issue, step, {"spread": spread, "distribution_range": least_spread})
    losses = mean_losses(tensors, loss_names(tensors, parameters), "TRAIN")
    best, waited = float("inf"), 0
    for step, loss in first(losses, num_steps):
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited >= patience:
            issue = f"the loss did not fall below {best:.4g} for {waited} saved steps from the start"
            return Verdict(issue, step, {"best": best, "steps_without_improvement": waited})
    return Verdict(evidence={"saved_steps": min(num_steps, len(losses))})


RULES = {
    "LossNotDecreasing": loss_not_decreasing,
    "VanishingGradient": vanishing_gradient,
    "Overfit": overfit,
    "Overtraining": overtraining,
    "PoorWeightInitialization": poor_weight_initialization,
}


# What several rules ask of the tensors.


def required(names, what):
    if not names:
        raise MissingTensors(f"{what} was not saved; add it to the CollectionConfigurations of the debugger hook")
    return names


def loss_names(tensors, parameters):
    """The loss tensors: the built-in collection 'losses', and what the rule's parameters add or put in its place."""
    collections = [name for name in parameters.get("collection_names", "").split(",") if name]
    regex = parameters.get("tensor_regex")
    if parameters.get("use_losses_collection", "True").lower() != "false" and not regex:
        collections.append("losses")
    return required(tensors.names(collections, regex), f"a loss ({', '.join(collections) or regex})")


def by_step(tensors, names, mode):
    """step -> the names saved at it, in order of steps."""
    saved = {}
    for name in names:
        for step in tensors.steps(name, mode):
            saved.setdefault(step, []).append(name)
    if not saved:
        raise MissingTensors(f"{names[0]} and the like were never saved in mode {mode}; lower their save_interval")
    return dict(sorted(saved.items()))


def first(entries, count):
    return list(entries.items())[:count]


def mean_losses(tensors, names, mode):
    """step -> the mean over the loss tensors saved at it; empty if none was saved in this mode."""
    try:
        saved = by_step(tensors, names, mode)
    except MissingTensors:
        return {}
    return {step: fmean(tensors.mean(name, step, mode) for name in names_) for step, names_ in saved.items()}


def losses_by_step(tensors, names, mode=None):
    """The losses of the mode asked for, else of the first of EVAL, TRAIN, GLOBAL that has any."""
    for candidate in [mode] if mode else ["EVAL", "TRAIN", "GLOBAL"]:
        losses = mean_losses(tensors, names, candidate)
        if losses:
            return candidate, losses
    raise MissingTensors(f"no losses were saved in mode {mode or 'EVAL, TRAIN or GLOBAL'}; lower their save_interval")


def train_and_eval_losses(tensors, names):
    """[(global step, mean training loss, mean validation loss)], one per evaluation that followed training."""
    pairs, train = [], None
    for mode, step, loss in phase_losses(tensors, names):
        if mode == "TRAIN":
            train = loss
        elif mode == "EVAL" and train is not None:
            pairs.append((step, train, loss))
    if not pairs:
        raise MissingTensors("losses must be saved in both modes, TRAIN and EVAL; lower train. and eval.save_interval")
    return pairs


def phase_losses(tensors, names):
    """[(mode, last global step, mean loss)] of each stretch of training or evaluation."""
    phases = []
    for mode, steps in tensors.phases(names):
        saved = [(name, step) for name in names for step in tensors.steps(name, "GLOBAL") if step in steps]
        phases.append((mode, steps[-1], fmean(tensors.mean(name, step, "GLOBAL") for name, step in saved)))
    return phases
