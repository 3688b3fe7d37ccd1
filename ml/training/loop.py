"""One training: its network, loss and optimizer, and what is done with them in a step and in an epoch."""

from __future__ import annotations

import math
import secrets
import sys
import time
from typing import TYPE_CHECKING, Protocol, cast

import torch

from dataset import augment
from dataset.channel import MEAN, STD, balanced, normalise, num_chunks, shuffled
from debugger.watcher import Debugger
from network import model
from profiler.phases import BACKWARD, FORWARD, OPTIMIZER, PREPARING
from profiler.step_times import StepTimes
from recordings.rank import is_first
from training import checkpoint, features, metrics
from training.best import Best
from training.distributed import lost_process_errors
from training.losses import batch_weight, log_loss, make_loss
from training.numerics import make_scaler, memory_format, precision
from training.optimisation import Ema, lay_out_like_weights, make_optimizer, rate
from training.progress import Progress
from training.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from torch import Tensor, nn

    from dataset.channel import Channel
    from training.distributed import Group
    from training.features import Features
    from training.settings import Settings


class Stop(Protocol):
    """Whether the training is asked to end; `agreed` by all processes."""

    requested: bool
    agreed: bool


class Training:
    """The parts of one training, and what is done with them in an epoch."""

    def __init__(
        self, settings: Settings, shape: Mapping[str, Any], num_classes: int, train_set: Channel, group: Group
    ) -> None:
        self.settings, self.num_classes, self.group = settings, num_classes, group
        self.device = group.device
        self.network = model.build(**shape, blank=settings.network.weights != "none")
        weights, arch = settings.network.weights, settings.network.arch
        random = model.load_weights(self.network, weights, arch, settings.folders.pretrained_dir)
        for message in (*random.values(), model.freeze(self.network, settings.network.trainable, random)):
            if message:
                say(message)
        self.normalisation = model.normalisation(arch)
        self.memory_format = memory_format(settings.images, self.device)
        self.network.to(self.device, memory_format=self.memory_format)  # type: ignore[call-overload]  # torch knows it, its types do not
        criterion = make_loss(settings.loss, settings.network.head, train_set.labels, num_classes)
        self.criterion = criterion.to(self.device)
        self.optimizer = make_optimizer(settings.optimizer, self.network, settings.computation.compile)
        self.ema = Ema(self.network, settings.loop.ema)
        self.times = StepTimes.configured(settings.folders.profiler_dir, self.device)
        self.debugger = Debugger(settings.watching.debug_hook_config, settings.folders.output_data_dir)
        self.debugger.watch(self.network, self.criterion)
        needs_float32 = group.any(self.debugger.needs_float32)
        self.precision = precision(settings.computation.precision, settings.images, self.device, needs_float32)
        self.scaler = make_scaler(enabled=self.precision is torch.float16)
        self.forward = cast("nn.Module", torch.compile(self.network)) if settings.computation.compile else self.network
        # The same with gradients from all processes; made when it is known what learns.
        self.learner: nn.Module | None = None
        self.prepare: Callable[[Tensor], Tensor] = self.normalised
        seed = settings.computation.seed
        self.order = torch.Generator().manual_seed(seed)  # of the images; the same in all processes
        self.randomness = torch.Generator().manual_seed(own_seed(seed, group.rank))
        if group.rank > 0:  # the first weights had to be the same everywhere, what is dropped out must not be
            torch.manual_seed(own_seed(seed, group.rank))
        self.steps_per_epoch = num_chunks(len(train_set), settings.loop.batch_size, least=2 * group.size)
        model.pace_statistics(self.network, self.steps_per_epoch)
        self.progress = Progress()
        self.best = Best(settings.folders.model_dir, model.learning(self.network))
        self.run = secrets.token_hex(8)  # names this training, through all its interruptions
        # What must be the same for a checkpoint to be this training's.
        self.identity = settings.hyperparameters

    def epoch(self, train_set: Channel | Features, stop: Stop) -> dict[str, float]:
        """One pass over the training images, or less when a stop is asked for -> its metrics."""
        settings, progress = self.settings, self.progress
        progress.epoch += 1
        if self.learner is None:
            self.learner = self.group.wrap(self.forward)
        self.debugger.phase("train")
        model.train_mode(self.network)
        tally, started = Tally(self.num_classes), time.perf_counter()
        sample = balanced if settings.images.sampler == "balanced" else shuffled
        batch_size = settings.loop.batch_size
        whole = sample(train_set.labels, self.order)
        order = self.group.share(whole, batch_size) if self.group.size > 1 else whole
        batches = train_set.batches(batch_size, order)
        for pixels, labels in self.times.steps("train", batches, getattr(train_set, "loaders", 0)):
            self.step(pixels, labels.to(self.device), tally, stop)
            if stop.agreed:
                break
        self.share_statistics()
        values, count = tally.results("train", self.group)
        self.demand_finite(values)
        return values | {"images_per_second": count / (time.perf_counter() - started)}

    def step(self, pixels: Tensor, labels: Tensor, tally: Tally, stop: Stop) -> None:
        settings, progress, shown = self.settings, self.progress, self.settings.images
        position = progress.step / (settings.loop.epochs * self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.optimizer.lr * rate(settings.schedule, position)
        images = self.prepare(augment.augment(pixels, shown.augment, self.randomness, shown.image_size))
        images = augment.resized(images, augment.side_at(position, shown.start_size, shown.image_size))
        if shown.mixup:
            images, others, share = augment.mixed(images, labels, shown.mixup, self.randomness)
        self.times.ended(PREPARING)
        assert self.learner is not None
        with self.autocast():
            logits = self.learner(images)
        logits = logits.float()
        loss, weight = self.criterion(logits, labels), batch_weight(self.criterion, labels)
        if shown.mixup:
            loss = share * loss + (1 - share) * self.criterion(logits, others)
            weight = share * weight + (1 - share) * batch_weight(self.criterion, others)
        value = loss.item()
        tally.add(logits, labels, value, weight)
        self.debugger.batch(labels, logits)
        total = self.agree(value, weight, stop)
        self.times.ended(FORWARD)
        self.optimizer.zero_grad()
        if self.group.size > 1:  # their mean over the processes is then the gradient of the whole batch's loss
            loss = loss * (self.group.size * weight / total)
        with lost_process_errors():
            self.scaler.scale(loss).backward()
        self.times.ended(BACKWARD)
        if settings.loop.clip_norm or self.debugger.active:
            self.scaler.unscale_(self.optimizer)
        self.debugger.gradients()
        if settings.loop.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.loop.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update()
        self.times.ended(OPTIMIZER)
        progress.step += 1

    def agree(self, loss: float, weight: float, stop: Stop) -> float:
        """Whether all processes go on -> the weight of their whole batch. Raises in all if the loss broke in one."""
        loss_sum, total, stops = self.group.sum([loss * weight, weight, float(stop.requested)])
        stop.agreed = stops > 0
        if not math.isfinite(loss_sum):
            settings, progress = self.settings, self.progress
            raise ArithmeticError(
                f"NONFINITE_LOSS: the loss became {loss_sum / total} at step {progress.step} (epoch {progress.epoch}) "
                f"with --lr {settings.optimizer.lr:g}; lower --lr or check the images"
            )
        return total

    def share_statistics(self) -> None:
        """BatchNorm's running statistics, in the network and in its averaged weights, become the processes' means."""
        names = [
            f"{prefix}.{name}" if prefix else name
            for prefix, module in self.network.named_modules()
            if module.training
            for name, buffer in module.named_buffers(recurse=False)
            if buffer.is_floating_point()
        ]
        for state in (self.network.state_dict(), self.ema.shadow):
            self.group.average([state[name] for name in names if name in state])

    def evaluate(self, channel: Channel | Features) -> dict[str, float]:
        self.debugger.phase("eval")
        self.network.eval()
        tally = Tally(self.num_classes)
        with torch.no_grad():
            part = self.group.part(len(channel), self.settings.loop.batch_size) if self.group.size > 1 else None
            batches = channel.batches(self.settings.loop.batch_size, part)
            for pixels, labels in self.times.steps("eval", batches, getattr(channel, "loaders", 0)):
                labels = labels.to(self.device)
                with self.autocast():
                    logits = self.forward(self.prepare(pixels))
                logits = logits.float()
                tally.add(logits, labels, log_loss(logits, labels).item(), len(labels))
                if self.debugger.active:  # its rules compare what is minimised with the same of training
                    self.criterion(logits, labels)
                self.debugger.batch(labels, logits)
                self.times.ended(FORWARD)
        values, count = tally.results("validation", self.group)
        self.demand_finite(values, tally.broken, count)
        return values

    def demand_finite(self, values: Mapping[str, float], broken: int = 0, count: int = 0) -> None:
        """Raises ArithmeticError, in all processes, for an epoch after which the network is of no use."""
        state, learning = self.network.state_dict(), self.best.learning
        found = [f"{name} became {values[name]}" for name in metrics.nonfinite(values)]
        if broken:
            found.append(f"the logits of {broken} of {count} validation images became NaN or infinite")
        if not found and count:
            broken_weights = [name for name in sorted(learning) if not finite(state[name])]
            found = [f"the weights '{name}' became NaN or infinite" for name in broken_weights[:3]]
        if not found:
            return
        progress, lr = self.progress, self.settings.optimizer.lr
        best, objective = progress.best, self.settings.selection.objective
        before = f"; epoch {best['epoch']} was the best until then, {objective} {best[objective]:.4g}" if best else ""
        raise ArithmeticError(
            f"NONFINITE_METRIC: in epoch {progress.epoch} {', '.join(found)} with --lr {lr:g}{before}; lower "
            "--lr, set --clip-norm or --warm-up, or check the images"
        )

    def look_once(self, train_set: Channel, validation_set: Channel) -> tuple[Channel | Features, Channel | Features]:
        """Let the frozen part see each image now; from here on vectors go into the head alone -> channels of vectors.

        The same channels for a network that cannot be parted at its head, or learns below it.
        """
        settings, head = self.settings, features.head_of(self.network, self.settings.images.image_size)
        if head is None or not model.only_head_learns(self.network):
            return train_set, validation_set
        say("the network below the head is frozen: its view of each image is computed once")
        views = features.VIEWS[settings.images.augment]
        pixels = (len(train_set) * views + len(validation_set)) * settings.images.image_size**2
        extractor = features.Extractor(
            self.network,
            head,
            self.normalised,
            self.autocast,
            settings.network.arch,
            self.precision,
            say,
            pixels,
            self.normalisation,
        )
        seen = extractor.features(train_set, views), extractor.features(validation_set, 1)
        self.forward, self.prepare = head, lambda vectors: vectors
        return seen

    def normalised(self, pixels: Tensor) -> Tensor:
        images = normalise(pixels.to(self.device), *self.normalisation)
        return images.contiguous(memory_format=self.memory_format)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32)

    # -- what is kept ---------------------------------------------------------------------------------------------

    def keep_best(self, description: Mapping[str, Any]) -> None:
        if self.group.first:
            self.best.keep(self.network.state_dict(), description)

    def checkpoint(self) -> None:
        if not self.settings.folders.checkpoint_dir:
            return
        randomness = self.group.gather(self.streams())
        if not self.group.first:
            return
        checkpoint.save(
            self.settings.folders.checkpoint_dir,
            {
                "identity": self.identity,
                "run": self.run,
                "debug_steps": self.debugger.steps,
                "progress": vars(self.progress),
                "normalisation": self.normalisation,
                "network": self.network.state_dict(),
                "best_weights": self.best.weights,
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "ema": self.ema.state_dict(),
                "order": self.order.get_state(),
                "randomness": randomness,
            },
        )

    def resume(self, made_of: Mapping[str, Any]) -> bool:
        """Go on from the checkpoint -> whether there was one. Raises ValueError for one of another training.

        `made_of` are facts beside the hyperparameters that must be the same: the data, the classes, the first weights.
        """
        self.identity |= made_of
        if not self.settings.folders.checkpoint_dir:
            return False
        folder = self.settings.folders.checkpoint_dir
        state = self.group.from_first(lambda: checkpoint.load(folder, self.identity))
        if state is None:
            return False
        if num_parameters(state["optimizer"]) != num_parameters(self.optimizer.state_dict()):
            raise ValueError(
                f"the checkpoint in '{folder}' is of an earlier release, which froze a random first layer; delete it "
                "to start anew"
            )
        self.run, self.progress = state["run"], Progress(**state["progress"])
        self.normalisation = state.get("normalisation", (MEAN, STD))  # earlier releases had one for all networks
        self.debugger.go_on(state["debug_steps"])
        self.network.load_state_dict(state["network"])
        self.best.weights = state["best_weights"] if self.group.first else None
        self.optimizer.load_state_dict(state["optimizer"])
        lay_out_like_weights(self.optimizer)
        self.scaler.load_state_dict(state["scaler"])
        self.ema.load_state_dict(state["ema"])
        self.order.set_state(state["order"])
        if len(state["randomness"]) == self.group.size:
            self.set_streams(state["randomness"][self.group.rank])
        else:
            say(f"the checkpoint is of {len(state['randomness'])} processes: these {self.group.size} draw otherwise")
        say(f"going on after epoch {self.progress.epoch} of {self.settings.loop.epochs}, from the checkpoint")
        return True

    def close(self) -> None:
        """Nothing more is recorded; also of a training that failed."""
        self.debugger.close()
        self.times.close()
        self.best.write()

    def streams(self) -> list[Tensor]:
        """The random streams of this process, as tensors: augmentation's, and torch's for dropout."""
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return [self.randomness.get_state(), torch.get_rng_state(), *cuda]

    def set_streams(self, states: list[Tensor]) -> None:
        self.randomness.set_state(states[0])
        torch.set_rng_state(states[1])
        if self.device.type == "cuda" and len(states) > 2:
            torch.cuda.set_rng_state(states[2], self.device)


def finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def num_parameters(optimizer: Mapping[str, Any]) -> int:
    """How many tensors an optimizer's state dict is about."""
    return sum(len(group["params"]) for group in optimizer["param_groups"])


def own_seed(seed: int, rank: int) -> int:
    """For the random stream of one process, apart from the one that all of them share."""
    return seed + ((rank + 1) << 32)


def say(message: str) -> None:
    """One process speaks for all of them, a whole line at a time.

    `print` writes the line's end by itself where output is not buffered; what another process or thread writes in
    between would become part of the line's last number, which SageMaker reads.
    """
    if is_first():
        sys.stdout.write(f"{message}\n")
        sys.stdout.flush()
