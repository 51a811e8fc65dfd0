"""Sparse autoencoder: a code of any size, of which few activations are on; and fewer connections."""

from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from segpipe.learn.batches import Batch
from segpipe.learn.objectives.autoencoder import AutoencoderTask
from segpipe.learn.objectives.pretraining import Reconstruction, apart
from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.layers import Axes

TINY = 1e-8


class Sparse(Reconstruction):
    """Sparse autoencoder: min ‖h(x) - x‖² + λ Σ |aᵢ| over the hidden activations aᵢ (Ng 2011; Olshausen, Field 1996).

    Both terms are means, over voxels and over activations, so that λ means the same for every patch size. The
    code may be larger than the image: what keeps it from copying is that few activations may be on.
    """

    kind: Literal["sparse"] = "sparse"
    penalty: PositiveFloat = 0.1
    """λ, the weight of the mean absolute activation."""
    relative: bool = True
    """Whether activations are first divided by their root mean square over the patch. The decoder normalises what it
    gets, so a penalty on plain activations is paid by making all of them small, which no reconstruction notices, and
    none becomes zero."""
    all_levels: bool = False
    """Whether the activations of every step of the encoder count, not those of the code alone."""
    near: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """What is called near zero in the figures: below this share of the root mean square."""
    connections: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the encoder's connections that there are: which, is drawn once; all others are zero throughout, also
    in the encoder that is transferred."""

    def build(self, spec: EncoderSpec, patch: Axes) -> "SparseTask":
        """Return the task with fresh weights.

        Raises:
            ConfigError: The patch does not fit.
        """
        return SparseTask(spec, patch, self)


class SparseTask(AutoencoderTask):
    """Draws the image again from a code of few activations."""

    def __init__(self, spec: EncoderSpec, patch: Axes, config: Sparse) -> None:
        super().__init__(spec, patch, config.distance)
        self.config = config
        if config.connections < 1:
            self._cut_connections(config.connections)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean distance of a voxel, and the penalty."""
        features = self.encoder(batch.image)
        drawn = self.redraw(features[-1], batch.image.shape[2:])
        counted = features if self.config.all_levels else features[-1:]
        penalty = torch.stack([self.size(level).mean() for level in counted]).mean()
        return {
            "reconstruction": apart(self.config.distance, drawn, batch.image).mean(),
            "sparsity": self.config.penalty * penalty,
        }

    def size(self, activations: Tensor) -> Tensor:
        """Return how large each activation (N, D, *S) is, as it enters the penalty."""
        activations = activations.float()
        return (activations / _rms(activations) if self.config.relative else activations).abs()

    @torch.no_grad()
    def figures(self, image: Tensor) -> dict[str, float]:
        """Return ``mse``; ``near_zero``, the share of such activations; ``l0``, how many others a patch has."""
        code = self.code(image).float()
        on = (code.abs() >= self.config.near * _rms(code)).flatten(1).float()
        drawn = self.redraw(code, image.shape[2:])
        return {
            "mse": float(apart("mse", drawn, image).mean()),
            "near_zero": 1 - float(on.mean()),
            "l0": float(on.sum(1).mean()),
        }

    def _cut_connections(self, kept: float) -> None:
        """Set connections to zero for good: their gradients too, so that no optimiser moves them."""
        kernels = {name: weight for name, weight in self.encoder.named_parameters() if weight.ndim > 1}
        for name, weight in kernels.items():
            place = f"kept_{name.replace('.', '_')}"
            order = torch.rand(weight.numel()).argsort().reshape(weight.shape)
            self.register_buffer(place, order < max(round(kept * weight.numel()), 1))
            with torch.no_grad():  # the same variance behind it, of fewer summands
                weight.mul_(self.get_buffer(place)).div_(kept**0.5)
            weight.register_hook(partial(self._spared, place))  # type: ignore[no-untyped-call]

    def _spared(self, place: str, gradient: Tensor) -> Tensor:
        return gradient * self.get_buffer(place)


def _rms(activations: Tensor) -> Tensor:
    """Return the root mean square (N, 1, …) of the activations of each patch."""
    over = tuple(range(1, activations.ndim))
    return (activations.square().mean(over, keepdim=True) + TINY).sqrt()
