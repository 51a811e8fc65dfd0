"""Features -> map: learned up-convolutions, with cropped skips or with none."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.layers import CONV, UP, ConvBlock, crop_to_smaller, start_weights


class Decoder(nn.Module):
    """The way back of an encoder: up-convolution, crop, concatenate, two convolutions; a last one at the end."""

    def __init__(self, spec: EncoderSpec, out_channels: int, *, heads: int = 1, skips: bool = True) -> None:
        """Build the decoder of an encoder.

        Args:
            spec: The encoder's.
            out_channels: Channels of the map.
            heads: Levels that get a last convolution of their own, from the finest on (deep supervision).
            skips: Whether the encoder's features are concatenated.
        """
        super().__init__()
        self.skips = skips
        rank = spec.rank
        levels = range(spec.depth - 1, -1, -1)  # coarse to fine
        self.ups = nn.ModuleList(
            UP[rank](spec.widths[level + 1], spec.widths[level], spec.strides[level], spec.strides[level])
            for level in levels
        )
        self.blocks = nn.ModuleList(
            ConvBlock(
                [spec.widths[level] * (2 if skips else 1), *[spec.widths[level]] * spec.convolutions],
                spec.kernels[level],
                norm=spec.norm,
                activation=spec.activation,
                padding=spec.padding,
            )
            for level in levels
        )
        self.heads = nn.ModuleList(CONV[rank](spec.widths[level], out_channels, 1) for level in range(heads))
        start_weights(self, spec.activation, spec.first_weights)

    def forward(self, code: Tensor, skips: Sequence[Tensor] = ()) -> list[Tensor]:
        """Return a map (N, K, *S') for each head, the finest first.

        Args:
            code: (N, width, *S) from the middle.
            skips: Features fine to coarse, as the encoder gives them; they are popped from the end.
        """
        stack = list(skips)
        maps: list[Tensor] = []
        x = code
        for step, (up, block) in enumerate(zip(self.ups, self.blocks, strict=True)):
            x = up(x)
            if self.skips:
                skip, x = crop_to_smaller(stack.pop(), x)
                x = torch.cat([skip, x], dim=1)
            x = block(x)
            level = len(self.ups) - 1 - step
            if level < len(self.heads):
                maps.append(self.heads[level](x))
        return maps[::-1]
