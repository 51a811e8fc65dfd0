"""Label map -> weight map: how much each voxel counts in the loss."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat
from scipy import ndimage

from segpipe.core.section import Section
from segpipe.imaging.masks import Box

REACH = 4
"""Standard deviations beyond which a border has no pull."""


class BorderWeight(Section):
    """The original U-Net's map: narrow gaps between touching objects count most.

    w(x) = w_c(x) + w_0 exp(-(d_1(x) + d_2(x))^2 / (2 sigma^2)), d_1 and d_2 the distances to the
    nearest and second nearest object (Ronneberger, Fischer, Brox 2015, arXiv 1505.04597, eq. 2).
    Objects are the connected parts of what is labelled; the second term lies on background.
    """

    kind: Literal["border"] = "border"
    w0: NonNegativeFloat = 10.0
    """Height of the ridge between two objects."""
    sigma_voxels: PositiveFloat = 5.0
    """Its width."""
    balance: bool = True
    """Whether w_c makes labelled and unlabelled voxels count alike in sum; otherwise w_c = 1."""

    def __call__(self, labels: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return (1, *S) weights of a label map (1, *S)."""
        labelled = labels[0] != 0
        weight = _balanced(labelled) if self.balance else np.ones(labelled.shape, np.float32)
        nearest, second = self._two_nearest(labelled)
        ridge = self.w0 * np.exp(-((nearest + second) ** 2) / (2 * self.sigma_voxels**2))
        return (weight + np.where(labelled, 0, ridge)).astype(np.float32)[None]

    def _two_nearest(self, labelled: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return, in voxels, the distance to the nearest and to the second nearest object."""
        objects, _ = ndimage.label(labelled, structure=np.ones((3,) * labelled.ndim))
        nearest = np.full(labelled.shape, np.inf, np.float32)
        second = nearest.copy()
        margin = int(np.ceil(REACH * self.sigma_voxels))
        for number, slices in enumerate(ndimage.find_objects(objects), start=1):
            # only as far as the exponential can be seen: the whole grid for each object would take minutes
            start = tuple(max(part.start - margin, 0) for part in slices)
            stop = tuple(min(part.stop + margin, n) for part, n in zip(slices, labelled.shape, strict=True))
            near = Box(start, tuple(b - a for a, b in zip(start, stop, strict=True))).slices
            distance = ndimage.distance_transform_edt(objects[near] != number).astype(np.float32)
            second[near] = np.minimum(second[near], np.maximum(nearest[near], distance))
            nearest[near] = np.minimum(nearest[near], distance)
        return nearest, second


class ClassBalance(Section):
    """Every class counts alike in sum, however few voxels it has."""

    kind: Literal["class_balance"] = "class_balance"

    def __call__(self, labels: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return (1, *S) weights, of mean 1, of a label map (1, *S)."""
        return _balanced(labels[0])[None]


def _balanced(classes: NDArray[np.generic]) -> NDArray[np.float32]:
    _, inverse, counts = np.unique(classes, return_inverse=True, return_counts=True)
    share = classes.size / (len(counts) * counts)
    return np.asarray(share[inverse].reshape(classes.shape), np.float32)


Weight = Annotated[BorderWeight | ClassBalance, Field(discriminator="kind")]
"""How much each voxel counts in the loss."""
