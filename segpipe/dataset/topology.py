"""How deep a network goes on a patch, and which axes each of its steps pools."""

import math

from segpipe.core.section import Section

SMALLEST = 4
"""Voxels that pooling must leave along an axis."""
TWICE = 2.0
BATCH_RANGE = (2, 4)
BYTES_A_VOXEL = 3000
"""Activations kept for the backward pass of the default network, in bytes a patch voxel: estimated from the
peak memory that benchmarks/training_step.py prints, on the safe side."""

Axes = tuple[int, ...]


class Topology(Section):
    """Pooling and kernels of a U-Net, axis by axis."""

    strides: tuple[Axes, ...]
    """Pooling factor of each encoding step."""
    kernels: tuple[Axes, ...]
    """Kernel of each encoding step, and of the middle."""

    @property
    def depth(self) -> int:
        """Number of encoding steps."""
        return len(self.strides)

    @property
    def total(self) -> Axes:
        """By how much all steps together pool each axis."""
        return tuple(math.prod(step) for step in zip(*self.strides, strict=True))

    def batch_for(self, patch: Axes, memory_gib: float) -> int:
        """Return how many patches fit into the memory, within ``BATCH_RANGE``."""
        fits = int(memory_gib * 2**30 / (BYTES_A_VOXEL * math.prod(patch)))
        return min(max(fits, BATCH_RANGE[0]), BATCH_RANGE[1])


def topology_for(patch: Axes, spacing: tuple[float, ...], depth: int) -> Topology:
    """Return the pooling of a patch.

    An axis is pooled while at least ``SMALLEST`` voxels are left and its spacing is at most twice
    the finest, so that anisotropic images become isotropic first; kernels have length 1 along an
    axis that is still too coarse to be compared with its neighbours (Isensee et al. 2021).
    """
    size, step = [float(n) for n in patch], list(spacing)
    strides, kernels = [], []
    for _ in range(depth):
        kernels.append(tuple(3 if value <= TWICE * min(step) else 1 for value in step))
        large = [n / 2 >= SMALLEST for n in size]
        finest = min((value for value, pool in zip(step, large, strict=True) if pool), default=0.0)
        stride = tuple(2 if pool and value <= TWICE * finest else 1 for value, pool in zip(step, large, strict=True))
        if max(stride) == 1:
            break
        strides.append(stride)
        size = [math.ceil(n / s) for n, s in zip(size, stride, strict=True)]
        step = [value * s for value, s in zip(step, stride, strict=True)]
    else:
        kernels.append(tuple(3 if value <= TWICE * min(step) else 1 for value in step))
    if not strides:  # an image of a few voxels still gets one step
        strides, kernels = [tuple(2 if n > 1 else 1 for n in patch)], [tuple(3 for _ in patch)] * 2
    return Topology(strides=tuple(strides), kernels=tuple(kernels[: len(strides) + 1]))


def fit_patch(median: Axes, spacing: tuple[float, ...], depth: int, memory_gib: float) -> tuple[Axes, Topology]:
    """Return the largest patch of the median image's form of which two fit into the memory, and its pooling."""
    budget = memory_gib * 2**30 / (BYTES_A_VOXEL * BATCH_RANGE[0])
    size = [float(max(n, 1)) for n in median]
    while True:
        rounded, topology = _rounded(size, spacing, depth)
        if math.prod(rounded) <= budget or max(rounded) <= 2 * SMALLEST:
            return rounded, topology
        # the axis that covers the largest share of the image gives way first, so the form approaches a cube (in mm)
        extent = [n * mm for n, mm in zip(rounded, spacing, strict=True)]
        longest = extent.index(max(extent))
        size[longest] = rounded[longest] - topology.total[longest]


def _rounded(size: list[float], spacing: tuple[float, ...], depth: int) -> tuple[Axes, Topology]:
    whole = tuple(math.ceil(n) for n in size)
    topology = topology_for(whole, spacing, depth)
    rounded = tuple(math.ceil(n / total) * total for n, total in zip(whole, topology.total, strict=True))
    return rounded, topology
