"""Distances between two surfaces in millimetres, and what is read off them: HD, ASSD, NSD.

Two families, which must never be mixed in one table (they differ by up to 0.07 in NSD on the same masks):

* *voxel*: a surface is the voxels that a 6-neighbour (in 2D: 4-neighbour) erosion takes away, each counted
  once (MONAI, Metrics Reloaded: Maier-Hein et al. 2024, doi:10.1038/s41592-023-02151-z);
* *surfel*: a surface is the corners between voxels, weighted by the mm2 of surface (in 2D: mm of contour)
  that passes there (Nikolov et al. 2021, doi:10.2196/26151, and DeepMind's ``surface-distance``).

In both the border of the image is surface.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import GeometryError
from segpipe.score.boxes import filled
from segpipe.score.nearest import nearest

RANKS = (2, 3)
SLACK_MM = 1e-6
"""A distance this little above a tolerance is still within it: sums of squares are rounded too."""

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """How far every element of either surface is from the other surface, and how much it weighs."""

    forward: Floats
    """(P,) mm, from each element of the prediction's surface to the nearest of the truth's."""
    backward: Floats
    """(T,) mm, from each element of the truth's surface to the nearest of the prediction's."""
    forward_area: Floats
    """(P,) mm2 (2D: mm), or ones in the voxel family."""
    backward_area: Floats
    """(T,) mm2 (2D: mm), or ones in the voxel family."""


def voxel_distances(prediction: Mask, truth: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Measure between the edge voxels of two masks (*S), 2D or 3D, ``spacing`` in mm.

    Raises:
        GeometryError: Shapes and spacing do not fit, or a mask is empty.
    """
    sizes = nominal(spacing)
    return _of_voxels(_framed(prediction, truth, sizes), sizes)


def surfel_distances(prediction: Mask, truth: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Measure between the surface elements of two masks (*S), 2D or 3D, ``spacing`` in mm.

    The table of element areas is MONAI's. Only that: MONAI's own ``get_edge_surface_distance`` rounds to
    float32, crops in half precision (four times slower) and warns of its own deprecated argument.

    Raises:
        GeometryError: Shapes and spacing do not fit, or a mask is empty.
    """
    sizes = nominal(spacing)
    return _of_surfels(_framed(prediction, truth, sizes), sizes)


def both_distances(
    prediction: Mask, truth: Mask, spacing: Sequence[float]
) -> tuple[SurfaceDistances, SurfaceDistances]:
    """Return what ``voxel_distances`` and ``surfel_distances`` return, for less than both."""
    sizes = nominal(spacing)
    framed = _framed(prediction, truth, sizes)
    return _of_voxels(framed, sizes), _of_surfels(framed, sizes)


def hausdorff(distances: SurfaceDistances, percent: float = 100.0) -> float:
    """Return the larger of the two directed percentiles in mm, each element counted once.

    This is HD95 as MONAI and Metrics Reloaded define it for voxel distances; MedPy pools both directions
    before the percentile and gives smaller values when the errors are one-sided.
    """
    return float(max(np.percentile(side, percent) for side in (distances.forward, distances.backward)))


def average_distance(distances: SurfaceDistances) -> float:
    """Return the average symmetric surface distance in mm: both directions pooled, weighted by area.

    Heimann et al. 2009, doi:10.1109/TMI.2009.2013851. Not the mean of the two directed means (MASD).
    """
    total = distances.forward @ distances.forward_area + distances.backward @ distances.backward_area
    return float(total / (distances.forward_area.sum() + distances.backward_area.sum()))


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Return the share of both surfaces within ``tolerance_mm`` of the other: NSD (Nikolov et al. 2021)."""
    limit = tolerance_mm + SLACK_MM
    within = distances.forward_area[distances.forward <= limit].sum()
    within += distances.backward_area[distances.backward <= limit].sum()
    return float(within / (distances.forward_area.sum() + distances.backward_area.sum()))


def nominal(spacing: Sequence[float]) -> Floats:
    """Return the spacing (rank,) in mm to six digits: what was meant before a file kept it as float32.

    Without this, 0.6 mm from a NIfTI header is 0.60000002, and a distance of exactly 1 mm is beyond 1 mm.
    Digits rather than decimals (1e-5 mm between 1 and 10 mm), so that microscopy is not rounded away.
    """
    return np.array([float(f"{size:.6g}") for size in spacing])


def _framed(prediction: Mask, truth: Mask, sizes: Floats) -> list[Mask]:
    """Cut both masks to their common box and put one voxel of background around it."""
    if prediction.shape != truth.shape or len(sizes) != truth.ndim or truth.ndim not in RANKS:
        raise GeometryError(
            f"Surfaces need two masks of one shape, 2D or 3D, and a spacing for every axis: got "
            f"{prediction.shape}, {truth.shape} and {len(sizes)} spacings."
        )
    if not (prediction.any() and truth.any()):
        raise GeometryError("There is no distance to an empty mask.")
    box = filled(prediction | truth)
    return [np.pad(mask[box], 1) for mask in (prediction, truth)]


def _of_voxels(framed: Sequence[Mask], sizes: Floats) -> SurfaceDistances:
    edges = [_edge(mask) for mask in framed]
    return _measured(edges, sizes, [np.ones(np.count_nonzero(edge)) for edge in edges])


def _of_surfels(framed: Sequence[Mask], sizes: Floats) -> SurfaceDistances:
    areas, bits = _area_table(sizes)
    codes = [_corner_codes(mask, bits) for mask in framed]
    edges = [(code != 0) & (code != len(areas) - 1) for code in codes]
    weights = [areas[code.ravel()[np.flatnonzero(edge)]] for code, edge in zip(codes, edges, strict=True)]
    return _measured(edges, sizes, weights)


def _edge(mask: Mask) -> Mask:
    """Return the voxels of a framed mask (*S) that have a neighbour outside, across a face."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        lower, upper = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        inner[tuple(lower)] &= mask[tuple(upper)]
        inner[tuple(upper)] &= mask[tuple(lower)]
    return mask & ~inner


def _area_table(sizes: Floats) -> tuple[Floats, NDArray[np.uint8]]:
    """Return the area for each code of a corner (256,), and the bit of each voxel around it (2, 2, 2)."""
    from monai.metrics.utils import get_code_to_measure_table  # noqa: PLC0415 - takes seconds

    tabulate: Any = get_code_to_measure_table
    table, kernel = tabulate(sizes.tolist())
    return table.numpy().astype(np.float64), kernel.numpy().reshape((2,) * len(sizes)).astype(np.uint8)


def _corner_codes(mask: Mask, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Write at each corner between voxels which of the voxels around it are inside: (*S) to (*S - 1)."""
    shape = tuple(length - 1 for length in mask.shape)
    codes = np.zeros(shape, np.uint8)
    for offset in np.ndindex(*bits.shape):
        window = tuple(slice(start, start + length) for start, length in zip(offset, shape, strict=True))
        codes += mask[window] * bits[offset]
    return codes


def _measured(edges: Sequence[Mask], sizes: Floats, areas: Sequence[Floats]) -> SurfaceDistances:
    prediction, truth = edges
    return SurfaceDistances(nearest(prediction, truth, sizes), nearest(truth, prediction, sizes), *areas)
