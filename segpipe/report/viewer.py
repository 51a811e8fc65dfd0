"""Small volumes for the slice viewer: grey values and label numbers, packed for the browser."""

import base64
import gzip
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.imaging.geometry import Geometry
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.resample import resample_image
from segpipe.imaging.volume import Volume
from segpipe.report.cuts import Cut

LONGEST, LONGEST_FLAT = 160, 640
"""Voxels along the longest axis, at most; of an image of one slice there may be more."""
SHADES = 64
"""Grey values that are kept: the eye sees no more, and the packed volume is half as large."""
MOST_NUMBERS = 255
ATTEMPTS = 8
BASE64 = 4 / 3


def structures_of(labels: LabelSet) -> list[dict[str, Any]] | None:
    """Return name and label numbers of each structure; None where there are more than a byte can tell apart."""
    numbers = {value: number for number, value in enumerate(labels.values, start=1)}
    if len(numbers) > MOST_NUMBERS:
        return None
    return [
        {"name": structure.name, "numbers": [numbers[value] for value in structure.values]}
        for structure in labels.structures
    ]


def pack(cut: Cut, values: Sequence[int], most_bytes: float) -> dict[str, Any]:
    """Return a case for the viewer: shape, spacing, where to begin, and gzip of image, truth and prediction.

    The three follow one another, each (X, Y, Z) bytes with Z the fastest.

    Args:
        cut: What is shown.
        values: Label values; the first has number 1.
        most_bytes: Of its text in the page; the volume is made coarser until it fits.
    """
    finest = [mm for n, mm in zip(cut.image.shape, cut.spacing, strict=True) if n > 1]
    longest = LONGEST if len(finest) == cut.image.ndim else LONGEST_FLAT
    step = max(min(finest, default=1.0), max(cut.extent) / longest)
    for _ in range(ATTEMPTS):
        volumes, spacing = _at(cut, values, step)
        data = gzip.compress(b"".join(volume.tobytes() for volume in volumes), compresslevel=9, mtime=0)
        size = len(data) * BASE64
        if size <= most_bytes:
            break
        step *= 1.05 * (size / most_bytes) ** (1 / len(finest or "x"))
    shape = volumes[0].shape
    begin = [min(int(c * n / full), n - 1) for c, n, full in zip(cut.centre, shape, cut.image.shape, strict=True)]
    return {
        "shape": list(shape),
        "spacing": [round(mm, 4) for mm in spacing],
        "begin": begin,
        "oriented": cut.oriented,
        "data": base64.b64encode(data).decode(),
    }


def _at(cut: Cut, values: Sequence[int], step: float) -> tuple[list[NDArray[np.uint8]], tuple[float, ...]]:
    """Return image, truth and prediction where no axis is finer than ``step`` mm."""
    full = Geometry(cut.image.shape, np.diag([*cut.spacing, 1.0]))
    wanted = [max(step, mm) if n > 1 else mm for n, mm in zip(full.shape, cut.spacing, strict=True)]
    if np.allclose(wanted, cut.spacing):
        grid, grey = full, cut.image
    else:
        grid = full.respaced(wanted)
        smooth = resample_image(Volume(cut.image[None].astype(np.float32), full), grid, order=1)
        grey = np.asarray(smooth.array[0], np.uint8)
    nearest = [
        np.clip(np.floor((np.arange(n) + 0.5) * old / n), 0, old - 1).astype(int)
        for n, old in zip(grid.shape, full.shape, strict=True)
    ]
    labels = [_numbers(array[np.ix_(*nearest)], values) for array in (cut.truth, cut.prediction)]
    shaded = grey // (256 // SHADES) * (256 // SHADES)
    return [shaded.astype(np.uint8), *labels], grid.spacing


def _numbers(labels: NDArray[np.int32], values: Sequence[int]) -> NDArray[np.uint8]:
    """Return consecutive numbers for label values; what is no structure is 0."""
    ordered = np.asarray(values)
    places = np.clip(np.searchsorted(ordered, labels), 0, len(ordered) - 1)
    return np.where(ordered[places] == labels, places + 1, 0).astype(np.uint8)


def too_large(cut: Cut, limit_mm: float) -> bool:
    """Tell whether a part is so large in all directions that a face could be recognised in it."""
    seen = [extent for n, extent in zip(cut.image.shape, cut.extent, strict=True) if n > 1]
    return len(seen) == len(cut.image.shape) and math.isfinite(limit_mm) and min(seen) > limit_mm
