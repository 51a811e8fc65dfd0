"""A variational autoencoder of label maps: what a drawn shape looks like to one that knows plausible shapes only."""

from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from segpipe.core.section import Section
from segpipe.nets.decoder import Decoder
from segpipe.nets.encoder import Encoder, EncoderSpec
from segpipe.nets.latent import Gaussian, GlobalHead
from segpipe.nets.layers import Axes
from segpipe.nets.precision import Precision, computing

CELLS = 4
"""The code is computed from the encoder's last step averaged over at most so many cells along each axis."""


class ShapeSpec(Section):
    """Everything that decides a shape network; its file holds it beside the weights."""

    encoder: EncoderSpec
    """Its input channels are the classes of a label map, background first."""
    size: Axes
    """Voxels of a label map along each axis; a multiple of what the encoder pools."""
    units: PositiveInt = 32
    """Units of the code: too few to hold anything but a shape."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.size) != self.encoder.rank:
            raise ValueError(f"a size of {len(self.size)} axes does not go with an encoder of {self.encoder.rank}")
        back = self.encoder.sizes(self.size)[-1]
        for stride in self.encoder.strides:
            back = tuple(n * s for n, s in zip(back, stride, strict=True))
        if back != self.size:
            raise ValueError(f"a size of {self.size} is no multiple of what the encoder pools")
        return self

    def build(self) -> "ShapeNetwork":
        """Return the network with fresh weights, drawn from torch's current random state."""
        return ShapeNetwork(self)


class ShapeNetwork(nn.Module):
    """Encoder, one code for the whole map, decoder without skips (Kingma and Welling 2014).

    On masks it redraws what it knows, so that a shape that comes back otherwise is no plausible one
    (Wang et al., MICCAI 2020; Galati and Zuluaga 2021).
    """

    def __init__(self, spec: ShapeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = Encoder(spec.encoder)
        grid = tuple(min(n, CELLS) for n in spec.encoder.sizes(spec.size)[-1])
        self.head = GlobalHead(spec.encoder.widths[-1], spec.units, grid, full=False)
        self.decoder = Decoder(spec.encoder, spec.encoder.in_channels, skips=False)

    def encode(self, maps: Tensor) -> Gaussian:
        """Return q(y|x), of units (N, D), of label maps (N, K, *S): one channel a class, background first."""
        found: Gaussian = self.head(self.encoder(maps)[-1])
        return found

    def decode(self, y: Tensor) -> Tensor:
        """Return scores (N, K, *S) of codes (N, D)."""
        drawn: Tensor = self.decoder(self.head.back(y, self.spec.encoder.sizes(self.spec.size)[-1]))[0]
        return drawn

    def forward(self, maps: Tensor) -> Tensor:
        """Return the scores (N, K, *S) that the mean codes of label maps (N, K, *S) come back as."""
        return self.decode(self.encode(maps).mean)


def redrawer(
    network: ShapeNetwork, precision: Precision, device: str
) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Return what draws class numbers (N, *S) again; the network is on the device, in evaluation mode."""

    @torch.inference_mode()
    def redraw(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        maps = one_hot(torch.from_numpy(classes).to(device), network.spec.encoder.in_channels)
        with computing(precision, device):
            scores = network(maps)
        return np.asarray(scores.argmax(1).to(torch.uint8).cpu().numpy())

    return redraw


def one_hot(classes: Tensor, count: int) -> Tensor:
    """Return (N, K, *S) float32, one channel a class, of class numbers (N, *S)."""
    return nn.functional.one_hot(classes.long(), count).movedim(-1, 1).float()
