"""Objects found one by one, such as lesions: which of the reference were found, and which were made up."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import generate_binary_structure, label
from scipy.optimize import linear_sum_assignment

from segpipe.core.errors import GeometryError
from segpipe.core.section import Section

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


class LesionsConfig(Section):
    """Detection of objects one by one, such as lesions or metastases."""

    structures: tuple[str, ...] = ()
    """Structures whose connected parts are objects to be found; none: not measured."""
    iou: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = (0.1, 0.5)
    """Overlap (IoU) above which an object counts as found; each gives figures of its own."""


@dataclass(frozen=True, eq=False)
class Overlaps:
    """How the connected parts of two masks overlap."""

    iou: Floats
    """(T, P) intersection over union of each part of the truth with each of the prediction."""


@dataclass(frozen=True)
class Detections:
    """How many objects were found at one threshold."""

    tp: int
    """Pairs of an object of the truth and one of the prediction, each in one pair at most."""
    fp: int
    fn: int
    iou: float
    """Mean over the pairs; NaN where there are none."""

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), what panoptic segmentation calls RQ; NaN where neither side has an object."""
        whole = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / whole if whole else math.nan

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN); NaN where the truth has no object."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else math.nan

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN where the prediction has no object."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else math.nan

    @property
    def pq(self) -> float:
        """Panoptic quality, F1 times the mean IoU of the pairs (Kirillov et al. 2019, arXiv:1801.00868)."""
        return self.f1 * self.iou if self.tp else self.f1


def overlaps(prediction: Mask, truth: Mask) -> Overlaps:
    """Return the overlap of the connected parts of two masks (*S); voxels that share a corner are connected.

    That is 26 neighbours in 3D and 8 in 2D: a part that hangs on by a corner is no second lesion.

    Raises:
        GeometryError: The masks differ in shape.
    """
    if prediction.shape != truth.shape:
        raise GeometryError(f"The prediction has shape {prediction.shape}, the truth {truth.shape}.")
    corners = generate_binary_structure(truth.ndim, truth.ndim)
    labelled: list[Any] = [label(mask, corners) for mask in (truth, prediction)]
    (wanted, rows), (found, columns) = labelled
    either = wanted.astype(bool) | found.astype(bool)
    pairs = wanted[either].astype(np.int64) * (columns + 1) + found[either]
    counts = np.bincount(pairs, minlength=(rows + 1) * (columns + 1)).reshape(rows + 1, columns + 1)
    both = counts[1:, 1:].astype(np.float64)
    union = counts[1:].sum(axis=1, keepdims=True) + counts[:, 1:].sum(axis=0, keepdims=True) - both
    return Overlaps(both / union)


def detect(found: Overlaps, threshold: float) -> Detections:
    """Pair objects one to one so that the IoU of all pairs together is largest; each pair's lies above ``threshold``.

    From 0.5 on there is only one way to do so (Kirillov et al. 2019).
    """
    rows, columns = found.iou.shape
    allowed = np.where(found.iou > threshold, found.iou, 0.0)
    chosen: Any = linear_sum_assignment(allowed, maximize=True)
    values = allowed[chosen]
    values = values[values > 0]
    return Detections(
        tp=len(values),
        fp=columns - len(values),
        fn=rows - len(values),
        iou=float(values.mean()) if len(values) else math.nan,
    )
