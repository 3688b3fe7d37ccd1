"""The numbers a training job is judged by, and the lines that carry them to SageMaker.

SageMaker reads metrics from the log with regular expressions such as `validation:accuracy=([0-9.eE+-]+)`; the pipeline
that sets them is another program, so tests/contract holds the two together. Standard library only.
"""

NAMES = ("train:loss", "train:accuracy", "validation:loss", "validation:accuracy", "validation:macro_f1")


def accuracy(labels, predictions):
    return sum(label == guess for label, guess in zip(labels, predictions, strict=True)) / len(labels)


def macro_f1(labels, predictions):
    """The mean F1 over the classes that occur among labels or predictions, each class counting alike."""
    classes = set(labels) | set(predictions)
    return sum(f1(labels, predictions, wanted) for wanted in classes) / len(classes)


def f1(labels, predictions, wanted):
    hits = sum(label == guess == wanted for label, guess in zip(labels, predictions, strict=True))
    return 2 * hits / (labels.count(wanted) + predictions.count(wanted))


def epoch_line(epoch, epochs, values, images_per_second):
    return f"epoch={epoch}/{epochs} {metric_text(values)} images_per_second={images_per_second:.1f}"


def best_line(epoch, epochs, values):
    """Printed last: SageMaker takes a metric's last value as the job's result, so it must be the best epoch's."""
    return f"best epoch={epoch}/{epochs} {metric_text(values)}"


def metric_text(values):
    return " ".join(f"{name}={values[name]:.4f}" for name in NAMES)
