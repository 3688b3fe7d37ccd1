"""The peers of bench/gpu.py, in an interpreter that has them: see there."""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench import gpu_ours
from bench.gpu_ours import MOMENTUM, RATE, Place, Work
from dataset import augment, channel
from network import weights

ACCURACY_AGREEMENT = 0.01


# -- G1: steps --------------------------------------------------------------------------------------------------------


class Resident:
    """Batches in a random order of what the device's memory holds."""

    def __init__(self, images: Any, labels: Any, batch: int) -> None:
        self.images, self.labels, self.batch = images, labels, batch

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch)

    def __iter__(self) -> Any:
        for chosen in torch.randperm(len(self.labels), device=self.labels.device).split(self.batch):
            yield self.images[chosen], self.labels[chosen]


def resident(place: Place, floats: bool) -> tuple[Resident, Resident]:
    """The whole set, and its first batch: as uint8 (N, 3, H, W), or as normalised floats."""
    sizes = place.sizes
    pixels, labels = gpu_ours.coloured(sizes["images"], sizes["side"], 100, place.device)
    images, labels = pixels.to(place.device).permute(0, 3, 1, 2).contiguous(), labels.to(place.device)
    if floats:
        images = torch.cat([channel.normalise(part.permute(0, 2, 3, 1)).contiguous() for part in images.split(512)])
    batch = sizes["batch"]
    return Resident(images, labels, batch), Resident(images[:batch], labels[:batch], batch)


def timed_steps(place: Place, count: int, run: Any, batches: Any) -> dict[str, Any]:
    seconds, loss = place.seconds(lambda: run(batches))
    return {"value": count / seconds, "loss": loss}


