"""An array that knows where it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import GeometryError
from segpipe.imaging.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and the grid they lie on.

    Args:
        array: (C, *S), channels first.
        geometry: The grid; its shape is S.

    Raises:
        GeometryError: The array has another shape than the grid.
    """

    array: NDArray[Any]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape[1:] != self.geometry.shape:
            raise GeometryError(f"an array {self.array.shape} does not lie on a grid of {self.geometry}")

    def cropped(self, start: Sequence[int], shape: Sequence[int]) -> "Volume":
        """Return the part that begins at voxel ``start``; it must lie inside."""
        ends = [first + count for first, count in zip(start, shape, strict=True)]
        if min(start) < 0 or any(end > n for end, n in zip(ends, self.geometry.shape, strict=True)):
            raise GeometryError(f"cannot crop {tuple(shape)} at {tuple(start)} from {self.geometry}")
        part = tuple(slice(first, end) for first, end in zip(start, ends, strict=True))
        return Volume(self.array[(slice(None), *part)], self.geometry.cropped(start, shape))

    def canonical(self) -> "Volume":
        """Return the same voxels with axes turned and flipped to point nearest to R, A, S.

        No value changes.
        """
        geometry = self.geometry.canonical()
        order, flips = turn(self.geometry, geometry)
        array = self.array.transpose(0, *[axis + 1 for axis in order])
        array = np.flip(array, tuple(axis + 1 for axis, flip in enumerate(flips) if flip))
        return Volume(array, geometry)


def turn(source: Geometry, target: Geometry) -> tuple[list[int], list[bool]]:
    """Return which source axis lies along each target axis, and whether it runs the other way.

    Raises:
        GeometryError: The axes of the two grids are not parallel (to 0.06 degrees).
    """
    mapping = np.linalg.inv(source.affine[:-1, :-1]) @ target.affine[:-1, :-1]
    scaled = mapping * np.asarray(source.spacing)[:, None] / np.asarray(target.spacing)[None, :]
    order = [int(axis) for axis in np.abs(scaled).argmax(axis=0)]
    signed = scaled[order, range(source.ndim)]
    parallel = np.abs(np.abs(scaled).sum(axis=0) - 1).max() < 2e-3
    if not parallel or len(set(order)) < source.ndim:
        raise GeometryError(f"the axes of {source} and {target} are not parallel")
    return order, [bool(value < 0) for value in signed]
