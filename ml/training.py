"""One training: its network, loss and optimizer, and what is done with them in a step and in an epoch."""

import math
import time

import torch

import augment
import checkpoint
import data
import features
import metrics
import model
from debug import Debugger
from flags import HYPERPARAMETERS
from losses import make_loss
from numerics import make_scaler, precision
from optimisation import Ema, make_optimizer, rate
from progress import Progress


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


def say(message):
    print(message, flush=True)
