"""How deep a network goes on a patch, which axes each of its steps pools, and how large the patch may be."""

import math
from collections.abc import Callable

from segpipe.core.section import Section

SMALLEST = 4
"""Voxels that pooling must leave along an axis; an axis with fewer is flat."""
TWICE = 2.0

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


def flat_axes(size: Axes) -> tuple[bool, ...]:
    """Tell for each axis whether it has too few voxels for filters along it, beside axes that have enough."""
    few = tuple(n < SMALLEST for n in size)
    return tuple(False for _ in size) if all(few) else few


def topology_for(patch: Axes, spacing: tuple[float, ...], depth: int) -> Topology:
    """Return the pooling of a patch.

    An axis is pooled while at least ``SMALLEST`` voxels are left and its spacing is at most twice
    the finest, so that anisotropic images become isotropic first; kernels have length 1 along an
    axis that is still too coarse to be compared with its neighbours (Isensee et al. 2021). A flat
    axis, as that of a single slice, is neither pooled nor filtered along.
    """
    flat = flat_axes(patch)
    size, step = [float(n) for n in patch], list(spacing)
    strides, kernels = [], []
    for _ in range(depth):
        kernels.append(_kernel(step, flat))
        large = [n / 2 >= SMALLEST for n in size]
        finest = min((value for value, pool in zip(step, large, strict=True) if pool), default=0.0)
        stride = tuple(2 if pool and value <= TWICE * finest else 1 for value, pool in zip(step, large, strict=True))
        if max(stride) == 1:
            break
        strides.append(stride)
        size = [math.ceil(n / s) for n, s in zip(size, stride, strict=True)]
        step = [value * s for value, s in zip(step, stride, strict=True)]
    else:
        kernels.append(_kernel(step, flat))
    if not strides:  # an image of a few voxels still gets one step
        strides = [tuple(1 if thin or n == 1 else 2 for n, thin in zip(patch, flat, strict=True))]
        kernels = [tuple(1 if thin else 3 for thin in flat)] * 2
    return Topology(strides=tuple(strides), kernels=tuple(kernels[: len(strides) + 1]))


def _kernel(step: list[float], flat: tuple[bool, ...]) -> Axes:
    finest = min(value for value, thin in zip(step, flat, strict=True) if not thin)
    return tuple(1 if thin or value > TWICE * finest else 3 for value, thin in zip(step, flat, strict=True))


def fit_patch(
    median: Axes, spacing: tuple[float, ...], depth: int, fits: Callable[[Axes, Topology], bool]
) -> tuple[Axes, Topology]:
    """Return the largest patch of the median image's form that fits, and its pooling; else the smallest there is.

    The axis of which the patch covers the largest share gives way first, so that the patch keeps the
    image's form; but one that is over twice as long (mm) as the shortest gives way before, since
    surroundings count in every direction.
    """
    size = [float(max(n, 1)) for n in median]
    while True:
        patch, topology = _rounded(size, spacing, depth)
        smaller = {axis: n - topology.total[axis] for axis, n in enumerate(patch) if n > 2 * SMALLEST}
        if fits(patch, topology) or not smaller:
            return patch, topology
        extent = {axis: patch[axis] * spacing[axis] for axis in smaller}
        share = {axis: patch[axis] / median[axis] for axis in smaller}
        slim = max(extent.values()) > TWICE * min(extent.values())
        first = max(smaller, key=lambda axis: extent[axis] if slim else (share[axis], extent[axis]))
        size[first] = smaller[first]


def _rounded(size: list[float], spacing: tuple[float, ...], depth: int) -> tuple[Axes, Topology]:
    whole = tuple(math.ceil(n) for n in size)
    topology = topology_for(whole, spacing, depth)
    rounded = tuple(math.ceil(n / total) * total for n, total in zip(whole, topology.total, strict=True))
    return rounded, topology