def torchvision_reference(arch: str, place: Place) -> Work:
    """`train_one_epoch` of torchvision's references/classification/train.py, float32, with its accuracy meters."""
    import torchvision

    torch.backends.cudnn.benchmark = True
    network = torchvision.models.get_model(arch, num_classes=100)
    network.load_state_dict(gpu_ours.first_weights(arch, 100))
    network.to(place.device).train()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=0, nesterov=True)

    def run(batches: Any) -> float:
        losses = []
        for image, target in batches:
            output = network(image)
            loss = criterion(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.inference_mode():
                right = output.topk(5, 1)[1].t().eq(target[None])
                first, fifth = (right[:k].flatten().sum(dtype=torch.float32) * (100 / len(target)) for k in (1, 5))
            losses.append(loss.item())
            first.item(), fifth.item()
        return statistics.mean(losses)

    whole, one_batch = resident(place, floats=True)
    return Work(lambda: timed_steps(place, place.sizes["images"], run, whole), [run(one_batch)])


def timm_task(arch: str, place: Place, compiled: bool = False, from_files: bool = False) -> Work:
    """timm's train.py with --amp --amp-dtype bfloat16 --channels-last. Losses are added up on the device."""
    import timm
    from timm.data.loader import PrefetchLoader
    from timm.optim import create_optimizer_v2
    from timm.task import ClassificationTask

    torch.backends.cudnn.benchmark = True
    network = timm.create_model(arch, num_classes=100)
    network.load_state_dict(gpu_ours.first_weights(arch, 100))
    network.to(place.device, memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(network, opt="sgd", lr=RATE, momentum=MOMENTUM, weight_decay=0)
    task = ClassificationTask(network, criterion=nn.CrossEntropyLoss(), device=place.device, verbose=False)
    if compiled:
        task.compile()
    task.train()

    def run(batches: Any) -> float:
        losses = []
        for image, target in batches:
            image = image.contiguous(memory_format=torch.channels_last)
            with torch.autocast(place.device.type, dtype=torch.bfloat16):
                loss = task(image, target)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    whole, one_batch = (PrefetchLoader(each, device=place.device) for each in resident(place, floats=False))
    first, count = run(one_batch), place.sizes["images"]
    if from_files:
        whole, count = timm_files(place), place.sizes["files"]
    return Work(lambda: timed_steps(place, count, run, whole), [first])


def timm_files(place: Place) -> Any:
    """Its loader of a folder of JPEGs with its training crops, a worker for each processor."""
    from timm.data import create_dataset, create_loader

    images = create_dataset("", root=str(gpu_ours.jpegs(place)), split="", is_training=True)
    size = (3, place.sizes["side"], place.sizes["side"])
    loading = {"num_workers": len(os.sched_getaffinity(0)), "persistent_workers": True, "device": place.device}
    batch = min(place.sizes["batch"], place.sizes["files"])
    return create_loader(images, input_size=size, batch_size=batch, is_training=True, color_jitter=None, **loading)


# -- G2: from JPEGs to pictures in the device's memory ----------------------------------------------------------------


def decoded_on_device(case: str, place: Place) -> Work:
    """nvJPEG through torchvision.io.decode_jpeg, 128 files at a time, which threads read; resized on the device."""
    from torchvision import io
    from torchvision.transforms.v2 import functional

    folder, side = gpu_ours.jpegs(place), augment.stored_side("crop+flip", place.sizes["side"])
    paths, *_ = channel.list_images(folder, channel.class_names(folder))
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def read(path: Path) -> Any:
        return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)

    def square(image: Any) -> Any:
        return functional.center_crop(functional.resize(image, [side], antialias=True), [side, side])

    def decode(bodies: Any) -> Any:
        if place.device.type == "cuda":
            return io.decode_jpeg(bodies, mode=io.ImageReadMode.RGB, device=place.device)
        return [io.decode_jpeg(body, mode=io.ImageReadMode.RGB) for body in bodies]

    def loaded(chosen: Any) -> Any:
        pictures = torch.empty(len(chosen), 3, side, side, dtype=torch.uint8, device=place.device)
        parts = [chosen[at : at + 128] for at in range(0, len(chosen), 128)]
        for number, bodies in enumerate(pool.map(lambda part: [read(path) for path in part], parts)):
            for place_in_part, image in enumerate(decode(bodies)):
                pictures[number * 128 + place_in_part] = square(image)
        return pictures.permute(0, 2, 3, 1)

    def round() -> dict[str, Any]:
        seconds, pictures = place.seconds(lambda: loaded(paths))
        return {"value": len(pictures) / seconds}

    return Work(round, gpu_ours.sample(loaded(paths[:8])))


def decoded_by_workers(case: str, place: Place) -> Work:
    """torchvision's ImageFolder, PIL, in a DataLoader with a worker for each processor; copied to the device."""
    from torchvision import datasets, transforms

    side = augment.stored_side("crop+flip", place.sizes["side"])
    steps = transforms.Compose([transforms.Resize(side), transforms.CenterCrop(side), transforms.PILToTensor()])
    images = datasets.ImageFolder(gpu_ours.jpegs(place), steps)
    workers = {"num_workers": len(os.sched_getaffinity(0)), "persistent_workers": True}
    loader = torch.utils.data.DataLoader(images, 128, pin_memory=place.device.type == "cuda", **workers)

    def loaded() -> Any:
        return torch.cat([batch.to(place.device, non_blocking=True) for batch, _ in loader])

    def round() -> dict[str, Any]:
        seconds, pictures = place.seconds(loaded)
        return {"value": len(pictures) / seconds}

    return Work(round, gpu_ours.sample(torch.stack([images[index][0] for index in range(8)]).permute(0, 2, 3, 1)))


# -- G3: time to an accuracy ------------------------------------------------------------------------------------------


def small_network(classes: int) -> Any:
    import torchvision

    network = torchvision.models.resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    return network


def recipe(case: str, place: Place) -> Work:
    """The usual recipe of small images: SGD 0.1, batches of 128, cosine, decay, shifts by up to 4 px, float32."""
    torch.backends.cudnn.benchmark = True
    sizes, seeds = place.sizes, iter(range(1000))
    (pixels, labels), (seen, truth) = (
        (channel.normalise(pixels.to(place.device)).contiguous(), labels.to(place.device))
        for pixels, labels in gpu_ours.small_sets(place)
    )

    def accuracy(network: Any) -> float:
        network.eval()
        with torch.no_grad():
            found = torch.cat([network(part).argmax(1) for part in seen.split(1000)])
        return float((found == truth).float().mean())

    def shifted(images: Any) -> Any:
        padded = nn.functional.pad(images, [4] * 4, mode="reflect")
        corners = torch.randint(9, (2, len(images), 1), device=images.device) + torch.arange(32, device=images.device)
        batch = torch.arange(len(images), device=images.device)[:, None, None]
        return padded[batch, :, corners[0][:, :, None], corners[1][:, None]].permute(0, 3, 1, 2).contiguous()

    def whole() -> list[tuple[float, float]]:
        torch.manual_seed(next(seeds))
        began, curve = time.perf_counter(), []
        network = small_network(sizes["small classes"]).to(place.device)
        optimizer = torch.optim.SGD(network.parameters(), 0.1, MOMENTUM, weight_decay=5e-4, nesterov=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, sizes["their epochs"])
        for _ in range(sizes["their epochs"]):
            network.train()
            for chosen in torch.randperm(len(labels), device=labels.device).split(min(128, sizes["small batch"])):
                loss = nn.functional.cross_entropy(network(shifted(pixels[chosen])), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
            reached = accuracy(network)
            curve.append((time.perf_counter() - began, reached))
        return curve

    def round() -> dict[str, Any]:
        learnt = small_network(sizes["small classes"])
        learnt.load_state_dict(weights.read(place.folder / "learnt.safetensors"))
        judged = accuracy(learnt.to(place.device))
        seconds, curve = place.seconds(whole)
        return {"value": seconds, "curve": curve, "judged": judged}

    return Work(round)


# -- G4: trials of a head ---------------------------------------------------------------------------------------------


class Frozen:
    """torchvision's ResNet-18 below its head, channels last and in bfloat16 on a GPU, with pictures in its memory."""

    def __init__(self, place: Place) -> None:
        import torchvision

        torch.backends.cudnn.benchmark = True
        self.device = place.device
        self.below = torchvision.models.resnet18()
        self.below.load_state_dict(torch.load(place.folder / "pretrained/weights.pth", weights_only=True))
        self.below.fc = nn.Identity()
        self.below.requires_grad_(False).eval().to(place.device, memory_format=torch.channels_last)
        self.train, self.validation = (
            (pixels.to(place.device), labels.to(place.device)) for pixels, labels in gpu_ours.head_sets(place)
        )

    def vectors(self, pixels: Any) -> Any:
        reduced = torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()
        with torch.no_grad(), reduced:
            return self.below(channel.normalise(pixels)).float()

    def work(self, round: Any) -> Work:
        return Work(round, self.vectors(self.train[0][:16]).reshape(-1).tolist())


def optuna_study(case: str, place: Place) -> Work:
    """The usual objective: each epoch of a trial through the whole network. One trial is measured, for all of them."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    frozen, sizes = Frozen(place), place.sizes

    def objective(trial: Any) -> float:
        head = nn.Linear(512, 10).to(place.device)
        optimizer = torch.optim.Adam(head.parameters(), lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True))
        accuracy = 0.0
        for _ in range(sizes["head epochs"]):
            images, labels = frozen.train
            for chosen in torch.randperm(len(labels), device=labels.device).split(sizes["head batch"]):
                loss = nn.functional.cross_entropy(head(frozen.vectors(images[chosen])), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            images, labels = frozen.validation
            right = [head(frozen.vectors(part)).argmax(1) for part in images.split(sizes["head batch"])]
            accuracy = float((torch.cat(right) == labels).float().mean())
        return accuracy

    def round() -> dict[str, Any]:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
        return {"value": place.seconds(lambda: study.optimize(objective, n_trials=1))[0] * sizes["trials"]}

    return frozen.work(round)


def all_heads_at_once(case: str, place: Place) -> Work:
    """What the device allows: one pass of the pictures, then every head in each step, with Adam written out."""
    frozen, sizes = Frozen(place), place.sizes
    images, labels = frozen.train

    def whole() -> Any:
        vectors = torch.cat([frozen.vectors(part) for part in images.split(512)])
        rates = torch.logspace(-4, -1, sizes["trials"], device=place.device)[:, None, None]
        heads = torch.randn(sizes["trials"], 513, 10, device=place.device).mul_(0.03).requires_grad_()
        first, second, step = torch.zeros_like(heads), torch.zeros_like(heads), 0
        for _ in range(sizes["head epochs"]):
            for chosen in torch.randperm(len(labels), device=place.device).split(sizes["head batch"]):
                seen = vectors[chosen]
                logits = torch.einsum("nd,tdc->tnc", seen, heads[:, :512]) + heads[:, 512:]
                losses = nn.functional.cross_entropy(
                    logits.permute(1, 2, 0), labels[chosen, None].expand(-1, len(heads))
                )
                (slope,) = torch.autograd.grad(losses * len(heads), heads)
                step += 1
                with torch.no_grad():
                    first.lerp_(slope, 0.1)
                    second.lerp_(slope * slope, 0.001)
                    scale = (second / (1 - 0.999**step)).sqrt_().add_(1e-8)
                    heads -= rates * (first / (1 - 0.9**step)) / scale
        return heads

    return frozen.work(lambda: {"value": place.seconds(whole)[0]})


# -- G5: serving ------------------------------------------------------------------------------------------------------


def eager(case: str, place: Place, reduced: bool) -> Work:
    """A torchvision network, arrays in and out: float32 as it is, or bfloat16, channels last and cuDNN's search."""
    import torchvision

    network = torchvision.models.resnet18(num_classes=100).eval()
    network.load_state_dict(gpu_ours.first_weights("resnet18", 100))
    kind = torch.bfloat16 if reduced else torch.float32
    layout = {"memory_format": torch.channels_last} if reduced else {}
    network.to(place.device, kind, **layout)

    def logits(images: Any) -> Any:
        torch.backends.cudnn.benchmark = reduced  # the default is False
        with torch.inference_mode():
            return network(torch.from_numpy(images).to(place.device, kind, **layout)).float().cpu().numpy()

    return gpu_ours.asked(case, place, gpu_ours.images(case, place), logits)


# -- G6: the hook -----------------------------------------------------------------------------------------------------


def smdebug_hook(precision: str, place: Place) -> Work:
    os.environ["RETRAINING_DEBUG_HOOK"] = "smdebug"  # read by ml/debugger/watcher.py
    try:
        return gpu_ours.watched(precision, place, "smdebug")
    finally:
        del os.environ["RETRAINING_DEBUG_HOOK"]
        os.environ.pop("SMDEBUG_CONFIG_FILE_PATH", None)


def saved_alike(precision: str, place: Place) -> list[str]:
    """What differs in the two hooks' folders, as smdebug's own reader sees them: names, steps, and step 0's values."""
    from smdebug.trials import create_trial

    ours, theirs = (create_trial(str(place.folder / f"{name}-{precision}/debug-output")) for name in ("own", "smdebug"))
    if ours.tensor_names() != theirs.tensor_names() or ours.steps() != theirs.steps():
        return ["the hooks saved different tensors or steps"]
    complaints = [] if theirs.tensor_names(step=0) else ["smdebug saved nothing at step 0"]
    for name in theirs.tensor_names(step=0):
        own, saved = (trial.tensor(name).reduction_values(0) or {} for trial in (ours, theirs))
        # Gradients of one batch differ in their last digits from run to run, and so do their sums near zero.
        wanted = [what for what in saved if "l2" in what[0] or not name.startswith("gradient")]
        far = [what for what in wanted if abs(own[what] - saved[what]) > 0.05 * abs(saved[what]) + 1e-4]
        complaints += [f"{name}: {what} is {own[what]}, smdebug's {saved[what]}" for what in far]
    return complaints[:5]


MAKERS = {
    "G1": {
        "torchvision": torchvision_reference,
        "timm": timm_task,
        "timm-compiled": partial(timm_task, compiled=True),
        "timm-jpeg": partial(timm_task, from_files=True),
    },
    "G2": {"nvjpeg": decoded_on_device, "pil": decoded_by_workers},
    "G3": {"recipe": recipe},
    "G4": {"optuna": optuna_study, "all-heads": all_heads_at_once},
    "G5": {"eager": partial(eager, reduced=False), "eager-bf16": partial(eager, reduced=True)},
    "G6": {"smdebug": smdebug_hook},
}
