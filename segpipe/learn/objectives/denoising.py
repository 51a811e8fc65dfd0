"""Denoising autoencoder: draws the clean image from a spoilt one."""

from typing import Literal, Self

import numpy as np
import torch
from pydantic import NonNegativeFloat, model_validator
from torch import Tensor

from segpipe.learn.augment_intensity import blurred
from segpipe.learn.batches import Batch
from segpipe.learn.objectives.autoencoder import AutoencoderTask
from segpipe.learn.objectives.pretraining import Reconstruction, apart
from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.layers import Axes

LEAST_BLUR = 0.05
"""Voxels; the Gaussian is one voxel then."""


class Denoising(Reconstruction):
    """Denoising autoencoder: min ‖h(x̃) - x‖², where x̃ is x with noise, or blurred (Vincent et al. 2008, 2010).

    The identity is no solution, whatever the size of the code; there are no skip connections all the same, since a
    blurred image is nearly right already.
    """

    kind: Literal["denoising"] = "denoising"
    noise: NonNegativeFloat = 0.5
    """Largest standard deviation of the noise, in units of the normalised image; each patch has one of its own,
    between 0 and this."""
    blur: NonNegativeFloat = 0.0
    """Largest standard deviation of the blur, in voxels; each patch has one of its own, between 0 and this."""

    @model_validator(mode="after")
    def _spoils(self) -> Self:
        if self.noise == 0 and self.blur == 0:
            raise ValueError("denoising needs noise or blur: with neither, the network could copy its input")
        return self

    def build(self, spec: EncoderSpec, patch: Axes) -> "DenoisingTask":
        """Return the task with fresh weights.

        Raises:
            ConfigError: The patch does not fit.
        """
        return DenoisingTask(spec, patch, self)


class DenoisingTask(AutoencoderTask):
    """Draws the clean image from a spoilt one."""

    def __init__(self, spec: EncoderSpec, patch: Axes, config: Denoising) -> None:
        super().__init__(spec, patch, config.distance)
        self.config = config

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean distance of a voxel from the clean image."""
        drawn = self.reconstruct(self.spoilt(batch.image))
        return {"reconstruction": apart(self.distance, drawn, batch.image).mean()}

    def spoilt(self, image: Tensor, seed: int | None = None) -> Tensor:
        """Return images (N, C, *P) blurred, then noisy.

        Args:
            image: Clean; it is not written to.
            seed: Of the random numbers; None: torch's own, as they come.
        """
        chance = None if seed is None else torch.Generator().manual_seed(seed)
        shares = torch.rand(len(image), 2, generator=chance)
        if self.config.blur:
            image = torch.stack(
                [self._blurred(one, float(share)) for one, share in zip(image, shares[:, 0], strict=True)]
            )
        there = None if seed is None else torch.Generator(image.device).manual_seed(seed)
        noise = torch.randn(image.shape, generator=there, device=image.device)
        deviations = self.config.noise * shares[:, 1].to(image.device).reshape(-1, *[1] * (image.ndim - 1))
        return image + deviations * noise

    @torch.no_grad()
    def figures(self, image: Tensor) -> dict[str, float]:
        """Return ``mse`` of the clean image drawn again, and ``restored_mse`` of a spoilt one."""
        drawn = self.reconstruct(self.spoilt(image, seed=0))
        return super().figures(image) | {"restored_mse": float(apart("mse", drawn, image).mean())}

    def _blurred(self, image: Tensor, share: float) -> Tensor:
        sigmas = np.full(len(image), max(share * self.config.blur, LEAST_BLUR))
        return blurred(image, sigmas, self.config.blur, range(image.ndim - 1))
