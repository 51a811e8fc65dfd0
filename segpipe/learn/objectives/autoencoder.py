"""Undercomplete autoencoder: h(x) ≈ x through a code that is smaller than x."""

import math
from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from segpipe.core.errors import ConfigError
from segpipe.learn.batches import Batch
from segpipe.learn.objectives.pretraining import (
    Distance,
    Pretraining,
    Reconstruction,
    apart,
    code_size,
    same_padded,
    times,
)
from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.layers import CONV, Axes


class Autoencoder(Reconstruction):
    """Undercomplete autoencoder: x → y → z ≈ x, where y has fewer values than x.

    min ‖h(x) - x‖², h = decoder ∘ encoder, without skip connections (Rumelhart, Hinton, Williams 1986; Hinton and
    Salakhutdinov 2006).
    """

    kind: Literal["autoencoder"] = "autoencoder"
    code_channels: PositiveInt | None = None
    """Channels of the code, by a convolution of one voxel behind the encoder; empty: the encoder's own. It must have
    fewer values than the patch."""

    def build(self, spec: EncoderSpec, patch: Axes) -> "AutoencoderTask":
        """Return the task with fresh weights.

        Raises:
            ConfigError: The code could hold the whole patch, or the patch does not fit.
        """
        _refuse_identity(same_padded(spec), patch, self.code_channels)
        return AutoencoderTask(spec, patch, self.distance, self.code_channels)


class AutoencoderTask(Pretraining):
    """Draws the image again from its code."""

    def __init__(self, spec: EncoderSpec, patch: Axes, distance: Distance, channels: int | None = None) -> None:
        super().__init__(spec, patch)
        self.distance: Distance = distance
        width = spec.widths[-1]
        self.narrow: nn.Module = CONV[spec.rank](width, channels, 1) if channels else nn.Identity()
        self.widen: nn.Module = CONV[spec.rank](channels, width, 1) if channels else nn.Identity()
        if channels:
            self.ratio *= channels / width

    def code(self, image: Tensor) -> Tensor:
        """Return the code (N, D, *S) of images (N, C, *P)."""
        result: Tensor = self.narrow(self.encoder(image)[-1])
        return result

    def redraw(self, code: Tensor, size: Axes) -> Tensor:
        """Return images (N, C, *size) of codes (N, D, *S)."""
        return self.draw(self.widen(code), size)

    def reconstruct(self, image: Tensor) -> Tensor:
        """Return images (N, C, *P) as they come back."""
        return self.redraw(self.code(image), image.shape[2:])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean distance of a voxel."""
        return {"reconstruction": apart(self.distance, self.reconstruct(batch.image), batch.image).mean()}


def _refuse_identity(spec: EncoderSpec, patch: Axes, channels: int | None) -> None:
    voxels = math.prod(code_size(spec, patch))
    values = spec.in_channels * math.prod(patch)
    wide = channels or spec.widths[-1]
    if wide * voxels < values:
        return
    largest = (values - 1) // voxels
    mend = f"Set pretrain.objective.code_channels to {largest} or less, or use" if largest else "Use"
    raise ConfigError(
        f"pretrain.objective: a code of {wide} channels has {wide * voxels / values:.2g} times as many values as a "
        f"patch of {times(patch)} voxels, so an autoencoder may learn to copy. {mend} sparse, denoising, masked or vae."
    )
