"""Train an image classifier on folders of images, as a SageMaker training job or by hand.

    python train.py --train-dir flowers/train --validation-dir flowers/validation --model-dir out --epochs 5

On SageMaker every hyperparameter arrives as a flag and every folder as an SM_* variable. Each epoch prints one line of
metrics; the epoch with the best validation accuracy (at equal accuracy: the lower loss) is the one whose artifact is
in --model-dir. On SIGTERM training stops after the current batch and keeps the best so far.

Exit status: 0 trained (or stopped with a model), 1 failed, 2 a flag is wrong; <output dir>/failure holds the reason.
"""

import json
import math
import os
import platform
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from torch import nn

import data
import metrics
import model
from debug import Debugger
from flags import HYPERPARAMETERS, UsageError, parse


def main(arguments=None):
    try:
        settings = parse(arguments, __doc__)
    except UsageError as error:
        write_failure(os.environ.get("SM_OUTPUT_DIR"), str(error))
        print(f"train.py: error: {error}", file=sys.stderr)
        return 2
    try:
        train(settings)
    except Exception as error:
        write_failure(settings.output_dir, f"{reason(error)}\n{traceback.format_exc()[-700:]}")
        traceback.print_exc()
        print(f"train.py: failed: {reason(error)}", file=sys.stderr)
        return 1
    return 0


def train(settings):
    """Data, model, loop, save."""
    prepare(settings)
    classes, fingerprint = read_dataset(settings)
    train_set = data.Channel(settings.train_dir, classes, settings.image_size)
    validation_set = data.Channel(settings.validation_dir, classes, settings.image_size)
    if len(train_set) < 2:
        raise ValueError(f"the train channel holds {len(train_set)} image; training needs at least 2")
    print(
        f"{len(train_set)} training and {len(validation_set)} validation images of {len(classes)} classes", flush=True
    )

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = model.build(settings.arch, len(classes), settings.stem)
    for message in model.load_weights(network, settings.weights, settings.arch, settings.pretrained_dir):
        print(message, flush=True)
    model.freeze(network, settings.trainable)
    network.to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = make_optimizer(settings, [p for p in network.parameters() if p.requires_grad])
    debugger = Debugger()
    debugger.watch(network, criterion)

    shuffle = torch.Generator().manual_seed(settings.seed)
    steps_per_epoch = math.ceil(len(train_set) / settings.batch_size)
    total_steps = settings.epochs * steps_per_epoch
    model.pace_statistics(network, steps_per_epoch)
    stop = StopOnSigterm()
    history, best, step = [], None, 0
    for epoch in range(1, settings.epochs + 1):
        debugger.phase("train")
        model.train_mode(network)
        tally, started = Tally(), time.perf_counter()
        for pixels, labels in train_set.batches(settings.batch_size, shuffle):
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * schedule(step / total_steps)
            images = data.normalise(data.augment(pixels, settings.augment, shuffle).to(device))
            labels = labels.to(device)
            logits = network(images)
            loss = criterion(logits, labels)
            tally.add(logits, labels, finite(loss, epoch, step, settings))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if stop.requested:
                break
        images_per_second = tally.count / (time.perf_counter() - started)
        if stop.requested and best is not None:
            break  # little time is left; what is saved is good
        debugger.phase("eval")
        values = tally.results("train") | evaluate(network, criterion, validation_set, settings.batch_size, device)
        print(metrics.epoch_line(epoch, settings.epochs, values, images_per_second), flush=True)
        debugger.record(values)
        history.append({"epoch": epoch, **values, "images_per_second": images_per_second})
        write_history(settings, history)
        if best is None or better(values, best[1]):
            best = epoch, values
            model.save_artifact(settings.model_dir, network, describe(settings, classes, fingerprint, *best))
        if stop.requested:
            break
    debugger.close()
    if stop.requested:
        print(f"stopped by SIGTERM in epoch {epoch}; the best epoch so far is kept", flush=True)
    print(metrics.best_line(best[0], settings.epochs, best[1]), flush=True)


