"""Train an image classifier on folders of images, as a SageMaker training job or by hand.

    python train.py --train-dir flowers/train --validation-dir flowers/validation --model-dir out --epochs 5

On SageMaker every hyperparameter arrives as a flag and every folder as an SM_* variable. Each epoch prints one line of
metrics; the best epoch by --objective (at equal values: by the lower loss) is the one whose artifact is in --model-dir,
and its metrics are printed last. On SIGTERM training stops after the current batch and keeps the best so far. With a
--checkpoint-dir a training that was killed goes on after its last whole epoch.

torchrun starts it as several processes that share each batch (training/distributed.py); on SageMaker the hyperparameter
sagemaker_torch_distributed_enabled does, on all GPUs of all instances. With WANDB_* or MLFLOW_TRACKING_URI in the
environment it is tracked there (training/tracking.py).

Exit status: 0 trained (or stopped with a model), 1 failed, 2 a flag is wrong; <output dir>/failure holds the reason.
"""

from __future__ import annotations

import gc

gc.disable()  # looking for garbage in what is being imported would be a fifth of the start

import hashlib
import json
import os
import platform
import signal
import sys
import traceback
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dataset import array_cache, augment
from dataset.channel import Channel, class_names, told
from network import model
from profiler import system_metrics
from recordings import notes
from recordings.job import tuning_job
from recordings.rank import is_first_of_host
from training import distributed, export, features, metrics, suspects
from training.flags import UsageError, parse
from training.freed_memory import keep_freed_memory
from training.loop import Training, say
from training.tracking import Tracking, tags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from dataset.channel import Normalisation
    from training.distributed import Group
    from training.features import Features
    from training.settings import Computation, Folders, Network, Settings

gc.freeze()  # it all stays to the end, and the interpreter's end need not go through it once more
gc.enable()


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        settings = parse(arguments, __doc__)
    except UsageError as error:
        if is_first_of_host():  # all processes have the same flags
            write_failure(os.environ.get("SM_OUTPUT_DIR"), str(error))
            print(f"train.py: error: {error}", file=sys.stderr)
        return 2
    group = None
    try:
        if settings.watching.profile and settings.folders.profiler_dir and is_first_of_host():
            notes.clear(settings.folders.profiler_dir)  # before the other processes of this host write there
        group = distributed.join()
        train(settings, group)
        group.close()
    except Exception as error:
        if group is None or group.first_to_fail():
            write_failure(settings.folders.output_dir, f"{reason(error)}\n{traceback.format_exc()[-700:]}")
            traceback.print_exc()
            print(f"train.py: failed: {reason(error)}", file=sys.stderr)
        return 1
    return 0


def train(settings: Settings, group: Group) -> None:
    """Data, model, loop, save; of several processes the first one speaks and writes for all."""
    prepare(settings.computation, settings.loop.batch_size, group)
    if is_first_of_host():
        system_metrics.watch(settings.folders.profiler_dir, always=settings.watching.profile)
    classes, fingerprint = read_dataset(settings.folders)
    check_classes(settings.network.head, settings.selection.objective, classes)
    cache = array_cache.open_cache(settings.folders.cache_dir, say)
    stored_side = augment.stored_side(settings.images.augment, settings.images.image_size)
    train_set = Channel(settings.folders.train_dir, classes, stored_side, cache)
    validation_set = Channel(settings.folders.validation_dir, classes, settings.images.image_size, cache)
    check_processes(settings.loop.batch_size, group, train_set)
    say(f"{len(train_set)} training and {len(validation_set)} validation images of {len(classes)} classes")
    for channel in (train_set, validation_set):
        if channel.left_out:
            say(told(channel.folder, channel.left_out))
    check_every_class(classes, train_set, validation_set)

    channels = train_set, validation_set
    weights = settings.network.weights
    ingredients = made_of(settings.folders, weights, classes, fingerprint, channels) if group.first else {}
    shape = network_shape(settings.network, classes)
    training = Training(settings, shape, len(classes), train_set, group)
    system_metrics.watch_share(training.times.folder)  # in each process
    resumed = training.resume(ingredients)
    learnt_from: Channel | Features = train_set
    judged_by: Channel | Features = validation_set
    if features.usable(settings.network.trainable, settings.images, group.any(training.debugger.active)):
        learnt_from, judged_by = training.look_once(train_set, validation_set)
    for images in (learnt_from, judged_by):
        images.load(training.device)
    selection, serving = settings.selection, settings.computation.serving
    stop, progress = StopOnSigterm(), training.progress

    def description() -> dict[str, Any]:
        assert progress.best is not None
        return describe(settings, shape, training.normalisation, classes, fingerprint, progress.best)

    if progress.best and group.first:  # an interrupted job starts again with empty folders
        training.best.go_on(description())
        write_history(settings.folders.output_data_dir, progress.history)
    with Tracking(training.run, follow=group.first) as tracking, closing(training):
        tracking.start(settings.hyperparameters, tags(os.environ, fingerprint), progress.best, resumed)
        learn(training, learnt_from, judged_by, stop, description, tracking)
        tracking.stopped = stop.agreed
    if stop.agreed:
        say(f"stopped by SIGTERM in epoch {progress.epoch}; the best epoch so far is kept")
    elif progress.exhausted(selection):
        say(f"ended after epoch {progress.epoch}: no gain of {selection.objective} in {selection.patience} epochs")
    if group.first and not stop.agreed:
        as_served = None
        if serving == "int8":  # which is calibrated on training images as they will be served
            as_served = Channel(settings.folders.train_dir, classes, settings.images.image_size)
        wanted = export.TRIAL if serving == "auto" and tuning_job(os.environ) else serving
        say(export.summary(export.export(settings.folders.model_dir, validation_set, wanted, as_served)))
        folder = settings.folders.output_data_dir
        if settings.watching.check_labels and folder and not tuning_job(os.environ):
            by_split, learnt = {"train": train_set, "validation": validation_set}, (learnt_from, judged_by)
            say(suspects.write(folder, settings.folders.model_dir, by_split, learnt, training.device))
    assert progress.best is not None
    say(metrics.best_line(progress.best["epoch"], settings.loop.epochs, progress.best))


