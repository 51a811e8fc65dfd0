"""Where the time of a training step goes, and how near that is to what the machine can do."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segpipe.learn import ranks
from segpipe.learn.batches import Batch, PatchSampler, ahead
from segpipe.learn.recipe import Recipe
from segpipe.learn.state import State
from segpipe.learn.step import AUGMENTATION, BACKWARD, FORWARD, OPTIMISER, onto, train_step
from segpipe.nets.compiled import compile_networks
from segpipe.nets.layers import CHANNELS_LAST
from segpipe.nets.precision import computing, fast_bf16, has_amx, tune, uses_bf16

DATA = "data"
PARTS = (DATA, AUGMENTATION, FORWARD, BACKWARD, OPTIMISER)
WARM_UP = 2
"""Steps before the clock runs: the first ones choose kernels and take memory."""
SIDE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the matrices that show what the machine can do."""
TRIES = 5
GIGA = 1e9


@dataclass(frozen=True)
class Profile:
    """What a training step costs."""

    seconds: Mapping[str, float]
    """Mean of each part of a step, by its name; what is left of ``total`` is between them."""
    total: float
    """Mean of whole steps, in seconds."""
    steps: int
    """Steps that were measured."""
    size: tuple[int, ...]
    """(N, C, *P) of a batch in this process."""
    sampling: float
    """Seconds to read one batch, which is done while the step before it runs."""
    flop: int
    """Floating-point operations of a step's convolutions, forward and backward, in this process."""
    peak: float
    """Operations a second that a matrix product of the same number format reaches here."""
    conditions: tuple[str, ...]
    """Number format, layout, threads and the like."""

    @property
    def speed(self) -> float:
        """Operations a second during forward and backward."""
        return self.flop / (self.seconds[FORWARD] + self.seconds[BACKWARD])

    def lines(self) -> Iterator[str]:
        """Yield a table and two sentences for people."""
        count, _, *patch = self.size
        yield f"training step, mean of {self.steps}; batch of {count}, patch {'x'.join(map(str, patch))}"
        yield f"{'':<18}{'ms':>10}{'share':>9}"
        between = max(self.total - sum(self.seconds.values()), 0.0)
        for name, seconds in (*self.seconds.items(), ("between", between), ("total", self.total)):
            yield f"{name:<18}{seconds * 1e3:>10.1f}{seconds / self.total:>9.1%}"
        yield f"{'total a patch':<18}{self.total / count * 1e3:>10.1f}"
        yield f"reading a batch takes {self.sampling * 1e3:.1f} ms, while the step before it runs"
        yield (
            f"convolutions: {self.flop / GIGA:.1f} GFLOP a step, {self.speed / GIGA:.0f} GFLOP/s in forward and "
            f"backward: {self.speed / self.peak:.0%} of what a matrix product reaches here "
            f"({self.peak / GIGA:.0f} GFLOP/s)"
        )
        yield ", ".join(self.conditions)


@dataclass
class _Clock:
    """Adds up the seconds of each part; a GPU is waited for at both ends."""

    device: str
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    def now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begun = self.now()
        yield
        self.seconds[part] += self.now() - begun


def profile_steps(task: nn.Module, sampler: PatchSampler, recipe: Recipe, device: str, steps: int = 12) -> Profile:
    """Train a few steps and return what they cost; the task is spoilt by it, and nothing is saved.

    Args:
        task: Turns a batch into named losses; on the device.
        sampler: Gives this process's part of the batch of a step.
        recipe: Settings.
        device: Where the task lies.
        steps: How many, the first two of which only warm up; 3 or more.
    """
    tune(device)
    state = State.of(task, recipe.optim)
    told: list[str] = []
    if recipe.fit.compile:
        compile_networks(task, told.append)
    model = ranks.parallel(task)
    clock = _Clock(device)
    batches = ahead(sampler, 0, steps)
    for step in range(steps):
        if step == WARM_UP:
            clock.seconds.update(dict.fromkeys(PARTS, 0.0))
            begun = clock.now()
        with clock(DATA):
            batch = onto(next(batches), device)
        train_step(state, model, batch, recipe, device, clock)
        state.step += 1
    counted = steps - WARM_UP
    total = (clock.now() - begun) / counted
    return Profile(
        {part: seconds / counted for part, seconds in clock.seconds.items()},
        total,
        counted,
        tuple(batch.image.shape),
        _sampling_seconds(sampler),
        _flop(task, batch, recipe, device),
        matrix_speed(device, bf16=uses_bf16(recipe.fit.precision, device)),
        (*_conditions(task, recipe, device), *told),
    )


def _sampling_seconds(sampler: PatchSampler) -> float:
    begun = time.perf_counter()
    for step in range(TRIES):
        sampler(step)
    return (time.perf_counter() - begun) / TRIES


def _flop(task: nn.Module, batch: Batch, recipe: Recipe, device: str) -> int:
    """Count the operations of convolutions and matrix products, forward and backward."""
    with ranks.alone(), FlopCounterMode(display=False) as counter:
        with computing(recipe.fit.precision, device):
            total = sum(task(batch).values())
        total.backward()
    return int(counter.get_total_flops())


def matrix_speed(device: str, *, bf16: bool) -> float:
    """Return the operations a second of a large matrix product, the best of a few."""
    side = SIDE[device.split(":", maxsplit=1)[0]]
    left, right = torch.randn(2, side, side, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    clock, best = _Clock(device), float("inf")
    for _ in range(TRIES + 1):  # the first one warms up
        begun = clock.now()
        left @ right
        best = min(best, clock.now() - begun)
    return 2 * side**3 / best


def _conditions(task: nn.Module, recipe: Recipe, device: str) -> Iterator[str]:
    yield f"device {device}"
    if device.startswith("cuda"):
        yield torch.cuda.get_device_name(device)
    else:
        yield f"{torch.get_num_threads()} threads"
    if ranks.world() > 1:
        yield f"{ranks.world()} processes"
    yield "bf16" if uses_bf16(recipe.fit.precision, device) else "fp32"
    yield f"fast bf16: {_yes(fast_bf16(device))}"
    if not device.startswith("cuda"):
        yield f"matrix unit (AMX): {_yes(has_amx())}"
    yield f"channels-last: {_yes(_channels_last(task))}"
    yield f"torch.compile: {_yes(recipe.fit.compile)}"


def _yes(flag: bool) -> str:  # noqa: FBT001 - the flag is all there is
    return "yes" if flag else "no"


def _channels_last(task: nn.Module) -> bool:
    """Tell whether all kernels of convolutions lie in the channels-last layout."""
    kernels = [parameter for parameter in task.parameters() if parameter.ndim - 2 in CHANNELS_LAST]
    return all(kernel.is_contiguous(memory_format=CHANNELS_LAST[kernel.ndim - 2]) for kernel in kernels)
