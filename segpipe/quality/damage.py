"""Reference label maps made worse on purpose, by known amounts: what scores of a prediction are calibrated with.

Nobody has bad predictions of a network that is not trained yet, but how a damaged shape scores can be learned from
damaged shapes: rough, swollen, cut, in pieces, with parts lost, traded or in the wrong place.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segpipe.imaging.masks import Box, box_of
from segpipe.quality.shape import Shapes

Classes = NDArray[np.uint8]
Floats = NDArray[np.float64]


def damaged(shapes: Shapes, rng: np.random.Generator) -> Shapes:
    """Return the shapes made worse in one or two ways, by little or by much, where they are.

    Args:
        shapes: Of a reference; where nothing is drawn, nothing is changed.
        rng: Decides how.
    """
    box = box_of(shapes.classes > 0)
    if box is None:
        return shapes
    spacing = np.asarray(shapes.geometry.spacing)
    reach = _reach(box, spacing)
    wide = _wider(box, np.ceil(reach / spacing).astype(int), shapes.classes.shape)
    part = shapes.classes[wide.slices].copy()
    for way in rng.choice(len(_WAYS), size=rng.integers(1, 3), replace=False, p=_OFTEN):
        if not part.any():  # the way before took all
            break
        part = _WAYS[way](part, spacing, reach, rng)
    result = np.zeros_like(shapes.classes)
    result[wide.slices] = part
    return replace(shapes, classes=result)


def moved(shapes: Shapes, rng: np.random.Generator) -> Shapes:
    """Return the shapes moved as a whole, by up to twice their reach; what leaves the grid is lost."""
    box = box_of(shapes.classes > 0)
    if box is None:
        return shapes
    spacing = np.asarray(shapes.geometry.spacing)
    direction = rng.standard_normal(len(spacing))
    way = direction / np.linalg.norm(direction) * rng.uniform(0, 2) * _reach(box, spacing)
    result = np.zeros_like(shapes.classes)
    source, target = [], []
    for step, n in zip(np.rint(way / spacing).astype(int), result.shape, strict=True):
        low, high = max(step, 0), min(n + step, n)
        target.append(slice(low, max(high, low)))
        source.append(slice(low - step, max(high, low) - step))
    result[tuple(target)] = shapes.classes[tuple(source)]
    return replace(shapes, classes=result)


def _rough(classes: Classes, spacing: Floats, reach: float, rng: np.random.Generator) -> Classes:
    """Move the outline in and out at random, over short ways or long ones: holes, tongues, islands."""
    length = np.exp(rng.uniform(np.log(0.04), np.log(0.5))) * reach
    field = ndimage.gaussian_filter(rng.standard_normal(classes.shape), length / spacing)
    field *= np.exp(rng.uniform(np.log(0.03), np.log(0.8))) * reach / max(float(field.std()), 1e-9)
    return _outlined(classes, spacing, field)


def _swollen(classes: Classes, spacing: Floats, reach: float, rng: np.random.Generator) -> Classes:
    """Move the whole outline outwards or inwards."""
    return _outlined(classes, spacing, rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(0.02), np.log(0.5))) * reach)


def _cut(classes: Classes, spacing: Floats, reach: float, rng: np.random.Generator) -> Classes:
    """Take away what lies beyond a plane."""
    direction = rng.standard_normal(classes.ndim)
    places = np.argwhere(classes > 0)
    along = (places * spacing) @ direction
    lost = places[along > np.quantile(along, rng.uniform(0.05, 0.98))]
    result = classes.copy()
    result[tuple(lost.T)] = 0
    return result


def _with_blobs(classes: Classes, spacing: Floats, reach: float, rng: np.random.Generator) -> Classes:
    """Add balls of some structure where there is none, touching the rest or apart from it."""
    result = classes.copy()
    grid = np.indices(classes.shape).reshape(classes.ndim, -1).T * spacing
    for _ in range(rng.integers(1, 6)):
        centre = grid[rng.integers(len(grid))]
        radius = rng.uniform(0.05, 0.5) * reach
        inside = (np.square(grid - centre).sum(axis=1) <= radius**2).reshape(classes.shape)
        result[inside & (classes == 0)] = rng.choice(np.unique(classes[classes > 0]))
    return result


def _relabelled(classes: Classes, spacing: Floats, reach: float, rng: np.random.Generator) -> Classes:
    """Give what lies beyond a plane the number of another structure; all of it, at times, or trade two."""
    there = np.unique(classes[classes > 0])
    if len(there) < 2:
        return _rough(classes, spacing, reach, rng)
    one, other = rng.choice(there, 2, replace=False)
    result = classes.copy()
    if rng.random() < 0.2:
        result[classes == one], result[classes == other] = other, one
        return result
    places = np.argwhere(classes == one)
    towards = np.argwhere(classes == other).mean(axis=0) - places.mean(axis=0)
    along = (places * spacing) @ (towards * spacing + 0.3 * reach * rng.standard_normal(classes.ndim))
    given = places[along > np.quantile(along, rng.uniform(0, 0.95))]
    result[tuple(given.T)] = other
    return result


def _lost(classes: Classes, spacing: Floats, reach: float, rng: np.random.Generator) -> Classes:
    """Take a structure away, or everything."""
    there = np.unique(classes[classes > 0])
    gone = there if len(there) == 1 or rng.random() < 0.3 else [rng.choice(there)]
    return np.where(np.isin(classes, gone), np.uint8(0), classes)


_Way = Callable[[Classes, Floats, float, np.random.Generator], Classes]
_WAYS: tuple[_Way, ...] = (_rough, _swollen, _cut, _with_blobs, _relabelled, _lost)
_OFTEN = (0.4, 0.2, 0.15, 0.12, 0.1, 0.03)


def _outlined(classes: Classes, spacing: Floats, change: Floats | float) -> Classes:
    """Return the classes with the outline of all moved outwards by so many mm; new voxels join the nearest class."""
    drawn = classes > 0
    if not drawn.any():
        return classes
    outside, nearest = ndimage.distance_transform_edt(~drawn, sampling=spacing, return_indices=True)
    inside = ndimage.distance_transform_edt(drawn, sampling=spacing)
    kept = outside - inside < change
    return np.where(kept, classes[tuple(nearest)], np.uint8(0)).astype(np.uint8)


def _reach(box: Box, spacing: Floats) -> float:
    """Return half the mean side (mm) of what is drawn."""
    return float(np.mean(np.asarray(box.shape) * spacing)) / 2


def _wider(box: Box, by: NDArray[np.int_], shape: tuple[int, ...]) -> Box:
    first = np.maximum(np.asarray(box.start) - by, 0)
    last = np.minimum(np.asarray(box.start) + np.asarray(box.shape) + by, shape)
    return Box(tuple(int(n) for n in first), tuple(int(n) for n in last - first))
