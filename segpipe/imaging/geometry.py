"""A grid of voxels in world space, 2D or 3D: shape and affine."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segpipe.core.errors import GeometryError

SPACING_DIGITS = 6
"""A NIfTI header holds spacing as float32: 0.8 comes back as 0.800000011920929."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A grid of voxels in world space, 2D or 3D.

    Args:
        shape: Voxels along each axis.
        affine: (n + 1, n + 1) matrix from voxel index to millimetres, RAS+.

    Raises:
        GeometryError: The affine has another rank, holds no numbers, or squeezes the grid flat.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, np.float64)  # a copy: the caller may go on with its own
        rank = len(self.shape)
        if affine.shape != (rank + 1, rank + 1):
            raise GeometryError(
                f"a grid of shape {self.shape} needs a {rank + 1}x{rank + 1} affine, not {affine.shape}"
            )
        if not np.isfinite(affine).all():
            raise GeometryError("the affine holds values that are not numbers")
        columns = np.linalg.norm(affine[:-1, :-1], axis=0)
        if (columns < 1e-9).any() or not abs(np.linalg.det(affine[:-1, :-1] / columns)) >= 1e-3:
            raise GeometryError("the affine is singular: two axes point the same way, or one has no length")
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres between neighbours along each axis, rounded to a nanometre (float32 headers)."""
        lengths = np.linalg.norm(self.affine[:-1, :-1], axis=0)
        return tuple(round(float(length), SPACING_DIGITS) for length in lengths)

    @property
    def axes(self) -> str:
        """Where each axis points, to the nearest world axis, such as ``RAS`` or ``LPS``."""
        ends = ("LR", "PA", "IS")
        world, sign = self._directions()
        return "".join(ends[axis][int(up > 0)] for axis, up in zip(world, sign, strict=True))

    def world(self, indices: ArrayLike) -> NDArray[np.float64]:
        """Return the millimetres (..., n) of voxel indices (..., n)."""
        points = np.asarray(indices, np.float64) @ self.affine[:-1, :-1].T + self.affine[:-1, -1]
        return np.asarray(points, np.float64)

    def index(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return the (fractional) voxel indices (..., n) of points (..., n) in millimetres."""
        offset = np.asarray(points, np.float64) - self.affine[:-1, -1]
        return np.asarray(offset @ np.linalg.inv(self.affine[:-1, :-1]).T, np.float64)

    def corners(self) -> NDArray[np.float64]:
        """Return the centres (2^n, n) of the outermost voxels, in millimetres."""
        return self.world(list(itertools.product(*[(0, n - 1) for n in self.shape])))

    def edges(self) -> NDArray[np.float64]:
        """Return the outer rim (2^n, n): half a voxel beyond the corners, in millimetres."""
        return self.world(list(itertools.product(*[(-0.5, n - 0.5) for n in self.shape])))

    def gap_mm(self, other: "Geometry") -> float:
        """Return how far apart, at most, the two grids put the same voxel; infinite if the shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        return float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())

    def angle_to(self, other: "Geometry") -> float:
        """Return the largest angle, in degrees, between corresponding axes of two grids of one rank."""
        mine = self.affine[:-1, :-1] / np.linalg.norm(self.affine[:-1, :-1], axis=0)
        theirs = other.affine[:-1, :-1] / np.linalg.norm(other.affine[:-1, :-1], axis=0)
        return float(np.degrees(np.arccos(np.clip((mine * theirs).sum(axis=0), -1, 1))).max())

    def matches(self, other: "Geometry", tolerance_mm: float = 1e-3) -> bool:
        """Tell whether both grids put every voxel in the same place."""
        return self.gap_mm(other) <= tolerance_mm

    def cropped(self, start: Sequence[int], shape: Sequence[int]) -> "Geometry":
        """Return the part that begins at voxel ``start``; negative starts pad."""
        affine = self.affine.copy()
        affine[:-1, -1] = self.world(start)
        return Geometry(tuple(shape), affine)

    def respaced(self, spacing: Sequence[float]) -> "Geometry":
        """Return a grid along the same axes with another spacing (mm), about the same centre.

        The voxel count is rounded, so the rim may move by up to half a new voxel.
        """
        old = np.asarray(self.spacing)
        new = np.asarray(spacing, np.float64)
        shape = np.maximum(np.round(np.asarray(self.shape) * old / new), 1).astype(int)
        affine = self.affine.copy()
        affine[:-1, :-1] = self.affine[:-1, :-1] / np.linalg.norm(self.affine[:-1, :-1], axis=0) * new
        centre = self.world((np.asarray(self.shape) - 1) / 2)
        affine[:-1, -1] = centre - affine[:-1, :-1] @ ((shape - 1) / 2)
        return Geometry(tuple(int(n) for n in shape), affine)

    def canonical(self) -> "Geometry":
        """Return the same voxels with the axes reordered and flipped to point nearest to R, A, S."""
        world, sign = self._directions()
        order = [world.index(axis) for axis in range(self.ndim)]
        turned = self.permuted(order)
        flips = [sign[axis] < 0 for axis in order]
        return turned.flipped(flips)

    def permuted(self, order: Sequence[int]) -> "Geometry":
        """Return the grid with its axes in another order."""
        affine = self.affine.copy()
        affine[:-1, :-1] = self.affine[:-1, list(order)]
        return Geometry(tuple(self.shape[axis] for axis in order), affine)

    def flipped(self, flips: Sequence[bool]) -> "Geometry":
        """Return the grid with the marked axes running the other way."""
        start = [n - 1 if flip else 0 for n, flip in zip(self.shape, flips, strict=True)]
        sign = np.where(flips, -1.0, 1.0)
        affine = self.affine.copy()
        affine[:-1, -1] = self.world(start)
        affine[:-1, :-1] *= sign
        return replace(self, affine=affine)

    def _directions(self) -> tuple[list[int], list[int]]:
        """Return, for each voxel axis, its nearest world axis and the sign; each world axis once."""
        unit = self.affine[:-1, :-1] / np.linalg.norm(self.affine[:-1, :-1], axis=0)
        best = max(
            itertools.permutations(range(self.ndim)),
            key=lambda order: sum(abs(unit[world, axis]) for axis, world in enumerate(order)),
        )
        return list(best), [1 if unit[world, axis] >= 0 else -1 for axis, world in enumerate(best)]

    def to_json(self) -> dict[str, Any]:
        """Return shape and affine as JSON values."""
        return {"shape": list(self.shape), "affine": self.affine.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Geometry":
        """Return the geometry that ``to_json`` wrote."""
        return cls(tuple(int(n) for n in value["shape"]), np.asarray(value["affine"], np.float64))

    def __repr__(self) -> str:
        spacing = "x".join(f"{value:g}" for value in self.spacing)
        return f"{'x'.join(map(str, self.shape))} voxels of {spacing} mm, {self.axes}"
