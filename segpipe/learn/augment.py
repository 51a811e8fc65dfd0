"""Augmentation of whole batches on the device that trains; random numbers from the seed and the step alone."""

from collections.abc import Sequence
from typing import Self

import torch
from pydantic import model_validator

from segpipe.learn.augment_albumentations import ListConfig
from segpipe.learn.augment_intensity import IntensityConfig, varied
from segpipe.learn.augment_listed import listed
from segpipe.learn.augment_space import SpaceConfig, moved, moving_axes
from segpipe.learn.batches import Batch
from segpipe.learn.chance import Chance
from segpipe.learn.sides import Swap

LIST = "albumentations"


class AugmentConfig(IntensityConfig, SpaceConfig, ListConfig):
    """How training patches are varied. A share is how many of the patches are changed so."""

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        fields = type(self).model_fields
        changed = [name for name in fields if name != LIST and getattr(self, name) != fields[name].default]
        if self.albumentations and changed:
            raise ValueError(
                f"{', '.join(changed)}: not used where {LIST} lists all that is done. Take it out, or put a transform "
                "into the list instead."
            )
        return self


def augmented(
    batch: Batch, config: AugmentConfig, spacing: Sequence[float], seed: int, step: int, swap: Swap | None = None
) -> Batch:
    """Return a varied batch of the same shapes; what it was made of is not written to.

    Every patch has random numbers of its own, so a part of a batch (``batch.first``) is varied as it is within
    the whole one.

    Args:
        batch: Any number of patches (N, C, *P).
        config: What is varied, how often, how far.
        spacing: Millimetres along each axis: rotations are of the world, not of the voxels.
        seed: Seed of the run.
        step: Training step; with the seed it decides every random number.
        swap: What trades left for right in the target of a patch that is mirrored along axis 0.
    """
    chances = [Chance(seed, step, batch.first + index) for index in range(len(batch.image))]
    if config.albumentations:
        return listed(batch, config.albumentations, chances)
    batch = moved(batch, config, spacing, chances, swap)
    axes = moving_axes(spacing)
    # one patch at a time: sums over it are then rounded alike, with however many others it comes
    images = [varied(image, config, chance, axes) for image, chance in zip(batch.image, chances, strict=True)]
    return batch._replace(image=torch.stack(images))
