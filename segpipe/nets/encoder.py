"""Image -> features, fine to coarse: what pretraining trains and the U-Net inherits."""

import math
from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from segpipe.core.section import Section
from segpipe.nets.layers import DROPOUT, POOL, Activation, Axes, ConvBlock, FirstWeights, Norm, Padding, start_weights


class EncoderSpec(Section):
    """Everything that decides an encoder: it travels with the weights and is compared before they are loaded."""

    in_channels: PositiveInt
    widths: tuple[PositiveInt, ...]
    """Channels of each step, and of the middle."""
    strides: tuple[Axes, ...]
    """Pooling of each step, by axis."""
    kernels: tuple[Axes, ...]
    """Kernel of each step and of the middle, by axis."""
    convolutions: PositiveInt = 2
    norm: Norm = "instance"
    activation: Activation = "leaky_relu"
    padding: Padding = "same"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of channels dropped at the end, in the middle."""
    first_weights: FirstWeights = "he"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.widths) != len(self.strides) + 1 or len(self.kernels) != len(self.widths):
            raise ValueError("an encoder of n steps needs n strides, n + 1 widths and n + 1 kernels")
        if len({len(axes) for axes in (*self.strides, *self.kernels)}) != 1:
            raise ValueError("strides and kernels must all have the same number of axes")
        return self

    @property
    def rank(self) -> int:
        """2 or 3 spatial axes."""
        return len(self.kernels[0])

    @property
    def depth(self) -> int:
        """Number of encoding steps."""
        return len(self.strides)

    def sizes(self, size: Axes) -> list[Axes]:
        """Return the size of what each step pushes on the skip stack, and of the code.

        Pooling rounds up with ``same``, so that any size comes back whole after cropping; it rounds
        down with ``valid``, where every voxel must be seen with all of its surroundings.
        """
        found = []
        for level, kernel in enumerate(self.kernels):
            if self.padding == "valid":
                size = tuple(n - self.convolutions * (k - 1) for n, k in zip(size, kernel, strict=True))
            found.append(size)
            if level < self.depth:
                whole = math.ceil if self.padding == "same" else math.floor
                size = tuple(whole(n / s) for n, s in zip(size, self.strides[level], strict=True))
        return found


class Encoder(nn.Module):
    """Steps of two convolutions, each followed by max-pooling; then the middle (Ronneberger et al. 2015)."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        inputs = (spec.in_channels, *spec.widths[:-1])
        self.blocks = nn.ModuleList(
            ConvBlock(
                [before, *[width] * spec.convolutions],
                kernel,
                norm=spec.norm,
                activation=spec.activation,
                padding=spec.padding,
            )
            for before, width, kernel in zip(inputs, spec.widths, spec.kernels, strict=True)
        )
        self.pools = nn.ModuleList(
            POOL[spec.rank](stride, stride, ceil_mode=spec.padding == "same") for stride in spec.strides
        )
        self.dropout = DROPOUT[spec.rank](spec.dropout) if spec.dropout else nn.Identity()
        start_weights(self, spec.activation, spec.first_weights)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the skip stack, fine to coarse, and last the code, each (N, width, *S'), of an image (N, C, *S)."""
        features = []
        x = image
        for block, pool in zip(self.blocks[:-1], self.pools, strict=True):
            x = block(x)
            features.append(x)
            x = pool(x)
        features.append(self.dropout(self.blocks[-1](x)))
        return features
