"""Train an image classifier on folders of images, as a SageMaker training job or by hand.

    python train.py --train-dir flowers/train --validation-dir flowers/validation --model-dir out --epochs 5

On SageMaker every hyperparameter arrives as a flag and every folder as an SM_* variable. Each epoch prints one line of
metrics; the best epoch by --objective (at equal values: by the lower loss) is the one whose artifact is in --model-dir,
and its metrics are printed last. On SIGTERM training stops after the current batch and keeps the best so far. With a
--checkpoint-dir a training that was killed goes on after its last whole epoch.

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
from dataclasses import dataclass, field
from pathlib import Path

import torch

import augment
import checkpoint
import data
import features
import metrics
import model
from debug import Debugger
from flags import HYPERPARAMETERS, UsageError, parse
from losses import make_loss
from optimisation import Ema, make_optimizer, rate

# On a processor, converting small tensors costs what computing with them saves: ResNet-18 on 32 px images took the same
# time in bfloat16 (67 s of CPU against 61 s; torch 2.15, one core of a Zen 5).
SMALL_IMAGE = 64


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


@dataclass
class Progress:
    """How far a training is, and what its epochs gave; a checkpoint holds it as it is."""

    epoch: int = 0
    step: int = 0
    history: list = field(default_factory=list)
    best: dict | None = None
    """The metrics of the best epoch, with its number."""
    stale: int = 0
    """Epochs since the last gain of at least --min-delta."""

    def add(self, values, settings):
        """Note the metrics of the epoch that has ended; returns whether it is the best."""
        entry = {"epoch": self.epoch, **values}
        self.history.append(entry)
        sign = metrics.OBJECTIVES[settings.objective]
        bar = -math.inf if self.best is None else sign * self.best[settings.objective]
        self.stale = 0 if sign * values[settings.objective] > bar + settings.min_delta else self.stale + 1
        if self.best is not None and not metrics.better(values, self.best, settings.objective):
            return False
        self.best = entry
        return True

    def exhausted(self, settings):
        return 0 < settings.patience <= self.stale


class Training:
    """The parts of one training, and what is done with them in an epoch."""

    def __init__(self, settings, shape, num_classes, train_set):
        self.settings, self.num_classes = settings, num_classes
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = model.build(**shape)
        for message in model.load_weights(self.network, settings.weights, settings.arch, settings.pretrained_dir):
            say(message)
        model.freeze(self.network, settings.trainable)
        self.network.to(self.device)
        self.criterion = make_loss(settings, train_set.labels, num_classes).to(self.device)
        self.optimizer = make_optimizer(settings, self.network)
        self.ema = Ema(self.network, settings.ema)
        self.debugger = Debugger()
        self.debugger.watch(self.network, self.criterion)
        self.precision = precision(settings, self.device, watched=self.debugger.active)
        self.scaler = make_scaler(enabled=self.precision is torch.float16)
        self.forward = torch.compile(self.network) if settings.compile else self.network
        self.prepare = self.normalised
        self.randomness = torch.Generator().manual_seed(settings.seed)
        self.steps_per_epoch = max(1, math.ceil(len(train_set) / settings.batch_size))
        model.pace_statistics(self.network, self.steps_per_epoch)
        self.progress = Progress()
        self.best_weights = None

    def epoch(self, train_set, stop):
        """One pass over the training images, or less when a stop is asked for -> its metrics."""
        settings, progress = self.settings, self.progress
        progress.epoch += 1
        self.debugger.phase("train")
        model.train_mode(self.network)
        tally, started = Tally(self.num_classes), time.perf_counter()
        sample = data.balanced if settings.sampler == "balanced" else data.shuffled
        order = sample(train_set.labels, self.randomness)
        for pixels, labels in train_set.batches(settings.batch_size, order):
            self.step(pixels, labels.to(self.device), tally)
            if stop.requested:
                break
        return tally.results("train") | {"images_per_second": tally.count / (time.perf_counter() - started)}

    def step(self, pixels, labels, tally):
        settings, progress = self.settings, self.progress
        position = progress.step / (settings.epochs * self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * rate(settings, position)
        images = self.prepare(augment.augment(pixels, settings.augment, self.randomness))
        images = augment.resized(images, augment.side_at(position, settings.start_size, settings.image_size))
        if settings.mixup:
            images, others, share = augment.mixed(images, labels, settings.mixup, self.randomness)
        with self.autocast():
            logits = self.forward(images)
        logits = logits.float()
        loss = self.criterion(logits, labels)
        if settings.mixup:
            loss = share * loss + (1 - share) * self.criterion(logits, others)
        tally.add(logits, labels, finite(loss, progress, settings))
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if settings.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update()
        progress.step += 1

    def evaluate(self, channel):
        self.debugger.phase("eval")
        self.network.eval()
        tally = Tally(self.num_classes)
        with torch.no_grad():
            for pixels, labels in channel.batches(self.settings.batch_size):
                labels = labels.to(self.device)
                with self.autocast():
                    logits = self.forward(self.prepare(pixels))
                logits = logits.float()
                tally.add(logits, labels, self.criterion(logits, labels).item())
        return tally.results("validation")

    def look_once(self, *channels):
        """Let the frozen part see each image now; from here on vectors go into the head alone."""
        seen = [
            features.extract(self.network, channel, self.settings.batch_size, self.normalised, self.autocast)
            for channel in channels
        ]
        self.forward, self.prepare = self.network.fc, lambda vectors: vectors
        return seen

    def normalised(self, pixels):
        return data.normalise(pixels.to(self.device))

    def autocast(self):
        return torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32)

    # -- what is kept ---------------------------------------------------------------------------------------------

    def keep_best(self):
        if self.settings.checkpoint_dir:
            self.best_weights = {
                name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()
            }

    def save_best(self, description):
        weights = self.best_weights or self.network.state_dict()
        model.save_artifact(self.settings.model_dir, weights, description)

    def checkpoint(self, fingerprint):
        if not self.settings.checkpoint_dir:
            return
        checkpoint.save(
            self.settings.checkpoint_dir,
            {
                "identity": self.identity(fingerprint),
                "progress": vars(self.progress),
                "network": self.network.state_dict(),
                "best_weights": self.best_weights,
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "ema": self.ema.state_dict(),
                "randomness": self.randomness.get_state(),
                "torch_randomness": torch.get_rng_state(),
            },
        )

    def resume(self, fingerprint):
        """Go on from the checkpoint, if there is one. Raises ValueError for one of another training."""
        if not self.settings.checkpoint_dir:
            return
        state = checkpoint.load(self.settings.checkpoint_dir, self.identity(fingerprint))
        if state is None:
            return
        self.progress = Progress(**state["progress"])
        self.network.load_state_dict(state["network"])
        self.best_weights = state["best_weights"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.ema.load_state_dict(state["ema"])
        self.randomness.set_state(state["randomness"])
        torch.set_rng_state(state["torch_randomness"])
        say(f"going on after epoch {self.progress.epoch} of {self.settings.epochs}, from the checkpoint")

    def identity(self, fingerprint):
        """What must be the same for a checkpoint to be this training's."""
        return {name: getattr(self.settings, name) for name in HYPERPARAMETERS} | {"dataset_fingerprint": fingerprint}


