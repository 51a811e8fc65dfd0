"""What a training is expected to take, told before it starts: memory beside what is free, and time."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from segpipe.nets.cost import BASE, GIB, STEP_FACTOR, flops, kept_bytes, training_bytes
from segpipe.nets.layers import Axes
from segpipe.nets.precision import Precision, uses_bf16
from segpipe.nets.unet import UNetSpec

PASSES = 36
"""How often the time of copying what a step keeps in bf16 goes by beside the convolutions, in fp32 as well: calibrated
on two cores of an AMD EPYC, 2D and 3D, 16 to 64 features, within 15 %. benchmarks/step_memory.py shows it."""
TERA = 1e12
TRIES = 5
CHANNELS, SIDE = 64, 32
COPIED = 2**26
UNLIMITED = 2**60
"""A control group without a limit says a number like this."""


@dataclass(frozen=True)
class Speed:
    """What a processor can do."""

    operations: float
    """Of a large convolution, a second."""
    copied: float
    """Bytes a second, from memory to memory."""


def expected(
    spec: UNetSpec,
    patch: Axes,
    batch: int,
    steps: int,
    *,
    precision: Precision,
    device: str,
    update: int = 0,
) -> Iterator[str]:
    """Yield the line that tells people what a training takes; a second one where memory may not suffice.

    The processor's speed is measured for a fifth of a second. A GPU's is not: there no time is told. Time for
    validation comes on top.

    Args:
        spec: The network.
        patch: Voxels of a training patch.
        batch: Patches of a step in this process.
        steps: That are still to be trained.
        precision: Number format, as in the settings.
        device: Where it is trained.
        update: Operations of the optimiser in a step, which do not grow with the batch.

    Raises:
        ConfigError: The patch is too small for the network.
    """
    bf16 = uses_bf16(precision, device)
    peak = training_bytes(spec, patch, batch, bf16=bf16) - (BASE if device.startswith("cuda") else 0)
    free = free_bytes(device)
    work = STEP_FACTOR * flops(spec, patch, batch) + update
    told, duration = f"{work / TERA:.2f} TFLOP a step", ""
    if device == "cpu":
        speed = processor_speed(bf16=bf16)
        duration = f" and about {_spoken(steps * step_seconds(spec, patch, batch, speed, update))} for {steps} steps"
        told += f"; this machine convolves at {speed.operations / TERA:.2f} TFLOP/s in {'bf16' if bf16 else 'fp32'}"
    beside = "" if free is None else f" ({free / GIB:.1f} GiB free)"
    yield f"expects a peak of {peak / GIB:.1f} GiB of memory{beside}{duration} ({told})"
    if free is not None and peak > free:
        yield (
            f"training may run out of memory: {peak / GIB:.1f} GiB expected, {free / GIB:.1f} GiB free. "
            f"Set a smaller preprocess.plan.batch (now {batch}), preprocess.plan.patch (now "
            f"{list(patch)}) or model.features (now {spec.encoder.widths[0]})."
        )


def step_seconds(spec: UNetSpec, patch: Axes, batch: int, speed: Speed, update: int = 0) -> float:
    """Return the expected seconds of a training step on a processor: its products, and all that only moves bytes.

    Normalisation, activation, pooling and joining take their time by what they touch, so that narrow
    networks and 2D ones are slower than their multiplications say.
    """
    multiplying = (STEP_FACTOR * flops(spec, patch, batch) + update) / speed.operations
    return multiplying + PASSES * kept_bytes(spec, patch, batch, bf16=True) / speed.copied


def processor_speed(*, bf16: bool) -> Speed:
    """Return what this machine's processor does now, with as many threads as torch has; the middle of a few tries."""
    form = torch.bfloat16 if bf16 else torch.float32
    # ones, since numbers drawn here would shift torch's random state
    image = torch.ones((1, CHANNELS, *(SIDE,) * 3), dtype=form).to(memory_format=torch.channels_last_3d)
    weight = torch.ones((CHANNELS, CHANNELS, 3, 3, 3), dtype=form).to(memory_format=torch.channels_last_3d)
    source, goal = torch.ones(2, COPIED, dtype=torch.uint8)
    with torch.inference_mode():
        convolving = _seconds(lambda: F.conv3d(image, weight, padding=1))
        copying = _seconds(lambda: goal.copy_(source))
    return Speed(2 * weight.numel() * SIDE**3 / convolving, COPIED / copying)


def _seconds(work: Callable[[], object]) -> float:
    work()  # warms up
    taken = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def free_bytes(device: str, root: Path = Path("/")) -> int | None:
    """Return the memory in bytes that this process may have, what it has already included; None where nobody tells.

    On a CPU what Linux can give, or what is left of the control group's limit (a container's, a
    scheduler's), whichever is less.

    Args:
        device: Whose memory.
        root: Where /proc and /sys lie.
    """
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    try:
        lines = (line.split() for line in (root / "proc/meminfo").read_text().splitlines())
        available = next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
        mine = next(
            int(line.split()[1]) * 1024
            for line in (root / "proc/self/status").read_text().splitlines()
            if line.startswith("VmRSS:")
        )
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    return min([available, *_left_in_groups(root)]) + mine


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield the bytes left below the limit of each control group that this process is in, versions 1 and 2."""
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, name in groups:
        if controllers == "":
            base, limit, usage, idle = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit, usage = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            idle = "total_inactive_file"
        else:
            continue
        here = Path(name.lstrip("/"))
        for folder in (here, *here.parents):
            group = root / base / folder
            try:
                most = int((group / limit).read_text())
                taken = int((group / usage).read_text())
                stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):
                continue  # no such group from in here, or no limit ("max")
            if most < UNLIMITED:
                yield most - taken + int(stat.get(idle, 0))  # files that were read are given back when needed


def _spoken(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = seconds / 60
    return f"{round(minutes)} min" if minutes < 90 else f"{minutes / 60:.1f} h"
