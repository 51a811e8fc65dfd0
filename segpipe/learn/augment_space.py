"""Where augmentation looks: mirroring, rotation, scaling and bending, all of them in one resampling."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from segpipe.core.section import Section
from segpipe.learn.batches import Batch, background
from segpipe.learn.chance import Chance, FactorRange, Purpose, Share, SizeRange, log_uniform
from segpipe.learn.fields import spline_basis, spread
from segpipe.learn.sides import Swap

ANISOTROPIC = 3.0
"""Ratio of coarsest to finest spacing beyond which nothing moves along the coarsest axis (Isensee et al. 2021)."""
FOLDS = 0.4
"""Share of a cell that control points may be shifted by before the image could fold (Choi and Lee 2000: 0.403)."""
CELLS = 2
"""Cells that a patch holds at least along each axis; fewer would shift it as a whole."""


class SpaceConfig(Section):
    """How patches are mirrored, turned, scaled and bent."""

    spatial: Share = 0.5
    """Share that is rotated and scaled. Where the coarsest spacing is over 3 times the finest, nothing is rotated,
    scaled, bent, blurred or coarsened across the slices."""
    rotate_degrees: NonNegativeFloat = 20.0
    """Largest angle about each axis."""
    scale: FactorRange = (0.85, 1.2)
    """Range of sizes."""
    elastic: Share = 0.1
    """Share that is bent by a smooth random field (cubic B-splines)."""
    elastic_mm: SizeRange = (2.0, 8.0)
    """Range of the largest shift (mm) of a control point; tissue moves by a fifth to a quarter of it along each axis.
    At most 0.4 of elastic_grid_mm, so that nothing folds."""
    elastic_grid_mm: PositiveFloat = 20.0
    """Millimetres between control points. In a patch of less than two such cells, cells and shifts are made smaller
    in proportion."""
    mirror_axes: tuple[NonNegativeInt, ...] = (0,)
    """Axes (0 is left-right) along which half of the patches are flipped; structures named for the left and the right
    side change places."""

    @model_validator(mode="after")
    def _nothing_folds(self) -> Self:
        if self.elastic_mm[1] > FOLDS * self.elastic_grid_mm:
            raise ValueError(
                f"elastic_mm={list(self.elastic_mm)} could fold the image: at most {FOLDS:g} of "
                f"elastic_grid_mm={self.elastic_grid_mm:g} is allowed"
            )
        return self


def moving_axes(spacing: Sequence[float]) -> tuple[int, ...]:
    """Return the axes along which patches may be changed: all, or those in the plane of thick slices."""
    axes = range(len(spacing))
    if len(spacing) < 3 or max(spacing) <= ANISOTROPIC * min(spacing):
        return tuple(axes)
    return tuple(axis for axis in axes if axis != int(np.argmax(spacing)))


def moved(
    batch: Batch, config: SpaceConfig, spacing: Sequence[float], chances: Sequence[Chance], swap: Swap | None
) -> Batch:
    """Return the batch with some patches mirrored, turned, scaled and bent.

    Args:
        batch: Patches (N, C, *P).
        config: How often and how far.
        spacing: Millimetres along each axis.
        chances: Random numbers of each patch.
        swap: What trades left for right in a target that is mirrored along axis 0.
    """
    batch = _mirrored(batch, config, chances, swap)
    size, device = batch.image.shape[2:], batch.image.device
    found = [_places(config, spacing, size, chance, device) for chance in chances]
    chosen = [index for index, places in enumerate(found) if places is not None]
    if not chosen:
        return batch
    grid = torch.stack([places for places in found if places is not None])

    def sampled(values: Tensor, mode: str, outside: float = 0.0) -> Tensor:
        # beyond the rim grid_sample gives zeros: so what lies there has to be zero meanwhile
        new = F.grid_sample(values[chosen].float() - outside, grid, mode=mode, align_corners=False) + outside
        result = values.clone()
        result[chosen] = new.to(values.dtype)
        return result

    return batch._replace(
        image=sampled(batch.image, "bilinear"),
        target=sampled(batch.target, "nearest", background(batch.target)),  # nearest, so that classes stay classes
        weight=None if batch.weight is None else sampled(batch.weight, "bilinear"),
    )


def _mirrored(batch: Batch, config: SpaceConfig, chances: Sequence[Chance], swap: Swap | None) -> Batch:
    rank = batch.image.ndim - 2
    draws = [chance.of(Purpose.MIRROR).random(rank) < 0.5 for chance in chances]
    flips = [[axis for axis in range(rank) if axis in config.mirror_axes and draw[axis]] for draw in draws]
    if not any(flips):
        return batch

    def flipped(values: Tensor, *, sided: bool = False) -> Tensor:
        ones = [one.flip([axis + 1 for axis in axes]) if axes else one for one, axes in zip(values, flips, strict=True)]
        if sided and swap is not None:
            ones = [swap(one) if 0 in axes else one for one, axes in zip(ones, flips, strict=True)]
        return torch.stack(ones)

    return batch._replace(
        image=flipped(batch.image),
        target=flipped(batch.target, sided=True),
        weight=None if batch.weight is None else flipped(batch.weight),
    )


def _places(
    config: SpaceConfig, spacing: Sequence[float], size: Sequence[int], chance: Chance, device: torch.device
) -> Tensor | None:
    """Return where each voxel of a new patch lies in the old one (*P, n), as grid_sample wants it; None: not moved.

    The new patch is bent first and turned then, so that neither can make the other fold.
    """
    turn = chance.chosen(Purpose.TURN, config.spatial)
    bend = chance.chosen(Purpose.BEND, config.elastic)
    if turn is None and bend is None:
        return None
    rank, axes = len(size), moving_axes(spacing)
    offsets = []
    for axis, (count, mm) in enumerate(zip(size, spacing, strict=True)):
        shape = [count if other == axis else 1 for other in range(rank)]
        offsets.append(((torch.arange(count, device=device) - (count - 1) / 2) * mm).reshape(shape))
    if bend is not None:
        for axis, shift in zip(axes, _shifts(bend, config, spacing, size, device), strict=True):
            offsets[axis] = offsets[axis] + shift
    matrix = np.eye(rank) if turn is None else _matrix(turn, config, axes, rank)
    # plain sums and no matrix product: their rounding is the same for any number of patches
    old = [sum(float(k) * at for k, at in zip(row, offsets, strict=True) if k) for row in matrix]
    scaled = [at * (2 / (n * mm)) for at, n, mm in zip(old, size, spacing, strict=True)]
    return torch.stack([torch.as_tensor(at).expand(tuple(size)) for at in reversed(scaled)], dim=-1)


def _matrix(rng: np.random.Generator, config: SpaceConfig, axes: Sequence[int], rank: int) -> NDArray[np.float64]:
    """Return a matrix (n, n) that takes millimetres in the new patch to those in the old one: the world turns."""
    angles = np.radians(rng.uniform(-1, 1, 3) * config.rotate_degrees)
    smaller = 1 / float(log_uniform(rng, *config.scale, 1)[0])
    result = np.diag([smaller if axis in axes else 1.0 for axis in range(rank)])
    for angle, (a, b) in zip(angles, ((0, 1), (0, 2), (1, 2)), strict=True):
        if a in axes and b in axes:
            turn = np.eye(rank)
            turn[[a, a, b, b], [a, b, a, b]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
            result = result @ turn
    return result


def _shifts(
    rng: np.random.Generator, config: SpaceConfig, spacing: Sequence[float], size: Sequence[int], device: torch.device
) -> Tensor:
    """Return a smooth shift in mm (A, *P) along each axis that may move; alike in all thick slices."""
    axes = moving_axes(spacing)
    room = min(size[axis] * spacing[axis] for axis in axes) / CELLS
    cell = min(config.elastic_grid_mm, room)
    largest = rng.uniform(*config.elastic_mm) * cell / config.elastic_grid_mm
    bases = [
        spline_basis(n, mm, cell) if axis in axes else np.ones((n, 1))
        for axis, (n, mm) in enumerate(zip(size, spacing, strict=True))
    ]
    shape = (len(axes), *(basis.shape[1] for basis in bases))
    return spread(rng.uniform(-largest, largest, shape), bases, device)
