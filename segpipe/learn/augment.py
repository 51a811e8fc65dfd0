"""Augmentation of whole batches on the device that trains; random numbers from the seed and the step alone."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from segpipe.core.section import Section
from segpipe.learn.batches import Batch

PURPOSE = 1
Share = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(Section):
    """How training patches are varied. A share is how many of the patches are changed so."""

    spatial: Share = 0.5
    """Share that is rotated and scaled."""
    rotate_degrees: NonNegativeFloat = 20.0
    """Largest angle about each axis."""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.85, 1.2)
    """Range of sizes."""
    mirror_axes: tuple[NonNegativeInt, ...] = (0,)
    """Axes (0 is left-right) along which half of the patches are flipped."""
    contrast: Share = 0.3
    """Share whose deviation from the mean is multiplied by 0.7 to 1.4."""
    brightness: Share = 0.3
    """Share to which a constant of up to 0.3 is added."""
    gamma: Share = 0.3
    """Share that is bent by an exponent of 0.7 to 1.5, the range kept."""
    noise: Share = 0.2
    """Share with Gaussian noise of up to 0.2."""


def augmented(batch: Batch, config: AugmentConfig, spacing: Sequence[float], seed: int, step: int) -> Batch:
    """Return a varied batch of the same shapes.

    Args:
        batch: Any number of patches.
        config: What is varied, how often, how far.
        spacing: Millimetres along each axis: rotations are of the world, not of the voxels.
        seed: Seed of the run.
        step: Training step; with the seed it decides every random number.
    """
    rng = np.random.default_rng([seed, step, PURPOSE])
    moves = _moves(rng, len(batch.image), config, spacing)
    image, target, weight = batch.image, batch.target, batch.weight
    if moves is not None:
        theta = torch.from_numpy(_theta(moves, image.shape[2:])).to(image.device)
        grid = F.affine_grid(theta, list(image.shape), align_corners=False)
        image = F.grid_sample(image, grid, mode="bilinear", align_corners=False)
        # nearest, so that classes stay classes
        moved = F.grid_sample(target.float(), grid, mode="nearest", align_corners=False)
        target = moved.to(target.dtype)
        if weight is not None:
            weight = F.grid_sample(weight, grid, mode="bilinear", align_corners=False)
    return Batch(_intensities(image, config, rng, seed * 1_000_003 + step), target, weight, batch.cases)


def _moves(
    rng: np.random.Generator, count: int, config: AugmentConfig, spacing: Sequence[float]
) -> NDArray[np.float64] | None:
    """Return a matrix (count, n, n) of each patch: voxel offset in the new patch -> offset in the old one."""
    rank = len(spacing)
    chosen = rng.random(count) < config.spatial
    flips = rng.random((count, rank)) < 0.5
    angles = np.radians(rng.uniform(-1, 1, (count, 3)) * config.rotate_degrees)
    scales = rng.uniform(*config.scale, count)
    matrices = np.zeros((count, rank, rank))
    for index in range(count):
        matrix = _rotation(angles[index], rank) / scales[index] if chosen[index] else np.eye(rank)
        mirror = [-1.0 if axis in config.mirror_axes and flips[index, axis] else 1.0 for axis in range(rank)]
        matrices[index] = np.diag(1 / np.asarray(spacing)) @ matrix @ np.diag(mirror) @ np.diag(spacing)
    return None if np.allclose(matrices, np.eye(rank)) else matrices


def _rotation(angles: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    result = np.eye(rank)
    for angle, (a, b) in zip(angles, ((0, 1), (0, 2), (1, 2)), strict=True):
        if max(a, b) < rank:
            turn = np.eye(rank)
            turn[[a, a, b, b], [a, b, a, b]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
            result = result @ turn
    return result


def _theta(matrices: NDArray[np.float64], size: Sequence[int]) -> NDArray[np.float32]:
    """Return torch's (N, n, n + 1) for voxel matrices: coordinates from -1 to 1, the last axis first."""
    half = np.asarray(size) / 2
    scaled = matrices * half[None, None, :] / half[None, :, None]
    turned = scaled[:, ::-1, ::-1]
    return np.concatenate([turned, np.zeros((len(turned), len(size), 1))], axis=2).astype(np.float32)


def _intensities(image: Tensor, config: AugmentConfig, rng: np.random.Generator, noise_seed: int) -> Tensor:
    shape = (len(image), *[1] * (image.ndim - 1))

    def chosen(share: float, low: float, high: float, otherwise: float) -> Tensor:
        values = np.where(rng.random(len(image)) < share, rng.uniform(low, high, len(image)), otherwise)
        return torch.from_numpy(values.astype(np.float32)).reshape(shape).to(image.device)

    factor = chosen(config.contrast, 0.7, 1.4, 1.0)
    offset = chosen(config.brightness, -0.3, 0.3, 0.0)
    exponent = chosen(config.gamma, 0.7, 1.5, 1.0)
    sigma = chosen(config.noise, 0.0, 0.2, 0.0)
    over = tuple(range(1, image.ndim))
    mean = image.mean(over, keepdim=True)
    image = (image - mean) * factor + mean + offset
    low, high = image.amin(over, keepdim=True), image.amax(over, keepdim=True)
    span = (high - low).clamp_min(1e-6)
    image = ((image - low) / span).pow(exponent) * span + low
    if float(sigma.max()) > 0:
        source = torch.Generator(image.device).manual_seed(noise_seed % 2**63)
        image = image + sigma * torch.randn(image.shape, generator=source, device=image.device)
    return image