def evaluate(network, criterion, channel, batch_size, device):
    network.eval()
    tally = Tally()
    with torch.no_grad():
        for pixels, labels in channel.batches(batch_size):
            labels = labels.to(device)
            logits = network(data.normalise(pixels.to(device)))
            tally.add(logits, labels, criterion(logits, labels).item())
    return tally.results("validation")


class Tally:
    """Adds up loss, labels and predictions over the batches of an epoch."""

    def __init__(self):
        self.loss_sum, self.labels, self.predictions = 0.0, [], []

    def add(self, logits, labels, loss):
        self.loss_sum += loss * len(labels)
        self.labels += labels.tolist()
        self.predictions += logits.argmax(1).tolist()

    @property
    def count(self):
        return len(self.labels)

    def results(self, phase):
        values = {
            f"{phase}:loss": self.loss_sum / self.count,
            f"{phase}:accuracy": metrics.accuracy(self.labels, self.predictions),
        }
        if phase == "validation":
            values["validation:macro_f1"] = metrics.macro_f1(self.labels, self.predictions)
        return values


def better(values, best):
    def rank(v):
        return v["validation:accuracy"], -v["validation:loss"]

    return rank(values) > rank(best)


def schedule(progress, warm_up=0.3):
    """The share of --lr to use at `progress` (0 to 1) of all steps: a linear rise, then half a cosine to zero."""
    if progress < warm_up:
        return 0.04 + 0.96 * progress / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warm_up) / (1 - warm_up))


def finite(loss, epoch, step, settings):
    value = loss.item()
    if not math.isfinite(value):
        raise ArithmeticError(
            f"NONFINITE_LOSS: the loss became {value} at step {step} (epoch {epoch}) with --lr {settings.lr:g}; "
            "lower --lr or check the images"
        )
    return value


def make_optimizer(settings, parameters):
    if settings.optimizer == "sgd":
        kind = torch.optim.SGD
        options = {"momentum": settings.momentum, "nesterov": settings.momentum > 0}
    else:
        kind, options = torch.optim.Adam, {}
    options |= {"lr": settings.lr, "weight_decay": settings.weight_decay}
    try:
        return kind(parameters, fused=True, **options)  # halves an Adam step of ResNet-18 on one core
    except (RuntimeError, TypeError):  # torch before 2.4 has none for this device or optimizer
        return kind(parameters, **options)


def prepare(settings):
    """What must be set before the first tensor."""
    if os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(settings.seed)


def read_dataset(settings):
    """The classes in the order of the outputs, and the data set's fingerprint: from dataset.json, else the folders."""
    if settings.dataset_dir is None:
        return data.class_names(settings.train_dir), None
    path = Path(settings.dataset_dir) / "dataset.json"
    try:
        dataset = json.loads(path.read_text(encoding="utf-8"))
        return list(dataset["classes"]), dataset.get("fingerprint")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the dataset channel needs dataset.json with a list 'classes': {reason(error)}") from error


def describe(settings, classes, fingerprint, epoch, values):
    """model.json: everything that inference, and a reader in a year, must know about the artifact."""
    return {
        "arch": settings.arch,
        "stem": settings.stem,
        "classes": classes,
        "image_size": settings.image_size,
        "mean": data.MEAN,
        "std": data.STD,
        "best_epoch": epoch,
        "metrics": values,
        "dataset_fingerprint": fingerprint,
        "hyperparameters": {name: getattr(settings, name) for name in HYPERPARAMETERS},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


class StopOnSigterm:
    def __init__(self):
        self.requested = False
        signal.signal(signal.SIGTERM, self.request)

    def request(self, *_):
        self.requested = True


def write_history(settings, history):
    if settings.output_data_dir:
        path = Path(settings.output_data_dir) / "history.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(history, indent=1), encoding="utf-8")


def write_failure(folder, text):
    """SageMaker shows the first 1024 characters as the job's FailureReason."""
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "failure").write_text(text, encoding="utf-8")


def reason(error):
    return str(error) if isinstance(error, ValueError | ArithmeticError) else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
