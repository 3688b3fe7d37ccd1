"""Train an image classifier on folders of images, as a SageMaker training job or by hand.

    python train.py --train-dir flowers/train --validation-dir flowers/validation --model-dir out --epochs 5

On SageMaker every hyperparameter arrives as a flag and every folder as an SM_* variable. Each epoch prints one line of
metrics; the best epoch by --objective (at equal values: by the lower loss) is the one whose artifact is in --model-dir,
and its metrics are printed last. On SIGTERM training stops after the current batch and keeps the best so far. With a
--checkpoint-dir a training that was killed goes on after its last whole epoch.

Exit status: 0 trained (or stopped with a model), 1 failed, 2 a flag is wrong; <output dir>/failure holds the reason.
"""

import json
import os
import platform
import signal
import sys
import traceback
from pathlib import Path

import torch

import data
import features
import metrics
from flags import HYPERPARAMETERS, UsageError, parse
from training import Training, say


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
    check_classes(settings, classes)
    train_set = data.Channel(settings.train_dir, classes, settings.image_size)
    validation_set = data.Channel(settings.validation_dir, classes, settings.image_size)
    if len(train_set) < 2:
        raise ValueError(f"the train channel holds {len(train_set)} image; training needs at least 2")
    say(f"{len(train_set)} training and {len(validation_set)} validation images of {len(classes)} classes")

    shape = network_shape(settings, classes)
    training = Training(settings, shape, len(classes), train_set)
    if features.usable(settings, training.debugger.active):
        train_set, validation_set = training.look_once(train_set, validation_set)
        say("the network below the head is frozen: its view of each image is computed once")
    training.resume(fingerprint)
    stop = StopOnSigterm()
    progress = training.progress
    if progress.best:  # an interrupted job starts again with an empty model folder
        training.save_best(describe(settings, shape, classes, fingerprint, progress.best))
    while progress.epoch < settings.epochs and not progress.exhausted(settings) and not stop.requested:
        values = training.epoch(train_set, stop)
        if stop.requested and progress.best is not None:
            break  # little time is left; what is saved is good
        with training.ema.applied():
            values |= training.evaluate(validation_set)
            say(metrics.epoch_line(progress.epoch, settings.epochs, values, values["images_per_second"]))
            if progress.add(values, settings):
                training.keep_best()
                training.save_best(describe(settings, shape, classes, fingerprint, progress.best))
        training.debugger.record(values)
        write_history(settings, progress.history)
        if not stop.requested:  # a checkpoint stands after a whole epoch
            training.checkpoint(fingerprint)
    training.debugger.close()
    if stop.requested:
        say(f"stopped by SIGTERM in epoch {progress.epoch}; the best epoch so far is kept")
    elif progress.exhausted(settings):
        say(f"ended after epoch {progress.epoch}: no gain of {settings.objective} in {settings.patience} epochs")
    say(metrics.best_line(progress.best["epoch"], settings.epochs, progress.best))


def prepare(settings):
    """What must be set before the first tensor."""
    if os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(settings.seed)
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS refuses
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    else:
        torch.backends.cudnn.benchmark = True


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


def check_classes(settings, classes):
    two = settings.head == "binary" or settings.objective == "validation:f1"
    if two and len(classes) != 2:
        flag = "--head binary" if settings.head == "binary" else "--objective validation:f1"
        raise ValueError(f"{flag} is for two classes; the data set has {len(classes)}: {', '.join(classes[:5])}")


def network_shape(settings, classes):
    """What `model.build` needs; model.json keeps it."""
    return {
        "arch": settings.arch,
        "num_outputs": 1 if settings.head == "binary" else len(classes),
        "stem": settings.stem,
        "hidden_units": settings.hidden_units,
        "dropout": settings.dropout,
    }


def describe(settings, shape, classes, fingerprint, best):
    """model.json: everything that inference, and a reader in a year, must know about the artifact."""
    return {
        "network": shape,
        "classes": classes,
        "image_size": settings.image_size,
        "mean": data.MEAN,
        "std": data.STD,
        "best_epoch": best["epoch"],
        "metrics": {name: value for name, value in best.items() if ":" in name},
        "dataset_fingerprint": fingerprint,
        "code": os.environ.get("SM_MODULE_DIR"),  # its last folder is the digest of the source
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
