"""The processes of one training, as torchrun starts them: who each is, its share, and what they decide together.

    torchrun --nproc_per_node=2 train.py --batch-size 64 …        (on SageMaker: sagemaker_torch_distributed_enabled)

Every process holds the whole network and takes its share of every batch; torch's DistributedDataParallel adds up the
gradients. The training is that of one process with the same --batch-size, up to rounding, but for two things: BatchNorm
normalises each share by itself (its running statistics are averaged after each epoch), and random augmentation, mixup
and dropout draw from a stream of each process's own.

What a training decides (to stop, that an epoch is the best, that the loss is broken) it decides from numbers that all
processes have, so they end together. One that is lost ends the others within moments, one that hangs within TIMEOUT.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import importlib
import inspect
import os
import re
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from dataset.channel import chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

Thing = TypeVar("Thing")
TIMEOUT = datetime.timedelta(minutes=30)
LOST = re.compile("connection|peer|timed out|timeout|broken pipe|socket|nccl|store", re.IGNORECASE)


class LostProcess(RuntimeError):
    """Another process of the training has ended, or does not answer; why is in its own part of the log."""


def join() -> Group:
    """The group of the processes that were started together: of this one alone, unless torchrun did it."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    gpus = torch.cuda.device_count()
    place = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", place % gpus) if gpus else torch.device("cpu")
    if size == 1:
        return Group(device)
    # NCCL wants a GPU for each process.
    backend = "nccl" if gpus >= int(os.environ.get("LOCAL_WORLD_SIZE", 1)) else "gloo"
    if gpus:
        torch.cuda.set_device(device)
    # Imported once there is a group, as DistributedDataParallel does, it holds that group for ever: see `close`.
    importlib.import_module("torch.distributed.nn.functional")
    with lost_process_errors():
        distributed.init_process_group(backend, timeout=TIMEOUT)
        # Decisions are talked over on the processors: no wait for a GPU, and a lost process shows at once.
        control = distributed.new_group(backend="gloo", timeout=TIMEOUT) if backend == "nccl" else None
    assert not isinstance(control, int)  # torch's word for no member of the group; each process is one
    return Group(device, distributed.get_rank(), size, control)


class Group:
    """All processes of a training, seen from one of them. Every method but `share` is called by all or by none."""

    def __init__(
        self, device: torch.device, rank: int = 0, size: int = 1, control: distributed.ProcessGroup | None = None
    ) -> None:
        self.device, self.rank, self.size, self.control = device, rank, size, control

    @property
    def first(self) -> bool:
        return self.rank == 0

    # -- shares ---------------------------------------------------------------------------------------------------

    def share(self, order: Tensor, batch_size: int) -> list[Tensor]:
        """Of an order of indices, cut into batches of all processes: this one's part of each, as a list (n,) each.

        A rest with fewer than two images for each process joins the batch before it.
        """
        batches = chunks(len(order), batch_size, order, 2 * self.size)
        return [batch.tensor_split(self.size)[self.rank] for batch in batches]

    def part(self, count: int, batch_size: int) -> list[Tensor]:
        """This process's part of `count` images in batches; each image is in one process, and one may have none."""
        indices = torch.arange(count).tensor_split(self.size)[self.rank]
        return list(indices.split(batch_size)) if len(indices) else []

    def wrap(self, module: nn.Module) -> nn.Module:
        """`module`, with gradients that are the mean over the processes after each backward pass."""
        if self.size == 1:
            return module
        # Buffers differ between processes during an epoch (BatchNorm) and are averaged after it: see `average`.
        known = inspect.signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # the older name
        options: dict[str, Any] = {name: False}
        return DistributedDataParallel(module, **options)

    # -- together -------------------------------------------------------------------------------------------------

    def sum(self, values: list[float]) -> list[float]:
        """The sums over the processes of a list of floats, bit-equal in all of them."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        with lost_process_errors():
            distributed.all_reduce(total, group=self.control)
        return total.tolist()

    def any(self, flag: bool) -> bool:
        return self.sum([float(flag)])[0] > 0

    def gather(self, thing: Thing) -> list[Thing]:
        """Everybody's `thing`, in the order of the processes."""
        if self.size == 1:
            return [thing]
        things: list[Any] = [None] * self.size
        with lost_process_errors():
            distributed.all_gather_object(things, thing, group=self.control)
        return things

    def from_first(self, make: Callable[[], Thing]) -> Thing:
        """What `make()` gives in the first process, in all of them; a ValueError there is raised in all of them."""
        if self.size == 1:
            return make()
        made: list[Any] = [None, None]
        if self.first:
            try:
                made[0] = make()
            except ValueError as error:
                made[1] = str(error)
        with lost_process_errors():
            distributed.broadcast_object_list(made, group=self.control)
        if made[1] is not None:
            raise ValueError(made[1])
        thing: Thing = made[0]
        return thing

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors by their means over the processes, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        with lost_process_errors():
            distributed.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))

    # -- the end --------------------------------------------------------------------------------------------------

    def first_to_fail(self) -> bool:
        """Whether this process is the first of its host to ask: it tells why they all end; the others only follow."""
        if self.size == 1:
            return True
        host = os.environ.get("GROUP_RANK", "0")
        try:
            store = distributed.distributed_c10d._get_default_store()
            store.set_timeout(datetime.timedelta(seconds=10))
            return store.add(f"failures/{host}", 1) == 1
        except Exception:  # the store went with the process that held it
            return True

    def close(self) -> None:
        """Part from the others; nothing that trained with them may be in use any more.

        The group's threads end with the last reference to it. One that is left when the interpreter ends may abort the
        process (a tensor's last owner, it asks for the interpreter's lock; torch 2.15), and torchrun then kills the
        others at their work.
        """
        if self.size > 1:
            gc.collect()  # DistributedDataParallel refers to itself
            distributed.destroy_process_group()


@contextlib.contextmanager
def lost_process_errors() -> Iterator[None]:
    """Errors of talking to the other processes become LostProcess; others stay what they are."""
    try:
        yield
    except RuntimeError as error:
        if not LOST.search(str(error)):
            raise
        first_line = str(error).strip().splitlines()[0][:200]
        raise LostProcess(
            f"another process of this training has ended, or gave no answer for {TIMEOUT.total_seconds():.0f} s; "
            f"its own last lines say why ({first_line})"
        ) from error
