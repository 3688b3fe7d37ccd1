"""The settings of one training: what flags.py read, parted by who needs it.

Attributes are named as flags are, with _ for -; what each means and may be is told by `train.py --help`. All but those
of Watching and Folders are hyperparameters.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = TypeVar("Kind", bound="Part")


@dataclass(frozen=True)
class Part:
    """Settings that are needed together."""

    @classmethod
    def of(cls: type[Kind], given: Mapping[str, Any]) -> Kind:
        """Of values by the attributes' names, of which it takes its own."""
        return cls(**{field.name: given[field.name] for field in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class Network(Part):
    """What is trained, and where it starts."""

    arch: str
    stem: str
    weights: str
    trainable: str
    head: str
    hidden_units: int
    dropout: float


@dataclass(frozen=True, kw_only=True)
class Images(Part):
    """What the network is shown."""

    image_size: int
    start_size: int
    augment: str
    mixup: float
    sampler: str


@dataclass(frozen=True, kw_only=True)
class Loop(Part):
    """The steps: how many, of how many images, and what is done with gradients and weights in each."""

    epochs: int
    batch_size: int
    clip_norm: float
    ema: float


@dataclass(frozen=True, kw_only=True)
class Optimizer(Part):
    """How far a step moves the weights."""

    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    decay_all: bool


@dataclass(frozen=True, kw_only=True)
class Schedule(Part):
    """How the rate runs over the training."""

    schedule: str
    warm_up: float


@dataclass(frozen=True, kw_only=True)
class Loss(Part):
    """What is minimised."""

    label_smoothing: float
    class_weights: str


@dataclass(frozen=True, kw_only=True)
class Selection(Part):
    """Which epoch is kept, and when waiting for a better one ends."""

    objective: str
    patience: int
    min_delta: float


@dataclass(frozen=True, kw_only=True)
class Computation(Part):
    """How it is computed, and will be when it serves."""

    precision: str
    deterministic: bool
    compile: bool
    seed: int
    serving: str


@dataclass(frozen=True, kw_only=True)
class Watching(Part):
    """What is recorded where SageMaker's own Debugger does not."""

    debug_hook_config: dict[str, Any] | None
    profile: bool
    check_labels: bool


@dataclass(frozen=True, kw_only=True)
class Folders(Part):
    """Where things lie; None: there is no such place."""

    train_dir: str
    validation_dir: str
    model_dir: str
    dataset_dir: str | None
    pretrained_dir: str | None
    output_data_dir: str | None
    output_dir: str | None
    cache_dir: str | None
    profiler_dir: str | None
    checkpoint_dir: str | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All of them; whoever needs a few is given those."""

    network: Network
    images: Images
    loop: Loop
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss
    selection: Selection
    computation: Computation
    watching: Watching
    folders: Folders

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """Of a value for each flag, by the attribute's name."""
        return cls(
            network=Network.of(given),
            images=Images.of(given),
            loop=Loop.of(given),
            optimizer=Optimizer.of(given),
            schedule=Schedule.of(given),
            loss=Loss.of(given),
            selection=Selection.of(given),
            computation=Computation.of(given),
            watching=Watching.of(given),
            folders=Folders.of(given),
        )

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What decides about the model, by name: model.json, checkpoints and trackers keep it."""
        deciding = (self.network, self.images, self.loop, self.optimizer, self.schedule, self.loss)
        return {
            name: value for part in (*deciding, self.selection, self.computation) for name, value in vars(part).items()
        }
