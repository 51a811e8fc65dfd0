"""Objects told apart by thin borders, as cells by membranes: who was split, who was merged.

The scores of the ISBI 2012 challenge as it was judged from 2015 on (Arganda-Carreras et al. 2015,
doi:10.3389/fnana.2015.00142): the borders of the prediction are thinned to one pixel by a watershed that grows from
its objects, connected parts are the objects (4-neighbours in 2D, 6 in 3D), and pixels that are border in the reference
count for nobody ("foreground-restricted"). Pixels that are still border in the prediction are objects of their own,
one each. All pairs of pixels count, a pixel with itself too (the "N^2 normalisation" of the challenge's own code in
Fiji); scikit-image's ``adapted_rand_error`` leaves those out, takes the border for one object, and up to 0.26 returns
precision and recall the other way round.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label

from segpipe.core.errors import GeometryError
from segpipe.core.section import Section

Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]
Counts = NDArray[np.float64]


class InstancesConfig(Section):
    """Objects that thin borders part, such as cells and their membranes: who was split, who was merged."""

    inside: tuple[str, ...] = ()
    """Structures whose connected parts are the objects, such as `cell`; none: not measured."""
    borders: tuple[str, ...] = ()
    """Structures that part objects, such as `membrane`: the objects are what lies between."""


@dataclass(frozen=True)
class SplitMerge:
    """How well two partitions agree, 0 to 1; NaN where the reference holds no object."""

    score: float
    """Harmonic mean of the two below."""
    split: float
    """Falls when objects of the reference are split in the prediction."""
    merge: float
    """Falls when objects of the reference are merged in the prediction."""


@dataclass(frozen=True, eq=False)
class Table:
    """Pixels of the reference's objects, by object of the reference and of the prediction."""

    both: Counts
    """(N,) pixels of each pair of objects that meet; a border pixel of the prediction is an object of its own."""
    reference: Counts
    """(T,) pixels of each object of the reference."""
    prediction: Counts
    """(S,) pixels of each object of the prediction."""


def objects(interior: ArrayLike) -> Labels:
    """Return the connected parts (*S) of a mask (*S) by number, 0 outside; neighbours share a face (in 2D: a side)."""
    numbered: Any = label(np.asarray(interior, bool))
    return np.asarray(numbered[0])


def thinned(labels: ArrayLike) -> Labels:
    """Return objects (*S) grown over the border between them until it is one pixel wide: a watershed on flat ground."""
    from skimage.segmentation import watershed  # noqa: PLC0415 - loads much that few need

    markers = np.asarray(labels)
    if not markers.any():
        return markers
    grown: Any = watershed(np.zeros(markers.shape, np.uint8), markers, connectivity=1, watershed_line=True)
    return np.asarray(grown)


def table_of(reference: ArrayLike, prediction: ArrayLike) -> Table:
    """Count the pixels that objects have in common.

    Args:
        reference: (*S) number of the object of each pixel; 0 is border, and counts for nobody.
        prediction: (*S) the same of the prediction; each pixel with 0 is an object of its own.

    Raises:
        GeometryError: The two differ in shape.
    """
    wanted, found = np.asarray(reference), np.asarray(prediction)
    if wanted.shape != found.shape:
        raise GeometryError(f"The reference has shape {wanted.shape}, the prediction {found.shape}.")
    inside = wanted > 0
    ours, (rows, columns) = found[inside], (wanted[inside].astype(np.int64), found[inside].astype(np.int64))
    alone = np.ones(np.count_nonzero(ours == 0))
    met = columns > 0
    pairs = np.unique(rows[met] * (columns.max(initial=0) + 1) + columns[met], return_counts=True)[1]
    sizes = [np.unique(numbers, return_counts=True)[1] for numbers in (rows, columns[met])]
    return Table(
        np.concatenate([pairs, alone]).astype(np.float64),
        sizes[0].astype(np.float64),
        np.concatenate([sizes[1], alone]).astype(np.float64),
    )


def rand_score(reference: ArrayLike, prediction: ArrayLike) -> SplitMerge:
    """Return the foreground-restricted Rand score V^Rand of two numbered images (*S), see ``table_of``.

    With p the share of pixels in each pair of objects, t and s their sums over reference and prediction:
    split = sum p^2 / sum t^2, merge = sum p^2 / sum s^2.
    """
    table = table_of(reference, prediction)
    if not table.reference.size:
        return SplitMerge(math.nan, math.nan, math.nan)
    both, wanted, found = (float(part @ part) for part in (table.both, table.reference, table.prediction))
    return SplitMerge(2 * both / (wanted + found), both / wanted, both / found)


def information_score(reference: ArrayLike, prediction: ArrayLike) -> SplitMerge:
    """Return the foreground-restricted information score V^Info of two numbered images (*S), see ``table_of``.

    The mutual information, divided by the entropy of the prediction (split) and of the reference (merge); score is
    twice it over the sum of both. A side of a single object has no entropy and cannot lose any: its share is 1.
    """
    table = table_of(reference, prediction)
    if not table.reference.size:
        return SplitMerge(math.nan, math.nan, math.nan)
    both, wanted, found = (_entropy(part) for part in (table.both, table.reference, table.prediction))
    shared = max(wanted + found - both, 0.0)
    split, merge = (min(shared / own, 1.0) if own > 0 else 1.0 for own in (found, wanted))
    score = min(2 * shared / (wanted + found), 1.0) if wanted + found > 0 else 1.0
    return SplitMerge(score, split, merge)


def pixel_error(reference: ArrayLike, prediction: ArrayLike) -> float:
    """Return the share of pixels of two masks (*S) that differ, borders included; NaN without pixels."""
    wanted, found = np.asarray(reference, bool), np.asarray(prediction, bool)
    if wanted.shape != found.shape:
        raise GeometryError(f"The reference has shape {wanted.shape}, the prediction {found.shape}.")
    return float(np.mean(wanted != found)) if wanted.size else math.nan


def score_interiors(
    reference: Mask, prediction: Mask, kept: Mask | None = None, *, thin: bool = True
) -> dict[str, float]:
    """Return all scores by metric name of two masks (*S) of what lies between the borders.

    Args:
        reference: True inside objects, false on borders.
        prediction: The same, predicted.
        kept: True where pixels count; empty: everywhere.
        thin: Whether the borders of the prediction are thinned first, as the challenge does.
    """
    wanted, found = objects(reference), objects(prediction)
    if thin:
        found = thinned(found)
    if kept is not None:
        wanted = np.where(kept, wanted, 0)
    scores: dict[str, float] = {}
    for name, one in (("vrand", rand_score(wanted, found)), ("vinfo", information_score(wanted, found))):
        scores |= {name: one.score, f"{name}_split": one.split, f"{name}_merge": one.merge}
    seen = np.ones(np.shape(reference), bool) if kept is None else kept
    return scores | {"pixel_error": pixel_error(reference[seen], prediction[seen])}


def over_thresholds(
    reference: Mask, probability: NDArray[np.floating[Any]], thresholds: Iterable[float], *, thin: bool = True
) -> dict[float, dict[str, float]]:
    """Return the scores at each threshold of the probability (*S) of lying inside an object.

    The challenge reports the best of them. Chosen on the very images that are scored, it is a little too good:
    choose the threshold on other images where the figure has to hold.
    """
    return {float(limit): score_interiors(reference, probability > limit, thin=thin) for limit in thresholds}


def _entropy(counts: Counts) -> float:
    shares = counts / counts.sum()
    return max(float(-(shares @ np.log2(shares))), 0.0)
