"""Label maps of two ellipsoids side by side that differ as patients do, in 2D and in 3D; no two runs differ."""

import numpy as np
from numpy.typing import NDArray

from segpipe.imaging.geometry import Geometry
from segpipe.imaging.labels import LabelSet
from segpipe.quality.shape import Shapes, classes_held

LABELS = LabelSet.plain({"front": 1, "back": 2})
SPACING = 2.0


def grid(rank: int) -> Geometry:
    return Geometry((28, 26, 24)[:rank], np.diag([SPACING] * rank + [1.0]))


def body(seed: int, rank: int = 3) -> Shapes:
    """Return one case: radii vary by 8 %, the place by 2 mm."""
    rng = np.random.default_rng([seed, rank])
    geometry = grid(rank)
    middle = (np.asarray(geometry.shape) - 1) / 2 * SPACING + rng.normal(0, 2, rank)
    radii = np.asarray([(7.0, 10.0, 9.0), (9.0, 8.0, 8.0)])[:, :rank] * rng.normal(1, 0.08, (2, 1))
    points = np.stack(np.meshgrid(*[np.arange(n) * SPACING for n in geometry.shape], indexing="ij"), axis=-1)
    classes = np.zeros(geometry.shape, np.uint8)
    for number, sign in ((1, -1), (2, 1)):
        centre = middle + sign * np.asarray([7.5, 0, 0])[:rank]
        classes[(np.square((points - centre) / radii[number - 1]).sum(axis=-1) <= 1) & (classes == 0)] = number
    return shapes(classes)


def shapes(classes: NDArray[np.integer]) -> Shapes:
    return Shapes(classes.astype(np.uint8), grid(classes.ndim), classes_held(LABELS))


def bodies(count: int, rank: int = 3) -> list[Shapes]:
    return [body(seed, rank) for seed in range(count)]


def half_lost(one: Shapes) -> Shapes:
    """Return the shapes without what lies in the front half along the second axis."""
    classes = one.classes.copy()
    classes[:, : one.centre[1]] = 0
    return shapes(classes)


def with_an_island(one: Shapes, value: int = 1) -> Shapes:
    """Return the shapes with a cube of a structure in a corner of the grid."""
    classes = one.classes.copy()
    classes[(slice(0, 5),) * classes.ndim] = value
    return shapes(classes)


def shifted(one: Shapes, voxels: int, axis: int = 1) -> Shapes:
    """Return the shapes further along an axis; what leaves the grid is lost."""
    classes = np.roll(one.classes, voxels, axis)
    np.moveaxis(classes, axis, 0)[:voxels] = 0
    return shapes(classes)


def traded(one: Shapes) -> Shapes:
    return shapes(np.asarray([0, 2, 1])[one.classes])


def rough(one: Shapes, seed: int = 0) -> Shapes:
    """Return the shapes as a good network draws them: some voxels of the border are another way."""
    rng = np.random.default_rng(seed)
    classes = one.classes.copy()
    inner = classes.copy()
    for axis in range(classes.ndim):
        for way in (-1, 1):
            inner = np.where(np.roll(classes, way, axis) == classes, inner, 0)
    rim = (classes > 0) & (inner == 0)
    classes[rim & (rng.random(classes.shape) < 0.08)] = 0
    return shapes(classes)