class Tally:
    """Adds up loss, labels and predictions over the batches of an epoch."""

    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.loss_sum, self.labels, self.predictions = 0.0, [], []

    def add(self, logits, labels, loss):
        self.loss_sum += loss * len(labels)
        self.labels += labels.tolist()
        self.predictions += model.predictions(logits).tolist()

    @property
    def count(self):
        return len(self.labels)

    def results(self, phase):
        scores = metrics.scores(self.labels, self.predictions, self.num_classes)
        return {f"{phase}:loss": self.loss_sum / self.count} | {f"{phase}:{name}": v for name, v in scores.items()}


def finite(loss, progress, settings):
    value = loss.item()
    if not math.isfinite(value):
        raise ArithmeticError(
            f"NONFINITE_LOSS: the loss became {value} at step {progress.step} (epoch {progress.epoch}) with --lr "
            f"{settings.lr:g}; lower --lr or check the images"
        )
    return value


def precision(settings, device, watched):
    """The number format of the forward and backward pass. Raises ValueError for one this device has not."""
    wanted = settings.precision
    if wanted == "auto":
        if watched:  # smdebug keeps tensors as numpy arrays, which know no bfloat16
            return torch.float32
        if device.type == "cpu" and settings.image_size < SMALL_IMAGE:
            return torch.float32
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        # Without the instructions bfloat16 is emulated, and slower than float32.
        has_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return torch.bfloat16 if has_bfloat16() else torch.float32
    if wanted == "fp16" and device.type == "cpu":
        raise ValueError("--precision fp16 needs a GPU; on this processor use bf16, fp32 or auto")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[wanted]


def make_scaler(enabled):
    """Keeps float16 gradients from vanishing; when it is not enabled it passes everything through."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)  # torch before 2.3


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


def say(message):
    print(message, flush=True)


def reason(error):
    return str(error) if isinstance(error, ValueError | ArithmeticError) else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
