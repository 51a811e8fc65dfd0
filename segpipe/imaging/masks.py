"""Boxes, foreground and connected components of masks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segpipe.core.errors import ConfigError
from segpipe.core.section import Section


class Box(NamedTuple):
    """Part of a grid: the first voxel and the voxel counts."""

    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index of the box in an array (*S)."""
        return tuple(slice(first, first + count) for first, count in zip(self.start, self.shape, strict=True))


def box_of(mask: NDArray[np.bool_]) -> Box | None:
    """Return the smallest box that holds every true voxel of (*S), or None where there is none."""
    starts, counts = [], []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        if len(hits) == 0:
            return None
        starts.append(int(hits[0]))
        counts.append(int(hits[-1] - hits[0] + 1))
    return Box(tuple(starts), tuple(counts))


def inside_of(image: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return (*S) true where an image (C, *S) shows something.

    Padding is what all corners of a channel agree on (0 around a skull-stripped brain, -1024
    around a CT). Where the corners differ there is none, and every voxel counts.
    """
    inside = np.zeros(image.shape[1:], bool)
    for channel in image:
        corners = channel[np.ix_(*[(0, -1)] * channel.ndim)]
        padding = corners.flat[0]
        inside |= channel != padding if (corners == padding).all() else np.True_
    return inside


class CleanUp(Section):
    """What is done to a predicted label map before it is written."""

    largest_only: tuple[str, ...] = ()
    """Names of structures of which only the largest connected part is kept."""

    def refuse_unknown(self, names: Sequence[str]) -> None:
        """Check that every structure to clean is one of ``names``.

        Raises:
            ConfigError: One is not.
        """
        if unknown := [name for name in self.largest_only if name not in names]:
            raise ConfigError(
                f"infer.clean.largest_only: no structure is named '{unknown[0]}'. There are: {', '.join(names)}."
            )


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest part of (*S) connected by faces, edges or corners."""
    parts, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax(), bool)


def clean_up(labels: NDArray[np.uint16], groups: Sequence[Sequence[int]]) -> NDArray[np.uint16]:
    """Return (*S) in which each group of values keeps its largest connected part only."""
    result = labels.copy()
    for values in groups:
        mask = np.isin(result, list(values))
        result[mask & ~largest_component(mask)] = 0
    return result
