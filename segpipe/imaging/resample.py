"""Move a volume onto another grid along the same axes: images smoothly, labels exactly.

Grids of one scan (native, canonical, respaced) always share their axes up to order and sign,
so interpolation separates into one small matrix an axis: W = cubic spline (or linear) weights,
applied by matrix products. Same numbers as an n-dimensional spline, many times faster.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from segpipe.imaging.geometry import Geometry
from segpipe.imaging.volume import Volume, turn

TIE = 1e-4
"""Shares closer than this are alike: they are sums of rounded weights."""
NEGLIGIBLE = 1e-7
"""Weights below this are dropped: the tails of a spline only make denormal numbers."""


def resample_image(volume: Volume, onto: Geometry, order: int = 3) -> Volume:
    """Return an image on another grid, by spline interpolation of ``order`` 1 or 3.

    Where the new grid is coarser, the image is smoothed first (Gaussian, sigma = (ratio - 1) / 2
    voxels) so that small structures do not alias. Outside the old grid the rim is repeated.
    Values stay within the range of the old ones.

    Raises:
        GeometryError: The axes of the two grids are not parallel.
    """
    turned, positions, steps = _aligned(volume, onto)
    if _same_grid(turned.shape[1:], positions):
        return Volume(np.ascontiguousarray(turned), onto)
    array = turned.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    weights = [
        _weights(count, tuple(where), order, step)
        for count, where, step in zip(array.shape[1:], positions, steps, strict=True)
    ]
    return Volume(np.clip(_apply(array, weights), low, high), onto)


def resample_scores(volume: Volume, onto: Geometry) -> Volume:
    """Return scores (K, *S) on another grid, linearly; outside the old grid the rim is repeated."""
    turned, positions, _ = _aligned(volume, onto)
    if _same_grid(turned.shape[1:], positions):
        return Volume(np.ascontiguousarray(turned), onto)
    weights = [_weights(count, tuple(where), 1) for count, where in zip(turned.shape[1:], positions, strict=True)]
    channels = [_apply(np.asarray(channel[None], np.float32), weights) for channel in turned]
    return Volume(np.concatenate(channels), onto)


def resample_labels(labels: Volume, onto: Geometry) -> Volume:
    """Return ``labels`` on another grid, each voxel taking the label it has most of.

    Interpolates each label's indicator linearly, then takes the largest: thin structures
    survive better than with the nearest neighbour, and no new value appears.

    Args:
        labels: (1, *S) integers.
        onto: Any grid with parallel axes; outside ``labels`` it is background (0).
    """
    turned, positions, _ = _aligned(labels, onto)
    if _same_grid(turned.shape[1:], positions):
        return Volume(np.ascontiguousarray(turned), onto)
    counts = turned.shape[1:]
    weights = [
        _weights(count, tuple(where), 1) * _inside(count, where)[:, None]
        for count, where in zip(counts, positions, strict=True)
    ]
    result = np.zeros((1, *onto.shape), labels.array.dtype)
    best = np.zeros((1, *onto.shape), np.float32)
    # what no structure claims is background, outside the old grid too
    background = np.ones((1, *onto.shape), np.float32)
    for value in np.unique(turned[turned != 0]):
        share = _apply((turned == value).astype(np.float32), weights)
        wins = share > best
        result[wins] = value
        best[wins] = share[wins]
        background -= share
    # halfway between voxels a structure and what surrounds it tie: by turns, so that none of them grows
    odd = np.indices(onto.shape).sum(axis=0, keepdims=True) % 2 == 1
    tie = np.abs(background - best) < TIE
    result[np.where(tie, odd, background > best)] = 0
    return Volume(result, onto)


def _aligned(
    volume: Volume, onto: Geometry
) -> tuple[NDArray[np.generic], list[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the array with its axes turned to ``onto``; by axis, the old index of each new voxel, and the step."""
    order, flips = turn(volume.geometry, onto)
    source = volume.geometry.permuted(order).flipped(flips)
    array = volume.array.transpose(0, *[axis + 1 for axis in order])
    array = np.flip(array, tuple(axis + 1 for axis, flip in enumerate(flips) if flip))
    first = source.index(onto.affine[:-1, -1])
    # from the affines: ``spacing`` is rounded, and over thousands of small voxels that adds up
    steps = np.linalg.norm(onto.affine[:-1, :-1], axis=0) / np.linalg.norm(source.affine[:-1, :-1], axis=0)
    positions = [first[axis] + steps[axis] * np.arange(n) for axis, n in enumerate(onto.shape)]
    return array, positions, steps


def _same_grid(counts: Sequence[int], positions: Sequence[NDArray[np.float64]]) -> bool:
    return all(
        len(where) == count and bool(np.abs(where - np.arange(count)).max() < 1e-3)
        for count, where in zip(counts, positions, strict=True)
    )


def _inside(count: int, where: NDArray[np.float64]) -> NDArray[np.float32]:
    return ((where > -0.5 - 1e-6) & (where < count - 0.5 + 1e-6)).astype(np.float32)


@lru_cache(maxsize=64)
def _weights(count: int, where: tuple[float, ...], order: int, step: float = 1.0) -> NDArray[np.float32]:
    """Return the (new, old) matrix that interpolates ``count`` samples at ``where``, smoothed first if ``step`` > 1."""
    positions = np.clip(np.asarray(where), 0, count - 1)
    degree = min(order, count - 1)
    if degree < 1:
        return np.ones((len(where), count), np.float32)
    degree = 1 if degree == 2 else degree
    matrix = make_interp_spline(np.arange(count), np.eye(count), k=degree)(positions)
    if step > 1:
        matrix = matrix @ _gaussian(count, (step - 1) / 2)
    matrix[np.abs(matrix) < NEGLIGIBLE] = 0
    return np.asarray(matrix, np.float32)


def _gaussian(count: int, sigma: float) -> NDArray[np.float64]:
    distance = np.arange(count)[:, None] - np.arange(count)[None, :]
    kernel = np.exp(-0.5 * (distance / sigma) ** 2)
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True), np.float64)


def _apply(array: NDArray[np.generic], weights: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Multiply each spatial axis of (C, *S) by its matrix."""
    result = np.asarray(array, np.float32)
    for axis, matrix in enumerate(weights, start=1):
        result = np.moveaxis(np.tensordot(matrix, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)