def learn(
    training: Training,
    train_set: Channel | Features,
    validation_set: Channel | Features,
    stop: StopOnSigterm,
    description: Callable[[], dict[str, Any]],
    tracking: Tracking,
) -> None:
    """The epochs that are left, each trained, validated, said and kept."""
    settings, progress = training.settings, training.progress
    epochs, selection = settings.loop.epochs, settings.selection
    while progress.epoch < epochs and not progress.exhausted(selection) and not stop.agreed:
        values = training.epoch(train_set, stop)
        if stop.agreed and progress.best is not None:
            break  # little time is left; what is saved is good
        with training.ema.applied():
            values |= training.evaluate(validation_set)
            say(metrics.epoch_line(progress.epoch, epochs, values, values["images_per_second"]))
            if progress.add(values, selection):
                training.keep_best(description())
        training.debugger.record(values)
        tracking.epoch(values, progress)
        if training.group.first:
            write_history(settings.folders.output_data_dir, progress.history)
        if not stop.agreed:  # a checkpoint stands after a whole epoch
            training.checkpoint()
        stop.agreed = training.group.any(stop.requested)


def prepare(settings: Computation, batch_size: int, group: Group) -> None:
    """What must be set before the first tensor."""
    if group.size > 1:
        say(f"{group.size} processes share each batch of {batch_size} images")
    elif torch.cuda.device_count() > 1:
        say(f"WARNING: 1 of {torch.cuda.device_count()} GPUs is used; with torchrun, all (see --batch-size in --help)")
    if group.device.type == "cpu":
        keep_freed_memory()
    if os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(settings.seed)
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS refuses
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    else:
        torch.backends.cudnn.benchmark = True


def read_dataset(folders: Folders) -> tuple[list[str], str | None]:
    """The classes in the order of the outputs, and the data set's fingerprint: from dataset.json, else the folders."""
    if folders.dataset_dir is None:
        return class_names(folders.train_dir), None
    path = Path(folders.dataset_dir) / "dataset.json"
    try:
        dataset = json.loads(path.read_text(encoding="utf-8"))
        return list(dataset["classes"]), dataset.get("fingerprint")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the dataset channel needs dataset.json with a list 'classes': {reason(error)}") from error


def made_of(
    folders: Folders, weights: str, classes: Sequence[str], fingerprint: str | None, channels: Sequence[Channel]
) -> dict[str, Any]:
    """What decides about a training besides its hyperparameters; a checkpoint must be of the same."""
    if not folders.checkpoint_dir:
        return {}
    if fingerprint is None:  # nobody has counted the images, so that is done here
        images = [(channel.labels.tolist(), channel.digests) for channel in channels]
        fingerprint = hashlib.sha256(json.dumps(images).encode()).hexdigest()[:20]
    ingredients = {"classes": classes, "dataset_fingerprint": fingerprint}
    if weights == "channel":
        content = model.only_checkpoint(folders.pretrained_dir).read_bytes()
        ingredients["pretrained_weights"] = hashlib.sha256(content).hexdigest()[:20]
    return ingredients


