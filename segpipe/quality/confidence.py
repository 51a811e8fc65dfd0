"""How sure a network is of what it drew: the entropy of its probabilities, and the Dice that they promise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FAINT = 0.01
"""Probabilities below count as 0: of all the voxels of a background they would add up to a structure."""


@dataclass(frozen=True)
class Confidence:
    """How sure a network is of one structure; NaN where it drew none of it."""

    uncertainty: float
    """Mean entropy, 0 to 1 bit, of whether a voxel is the structure, over what was drawn and one voxel around it."""
    promised: float
    """The Dice to expect if probabilities mean what they say."""


UNDRAWN = Confidence(math.nan, math.nan)


def confidence_of(
    probabilities: NDArray[np.floating], drawn: NDArray[np.integer], structures: Mapping[str, Sequence[int]]
) -> dict[str, Confidence]:
    """Return how sure a network is of each structure.

    Args:
        probabilities: (R, *S) of each structure, in the order of ``structures``.
        drawn: (*S) label values on the same grid.
        structures: The label values of each, by name.
    """
    masks = (np.isin(drawn, values) for values in structures.values())
    return {name: _of(one, mask) for name, one, mask in zip(structures, probabilities, masks, strict=True)}


def _of(probability: NDArray[np.floating], mask: NDArray[np.bool_]) -> Confidence:
    if not mask.any():
        return UNDRAWN
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    wide = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
    around = ndimage.binary_dilation(mask[wide])
    total = float(probability[probability >= FAINT].sum(dtype=np.float64))
    within = float(probability[mask].sum(dtype=np.float64))
    return Confidence(
        uncertainty=float(_entropy(probability[wide][around].astype(np.float64)).mean()),
        promised=2 * within / (np.count_nonzero(mask) + total),
    )


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the entropy in bits of yes or no with probability ``p``."""
    q = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(-(q * np.log2(q) + (1 - q) * np.log2(1 - q)), np.float64)
