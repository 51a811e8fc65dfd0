"""The window in which shapes are compared: its size and spacing from the training cases, and a cut around a centre."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segpipe.core.section import Section
from segpipe.dataset.topology import Axes, Topology, topology_for
from segpipe.imaging.labels import LabelSet
from segpipe.quality.shape import Shapes

MARGIN = 1.15
"""How much larger than the largest training shape the window is: a plausible one may be larger still."""


class Frame(Section):
    """What brings a label map before the network that knows shapes."""

    labels: LabelSet
    spacing: tuple[float, ...]
    """Millimetres along R, A, S."""
    size: Axes
    """Voxels along each axis."""
    topology: Topology
    """Pooling and kernels of the network that fit the size."""

    @property
    def classes(self) -> int:
        """Number of classes, background included."""
        return len(self.labels.structures) + 1

    def cut(self, shapes: Shapes, rim: int = 0) -> NDArray[np.uint8]:
        """Return class numbers (*size) around the centre of all that is drawn, wider by ``rim`` voxels on each side."""
        first, last = self._ends(shapes, rim)
        padded = np.zeros([b - a for a, b in zip(first, last, strict=True)], np.uint8)
        inside, there = [], []
        for a, b, n in zip(first, last, shapes.classes.shape, strict=True):
            low, high = max(a, 0), min(b, n)
            inside.append(slice(low, max(high, low)))
            there.append(slice(low - a, max(high, low) - a))
        padded[tuple(there)] = shapes.classes[tuple(inside)]
        return padded

    def _ends(self, shapes: Shapes, rim: int) -> tuple[list[int], list[int]]:
        first = [middle - n // 2 - rim for middle, n in zip(shapes.centre, self.size, strict=True)]
        return first, [start + n + 2 * rim for start, n in zip(first, self.size, strict=True)]


def reach_of(shapes: Shapes) -> tuple[float, ...]:
    """Return how far (mm) what is drawn reaches from its centre, at most, along each axis; half a voxel at least."""
    found = np.argwhere(shapes.classes > 0) - np.asarray(shapes.centre)
    voxels = np.abs(found).max(axis=0, initial=0) + 0.5
    return tuple(float(mm) for mm in voxels * np.asarray(shapes.geometry.spacing))


def coarse_spacing(
    reaches: Sequence[tuple[float, ...]], spacing: tuple[float, ...], most_voxels: int
) -> tuple[float, ...]:
    """Return the spacing (mm) at which the window for shapes of these reaches holds no more voxels than that.

    An axis is made coarser only once the others are as coarse: thick slices stay as they are.

    Args:
        reaches: Of the training cases, in mm.
        spacing: The finest that is wanted.
        most_voxels: Of the window.
    """
    extent = _extent(reaches)
    chosen = spacing
    for factor in np.geomspace(1, 64, 121):
        chosen = tuple(round(max(mm, min(spacing) * float(factor)), 3) for mm in spacing)
        if math.prod(long / mm for long, mm in zip(extent, chosen, strict=True)) <= most_voxels:
            break
    return chosen


def plan_frame(labels: LabelSet, reaches: Sequence[tuple[float, ...]], spacing: tuple[float, ...], depth: int) -> Frame:
    """Return the window for shapes of these reaches (mm) at a spacing, and the pooling that fits it."""
    wanted = tuple(math.ceil(long / mm) for long, mm in zip(_extent(reaches), spacing, strict=True))
    topology = topology_for(wanted, spacing, depth)
    size = tuple(math.ceil(n / total) * total for n, total in zip(wanted, topology.total, strict=True))
    return Frame(labels=labels, spacing=spacing, size=size, topology=topology)


def _extent(reaches: Sequence[tuple[float, ...]]) -> list[float]:
    return [2 * float(mm) * MARGIN for mm in np.max(reaches, axis=0)]