def check_processes(batch_size: int, group: Group, train_set: Channel) -> None:
    """Raises ValueError where the processes cannot train one network together."""
    hosts = json.loads(os.environ.get("SM_HOSTS") or "[]")
    if group.size == 1 and len(hosts) > 1:
        raise ValueError(
            f"the job has {len(hosts)} instances, and each would train by itself; set the hyperparameter "
            "sagemaker_torch_distributed_enabled to true, or InstanceCount to 1"
        )
    if batch_size < 2 * group.size:
        raise ValueError(f"--batch-size {batch_size} is for all {group.size} processes; each needs 2 images")
    if len(train_set) < 2 * group.size:
        needed = "training needs at least 2" if group.size == 1 else f"{group.size} processes need 2 each"
        raise ValueError(f"the train channel holds {len(train_set)} image{'s'[: len(train_set) != 1]}; {needed}")
    names = [path.relative_to(train_set.folder).as_posix() for path in train_set.paths]
    if len(set(group.gather(hashlib.sha256(os.fsencode("\n".join(names))).hexdigest()))) > 1:
        raise ValueError("the processes see different training images; channels must be FullyReplicated to all hosts")


def check_classes(head: str, objective: str, classes: Sequence[str]) -> None:
    if len(classes) == 1:
        raise ValueError(
            f"the data set has one class, {classes[0]!r}, and a classifier tells two or more apart; give each class a "
            "folder of its images in the train channel"
        )
    two = head == "binary" or objective == "validation:f1"
    if two and len(classes) != 2:
        flag = "--head binary" if head == "binary" else "--objective validation:f1"
        raise ValueError(f"{flag} is for two classes; the data set has {len(classes)}: {', '.join(classes[:5])}")


def check_every_class(classes: Sequence[str], train_set: Channel, validation_set: Channel) -> None:
    """Raises ValueError where nothing can be learnt of a class; one that cannot be judged is said."""
    missing = []
    for channel in (train_set, validation_set):
        seen = set(channel.labels.tolist())
        missing.append([name for index, name in enumerate(classes) if index not in seen])
    if missing[0]:
        raise ValueError(
            f"the train channel holds no images of {len(missing[0])} of {len(classes)} classes: "
            f"{', '.join(map(repr, missing[0][:10]))}; add images, or remove the folders"
        )
    if missing[1]:
        say(f"WARNING: the validation channel holds no images of {', '.join(map(repr, missing[1][:10]))}")


def network_shape(network: Network, classes: Sequence[str]) -> dict[str, Any]:
    """What `model.build` needs; model.json keeps it."""
    return {
        "arch": network.arch,
        "num_outputs": 1 if network.head == "binary" else len(classes),
        "stem": network.stem,
        "hidden_units": network.hidden_units,
        "dropout": network.dropout,
    }


def describe(
    settings: Settings,
    shape: Mapping[str, Any],
    normalisation: Normalisation,
    classes: Sequence[str],
    fingerprint: str | None,
    best: Mapping[str, float],
) -> dict[str, Any]:
    """model.json: everything that inference, and a reader in a year, must know about the artifact."""
    return {
        "network": shape,
        "classes": classes,
        "image_size": settings.images.image_size,
        "mean": normalisation[0],
        "std": normalisation[1],
        "best_epoch": best["epoch"],
        "metrics": {name: value for name, value in best.items() if ":" in name},
        "dataset_fingerprint": fingerprint,
        "code": os.environ.get("SM_MODULE_DIR"),  # where SageMaker had it from
        "code_digest": code_digest(),
        "hyperparameters": settings.hyperparameters,
        "versions": {"python": platform.python_version()} | library_versions(),
    }


def code_digest() -> str:
    """SHA-256 over the names and contents of the scripts beside and below this one."""
    digest, folder = hashlib.sha256(), Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Of what this training has imported."""
    names = ("torch", "torchvision", "numpy", "PIL", "smdebug")
    return {name: sys.modules[name].__version__ for name in names if hasattr(sys.modules.get(name), "__version__")}


class StopOnSigterm:
    """`requested` here, by a signal; `agreed` by all processes: what they do depends on this one alone."""

    def __init__(self) -> None:
        self.requested = self.agreed = False
        signal.signal(signal.SIGTERM, self.request)

    def request(self, *_: object) -> None:
        self.requested = True


def write_history(folder: str | None, history: list[dict[str, float]]) -> None:
    if folder:
        path = Path(folder) / "history.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(history, indent=1, allow_nan=False), encoding="utf-8")


def write_failure(folder: Path | str | None, text: str) -> None:
    """SageMaker shows the first 1024 characters as the job's FailureReason."""
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "failure").write_text(text, encoding="utf-8")


def reason(error: BaseException) -> str:
    clear = ValueError | ArithmeticError | distributed.LostProcess
    return str(error) if isinstance(error, clear) else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
