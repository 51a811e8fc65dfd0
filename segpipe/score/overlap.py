"""Voxels counted once per structure, and the overlap metrics and volumes read off the counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import GeometryError


@dataclass(frozen=True)
class Counts:
    """Numbers of voxels of one structure: all that overlap and volume need."""

    both: int
    prediction: int
    truth: int


def count(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Counts:
    """Count the voxels of two masks (*S).

    Raises:
        GeometryError: The masks differ in shape.
    """
    if prediction.shape != truth.shape:
        raise GeometryError(f"The prediction has shape {prediction.shape}, the truth {truth.shape}.")
    return Counts(
        both=int(np.count_nonzero(prediction & truth)),
        prediction=int(np.count_nonzero(prediction)),
        truth=int(np.count_nonzero(truth)),
    )


def dice(counts: Counts) -> float:
    """Return 2|P∩T| / (|P|+|T|) (Dice 1945); NaN when both are empty."""
    return _ratio(2 * counts.both, counts.prediction + counts.truth)


def iou(counts: Counts) -> float:
    """Return |P∩T| / (|P|+|T|-|P∩T|) (Jaccard 1901); NaN when both are empty."""
    return _ratio(counts.both, counts.prediction + counts.truth - counts.both)


def sensitivity(counts: Counts) -> float:
    """Return |P∩T| / |T|, the share of the truth that was found; NaN when the truth is empty."""
    return _ratio(counts.both, counts.truth)


def precision(counts: Counts) -> float:
    """Return |P∩T| / |P|, the share of the prediction that is true; NaN when the prediction is empty."""
    return _ratio(counts.both, counts.prediction)


def volume_mm3(voxels: int, spacing: Sequence[float]) -> float:
    """Return the volume in mm3 of a number of voxels; with two spacings in mm, the area in mm2."""
    return voxels * math.prod(float(size) for size in spacing)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
