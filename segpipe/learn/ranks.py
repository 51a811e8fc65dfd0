"""Several processes that train one network together: the only door to torch.distributed."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segpipe.core.errors import MachineError
from segpipe.nets.precision import best_device

PATIENCE = timedelta(hours=12)
"""How long a process waits for another: the first one looks at whole validation images while the others wait.
Where a process dies, torchrun ends the others long before."""
_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1
    """How many they are."""
    device: str = "cpu"
    """What this one computes on: a GPU of its own, or the processor."""


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[Ranks]:
    """Take this process's place among those that ``torchrun`` started; alone, nothing happens.

    ``torchrun`` says who is who by the variables RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.

    Args:
        device: What was asked for: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        MachineError: There are fewer GPUs than processes, or the processes do not find each other,
            or another of them was lost.
    """
    device = best_device(device)
    count = int(os.environ.get("WORLD_SIZE") or 1)
    if count == 1:
        yield Ranks(device=device)
        return
    if dist.is_initialized():  # by a caller, who also ends it
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
        return
    if device.startswith("cuda"):
        device = _own_gpu()
    _initialise(device, count)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    except RuntimeError as error:
        if _is_of_the_group(error):
            raise MachineError(
                f"another of the {count} processes that train together was lost. Look at its own message above."
            ) from error
        raise
    finally:
        dist.destroy_process_group()


def _own_gpu() -> str:
    local, there = int(os.environ.get("LOCAL_RANK") or 0), torch.cuda.device_count()
    if local >= there:
        raise MachineError(
            f"process {local + 1} has no GPU: this machine has {there}. "
            f"Start torchrun with --nproc-per-node {there}, or set run.device=cpu."
        )
    torch.cuda.set_device(local)  # so that 'cuda' is this one everywhere
    return f"cuda:{local}"


def _initialise(device: str, count: int) -> None:
    gpu = torch.device(device) if device.startswith("cuda") else None
    try:
        dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE, device_id=gpu)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise MachineError(
            f"the {count} processes of WORLD_SIZE do not find each other ({reason}). "
            "Start them with torchrun, or unset WORLD_SIZE."
        ) from error


def _is_of_the_group(error: RuntimeError) -> bool:
    # gloo has no error class of its own, only its file names in the text
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def world() -> int:
    """Return how many processes train together; 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() and not _ALONE.get() else 1


def rank() -> int:
    """Return this process's number, 0 for the first."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Tell whether this is the process that writes, logs and validates."""
    return rank() == 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, this process waits for no other: its sums are its own."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def any_of(flag: bool) -> bool:  # noqa: FBT001 - like the built-in any()
    """Tell whether the flag is up in any process; all get the same answer at the same place."""
    if world() == 1:
        return flag
    told = torch.tensor([int(flag)], device=_meeting_place())
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return bool(told.item())


def barrier() -> None:
    """Wait until all processes have come here."""
    any_of(flag=False)  # NCCL's own barrier wants to be told the device, gloo's must not be


def texts(text: str) -> list[str]:
    """Return what each process says, in the order of their numbers."""
    if world() == 1:
        return [text]
    place = _meeting_place()
    data = torch.tensor(list(text.encode()), dtype=torch.uint8, device=place)
    sizes = [torch.zeros(1, dtype=torch.int64, device=place) for _ in range(world())]
    dist.all_gather(sizes, torch.tensor([len(data)], device=place))
    longest = max(int(size) for size in sizes)
    padded = [torch.zeros(longest, dtype=torch.uint8, device=place) for _ in sizes]
    dist.all_gather(padded, torch.cat([data, data.new_zeros(longest - len(data))]))
    return [bytes(each[: int(size)].tolist()).decode() for each, size in zip(padded, sizes, strict=True)]


def broadcast_text(text: str | None) -> str:
    """Return what the first process says; what the others say is not looked at."""
    return texts(text or "")[0]


def broadcast_weights(module: nn.Module) -> None:
    """Give every process the first one's weights and buffers, in place."""
    if world() == 1:
        return
    with torch.no_grad():
        for value in module.state_dict().values():
            whole = value.detach().contiguous()  # the group wants plain memory; weights lie channels-last
            dist.broadcast(whole, 0)
            value.copy_(whole)


def parallel(module: nn.Module) -> nn.Module:
    """Return the module as it is to be called in training: its gradients are averaged over the processes.

    Weights are those of the first process from now on. The state of ``module`` keeps its names.
    """
    if world() == 1:
        return module
    # of kernels of one voxel, whose memory is the same in every layout
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    return DistributedDataParallel(module)


def summed(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; its gradient is right under ``parallel``.

    The loss is one and the same number in every process, so each back-propagates the same loss, and
    the gradients of the summands add up to ``world`` times that of the loss: what the average
    over the processes takes back. It is the gradient of one process with the whole batch.
    """
    return tensor if world() == 1 else _AllReduce.apply(tensor)  # type: ignore[no-untyped-call]


class _AllReduce(torch.autograd.Function):
    """The sum over all processes, forward and backward (torch's own is on its way out)."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        return _total(tensor)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _total(gradient)


def _total(tensor: Tensor) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _meeting_place() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
