"""From each point of one grid edge to the nearest of another, exactly: by looking around, by a tree, by a map."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ring = tuple[float, NDArray[np.int64]]

LOOKS = 300
"""Grid points around each point that are looked at before a tree is asked: a look is a hundred times cheaper."""
NEAR = 8
"""Voxels within which a surface of a fair prediction finds the other one."""
FAR_SHARE = 1 / 256
"""With more far points than this share of the grid, one pass over the grid beats the search (measured)."""


def nearest(edge: Mask, other: Mask, sizes: Floats) -> Floats:
    """Return the distance in mm of each true point of ``edge`` (*S), in C order, to the nearest one of ``other`` (*S).

    Of a fair prediction most points lie on the other edge or beside it: these are found by looking there, ring by
    ring. The rest ask a k-d tree, or, where many are far away, one distance map.

    Args:
        edge: Points to start from.
        other: Points to reach; at least one.
        sizes: (rank,) mm between grid points.
    """
    start = np.flatnonzero(edge)
    distances = np.zeros(len(start))
    left = np.flatnonzero(~other.ravel()[start])
    rings, reach = _rings(tuple(sizes.tolist()))
    around = np.pad(other, [(steps, steps) for steps in reach])
    moved = [axis + steps for axis, steps in zip(np.unravel_index(start, edge.shape), reach, strict=True)]
    here = np.ravel_multi_index(moved, around.shape)
    strides = np.array([stride // around.itemsize for stride in around.strides])
    looked_at = around.ravel()
    for distance, offsets in rings:
        if not left.size:
            return distances
        at = here[left]
        met = np.zeros(len(at), bool)
        for step in offsets @ strides:
            met |= looked_at[at + step]
        distances[left[met]] = distance
        left = left[~met]
    if left.size:
        distances[left] = _searched(np.unravel_index(start[left], edge.shape), other, sizes)
    return distances


@cache
def _rings(sizes: tuple[float, ...]) -> tuple[list[Ring], tuple[int, ...]]:
    """Return the nearest offsets by their distance in mm, nearest first, and how far they reach along each axis."""
    rank = len(sizes)
    # a cube of grid points in mm, wide enough to hold the LOOKS nearest ones whatever the spacing
    width = (LOOKS * float(np.prod(sizes))) ** (1 / rank)
    most = [min(int(width / size) + 1, LOOKS) for size in sizes]
    offsets = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in most], indexing="ij"), axis=-1).reshape(-1, rank)
    squared = ((offsets * np.array(sizes)) ** 2).sum(axis=1)
    keys = np.round(squared / squared[squared > 0].min(), 9)
    inside = min((n * size) ** 2 for n, size in zip(most, sizes, strict=True))
    rings: list[Ring] = []
    count = 0
    for key in np.unique(keys)[1:]:
        ring = offsets[keys == key]
        distance = float(np.sqrt(squared[keys == key][0]))
        if count + len(ring) > LOOKS or distance**2 > inside:
            break
        count += len(ring)
        rings.append((distance, ring))
    reach = np.abs(np.concatenate([ring for _, ring in rings])).max(axis=0) if rings else np.zeros(rank, int)
    return rings, tuple(int(steps) for steps in reach)


def _searched(points: Sequence[NDArray[np.intp]], other: Mask, sizes: Floats) -> Floats:
    """Return the distance in mm of points, given by their indices along each axis, to the nearest of ``other``."""
    places = np.stack(points, axis=1) * sizes
    # Grid points have many equal coordinates: splitting at the middle builds twice as fast as at the median.
    targets = np.stack(np.unravel_index(np.flatnonzero(other), other.shape), axis=1) * sizes
    tree: Any = KDTree(targets, leafsize=32, balanced_tree=False, compact_nodes=False)
    distances: Floats = tree.query(places, distance_upper_bound=NEAR * sizes.max())[0]
    far = np.isinf(distances)
    # A search takes a hundred times longer from afar: a speckled prediction would take minutes.
    if np.count_nonzero(far) > FAR_SHARE * other.size:
        whole: Any = distance_transform_edt(~other, sampling=sizes)
        return np.asarray(whole[tuple(points)], np.float64)
    if far.any():
        distances[far] = tree.query(places[far])[0]
    return distances
