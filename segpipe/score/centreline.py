"""Centreline Dice: whether the middle of a tube lies in the other tube, however thick either is."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import generate_binary_structure, label

from segpipe.core.errors import GeometryError

Mask = NDArray[np.bool_]


def centreline_dice(prediction: Mask, truth: Mask) -> float:
    """Return clDice of two masks (*S), 2D or 3D (Shit et al. 2021, arXiv:2003.07311); NaN when both are empty.

    The harmonic mean of two shares: of the prediction's skeleton that lies in the truth, and of the truth's that lies
    in the prediction. Skeletons are those of scikit-image (Zhang, Suen 1984 in 2D; Lee et al. 1994 in 3D), in voxels.
    A tube that is everywhere too thick has 1 as well: never report it alone.

    Raises:
        GeometryError: The masks differ in shape.
    """
    if prediction.shape != truth.shape:
        raise GeometryError(f"The prediction has shape {prediction.shape}, the truth {truth.shape}.")
    if not prediction.any() or not truth.any():
        return 0.0 if prediction.any() or truth.any() else math.nan
    precision, sensitivity = _inside(_skeleton(prediction), truth), _inside(_skeleton(truth), prediction)
    return 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0.0


def _skeleton(mask: Mask) -> Mask:
    """Return the skeleton of a mask (*S); a connected part that is thinned away whole is its own skeleton.

    scikit-image does that to blobs of an even width in 3D (2, 4 or 6 voxels), which would lose small structures.
    """
    from skimage.morphology import skeletonize  # noqa: PLC0415 - loads much that few need

    thin: Any = skeletonize(np.pad(mask, 1))
    line = np.asarray(thin[(slice(1, -1),) * mask.ndim], bool)
    labelled: Any = label(mask, generate_binary_structure(mask.ndim, mask.ndim))
    parts, count = labelled
    kept = np.zeros(count + 1, bool)
    kept[parts[line]] = True
    return np.asarray(line | (mask & ~kept[parts]))


def _inside(line: Mask, mask: Mask) -> float:
    return np.count_nonzero(line & mask) / np.count_nonzero(line)
