"""A label map as shapes: one class a voxel, what simple numbers say of each structure, and where it lies."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segpipe.imaging.geometry import Geometry
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.masks import box_of, largest_component
from segpipe.imaging.resample import resample_labels
from segpipe.imaging.volume import Volume

Mask = NDArray[np.bool_]
AXES = ("left-right", "back-front", "feet-head")


@dataclass(frozen=True, eq=False)
class Shapes:
    """The structures of one label map, each by its mask, on the grid on which shapes are compared."""

    classes: NDArray[np.uint8]
    """(*S): 0 background, 1 the first structure, …; of two that overlap, the one that is painted last."""
    geometry: Geometry
    """Turned to R, A, S. Its middle is that of the image: positions are told from there."""
    held: Mapping[str, tuple[int, ...]]
    """The classes that each structure is made of, by name: more than one where structures overlap."""

    def mask(self, name: str) -> Mask:
        """Return where a structure is, (*S)."""
        return np.isin(self.classes, self.held[name])

    @property
    def centre(self) -> tuple[int, ...]:
        """The voxel nearest to the centre of mass of all that is drawn; the grid's middle where nothing is."""
        found = np.argwhere(self.classes > 0)
        middle = found.mean(axis=0) if len(found) else (np.asarray(self.classes.shape) - 1) / 2
        return tuple(int(n) for n in np.rint(middle))


def classes_held(labels: LabelSet) -> dict[str, tuple[int, ...]]:
    """Return the classes that each structure is made of, once a label map is painted (see ``shapes_of``)."""
    return {
        outer.name: tuple(
            number
            for number, inner in enumerate(labels.structures, start=1)
            if inner is outer or set(inner.values) <= set(outer.values)
        )
        for outer in labels.structures
    }


def shapes_of(drawn: Volume, labels: LabelSet, onto: Geometry, spacing: tuple[float, ...]) -> Shapes:
    """Return the shapes of a label map (1, *S), reference or prediction alike.

    Args:
        drawn: Label values on any grid with axes parallel to those of ``onto``.
        labels: The structures.
        onto: The grid of the prepared image.
        spacing: Millimetres at which shapes are compared, along R, A, S.
    """
    grid = onto if onto.spacing == spacing else onto.respaced(spacing)
    painted = np.zeros(drawn.array.shape, np.uint8)
    for number, structure in enumerate(labels.structures, start=1):
        painted[np.isin(drawn.array, structure.values)] = number
    classes = np.zeros(grid.shape, np.uint8)
    if box := box_of(painted[0] > 0):  # the rest is background, and costs time
        part = Volume(painted, drawn.geometry).cropped(*box)
        classes = resample_labels(part, grid).array[0]
    return Shapes(classes, grid, classes_held(labels))


def features_of(shapes: Shapes, name: str) -> dict[str, float]:
    """Return what simple numbers say of a structure; empty where it is missing.

    ``volume``: log mm³ (mm² in 2D). ``surface``: log of surface over volume in 1/mm, of voxel faces. ``loose``: the
    share outside of the largest part that is connected by faces, edges or corners; their number is no figure here,
    since a single stray voxel changes it. ``extent``: log of the SD (mm) of its voxels along each axis. Of several
    structures also ``share``, the log of its part of all that is drawn, and ``offset``, how far (mm) its centre of
    mass lies from that of all.
    """
    mask = shapes.mask(name)
    if not (box := box_of(mask)):
        return {}
    spacing = np.asarray(shapes.geometry.spacing)
    part = mask[box.slices]
    count = int(part.sum())
    places = np.argwhere(part) * spacing
    largest = int(largest_component(part).sum())
    volume = count * float(np.prod(spacing))
    found = {
        "volume": math.log(volume),
        "surface": math.log(_surface(part, spacing) / volume),
        "loose": 1 - largest / count,
    }
    for axis, sd in zip(AXES, places.std(axis=0), strict=False):
        # a single layer of voxels has the spread of its thickness
        thickness = spacing[AXES.index(axis)] / math.sqrt(12)
        found[f"extent {axis}"] = 0.5 * math.log(sd**2 + thickness**2)
    if len(shapes.held) > 1:
        everything = np.argwhere(shapes.classes > 0)
        found["share"] = math.log(count / len(everything))
        centre = (places.mean(axis=0) + np.asarray(box.start) * spacing) - everything.mean(axis=0) * spacing
        found |= {f"offset {axis}": float(mm) for axis, mm in zip(AXES, centre, strict=False)}
    return found


def position_of(shapes: Shapes, name: str) -> tuple[float, ...] | None:
    """Return how far (mm) a structure's centre of mass lies from the image's middle, along R, A, S; None: missing."""
    found = np.argwhere(shapes.mask(name))
    if not len(found):
        return None
    middle = (np.asarray(shapes.classes.shape) - 1) / 2
    return tuple(float(mm) for mm in (found.mean(axis=0) - middle) * np.asarray(shapes.geometry.spacing))


def components_of(mask: Mask) -> int:
    """Return how many parts a mask (*S) has, connected by faces, edges or corners."""
    return int(ndimage.label(mask, structure=np.ones((3,) * mask.ndim))[1])


def _surface(part: Mask, spacing: NDArray[Any]) -> float:
    """Return the area (mm²; length in 2D) of the faces between a mask and what is around it."""
    padded = np.pad(part, 1)
    whole = float(np.prod(spacing))
    return sum(
        float(np.count_nonzero(np.diff(padded, axis=axis))) * whole / float(mm) for axis, mm in enumerate(spacing)
    )
