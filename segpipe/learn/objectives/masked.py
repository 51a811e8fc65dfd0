"""Masked autoencoder: draws what stood in the blocks that were taken out of the image."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from segpipe.core.errors import ConfigError
from segpipe.learn.batches import Batch
from segpipe.learn.objectives.pretraining import Pretraining, Reconstruction, apart, started, times
from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.layers import Axes


class Masked(Reconstruction):
    """Masked autoencoder: min ‖m ⊙ (h((1 - m) ⊙ x) - x)‖², where m is one in random blocks of the image.

    He et al. 2022; for convolutional networks SparK (Tian et al. 2023) and Models Genesis (Zhou et al. 2021). What is
    drawn is not in the input, so that skip connections cannot copy it.
    """

    kind: Literal["masked"] = "masked"
    block: PositiveInt | tuple[PositiveInt, ...] = 8
    """Edge of a block in voxels; or one value for each axis."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Share of the blocks that are taken out of each patch."""
    fill: Literal["mean", "zero"] = "mean"
    """What stands in their place: the mean of what is left of the patch, or zero."""
    loss_on: Literal["masked", "all"] = "masked"
    """Which voxels are compared."""
    skips: bool = False
    """Whether the decoder sees the encoder's features, as in the U-Net."""

    def build(self, spec: EncoderSpec, patch: Axes) -> "MaskedTask":
        """Return the task with fresh weights.

        Raises:
            ConfigError: No block, or every block, would be taken out; or sizes do not fit.
        """
        task = MaskedTask(spec, patch, self)
        if len(task.block) != len(patch):
            raise ConfigError(f"pretrain.objective.block has {len(task.block)} values for {len(patch)} axes. Give one.")
        blocks = math.prod(block_counts(patch, task.block))
        if not 0 < round(self.share * blocks) < blocks:
            raise ConfigError(
                f"pretrain.objective: a patch of {times(patch)} voxels has {blocks} block(s) of {times(task.block)}, "
                f"of which a share of {self.share:g} is none or all. Use a smaller block, or another share."
            )
        return task


class MaskedTask(Pretraining):
    """Draws the whole image from what is left of it."""

    def __init__(self, spec: EncoderSpec, patch: Axes, config: Masked) -> None:
        super().__init__(spec, patch, skips=config.skips)
        self.config = config
        self.block = (config.block,) * len(patch) if isinstance(config.block, int) else config.block

    def code(self, image: Tensor) -> Tensor:
        """Return the code (N, D, *S) of whole images (N, C, *P)."""
        result: Tensor = self.encoder(image)[-1]
        return result

    def reconstruct(self, image: Tensor) -> Tensor:
        """Return images (N, C, *P) as they come back where nothing is taken out."""
        *skips, code = self.encoder(image)
        return self.draw(code, image.shape[2:], skips if self.config.skips else ())

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean distance of the voxels that count."""
        mask = self.mask(batch.image)
        drawn = self.reconstruct(self.masked(batch.image, mask))
        each = apart(self.config.distance, drawn, batch.image)
        return {"reconstruction": each.mean() if self.config.loss_on == "all" else _mean_where(mask, each)}

    def mask(self, image: Tensor, seed: int | None = None) -> Tensor:
        """Return (N, 1, *P), true in the blocks to take out; drawn from torch's random numbers, or from a seed."""
        chance = None if seed is None else torch.Generator().manual_seed(seed)
        size = tuple(image.shape[2:])
        return block_mask(len(image), size, self.block, self.config.share, chance).to(image.device)

    def masked(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return images (N, C, *P) without what the mask (N, 1, *P) takes out."""
        if self.config.fill == "zero":
            return image.masked_fill(mask, 0)
        over = tuple(range(2, image.ndim))
        left = (~mask).float()
        mean = (image * left).sum(over, keepdim=True) / left.sum(over, keepdim=True).clamp_min(1)
        return torch.where(mask, mean.to(image.dtype), image)

    @torch.no_grad()
    def figures(self, image: Tensor) -> dict[str, float]:
        """Return ``mse`` of the whole image drawn again, and ``masked_mse`` of what was taken out."""
        mask = self.mask(image, seed=0)
        each = apart("mse", self.reconstruct(self.masked(image, mask)), image)
        return super().figures(image) | {"masked_mse": float(_mean_where(mask, each))}


def block_counts(size: Axes, block: Axes) -> Axes:
    """Return how many blocks lie along each axis; the last may be cut."""
    return tuple(math.ceil(n / b) for n, b in zip(size, block, strict=True))


def block_mask(count: int, size: Axes, block: Axes, share: float, chance: torch.Generator | None = None) -> Tensor:
    """Return (N, 1, *size), true in a random ``share`` of the blocks of each patch: always as many of them.

    Args:
        count: N.
        size: Voxels of a patch.
        block: Voxels of a block.
        share: Of the blocks, rounded to whole ones.
        chance: Random numbers of the CPU; None: torch's own.
    """
    counts = block_counts(size, block)
    blocks = math.prod(counts)
    order = torch.rand(count, blocks, generator=chance).argsort(1)
    mask = (order < round(share * blocks)).reshape(count, 1, *counts)
    for axis, edge in enumerate(block):
        mask = mask.repeat_interleave(edge, dim=axis + 2)
    return started(mask, size)


def _mean_where(mask: Tensor, each: Tensor) -> Tensor:
    """Return the mean of values (N, C, *P) where a mask (N, 1, *P) is true."""
    return (each * mask).sum() / (mask.sum() * each.shape[1]).clamp_min(1)
