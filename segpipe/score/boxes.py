"""Where each structure lies in two label maps: a box for each, found in one pass, so that no empty voxel is visited."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

LabelMap = NDArray[np.integer[Any]]
Box = tuple[slice, ...]


def whole_numbers(array: NDArray[Any]) -> LabelMap:
    """Return label values as integers, without a copy where they are."""
    return array if np.issubdtype(array.dtype, np.integer) else array.astype(np.int64)


def boxes_of(maps: Sequence[LabelMap], structures: Mapping[str, tuple[int, ...]]) -> dict[str, Box]:
    """Return the box of each structure in any of the maps (*S); an empty one where it is in none."""
    whole = tuple(slice(0, length) for length in maps[0].shape)
    highest = max((label for labels in structures.values() for label in labels), default=0)
    if highest < 1:
        return dict.fromkeys(structures, whole)
    found = [(box, find_objects(labels[box], max_label=highest)) for labels in maps for box in [filled(labels)]]
    boxes = {}
    for name, labels in structures.items():
        if any(label < 1 for label in labels):
            # The background is a structure like any other, but find_objects does not look for it.
            boxes[name] = whole
            continue
        parts = [_shifted(places[label - 1], box) for box, places in found for label in labels if places[label - 1]]
        boxes[name] = _union(parts, maps[0].ndim)
    return boxes


def filled(array: NDArray[Any]) -> Box:
    """Return the smallest box outside which integers or truths (*S) are all 0 or false; an empty one if all are."""
    box = [slice(0, length) for length in array.shape]
    # as unsigned numbers: whatever is not 0 is above it, and the largest of many is found many at a time
    numbers = array.view(np.dtype(f"u{array.dtype.itemsize}"))
    # the axis whose neighbours lie farthest apart in memory comes first: what is left for the others is small
    for axis in sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])):
        inside = np.moveaxis(numbers[tuple(box)], axis, 0)
        at = np.flatnonzero(inside.max(axis=tuple(range(1, array.ndim)), initial=0))
        if not at.size:
            return tuple(slice(0, 0) for _ in array.shape)
        box[axis] = slice(int(at[0]), int(at[-1]) + 1)
    return tuple(box)


def _shifted(inner: Box, outer: Box) -> Box:
    return tuple(slice(a.start + b.start, a.stop + b.start) for a, b in zip(inner, outer, strict=True))


def _union(boxes: Sequence[Box], rank: int) -> Box:
    return tuple(
        slice(
            min((box[axis].start for box in boxes), default=0),
            max((box[axis].stop for box in boxes), default=0),
        )
        for axis in range(rank)
    )
