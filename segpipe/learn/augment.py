"""Augmentation of whole batches on the device that trains; random numbers from the seed and the step alone."""

from collections.abc import Sequence

import torch

from segpipe.learn.augment_intensity import IntensityConfig, varied
from segpipe.learn.augment_space import SpaceConfig, moved, moving_axes
from segpipe.learn.batches import Batch
from segpipe.learn.chance import Chance
from segpipe.learn.sides import Swap


class AugmentConfig(IntensityConfig, SpaceConfig):
    """How training patches are varied. A share is how many of the patches are changed so."""


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
    batch = moved(batch, config, spacing, chances, swap)
    axes = moving_axes(spacing)
    # one patch at a time: sums over it are then rounded alike, with however many others it comes
    images = [varied(image, config, chance, axes) for image, chance in zip(batch.image, chances, strict=True)]
    return batch._replace(image=torch.stack(images))
