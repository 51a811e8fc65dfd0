"""Whether probabilities mean what they say: ECE, Brier score and the bins of a reliability diagram.

Within a margin around prediction and reference only: background that is easy drowns everything else (99 % of it turn
an error of 0.085 into 0.0017).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from segpipe.core.errors import GeometryError
from segpipe.score.boxes import LabelMap, filled

BINS = 15
MARGIN_MM = 5.0

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Voxels by the probability that they were given, in bins of equal width."""

    count: NDArray[np.int64]
    """(B,) voxels in each bin."""
    confidence: Floats
    """(B,) mean probability of the structure; NaN in an empty bin."""
    frequency: Floats
    """(B,) share of voxels that are the structure; NaN in an empty bin."""
    brier: float
    """Mean squared difference between probability and truth (Brier 1950); NaN without voxels."""

    @property
    def ece(self) -> float:
        """Expected calibration error: the gap of each bin, weighted by its voxels (Naeini et al. 2015)."""
        total = self.count.sum()
        gaps = np.nan_to_num(np.abs(self.confidence - self.frequency))
        return float(gaps @ self.count / total) if total else math.nan


def region(prediction: Mask, truth: Mask, spacing: Sequence[float], margin_mm: float = MARGIN_MM) -> Mask:
    """Return the voxels (*S) no farther than ``margin_mm`` from those of either mask (*S); none where both are empty.

    Raises:
        GeometryError: Shapes and spacing do not fit.
    """
    if prediction.shape != truth.shape or len(spacing) != truth.ndim:
        raise GeometryError(f"The prediction has shape {prediction.shape}, the truth {truth.shape}.")
    either = prediction | truth
    inside = np.zeros(either.shape, bool)
    if not either.any():
        return inside
    wide = [int(margin_mm / size) + 1 for size in spacing]
    box = tuple(
        slice(max(side.start - steps, 0), side.stop + steps) for side, steps in zip(filled(either), wide, strict=True)
    )
    distance: Any = distance_transform_edt(~either[box], sampling=tuple(spacing))
    inside[box] = distance <= margin_mm
    return inside


def reliability(
    probability: NDArray[np.floating[Any]], truth: Mask, inside: Mask | None = None, bins: int = BINS
) -> Reliability:
    """Sort voxels into bins by the probability (*S) of the structure, (0, 1/B], (1/B, 2/B], …; 0 is in the first.

    Args:
        probability: Of the structure, 0 to 1.
        truth: (*S) where the structure is.
        inside: (*S) voxels that count; empty: all.
        bins: Number of bins.

    Raises:
        GeometryError: The two differ in shape.
        ValueError: A probability lies outside 0 to 1.
    """
    if probability.shape != truth.shape:
        raise GeometryError(f"The probabilities have shape {probability.shape}, the truth {truth.shape}.")
    kept = np.ones(truth.shape, bool) if inside is None else inside
    given, true = probability[kept].astype(np.float64), truth[kept].astype(np.float64)
    if given.size and not (given.min() >= 0 and given.max() <= 1):
        raise ValueError("Probabilities lie between 0 and 1.")
    edges = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(edges, given, side="left") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    sums = [np.bincount(index, weights=values, minlength=bins) for values in (given, true)]
    with np.errstate(invalid="ignore"):
        confidence, frequency = (part / count for part in sums)
    brier = float(np.mean((given - true) ** 2)) if given.size else math.nan
    return Reliability(count, confidence, frequency, brier)


def reliabilities(
    probabilities: NDArray[np.floating[Any]],
    maps: tuple[LabelMap, LabelMap],
    structures: Mapping[str, Sequence[int]],
    spacing: Sequence[float],
    ignore: int | None = None,
) -> dict[str, Reliability]:
    """Return the bins of each structure of a case, within the margin around prediction and reference.

    Args:
        probabilities: (R, *S) of each structure, in the order of ``structures``.
        maps: (*S) label values of the prediction, and of the reference.
        structures: The label values of each, by name.
        spacing: Voxel sizes, one for each axis.
        ignore: Voxels where the reference has this value do not count.

    Raises:
        GeometryError: Shapes and spacing do not fit.
    """
    found = {}
    for (name, values), probability in zip(structures.items(), probabilities, strict=True):
        drawn, truth = (np.isin(one, list(values)) for one in maps)
        inside = region(drawn, truth, spacing)
        if ignore is not None:
            inside &= maps[1] != ignore
        found[name] = reliability(probability, truth, inside)
    return found


def together(parts: Iterable[Reliability]) -> Reliability:
    """Return the bins of several cases as one, every voxel counting alike; for the mean over cases take each ``ece``.

    Raises:
        ValueError: There are none.
    """
    found = list(parts)
    count = np.sum([part.count for part in found], axis=0)
    with np.errstate(invalid="ignore"):
        confidence, frequency = (
            np.sum([np.nan_to_num(values) * part.count for part, values in pairs], axis=0) / count
            for pairs in ([(p, p.confidence) for p in found], [(p, p.frequency) for p in found])
        )
    weights = np.array([part.count.sum() for part in found], np.float64)
    brier = float(np.nansum([part.brier for part in found] * weights) / weights.sum()) if weights.sum() else math.nan
    return Reliability(count, confidence, frequency, brier)
