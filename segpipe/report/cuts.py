"""The part of a case around its structures, turned to R, A, S: all that pictures are made from."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import GeometryError
from segpipe.dataset.load import load_image, load_labels, load_prediction
from segpipe.dataset.manifest import CaseFiles
from segpipe.dataset.prepare import Prepared
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.masks import Box, box_of
from segpipe.imaging.resample import resample_image
from segpipe.imaging.volume import Volume

CONTRAST = (0.5, 99.5)
"""Percentiles of the shown part that become black and white."""
ENDS = ("LR", "PA", "IS")
PLANES = ((0, 2, 1), (1, 2, 0), (0, 1, 2))
"""Coronal, sagittal, axial: the axis to the right, the axis upwards, the axis it is cut across."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Cut:
    """Part of a case. A 2D image has a third axis of one voxel.

    Args:
        image: (X, Y, Z) grey values.
        truth: (X, Y, Z) label values.
        prediction: (X, Y, Z) label values.
        spacing: Voxel sizes in the unit of lengths.
        centre: Voxel through which the planes go: of the reference, the one nearest to its centroid.
        oriented: Whether left and right mean something: not in 2D.
        colour: (X, Y, 3) of a 2D image in colour.
        weight: (X, Y), how much each pixel of a 2D image counted in training, where that was told.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.int32]
    prediction: NDArray[np.int32]
    spacing: tuple[float, float, float]
    centre: tuple[int, int, int]
    oriented: bool
    colour: NDArray[np.uint8] | None = None
    weight: NDArray[np.float32] | None = None

    @property
    def extent(self) -> tuple[float, ...]:
        """Millimetres along each axis."""
        return tuple(n * mm for n, mm in zip(self.image.shape, self.spacing, strict=True))

    def planes(self) -> Iterator["Plane"]:
        """Yield the planes that show more than a line of voxels."""
        for across, up, through in PLANES:
            if min(self.image.shape[across], self.image.shape[up]) > 1:
                where = [slice(None)] * 3
                where[through] = slice(self.centre[through], self.centre[through] + 1)
                here = tuple(where)
                yield Plane(
                    image=_upright(self.image[here], through),
                    truth=_upright(self.truth[here], through),
                    prediction=_upright(self.prediction[here], through),
                    spacing=(self.spacing[across], self.spacing[up]),
                    marks=(ENDS[across], ENDS[up]) if self.oriented else ("", ""),
                )


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice as it is seen: (rows from top to bottom, columns from left to right)."""

    image: NDArray[np.uint8]
    truth: NDArray[np.int32]
    prediction: NDArray[np.int32]
    spacing: tuple[float, float]
    """Millimetres a column, millimetres a row."""
    marks: tuple[str, str]
    """What lies left and right, and what lies below and above; empty in 2D."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in mm."""
        rows, columns = self.image.shape
        return columns * self.spacing[0], rows * self.spacing[1]


@dataclass(frozen=True)
class CutJob:
    """One case to be shown."""

    files: CaseFiles
    prediction: Path
    structures: Mapping[str, tuple[int, ...]]
    channel: int
    margin_mm: float
    prepared: Prepared | None = None
    """What the network saw of it, for the weight map."""


def cut_case(job: CutJob) -> Cut:
    """Return the part of a case around its reference, or around its prediction where the reference is empty.

    Raises:
        DataError: A file is missing or damaged.
        GeometryError: The files do not lie on one grid.
    """
    image = load_image(job.files)
    if job.files.label is None:
        raise GeometryError(f"{job.files.id}: has no reference to show.")
    every = image.canonical()
    image = Volume(image.array[job.channel : job.channel + 1], image.geometry)
    volumes = [
        volume.canonical() for volume in (image, load_labels(job.files), load_prediction(job.prediction, job.files))
    ]
    if len({volume.geometry.shape for volume in volumes}) > 1:
        raise GeometryError(f"{job.files.id}: image, reference and prediction have different shapes.")
    grey, truth, predicted = (_deep(volume.array[0]) for volume in volumes)
    millimetres = (*volumes[0].geometry.spacing, 1.0)[:3]
    spacing = (millimetres[0], millimetres[1], millimetres[2])
    values = [value for group in job.structures.values() for value in group]
    wanted = np.isin(truth, values)
    if not wanted.any():
        wanted = np.isin(predicted, values)
    box = _around(wanted, spacing, job.margin_mm)
    centre = _middle(wanted[box.slices], spacing)
    return Cut(
        _grey(grey[box.slices]),
        truth[box.slices].astype(np.int32),
        predicted[box.slices].astype(np.int32),
        spacing,
        centre,
        oriented=every.geometry.ndim == 3,
        colour=_colour(every, box),
        weight=_weight(job.prepared, every.geometry, box),
    )


def _colour(image: Volume, box: Box) -> NDArray[np.uint8] | None:
    """Return the part in a box (X, Y, 3) of an image of three channels, all scaled alike; None for any other."""
    if image.geometry.ndim != 2 or len(image.array) != 3:
        return None
    part = image.array[(slice(None), *box.slices[:2])]
    return np.ascontiguousarray(np.moveaxis(_grey(part), 0, -1))


def _weight(prepared: Prepared | None, grid: Geometry, box: Box) -> NDArray[np.float32] | None:
    """Return the weight map in a box (X, Y) of a 2D image's grid; None where none was made."""
    if grid.ndim != 2 or prepared is None or prepared.weight is None:
        return None
    weight = Volume(np.asarray(prepared.weight, np.float32), prepared.geometry)
    return np.asarray(resample_image(weight, grid.cropped(box.start[:2], box.shape[:2]), order=1).array[0], np.float32)


def _deep(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array if array.ndim == 3 else array[..., None]


def _around(mask: Mask, spacing: tuple[float, ...], margin_mm: float) -> Box:
    """Return the box of a mask with a margin; around the middle of the image where the mask is empty."""
    box = box_of(mask) or Box(tuple(n // 2 for n in mask.shape), (1, 1, 1))
    margin = [math.ceil(margin_mm / mm) for mm in spacing]
    first = [max(start - m, 0) for start, m in zip(box.start, margin, strict=True)]
    last = [
        min(start + count + m, n) for start, count, m, n in zip(box.start, box.shape, margin, mask.shape, strict=True)
    ]
    return Box(tuple(first), tuple(b - a for a, b in zip(first, last, strict=True)))


def _middle(mask: Mask, spacing: tuple[float, ...]) -> tuple[int, int, int]:
    """Return the voxel of a mask that is nearest to its centroid: the centroid of a pair lies in neither."""
    voxels = np.argwhere(mask)
    if len(voxels) == 0:
        voxels = np.asarray([[n // 2 for n in mask.shape]])
    distance = (((voxels - voxels.mean(axis=0)) * spacing) ** 2).sum(axis=1)
    x, y, z = voxels[int(distance.argmin())].tolist()
    return x, y, z


def _grey(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    values = np.nan_to_num(np.asarray(array, np.float32), posinf=0, neginf=0)
    black, white = np.percentile(values, CONTRAST)
    scaled = (values - black) / max(float(white - black), 1e-6)
    return np.asarray(np.round(np.clip(scaled, 0, 1) * 255), np.uint8)


def _upright(part: NDArray[Any], through: int) -> NDArray[Any]:
    """Return a slice (one voxel along ``through``) with rows from top to bottom and columns from left to right."""
    return np.squeeze(part, axis=through).T[::-1]
