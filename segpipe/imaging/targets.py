"""Label map -> target map and back: what the network learns to draw."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from scipy import ndimage
from scipy.special import expit

from segpipe.core.section import Section
from segpipe.imaging.labels import LabelSet, values_of

IGNORED = 255
"""Value of unannotated voxels in a target map."""


class Classes(Section):
    """One class a voxel, background included; drawn by softmax, decoded by the largest score."""

    kind: Literal["classes"] = "classes"

    def channels(self, labels: LabelSet) -> int:
        """Return how many score channels a network needs."""
        return len(labels.values) + 1

    def encode(self, array: NDArray[np.integer], labels: LabelSet, spacing: Sequence[float]) -> NDArray[np.uint8]:
        """Return (1, *S) consecutive class numbers of label values (1, *S); ``IGNORED`` where unannotated."""
        return labels.indices(array, IGNORED)

    def decode(self, scores: NDArray[np.floating], labels: LabelSet) -> NDArray[np.uint16]:
        """Return label values (*S) of scores (K, *S)."""
        return np.asarray(values_of(range(self.channels(labels)), labels)[scores.argmax(axis=0)], np.uint16)

    def probabilities(self, scores: NDArray[np.floating], labels: LabelSet) -> NDArray[np.float32] | None:
        """Return the probability (R, *S) of each structure, from probabilities of the classes (K, *S)."""
        number = {value: index for index, value in enumerate(labels.values, start=1)}
        each = [scores[[number[value] for value in s.values]].sum(axis=0) for s in labels.structures]
        return np.asarray(np.clip(np.stack(each), 0, 1), np.float32)


class Regions(Section):
    """One yes or no a structure; structures may overlap. Drawn by sigmoid, decoded by painting in order."""

    kind: Literal["regions"] = "regions"

    def channels(self, labels: LabelSet) -> int:
        """Return how many score channels a network needs."""
        return len(labels.structures)

    def encode(self, array: NDArray[np.integer], labels: LabelSet, spacing: Sequence[float]) -> NDArray[np.uint8]:
        """Return (R, *S) ones where a structure is; ``IGNORED`` where unannotated."""
        masks = [np.isin(array[0], structure.values).astype(np.uint8) for structure in labels.structures]
        encoded = np.stack(masks)
        if labels.ignore is not None:
            encoded[:, array[0] == labels.ignore] = IGNORED
        return encoded

    def decode(self, scores: NDArray[np.floating], labels: LabelSet) -> NDArray[np.uint16]:
        """Return label values (*S) of scores (R, *S): a structure is where its score is above 0."""
        result = np.zeros(scores.shape[1:], np.uint16)
        for structure, score in zip(labels.structures, scores, strict=True):
            result[score > 0] = structure.paint
        return result

    def probabilities(self, scores: NDArray[np.floating], labels: LabelSet) -> NDArray[np.float32] | None:
        """Return the probability (R, *S) of each structure, from logits (R, *S)."""
        return np.asarray(expit(scores), np.float32)


class SignedDistance(Section):
    """Signed distance to each structure's border: negative inside, in units of ``clip_mm``, from -1 to 1.

    Decoded by the structure whose border lies deepest, where any is below 0 (Xue et al. 2020, arXiv 1912.03849);
    where structures overlap, by painting in order.
    """

    kind: Literal["signed_distance"] = "signed_distance"
    clip_mm: PositiveFloat = 10.0
    """Distances beyond are not told apart."""

    def channels(self, labels: LabelSet) -> int:
        """Return how many score channels a network needs."""
        return len(labels.structures)

    def encode(self, array: NDArray[np.integer], labels: LabelSet, spacing: Sequence[float]) -> NDArray[np.float32]:
        """Return (R, *S) distances divided by ``clip_mm``; NaN where unannotated."""
        maps = []
        for structure in labels.structures:
            mask = np.isin(array[0], structure.values)
            distance = np.full(mask.shape, self.clip_mm)
            if mask.any():
                outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
                within = ndimage.distance_transform_edt(mask, sampling=spacing) if not mask.all() else self.clip_mm
                distance = np.where(mask, -within, outside)
            maps.append(np.clip(distance / self.clip_mm, -1, 1))
        encoded = np.stack(maps).astype(np.float32)
        if labels.ignore is not None:
            encoded[:, array[0] == labels.ignore] = np.nan
        return encoded

    def decode(self, scores: NDArray[np.floating], labels: LabelSet) -> NDArray[np.uint16]:
        """Return label values (*S) of predicted distances (R, *S)."""
        if sum(len(structure.values) for structure in labels.structures) > len(labels.values):
            # of two nested structures the outer one is always the deeper
            return Regions().decode(-scores, labels)
        paints = np.asarray([structure.paint for structure in labels.structures], np.uint16)
        return np.where(scores.min(axis=0) < 0, paints[scores.argmin(axis=0)], np.uint16(0))

    def probabilities(self, scores: NDArray[np.floating], labels: LabelSet) -> NDArray[np.float32] | None:
        """Return None: a distance is no probability."""
        return None


Target = Annotated[Classes | Regions | SignedDistance, Field(discriminator="kind")]
"""What the network learns to draw."""
